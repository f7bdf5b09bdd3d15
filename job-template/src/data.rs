//! The reviews: a CSV file → examples to train on, to validate with, and to test on.
//!
//! Which part a review belongs to follows from a hash of how it begins, so that it is the same on
//! every machine, that copies of a text are in one part, and that more reviews don't move others.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::config::DataConfig;

/// Of 10,000 parts of all reviews, those held out to test on.
const TEST_PARTS: u64 = 2000;
const PARTS: u64 = 10_000;
/// What texts have to differ in to be different reviews.
const BEGINNING: usize = 100;
const MOST_LABELS: usize = 100;

/// A review and what it is labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its row in the file, from 0, without the header.
    pub row: usize,
    /// Its text, without HTML's line breaks.
    pub text: String,
    /// The number of its label.
    pub label: usize,
}

/// All examples that are used.
#[derive(Debug)]
pub struct Reviews {
    /// Names of the labels, sorted, so that their numbers are the same every time.
    pub labels: Vec<String>,
    /// To train on.
    pub train: Vec<Example>,
    /// To see how training goes.
    pub valid: Vec<Example>,
    /// To tell how good the model is; never trained on.
    pub test: Vec<Example>,
    /// Rows of the file.
    pub rows: usize,
    /// Rows that said what another had said.
    pub duplicates: usize,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It can't be read.
    #[error("DATA={}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}: line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line where the record begins, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// It is well formed but can't be trained with.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

struct Record {
    row: usize,
    text: String,
    label: String,
}

/// Reads and splits the file.
///
/// # Errors
/// It can't be read, isn't CSV with the columns `text,label` or `review,sentiment`, or hasn't enough
/// in it to train and test with.
pub fn read(config: &DataConfig) -> Result<Reviews, DataError> {
    let content = |problem: String| DataError::Content {
        path: config.path.clone(),
        problem,
    };
    let (records, sha256) = records(config)?;
    let rows = records.len();
    let names: BTreeSet<&str> = records.iter().map(|record| record.label.as_str()).collect();
    let labels: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if labels.len() < 2 {
        return Err(content(format!(
            "has {} different labels; at least 2 are needed",
            labels.len()
        )));
    }
    if labels.len() > MOST_LABELS {
        return Err(content(format!(
            "has {} different labels; at most {MOST_LABELS} are allowed. Are the columns swapped?",
            labels.len()
        )));
    }

    let mut seen = HashSet::new();
    let (mut training, mut test) = (Vec::new(), Vec::new());
    for Record { row, text, label } in records {
        let key = text.to_lowercase();
        let order: [u8; 32] = Sha256::digest(&key).into();
        if !seen.insert(order) {
            continue;
        }
        let beginning: String = key.chars().take(BEGINNING).collect();
        let label = labels
            .binary_search(&label)
            .expect("every label is among the labels");
        let is_test = part("split", &beginning) < TEST_PARTS;
        let is_valid = (part("valid", &beginning) as f64) < config.valid_pct * PARTS as f64;
        let example = (order, is_valid, Example { row, text, label });
        if is_test { &mut test } else { &mut training }.push(example);
    }
    // By their hash, the first so many are a random choice, and more are the same and others.
    for examples in [&mut training, &mut test] {
        examples.sort_unstable_by_key(|(order, ..)| *order);
    }
    training.truncate(config.num_train);
    test.truncate(config.num_test);
    let (valid, train): (Vec<_>, Vec<_>) = training.into_iter().partition(|(_, valid, _)| *valid);
    let examples = |found: Vec<(_, _, Example)>| found.into_iter().map(|(.., it)| it).collect();
    let reviews = Reviews {
        train: examples(train),
        valid: examples(valid),
        test: examples(test),
        labels,
        rows,
        duplicates: rows - seen.len(),
        sha256,
    };
    for (name, examples) in [("train", &reviews.train), ("test", &reviews.test)] {
        if examples.is_empty() {
            return Err(content(format!(
                "its {rows} rows leave no review to {name} on; give it more, or raise NUM_{}",
                name.to_uppercase()
            )));
        }
    }
    Ok(reviews)
}

/// Which of the parts a text belongs to.
fn part(purpose: &str, beginning: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(beginning)
        .finalize();
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes")) % PARTS
}

/// Reads all rows, and the file's hash on the way.
fn records(config: &DataConfig) -> Result<(Vec<Record>, String), DataError> {
    let path = &config.path;
    let read_error = |source| DataError::Read {
        path: path.clone(),
        source,
    };
    let line = |line, problem: String| DataError::Line {
        path: path.clone(),
        line,
        problem,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| BufReader::new(file).read_to_end(&mut bytes))
        .map_err(read_error)?;
    let sha256 = format!("{:x}", Sha256::digest(&bytes));

    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header = reader
        .headers()
        .map_err(|error| csv_error(config, &error))?
        .clone();
    if header.is_empty() {
        let problem = "the file is empty; a header `text,label` or `review,sentiment` is needed";
        return Err(line(1, problem.to_owned()));
    }
    let column = |names: [&str; 2]| {
        let found = header.iter().position(|name| {
            let name = name.trim_start_matches('\u{feff}').trim();
            names.iter().any(|known| name.eq_ignore_ascii_case(known))
        });
        found.ok_or_else(|| {
            let given = header.iter().collect::<Vec<_>>().join(",");
            let problem = format!(
                "no column `{}`: the header is `{}`; `text,label` or `review,sentiment` is needed",
                names[0],
                given.chars().take(80).collect::<String>()
            );
            line(1, problem)
        })
    };
    let (text_column, label_column) =
        (column(["text", "review"])?, column(["label", "sentiment"])?);

    let mut records = Vec::new();
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| csv_error(config, &error))?;
        let at = record.position().map_or(0, csv::Position::line);
        let field = |column: usize, name: &str| match record.get(column).map(str::trim) {
            Some("") | None => Err(line(at, format!("no {name}"))),
            Some(field) => Ok(field),
        };
        let text = clean(field(text_column, "text")?);
        if text.is_empty() {
            return Err(line(at, "no text but line breaks".to_owned()));
        }
        let label = label_name(field(label_column, "label")?);
        records.push(Record { row, text, label });
    }
    Ok((records, sha256))
}

fn csv_error(config: &DataConfig, error: &csv::Error) -> DataError {
    let path = config.path.clone();
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("{len} fields, and the header has {expected_len}; is the file cut off?")
        }
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("field {} is not UTF-8", err.field() + 1)
        }
        _ => error.to_string(),
    };
    DataError::Line {
        path,
        line,
        problem,
    }
}

/// The usual short names of sentiments, in full.
fn label_name(given: &str) -> String {
    match given {
        "0" | "neg" => "negative",
        "1" | "pos" => "positive",
        other => other,
    }
    .to_owned()
}

/// The text without HTML's line breaks, and with single blanks.
fn clean(text: &str) -> String {
    let text = text.replace("<br />", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn config(csv: &str, folder: &tempfile::TempDir) -> DataConfig {
        let path = folder.path().join("reviews.csv");
        std::fs::write(&path, csv).unwrap();
        DataConfig {
            path,
            num_train: 100_000,
            num_test: 100_000,
            valid_pct: 0.1,
            max_positions: 256,
        }
    }

    fn try_read(csv: &str) -> Result<Reviews, String> {
        let folder = tempfile::tempdir().unwrap();
        let prefix = format!("{}/", folder.path().display());
        read(&config(csv, &folder)).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn many(count: usize) -> String {
        (0..count).fold("text,label\n".to_owned(), |mut csv, row| {
            writeln!(
                csv,
                "review number {row},{}",
                ["positive", "negative"][row % 2]
            )
            .unwrap();
            csv
        })
    }

    #[test]
    fn parts_have_their_shares_and_nothing_in_common() {
        let reviews = try_read(&many(5000)).unwrap();
        assert_eq!(reviews.labels, ["negative", "positive"]);
        let parts = [&reviews.train, &reviews.valid, &reviews.test];
        let rows: HashSet<usize> = parts
            .iter()
            .flat_map(|part| part.iter().map(|it| it.row))
            .collect();
        assert_eq!(rows.len(), 5000);
        assert!(
            (900..1100).contains(&reviews.test.len()),
            "{}",
            reviews.test.len()
        );
        assert!(
            (330..470).contains(&reviews.valid.len()),
            "{}",
            reviews.valid.len()
        );
    }

    #[test]
    fn fewer_reviews_are_the_first_of_more() {
        let folder = tempfile::tempdir().unwrap();
        let all = config(&many(1000), &folder);
        let some = DataConfig {
            num_train: 100,
            valid_pct: 0.0,
            ..all.clone()
        };
        let all = DataConfig {
            valid_pct: 0.0,
            ..all
        };
        let (all, some) = (read(&all).unwrap(), read(&some).unwrap());
        assert_eq!(all.train[..100], some.train[..]);
    }

    #[test]
    fn what_says_the_same_is_there_once() {
        let mut csv = many(100);
        csv.push_str("REVIEW  number<br />7,negative\n");
        let reviews = try_read(&csv).unwrap();
        assert_eq!((reviews.rows, reviews.duplicates), (101, 1));
    }

    /// The original job numbered labels in the order of Python's hashes.
    #[test]
    fn labels_are_numbered_by_name_whatever_their_order_in_the_file() {
        let reversed: Vec<String> = many(200).lines().rev().map(str::to_owned).collect();
        let csv = format!("text,label\n{}", reversed[..200].join("\n"));
        assert_eq!(
            try_read(&csv).unwrap().labels,
            try_read(&many(200)).unwrap().labels
        );
    }

    #[test]
    fn other_names_of_columns_and_labels_are_known() {
        let csv = many(100)
            .replace("text,label", "\u{feff}Review,Sentiment")
            .replace("positive", "1")
            .replace("negative", "0");
        assert_eq!(try_read(&csv).unwrap().labels, ["negative", "positive"]);
    }

    #[test]
    fn errors_say_where() {
        let error = |csv: &str| try_read(csv).unwrap_err();
        for empty in ["", "\n\n"] {
            assert_eq!(
                error(empty),
                "reviews.csv: line 1: the file is empty; a header `text,label` or \
                 `review,sentiment` is needed"
            );
        }
        assert_eq!(
            error("text,stars\na,1\n"),
            "reviews.csv: line 1: no column `label`: the header is `text,stars`; `text,label` or \
             `review,sentiment` is needed"
        );
        assert_eq!(
            error("text,label\na,pos\n\"b\nc\",neg\nd\n"),
            "reviews.csv: line 5: 1 fields, and the header has 2; is the file cut off?"
        );
        assert_eq!(
            error("text,label\na,pos\n ,neg\n"),
            "reviews.csv: line 3: no text"
        );
        assert_eq!(
            error("text,label\na,pos\nb,\n"),
            "reviews.csv: line 3: no label"
        );
        assert_eq!(
            error("text,label\na,pos\n"),
            "reviews.csv: has 1 different labels; at least 2 are needed"
        );
    }

    #[test]
    fn text_that_is_not_utf_8_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let config = config("", &folder);
        std::fs::write(&config.path, b"text,label\nfine,pos\nb\xffd,neg\n").unwrap();
        let error = read(&config).unwrap_err().to_string();
        assert!(error.ends_with("line 3: field 1 is not UTF-8"), "{error}");
    }
}
