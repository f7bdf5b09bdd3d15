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
mod tests;
