//! The reviews: a file of texts and labels → examples to train on, to validate with, and to test on.
//!
//! Which part a review belongs to follows from a hash of how it begins, so that it is the same on
//! every machine, that copies of a text are in one part, and that more reviews don't move others.
//! Where many begin alike, as letters do, it follows from a hash of the whole text.

mod file;
mod labels;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::file::Record;
pub(crate) use self::file::json_line;
use self::labels::Labels;
pub use self::labels::{ModelLabels, check_label_names};

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
#[error("{}: {}{problem}", path.display(), line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub struct DataError {
    path: PathBuf,
    /// The line where the record begins, from 1, if it is one record that is wrong.
    line: Option<u64>,
    problem: String,
}

impl DataError {
    fn new(path: &Path, line: Option<u64>, problem: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            problem,
        }
    }
}

/// A text that is there once, whose part isn't known yet.
struct Candidate {
    /// Hash of the text; examples are sorted by it.
    order: [u8; 32],
    /// How the text begins.
    beginning: String,
    line: u64,
    example: Example,
}

/// Reads and splits the file.
///
/// # Errors
/// It can't be read, isn't CSV or JSON Lines with `text,label` or `review,sentiment`, or hasn't enough
/// in it to train and test with.
pub fn read(config: &DataConfig, model: ModelLabels<'_>) -> Result<Reviews, DataError> {
    let error = |problem| DataError::new(&config.path, None, problem);
    let (records, sha256) = file::read(&config.path)?;
    let mut warnings = Vec::new();
    let labels = Labels::of(&records, model, &mut warnings).map_err(error)?;
    let mut reviews = Reviews {
        rows: records.len(),
        labels: labels.names.clone(),
        train: Vec::new(),
        valid: Vec::new(),
        test: Vec::new(),
        duplicates: 0,
        contradictions: 0,
        unlabelled: 0,
        warnings,
        sha256,
    };
    let candidates = unique(records, &labels, &mut reviews);
    warn_of_labels(&candidates, &mut reviews);
    split(candidates, config, &mut reviews);
    warn_of_untrained_labels(&mut reviews);
    for (name, examples) in [("train", &reviews.train), ("test", &reviews.test)] {
        if examples.is_empty() {
            return Err(error(format!(
                "its {} rows leave no review to {name} on; it needs more rows",
                reviews.rows
            )));
        }
    }
    Ok(reviews)
}

/// Each text once, with the first label that it has. Counts the other rows, and warns of them.
fn unique(records: Vec<Record>, labels: &Labels, reviews: &mut Reviews) -> Vec<Candidate> {
    let mut seen: HashMap<[u8; 32], (usize, usize, u64)> = HashMap::new();
    let mut unlabelled = Vec::new();
    let mut contradictions = Vec::new();
    let mut candidates = Vec::new();
    for Record {
        row,
        line,
        text,
        label,
    } in records
    {
        let Some(label) = label.map(|label| labels.id(&label)) else {
            unlabelled.push(line);
            continue;
        };
        let key = text.to_lowercase();
        let order = Sha256::digest(&key).into();
        let (first, first_label, first_line) = *seen.entry(order).or_insert((row, label, line));
        if first != row {
            reviews.duplicates += 1;
            if first_label != label {
                contradictions.push((first_line, line));
            }
            continue;
        }
        candidates.push(Candidate {
            order,
            beginning: key.chars().take(BEGINNING).collect(),
            line,
            example: Example { row, text, label },
        });
    }
    if let [line, ..] = unlabelled[..] {
        reviews.warnings.push(format!(
            "{} without a label (empty or NaN) {} left out; the first is on line {line}",
            counted(unlabelled.len(), "row"),
            if unlabelled.len() == 1 { "is" } else { "are" },
        ));
    }
    if let [(first, second), ..] = contradictions[..] {
        reviews.warnings.push(format!(
            "{} {} a text that another row labels otherwise, as on lines {first} and {second}; the first \
             label of a text counts",
            counted(contradictions.len(), "row"),
            if contradictions.len() == 1 { "has" } else { "have" },
        ));
    }
    reviews.unlabelled = unlabelled.len();
    reviews.contradictions = contradictions.len();
    candidates
}

/// Warns of labels that hardly any text has, or nearly all.
fn warn_of_labels(candidates: &[Candidate], reviews: &mut Reviews) {
    let texts = candidates.len();
    for (label, name) in reviews.labels.iter().enumerate() {
        let mut with_label = candidates.iter().filter(|it| it.example.label == label);
        let first = with_label.next();
        let count = usize::from(first.is_some()) + with_label.count();
        if let (1, Some(Candidate { line, .. })) = (count, first) {
            reviews.warnings.push(format!(
                "the label `{name}` has 1 example, on line {line}: it can't be both trained on and \
                 tested on; add examples, or remove it"
            ));
        }
        let share = count as f64 / texts.max(1) as f64;
        if share > LARGEST_SHARE {
            reviews.warnings.push(format!(
                "{:.1} % of the texts ({count} of {texts}) have the label `{name}`: compare accuracy \
                 with majority_baseline, and see macro_f1",
                share * 100.0
            ));
        }
    }
}

/// Warns of labels of which several texts are used, and none to train on.
fn warn_of_untrained_labels(reviews: &mut Reviews) {
    let count = |examples: &[Example], label| {
        let with_label = examples.iter().filter(|example| example.label == label);
        with_label.count()
    };
    for label in 0..reviews.labels.len() {
        let others = count(&reviews.valid, label) + count(&reviews.test, label);
        if others > 0 && !reviews.train.is_empty() && count(&reviews.train, label) == 0 {
            reviews.warnings.push(format!(
                "no text with the label `{}` is to train on, and {others} to validate or test with: the model can't \
                 learn it; add examples",
                reviews.labels[label]
            ));
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Puts each candidate into the part that its hash says, in the order of the hashes: the first so many are
/// a random choice, and more are the same and others.
fn split(mut candidates: Vec<Candidate>, config: &DataConfig, reviews: &mut Reviews) {
    let mut alike: HashMap<&str, usize> = HashMap::new();
    for candidate in &candidates {
        *alike.entry(&candidate.beginning).or_default() += 1;
    }
    alike.retain(|_, count| *count > MOST_ALIKE);
    if !alike.is_empty() {
        reviews.warnings.push(format!(
            "{} texts share their first {BEGINNING} characters with more than {MOST_ALIKE} others \
             ({}); which of these are held out follows from a hash of the whole text",
            alike.values().sum::<usize>(),
            counted(alike.len(), "beginning")
        ));
    }
    let shared: HashSet<String> = alike.into_keys().map(str::to_owned).collect();

    let most_valid = config.valid_pct * PARTS as f64;
    candidates.sort_unstable_by_key(|candidate| candidate.order);
    for Candidate {
        beginning, example, ..
    } in candidates
    {
        let key = if shared.contains(&beginning) {
            example.text.to_lowercase()
        } else {
            beginning
        };
        if hash(&["split", &key]) % PARTS < TEST_PARTS {
            if reviews.test.len() < config.num_test {
                reviews.test.push(example);
            }
        } else if reviews.train.len() + reviews.valid.len() < config.num_train {
            let is_valid = ((hash(&["valid", &key]) % PARTS) as f64) < most_valid;
            let part = if is_valid {
                &mut reviews.valid
            } else {
                &mut reviews.train
            };
            part.push(example);
        }
    }
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
mod tests;
