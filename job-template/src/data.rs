//! The reviews: a file of texts and labels → examples to train on, to validate with, and to test on.
//!
//! Which part a review belongs to follows from a hash of how it begins, so that it is the same on
//! every machine, that copies of a text are in one part, and that more reviews don't move others.
//! Where many begin alike, as letters do, it follows from a hash of the whole text.

mod file;
mod labels;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use self::file::Record;
use self::labels::Labels;
pub use self::labels::ModelLabels;

use crate::config::DataConfig;

/// Of 10,000 parts of all reviews, those held out to test on.
const TEST_PARTS: u64 = 2000;
const PARTS: u64 = 10_000;
/// Characters in which texts have to differ to be in different parts.
const BEGINNING: usize = 100;
/// If more texts than this begin alike, it isn't for being copies of one another.
const MOST_ALIKE: usize = 10;
/// If a label has more than this share of the texts, accuracy alone says little.
const LARGEST_SHARE: f64 = 0.9;

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
    /// Names of the labels, in an order that is the same every time.
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
    /// Those of them whose label was another.
    pub contradictions: usize,
    /// Rows without a label, which are left out.
    pub unlabelled: usize,
    /// What looks wrong and can be used.
    pub warnings: Vec<String>,
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

/// An example whose part isn't known yet.
struct Candidate {
    /// Hash of the text; examples are sorted by it.
    order: [u8; 32],
    /// Hash of how the text begins.
    beginning: u64,
    /// The parts by the text's beginning, and by all of it.
    by_beginning: Parts,
    by_text: Parts,
    example: Example,
}

/// Numbers of the parts for the test's split and for the validation's.
#[derive(Clone, Copy)]
struct Parts {
    test: u64,
    valid: u64,
}

impl Parts {
    fn of(text: &str) -> Self {
        Self {
            test: hash(&["split", text]) % PARTS,
            valid: hash(&["valid", text]) % PARTS,
        }
    }
}

/// Reads and splits the file.
///
/// # Errors
/// It can't be read, isn't CSV or JSON Lines with `text,label` or `review,sentiment`, or hasn't enough
/// in it to train and test with.
pub fn read(config: &DataConfig, model: ModelLabels<'_>) -> Result<Reviews, DataError> {
    let content = |problem: String| DataError::Content {
        path: config.path.clone(),
        problem,
    };
    let (records, sha256) = file::read(&config.path)?;
    let rows = records.len();
    let mut warnings = Vec::new();
    let labels = Labels::of(&records, model, &mut warnings).map_err(content)?;
    let mut counts = Counts::new(labels.names.len());
    let candidates = candidates(records, &labels, &mut counts);
    counts.warn(&labels.names, candidates.len(), &mut warnings);

    let (training, test) = split(candidates, &mut warnings);
    let mut parts = [training, test];
    // By their hash, the first so many are a random choice, and more are the same and others.
    for part in &mut parts {
        part.sort_unstable_by_key(|(order, ..)| *order);
    }
    let [mut training, mut test] = parts;
    training.truncate(config.num_train);
    test.truncate(config.num_test);
    let most_valid = config.valid_pct * PARTS as f64;
    let (valid, train): (Vec<_>, Vec<_>) = training
        .into_iter()
        .partition(|(_, part, _)| (*part as f64) < most_valid);
    let examples = |found: Vec<Placed>| found.into_iter().map(|(.., it)| it).collect();
    let reviews = Reviews {
        train: examples(train),
        valid: examples(valid),
        test: examples(test),
        labels: labels.names,
        rows,
        duplicates: counts.duplicates,
        contradictions: counts.contradictions,
        unlabelled: counts.unlabelled,
        warnings,
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

/// What is noticed on the way.
struct Counts {
    duplicates: usize,
    contradictions: usize,
    /// The lines of the first two texts that are the same and labelled otherwise.
    first_contradiction: Option<(u64, u64)>,
    unlabelled: usize,
    first_unlabelled: Option<u64>,
    /// For each label, how many texts have it, and the first one's line.
    labels: Vec<(usize, u64)>,
}

impl Counts {
    fn new(labels: usize) -> Self {
        Self {
            duplicates: 0,
            contradictions: 0,
            first_contradiction: None,
            unlabelled: 0,
            first_unlabelled: None,
            labels: vec![(0, 0); labels],
        }
    }

    fn warn(&self, names: &[String], texts: usize, warnings: &mut Vec<String>) {
        if let Some(line) = self.first_unlabelled {
            warnings.push(format!(
                "{} without a label {} left out; the first is on line {line}",
                counted(self.unlabelled, "row"),
                if self.unlabelled == 1 { "is" } else { "are" },
            ));
        }
        if let Some((first, second)) = self.first_contradiction {
            warnings.push(format!(
                "{} a text that another row labels otherwise, as on lines {first} and {second}; the first \
                 label of a text counts",
                if self.contradictions == 1 {
                    "1 row has".to_owned()
                } else {
                    format!("{} rows have", self.contradictions)
                },
            ));
        }
        for (name, (count, line)) in names.iter().zip(&self.labels) {
            if *count == 1 {
                warnings.push(format!(
                    "the label `{name}` has 1 example, on line {line}: it can't be both trained on and \
                     tested on"
                ));
            }
            let share = *count as f64 / texts.max(1) as f64;
            if share > LARGEST_SHARE {
                warnings.push(format!(
                    "{:.1} % of the texts ({count} of {texts}) have the label `{name}`: compare accuracy \
                     with majority_baseline, and see macro_f1",
                    share * 100.0
                ));
            }
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Each text once, with its label.
fn candidates(records: Vec<Record>, labels: &Labels, counts: &mut Counts) -> Vec<Candidate> {
    let mut seen: HashMap<[u8; 32], (usize, u64)> = HashMap::new();
    let mut candidates = Vec::new();
    for record in records {
        let Record {
            row,
            line,
            text,
            label,
        } = record;
        let Some(label) = label else {
            counts.unlabelled += 1;
            counts.first_unlabelled.get_or_insert(line);
            continue;
        };
        let label = labels.id(&label);
        let key = text.to_lowercase();
        let order: [u8; 32] = Sha256::digest(&key).into();
        match seen.entry(order) {
            Entry::Occupied(first) => {
                counts.duplicates += 1;
                let (first_label, first_line) = *first.get();
                if first_label != label {
                    counts.contradictions += 1;
                    counts.first_contradiction.get_or_insert((first_line, line));
                }
                continue;
            }
            Entry::Vacant(place) => place.insert((label, line)),
        };
        let (count, first_line) = &mut counts.labels[label];
        *count += 1;
        if *count == 1 {
            *first_line = line;
        }
        let beginning: String = key.chars().take(BEGINNING).collect();
        candidates.push(Candidate {
            order,
            beginning: hash(&["beginning", &beginning]),
            by_beginning: Parts::of(&beginning),
            by_text: Parts::of(&key),
            example: Example { row, text, label },
        });
    }
    candidates
}

/// An example with what it is sorted by, and its number for validation.
type Placed = ([u8; 32], u64, Example);

/// Those to train on and those to test on.
fn split(candidates: Vec<Candidate>, warnings: &mut Vec<String>) -> (Vec<Placed>, Vec<Placed>) {
    let mut alike: HashMap<u64, usize> = HashMap::new();
    for candidate in &candidates {
        *alike.entry(candidate.beginning).or_default() += 1;
    }
    let many = alike.values().filter(|count| **count > MOST_ALIKE);
    let (groups, texts) = many.fold((0, 0), |(groups, texts), count| (groups + 1, texts + count));
    if groups > 0 {
        warnings.push(format!(
            "{texts} texts share their first {BEGINNING} characters with more than {MOST_ALIKE} others \
             ({}); which of these are held out follows from a hash of the whole text",
            counted(groups, "beginning")
        ));
    }
    let (mut training, mut test) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let is_shared = alike[&candidate.beginning] > MOST_ALIKE;
        let parts = if is_shared {
            candidate.by_text
        } else {
            candidate.by_beginning
        };
        let placed = (candidate.order, parts.valid, candidate.example);
        if parts.test < TEST_PARTS {
            &mut test
        } else {
            &mut training
        }
        .push(placed);
    }
    (training, test)
}

/// The first 64 bits of the hash of some words, with a zero between each two.
fn hash(words: &[&str]) -> u64 {
    let digest = Sha256::digest(words.join("\0"));
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

/// The text without HTML's line breaks, and with single blanks. The tokenizer of a trained model does the
/// same, so that a text is read in serving as it was in training.
#[must_use]
pub fn clean(text: &str) -> String {
    let text = text.replace(LINE_BREAK, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// HTML's line break, as the reviews have it.
pub const LINE_BREAK: &str = "<br />";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
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
            max_positions: None,
        }
    }

    fn try_read(csv: &str) -> Result<Reviews, String> {
        let folder = tempfile::tempdir().unwrap();
        let prefix = format!("{}/", folder.path().display());
        read(&config(csv, &folder), ModelLabels::Base(&[]))
            .map_err(|error| error.to_string().replace(&prefix, ""))
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
        let read = |config| read(config, ModelLabels::Base(&[])).unwrap();
        let (all, some) = (read(&all), read(&some));
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
            error("text,label\na,pos\n"),
            "reviews.csv: has 1 different labels; at least 2 are needed"
        );
    }

    /// What a file with these bytes is refused for.
    fn refusal(name: &str, bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let config = DataConfig {
            path: folder.path().join(name),
            ..config("", &folder)
        };
        std::fs::write(&config.path, bytes).unwrap();
        let error = read(&config, ModelLabels::Base(&[])).unwrap_err();
        let prefix = format!("{}/", folder.path().display());
        error.to_string().replace(&prefix, "")
    }

    #[test]
    fn other_formats_are_called_what_they_are_with_the_fix() {
        let utf16: Vec<u8> = "text,label\na,pos\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let marked = [b"\xff\xfe", utf16.as_slice()].concat();
        let latin1 = b"text,label\nfine,pos\nM\xfcller,neg\n";
        for (bytes, what, fix) in [
            (
                b"PAR1\0\0".as_slice(),
                "is a Parquet file",
                "pandas.read_parquet",
            ),
            (b"PK\x03\x04", "a workbook of Excel", "as CSV in UTF-8"),
            (b"BZh9", "is compressed with bzip2", "bunzip2"),
            (&marked, "is UTF-16", "iconv -f UTF-16 "),
            (&utf16, "is UTF-16LE", "iconv -f UTF-16LE "),
            (
                latin1,
                "line 3: the byte 0xfc is not UTF-8",
                "iconv -f WINDOWS-1252",
            ),
            (
                "text,label\né".as_bytes().split_last().unwrap().1,
                "line 2: ends within",
                "cut off?",
            ),
            (b" [ {\"text\": 1}]", "is a JSON list", "jq -c '.[]'"),
            (
                b"text\tlabel\na\tb\n",
                "no column `text`",
                "by commas, not by tabs",
            ),
            (
                b"text,label,Label\na,1,2\n",
                "line 1: the columns `label` and `Label` could both be the label",
                "rename one",
            ),
            (
                b"\x1f\x8b\x08\0\0",
                "is compressed with gzip, and damaged or cut off",
                "",
            ),
        ] {
            let error = refusal("reviews", bytes);
            assert!(error.contains(what) && error.contains(fix), "{error}");
        }
    }

    #[test]
    fn json_lines_and_gzip_are_read_as_csv_is() {
        use std::io::Write as _;

        let expected = try_read(&many(300)).unwrap();
        let lines = |text: &str, label: &str| {
            many(300)
                .lines()
                .skip(1)
                .fold(String::new(), |mut all, line| {
                    let (said, is) = line.split_once(',').unwrap();
                    writeln!(
                        all,
                        "{}",
                        serde_json::json!({text: said, label: is, "id": 7})
                    )
                    .unwrap();
                    all
                })
        };
        let json = try_read(&lines("text", "label")).unwrap();
        assert_eq!(
            (&json.train, &json.labels),
            (&expected.train, &expected.labels)
        );
        assert_eq!(
            try_read(&lines("Review", "sentiment")).unwrap().test,
            expected.test
        );

        let folder = tempfile::tempdir().unwrap();
        let config = config("", &folder);
        // Two members, as `cat a.gz b.gz` gives them.
        let mut bytes = Vec::new();
        for part in many(300).split_inclusive("number 150") {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            bytes.extend(encoder.finish().unwrap());
        }
        std::fs::write(&config.path, &bytes).unwrap();
        let read = read(&config, ModelLabels::Base(&[])).unwrap();
        assert_eq!((read.train, read.test), (expected.train, expected.test));
        let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        twice.write_all(&bytes).unwrap();
        let twice = refusal("reviews.csv.gz", &twice.finish().unwrap());
        assert!(
            twice.ends_with("compressed with gzip twice; call gunzip once"),
            "{twice}"
        );
        let cut = refusal("reviews.csv.gz", &bytes[..bytes.len() - 9]);
        assert!(
            cut.starts_with("reviews.csv.gz: is compressed with gzip, and damaged"),
            "{cut}"
        );
    }

    #[test]
    fn json_labels_may_be_numbers_and_errors_say_where() {
        let stars = (0..100).fold(String::new(), |mut all, row| {
            writeln!(
                all,
                "{{\"text\": \"row {row}\", \"label\": {}}}",
                1 + row % 3
            )
            .unwrap();
            all
        });
        assert_eq!(try_read(&stars).unwrap().labels, ["1", "2", "3"]);
        for (line, message) in [
            (
                "{\"text\": \"x\"}",
                "line 2: no field `label`; `text,label` or",
            ),
            (
                "{\"text\": 5, \"label\": 1}",
                "line 2: the text is 5, and not a string",
            ),
            ("{\"text\": null, \"label\": 1}", "line 2: no text"),
            (
                "{\"text\": \"x\", \"label\": [1]}",
                "line 2: the label is a list",
            ),
            (
                "nonsense",
                "line 2: not a JSON object, one a line: expected",
            ),
            ("[1]", "line 2: not a JSON object, one a line: invalid type"),
        ] {
            let error =
                try_read(&format!("{{\"text\": \"a\", \"label\": 1}}\n{line}\n")).unwrap_err();
            assert!(
                error.starts_with(&format!("reviews.csv: {message}")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_looks_wrong_is_a_warning_with_numbers() {
        let mut csv = many(100).replace("review number 4,positive", "review number 4,Positive");
        csv.push_str("nobody knows,\nnor this,NaN\nreview number 7,positive\nrare,neutral\n");
        let reviews = try_read(&csv).unwrap();
        assert_eq!(reviews.labels, ["negative", "neutral", "positive"]);
        assert_eq!(
            (
                reviews.unlabelled,
                reviews.contradictions,
                reviews.duplicates
            ),
            (2, 1, 1)
        );
        assert_eq!(
            reviews.warnings,
            [
                "the labels `Positive` (1), `positive` (50) differ in their case alone, and are taken as \
                 one, `positive`",
                "2 rows without a label are left out; the first is on line 102",
                "1 row has a text that another row labels otherwise, as on lines 9 and 104; the first \
                 label of a text counts",
                "the label `neutral` has 1 example, on line 105: it can't be both trained on and tested on",
            ]
        );
        let most = many(100).replace("positive", "x").replace("negative", "x");
        let reviews = try_read(&format!("{most}rare,y\nrarer,y\n")).unwrap();
        assert_eq!(
            reviews.warnings,
            [
                "98.0 % of the texts (100 of 102) have the label `x`: compare accuracy with \
              majority_baseline, and see macro_f1"
            ]
        );
        assert!(try_read(&many(100)).unwrap().warnings.is_empty());
    }

    #[test]
    fn texts_that_many_begin_alike_are_split_by_all_of_them() {
        let salutation =
            "Dear Sir or Madam, thank you very much for your message, which we received. "
                .repeat(2);
        let letters = many(1000).replace("review", &format!("\"{salutation}review"));
        let letters = letters
            .replace(",positive", "\",positive")
            .replace(",negative", "\",negative");
        let reviews = try_read(&letters).unwrap();
        assert!(
            (150..250).contains(&reviews.test.len()),
            "{}",
            reviews.test.len()
        );
        assert_eq!(
            reviews.warnings,
            [
                "1000 texts share their first 100 characters with more than 10 others (1 beginning); which \
              of these are held out follows from a hash of the whole text"
            ]
        );
        // A few are copies of one another, and in one part.
        let copies: Vec<&str> = letters.lines().take(11).collect();
        let few = format!(
            "{}\n{}",
            copies.join("\n"),
            &many(100)["text,label\n".len()..]
        );
        let reviews = try_read(&few).unwrap();
        let is_copy = |it: &&Example| it.text.starts_with("Dear Sir");
        let counts = [&reviews.train, &reviews.valid, &reviews.test]
            .map(|part| part.iter().filter(is_copy).count());
        assert!(counts.contains(&10), "{counts:?}");
        assert!(reviews.warnings.is_empty());
    }
}
