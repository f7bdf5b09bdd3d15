//! A file → its texts and labels: CSV or JSON Lines, compressed with gzip or not.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{DataError, clean};

/// A row of the file.
pub(super) struct Record {
    /// Its number, from 0, without the header.
    pub(super) row: usize,
    /// The line where it begins, from 1.
    pub(super) line: u64,
    /// Its text, cleaned.
    pub(super) text: String,
    /// Its label; none where it is empty or not a number (`NaN`).
    pub(super) label: Option<String>,
}

/// The names of the two columns.
const TEXT: [&str; 2] = ["text", "review"];
const LABEL: [&str; 2] = ["label", "sentiment"];
const COLUMNS: &str = "`text,label` or `review,sentiment`";

const GZIP: &[u8] = b"\x1f\x8b";

/// How files of other formats begin, what they are, and what to do.
const OTHER_FORMATS: [(&[u8], &str, &str); 9] = [
    (
        b"PAR1",
        "a Parquet file",
        "python3 -c \"import pandas; pandas.read_parquet('IN').to_csv('OUT.csv', index=False)\"",
    ),
    (
        b"ARROW1",
        "an Arrow file",
        "python3 -c \"import pandas; pandas.read_feather('IN').to_csv('OUT.csv', index=False)\"",
    ),
    (
        b"PK\x03\x04",
        "a ZIP archive, or a workbook of Excel",
        "unpack it, or save the sheet as CSV in UTF-8",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "a workbook of Excel",
        "save the sheet as CSV in UTF-8",
    ),
    (b"BZh", "compressed with bzip2", "bunzip2 IN"),
    (b"\xfd7zXZ\0", "compressed with xz", "unxz IN"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd IN"),
    (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8 IN > OUT"),
    (b"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8 IN > OUT"),
];

/// Reads all rows, and the file's SHA-256.
pub(super) fn read(path: &Path) -> Result<(Vec<Record>, String), DataError> {
    let file = File { path };
    let bytes = fs::read(path).map_err(|source| DataError::Read {
        path: path.to_owned(),
        source,
    })?;
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    let bytes = file.decompressed(&bytes)?;
    let text = file.text(&bytes)?;
    let text = text.trim_start_matches('\u{feff}');
    let records = if file.is_json_lines(text)? {
        file.json_lines(text)
    } else {
        file.csv(text)
    };
    Ok((records?, sha256))
}

struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn at(&self, line: u64, problem: impl Into<String>) -> DataError {
        DataError::Line {
            path: self.path.to_owned(),
            line,
            problem: problem.into(),
        }
    }

    fn content(&self, problem: impl Into<String>) -> DataError {
        DataError::Content {
            path: self.path.to_owned(),
            problem: problem.into(),
        }
    }

    fn decompressed<'b>(&self, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, DataError> {
        if !bytes.starts_with(GZIP) {
            return Ok(bytes.into());
        }
        let mut inner = Vec::new();
        let read = MultiGzDecoder::new(bytes).read_to_end(&mut inner);
        read.map_err(|error| {
            self.content(format!(
                "is compressed with gzip, and damaged or cut off after {} bytes of text: {error}",
                inner.len()
            ))
        })?;
        if inner.starts_with(GZIP) {
            return Err(self.content("is compressed with gzip twice; call gunzip once"));
        }
        Ok(inner.into())
    }

    /// The file as text, or what it is instead.
    fn text<'b>(&self, bytes: &'b [u8]) -> Result<&'b str, DataError> {
        for (beginning, what, fix) in OTHER_FORMATS {
            if bytes.starts_with(beginning) {
                return Err(self.content(format!(
                    "is {what}; CSV and JSON Lines in UTF-8 are read, also with gzip. Convert it: {fix}"
                )));
            }
        }
        let start = &bytes[..bytes.len().min(1000)];
        // UTF-16 without its mark: every other byte of Latin letters is 0.
        if start.split(|byte| *byte == 0).count() * 3 > start.len() && start.len() > 3 {
            let kind = if start[0] == 0 {
                "UTF-16BE"
            } else {
                "UTF-16LE"
            };
            return Err(self.content(format!(
                "is {kind}; UTF-8 is read. Convert it: iconv -f {kind} -t UTF-8 IN > OUT"
            )));
        }
        std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = before.split(|byte| *byte == b'\n').count() as u64;
            match error.error_len() {
                None => self.at(line, "ends within a character; is the file cut off?"),
                Some(_) => self.at(
                    line,
                    format!(
                        "the byte 0x{:02x} is not UTF-8; if it is Latin-1 or Windows-1252, convert it: \
                         iconv -f WINDOWS-1252 -t UTF-8 IN > OUT",
                        bytes[before.len()]
                    ),
                ),
            }
        })
    }

    fn is_json_lines(&self, text: &str) -> Result<bool, DataError> {
        let text = text.trim_start();
        let is_list = text
            .strip_prefix('[')
            .is_some_and(|rest| rest.trim_start().starts_with(['{', ']']));
        if is_list {
            return Err(self.content(
                "is a JSON list; an object a line is read. Convert it: jq -c '.[]' IN > OUT.jsonl",
            ));
        }
        Ok(text.starts_with('{'))
    }

    fn json_lines(&self, text: &str) -> Result<Vec<Record>, DataError> {
        let mut records = Vec::new();
        for (line, object) in (1..).zip(text.lines()) {
            if object.trim().is_empty() {
                continue;
            }
            let object: Map<String, Value> = serde_json::from_str(object).map_err(|error| {
                self.at(line, format!("not a JSON object, one a line: {error}"))
            })?;
            let field = |names: [&str; 2]| {
                let found = object
                    .iter()
                    .find(|(name, _)| names.iter().any(|known| name.eq_ignore_ascii_case(known)));
                found.map(|(_, value)| value).ok_or_else(|| {
                    let problem = format!("no field `{}`; {COLUMNS} is needed", names[0]);
                    self.at(line, problem)
                })
            };
            let text = match field(TEXT)? {
                Value::String(text) => text,
                Value::Null => "",
                other => {
                    return Err(self.at(line, format!("the text is {other}, and not a string")));
                }
            };
            let label = match field(LABEL)? {
                Value::String(label) => label.clone(),
                Value::Null => String::new(),
                value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    return Err(self.at(
                        line,
                        "the label is a list or an object; a text has one label",
                    ));
                }
            };
            records.push(self.record(records.len(), line, text, &label)?);
        }
        Ok(records)
    }

    fn csv(&self, text: &str) -> Result<Vec<Record>, DataError> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader
            .headers()
            .map_err(|error| self.csv_error(&error))?
            .clone();
        if header.is_empty() {
            let problem = format!("the file is empty; a header {COLUMNS} is needed");
            return Err(self.at(1, problem));
        }
        let column = |names: [&str; 2]| {
            let is_one = |name: &str| {
                let name = name.trim();
                names.iter().any(|known| name.eq_ignore_ascii_case(known))
            };
            let mut found = (0..header.len()).filter(|column| is_one(&header[*column]));
            let (first, second) = (found.next(), found.next());
            if let (Some(first), Some(second)) = (first, second) {
                return Err(self.at(
                    1,
                    format!(
                        "the columns `{}` and `{}` could both be the {}; rename one",
                        &header[first], &header[second], names[0]
                    ),
                ));
            }
            first.ok_or_else(|| {
                let given = header.iter().collect::<Vec<_>>().join(",");
                let separator = [('\t', "tabs"), (';', "semicolons")]
                    .into_iter()
                    .find(|(separator, _)| header.len() == 1 && given.contains(*separator))
                    .map_or_else(String::new, |(_, name)| {
                        format!(", separated by commas, not by {name}")
                    });
                let problem = format!(
                    "no column `{}`: the header is `{}`; {COLUMNS} is needed{separator}",
                    names[0],
                    given.chars().take(80).collect::<String>()
                );
                self.at(1, problem)
            })
        };
        let (text_column, label_column) = (column(TEXT)?, column(LABEL)?);
        let mut records = Vec::new();
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|error| self.csv_error(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |column: usize| record.get(column).unwrap_or_default();
            records.push(self.record(row, line, field(text_column), field(label_column))?);
        }
        Ok(records)
    }

    fn record(&self, row: usize, line: u64, text: &str, label: &str) -> Result<Record, DataError> {
        if text.trim().is_empty() {
            return Err(self.at(line, "no text"));
        }
        let text = clean(text);
        if text.is_empty() {
            return Err(self.at(line, "no text but line breaks"));
        }
        let label = label.trim();
        // What pandas writes for a label that is missing.
        let is_missing = label.is_empty() || label.eq_ignore_ascii_case("nan");
        Ok(Record {
            row,
            line,
            text,
            label: (!is_missing).then(|| label.to_owned()),
        })
    }

    fn csv_error(&self, error: &csv::Error) -> DataError {
        let line = error.position().map_or(1, csv::Position::line);
        let problem = match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => {
                format!("{len} fields, and the header has {expected_len}; is the file cut off?")
            }
            _ => error.to_string(),
        };
        self.at(line, problem)
    }
}
