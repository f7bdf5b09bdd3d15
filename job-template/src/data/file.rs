//! A file → its texts and labels: CSV or JSON Lines, compressed with gzip or not.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
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
    /// Its label as the file has it, with blanks around it; none where it is empty or `NaN`.
    pub(super) label: Option<String>,
}

/// What is wrong with the file, and on which line, from 1, if it is one line.
struct Problem(Option<u64>, String);

impl<T: Into<String>> From<T> for Problem {
    fn from(problem: T) -> Self {
        Self(None, problem.into())
    }
}

fn at(line: u64, problem: impl Into<String>) -> Problem {
    Problem(Some(line), problem.into())
}

/// The names of the two columns.
const TEXT: [&str; 2] = ["text", "review"];
const LABEL: [&str; 2] = ["label", "sentiment"];
const COLUMNS: &str = "`text,label` or `review,sentiment`";

const GZIP: &[u8] = b"\x1f\x8b";

const PARQUET: &str =
    "python3 -c \"import pandas; pandas.read_parquet('IN').to_csv('OUT.csv', index=False)\"";
const ARROW: &str =
    "python3 -c \"import pandas; pandas.read_feather('IN').to_csv('OUT.csv', index=False)\"";
const EXCEL: &str = "save the sheet as CSV in UTF-8";
const UTF_16: &str = "iconv -f UTF-16 -t UTF-8 IN > OUT";

/// How files of other formats begin, what they are, and how to convert them.
const OTHER_FORMATS: [(&[u8], &str, &str); 9] = [
    (b"PAR1", "a Parquet file", PARQUET),
    (b"ARROW1", "an Arrow file", ARROW),
    (
        b"PK\x03\x04",
        "a ZIP archive, or a workbook of Excel",
        EXCEL,
    ),
    (b"\xd0\xcf\x11\xe0", "a workbook of Excel", EXCEL),
    (b"BZh", "compressed with bzip2", "bunzip2 IN"),
    (b"\xfd7zXZ\0", "compressed with xz", "unxz IN"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd IN"),
    (b"\xff\xfe", "UTF-16", UTF_16),
    (b"\xfe\xff", "UTF-16", UTF_16),
];

/// Reads all rows, and the file's SHA-256.
pub(super) fn read(path: &Path) -> Result<(Vec<Record>, String), DataError> {
    let bytes = fs::read(path)
        .map_err(|error| DataError::new(path, None, format!("{error}; DATA names the reviews")))?;
    let records =
        records(&bytes).map_err(|Problem(line, problem)| DataError::new(path, line, problem))?;
    Ok((records, format!("{:x}", Sha256::digest(&bytes))))
}

fn records(bytes: &[u8]) -> Result<Vec<Record>, Problem> {
    let bytes = decompressed(bytes)?;
    let text = utf8(&bytes)?.trim_start_matches('\u{feff}');
    let start = text.trim_start();
    if let Some(rest) = start.strip_prefix('[')
        && rest.trim_start().starts_with(['{', ']'])
    {
        let fix = "jq -c '.[]' IN > OUT.jsonl";
        return Err(format!("is a JSON list; an object a line is read. Convert it: {fix}").into());
    }
    if start.starts_with('{') {
        json_lines(text)
    } else {
        csv(text)
    }
}

fn decompressed(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
    if !bytes.starts_with(GZIP) {
        return Ok(bytes.into());
    }
    let mut inner = Vec::new();
    if let Err(error) = MultiGzDecoder::new(bytes).read_to_end(&mut inner) {
        let end = inner.len();
        return Err(format!(
            "is compressed with gzip, and damaged or cut off after {end} bytes of text: {error}"
        )
        .into());
    }
    if inner.starts_with(GZIP) {
        return Err("is compressed with gzip twice; call gunzip once".into());
    }
    Ok(inner.into())
}

/// The file as text, or what it is instead.
fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    let other = OTHER_FORMATS
        .into_iter()
        .find(|(start, ..)| bytes.starts_with(start));
    // UTF-16 without its mark: every other byte of Latin letters is 0.
    let start = &bytes[..bytes.len().min(1000)];
    let zeros = start.split(|byte| *byte == 0).count() - 1;
    let unmarked = match start {
        [_, _, _, _, ..] if zeros * 3 < start.len() => None,
        [0, _, _, _, ..] => Some((start, "UTF-16BE", "iconv -f UTF-16BE -t UTF-8 IN > OUT")),
        [_, _, _, _, ..] => Some((start, "UTF-16LE", "iconv -f UTF-16LE -t UTF-8 IN > OUT")),
        _ => None,
    };
    if let Some((_, what, fix)) = other.or(unmarked) {
        return Err(format!(
            "is {what}; CSV and JSON Lines in UTF-8 are read, also with gzip. Convert it: {fix}"
        )
        .into());
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let end = error.valid_up_to();
        let line = bytes[..end].split(|byte| *byte == b'\n').count() as u64;
        match error.error_len() {
            None => at(line, "ends within a character; is the file cut off?"),
            Some(_) => at(
                line,
                format!(
                    "the byte 0x{:02x} is not UTF-8; if it is Latin-1 or Windows-1252, convert it: \
                     iconv -f WINDOWS-1252 -t UTF-8 IN > OUT",
                    bytes[end]
                ),
            ),
        }
    })
}

/// Parses a line of JSON Lines.
///
/// # Errors
/// What is wrong with it, and in which column.
pub(crate) fn json_line<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        // The line is known better: this is always the first of its own.
        let error = error.to_string().replace(" at line 1 column", " at column");
        let hint = if line.contains("NaN") {
            "; JSON has no NaN, but null"
        } else {
            ""
        };
        format!("not a JSON object, one a line: {error}{hint}")
    })
}

fn json_lines(text: &str) -> Result<Vec<Record>, Problem> {
    let mut records = Vec::new();
    for (line, object) in (1..).zip(text.lines()) {
        if object.trim().is_empty() {
            continue;
        }
        let object: Map<String, Value> = json_line(object).map_err(|problem| at(line, problem))?;
        let field = |names: [&str; 2]| {
            let mut found = object.iter().filter(|(name, _)| is_named(name, names));
            let problem = match (found.next(), found.next()) {
                (Some((_, value)), None) => return Ok(value),
                (Some((first, _)), Some((second, _))) => format!(
                    "the fields `{first}` and `{second}` could both be the {}; rename one",
                    names[0]
                ),
                (None, _) => {
                    let given: Vec<&str> = object.keys().map(String::as_str).collect();
                    format!(
                        "no field `{}`: it has `{}`; {COLUMNS} is needed",
                        names[0],
                        given.join(",")
                    )
                }
            };
            Err(at(line, problem))
        };
        let text = match field(TEXT)? {
            Value::String(text) => text,
            Value::Null => "",
            other => return Err(at(line, format!("the text is {other}, and not a string"))),
        };
        let label = match field(LABEL)? {
            Value::String(label) => label.clone(),
            Value::Null => String::new(),
            value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                let problem = "the label is a list or an object; a text has one label";
                return Err(at(line, problem));
            }
        };
        records.push(record(records.len(), line, text, &label)?);
    }
    Ok(records)
}

fn csv(text: &str) -> Result<Vec<Record>, Problem> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader
        .headers()
        .map_err(|error| csv_problem(&error))?
        .clone();
    if header.is_empty() {
        let problem = format!("the file is empty; a header {COLUMNS} is needed");
        return Err(at(1, problem));
    }
    let (text, label) = (column(&header, TEXT)?, column(&header, LABEL)?);
    let mut records = Vec::new();
    for (row, fields) in reader.records().enumerate() {
        let fields = fields.map_err(|error| csv_problem(&error))?;
        let line = fields.position().map_or(0, csv::Position::line);
        records.push(record(row, line, &fields[text], &fields[label])?);
    }
    Ok(records)
}

/// The number of the column with one of these names.
fn column(header: &csv::StringRecord, names: [&str; 2]) -> Result<usize, Problem> {
    let found: Vec<usize> = (0..header.len())
        .filter(|column| is_named(&header[*column], names))
        .collect();
    match found[..] {
        [column] => Ok(column),
        [first, second, ..] => {
            let (first, second, what) = (&header[first], &header[second], names[0]);
            let problem = format!(
                "the columns `{first}` and `{second}` could both be the {what}; rename one"
            );
            Err(at(1, problem))
        }
        [] => {
            let given = header.iter().collect::<Vec<_>>().join(",");
            let separator = [('\t', "tabs"), (';', "semicolons"), ('|', "bars")]
                .into_iter()
                .find(|(separator, _)| header.len() == 1 && given.contains(*separator))
                .map(|(_, name)| format!(", separated by commas, not by {name}"));
            let problem = format!(
                "no column `{}`: the header is `{}`; {COLUMNS} is needed{}",
                names[0],
                given.chars().take(80).collect::<String>(),
                separator.unwrap_or_default()
            );
            Err(at(1, problem))
        }
    }
}

fn is_named(name: &str, names: [&str; 2]) -> bool {
    names
        .iter()
        .any(|known| name.trim().eq_ignore_ascii_case(known))
}

fn record(row: usize, line: u64, text: &str, label: &str) -> Result<Record, Problem> {
    let cleaned = clean(text);
    if cleaned.is_empty() {
        let but = if text.trim().is_empty() {
            ""
        } else {
            " but line breaks"
        };
        return Err(at(
            line,
            format!("no text{but}; remove the row, or give it one"),
        ));
    }
    // What pandas writes for a label that is missing.
    let is_missing = label.trim().is_empty() || label.trim().eq_ignore_ascii_case("nan");
    Ok(Record {
        row,
        line,
        text: cleaned,
        label: (!is_missing).then(|| label.to_owned()),
    })
}

fn csv_problem(error: &csv::Error) -> Problem {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            let fix = if len > expected_len {
                "a text with commas needs quotes around it: \"a, b\",label"
            } else {
                "is the file cut off, or a quote not closed?"
            };
            at(
                line,
                format!("{len} fields, and the header has {expected_len}; {fix}"),
            )
        }
        _ => at(line, error.to_string()),
    }
}
