//! From text to the numbers that the model reads.
//!
//! A directory has a tokenizer.json, or the vocab.txt that BERT came with; and a `tokenizer_config.json`,
//! whose `do_lower_case` and the like transformers puts above the former's normalizer.

mod config;
mod file;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokenizers::TruncationParams;

use self::config::Settings;
pub use self::config::model_max_length;
use self::file::{cleaning, read_file, remove_cleaning, set_normalizer};
use crate::data::{Example, clean};
use crate::evaluate::Labelled;
use crate::process;
use crate::progress::Progress;

/// A Hugging Face tokenizer that cuts a text to what the model reads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    max_positions: usize,
    /// Whether a text is cleaned first. The file has steps for that, which take as long as all else;
    /// here they are the same function that cleans the reviews.
    cleans: bool,
    /// Of `cls_token`, `sep_token` and the like.
    special_tokens: BTreeMap<&'static str, String>,
    /// What is to be known of how it was read.
    warning: Option<String>,
}

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids of the vocabulary, from `[CLS]` to `[SEP]`.
    pub ids: Vec<u32>,
    /// Whether the text went on.
    pub is_truncated: bool,
}

/// A tokenizer can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct TokenizerError {
    file: String,
    reason: String,
}

impl TokenizerError {
    fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            file: path.display().to_string(),
            reason: reason.into(),
        }
    }
}

impl Tokenizer {
    /// As [`Tokenizer::open`], for a model that is to be trained: the tokenizer cleans a text as
    /// [`clean`] does, so that it is read in serving, and by transformers, as it
    /// was in training.
    ///
    /// # Errors
    /// As of [`Tokenizer::open`].
    pub fn open_to_train(
        directory: &Path,
        max_positions: usize,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let mut tokenizer = Self::open(directory, max_positions, vocab_size)?;
        tokenizer.cleans = true;
        Ok(tokenizer)
    }

    /// Opens `directory`'s tokenizer.json, or its vocab.txt where there is none. A text is cut to
    /// `max_positions` tokens, with the special ones; whatever the file says of cutting and padding is
    /// not used.
    ///
    /// # Errors
    /// The file is missing or not a tokenizer, or makes ids that a model with `vocab_size` words
    /// doesn't know.
    pub fn open(
        directory: &Path,
        max_positions: usize,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let settings = Settings::read(directory)?;
        let (path, mut file) = read_file(directory, &settings)?;
        let error = |reason: String| TokenizerError::new(&path, reason);
        let warning = if settings.is_bert {
            set_normalizer(&mut file, &settings.normalizer)
        } else {
            None
        };
        let cleans = remove_cleaning(&mut file);
        // Not `from_bytes`, which has all that such a file may hold compiled here, with each change.
        let mut inner: tokenizers::Tokenizer = file
            .to_string()
            .parse()
            .map_err(|reason| error(format!("not a tokenizer: {reason}")))?;
        let highest = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        if let Some((word, id)) = highest
            && id as usize >= vocab_size
        {
            return Err(error(format!(
                "has the word {word:?} with the id {id}, and config.json a `vocab_size` of \
                 {vocab_size}: they don't belong together"
            )));
        }
        let truncation = TruncationParams {
            max_length: max_positions,
            ..TruncationParams::default()
        };
        inner.with_padding(None);
        inner
            .with_truncation(Some(truncation))
            .map_err(|reason| error(format!("can't cut texts: {reason}")))?;
        let mut special_tokens = settings.special_tokens;
        special_tokens.retain(|_, token| inner.token_to_id(token).is_some());
        Ok(Self {
            inner,
            path,
            max_positions,
            cleans,
            special_tokens,
            warning,
        })
    }

    /// Checks that a text begins with the token that is classified, and isn't empty whatever it says.
    ///
    /// # Errors
    /// The tokenizer adds no special tokens, or others.
    pub fn check_special_tokens(&self) -> Result<(), TokenizerError> {
        let ids = self.encode("").map(|tokens| tokens.ids).unwrap_or_default();
        let id = |name| self.inner.token_to_id(self.special_tokens.get(name)?);
        match (id("cls_token"), id("sep_token"), &ids[..]) {
            (Some(cls), Some(sep), [first, last]) if (cls, sep) == (*first, *last) => Ok(()),
            _ => Err(TokenizerError::new(
                &self.path,
                "doesn't put a text between [CLS] and [SEP], as BERT reads it: its `post_processor` \
                 is missing or another's",
            )),
        }
    }

    /// Tokens that a text is cut to.
    #[must_use]
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// What is to be known of how it was read.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// tokenizer.json, with the cutting as it was asked for, and the cleaning.
    ///
    /// # Errors
    /// The tokenizer can't be written.
    pub fn file(&self) -> Result<Vec<u8>, tokenizers::Error> {
        let mut file: Value = serde_json::from_str(&self.inner.to_string(false)?)?;
        if self.cleans {
            let normalizer = file["normalizer"].take();
            let steps: Vec<Value> = cleaning()
                .into_iter()
                .chain(Some(normalizer).filter(|it| !it.is_null()))
                .collect();
            file["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
        }
        Ok(serde_json::to_vec_pretty(&file)?)
    }

    /// `tokenizer_config.json`, by which transformers takes tokenizer.json as it is.
    #[must_use]
    pub fn config_file(&self) -> Value {
        let mut fields = json!({
            // A BertTokenizer would make a normalizer of its own.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.max_positions,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        });
        for (name, token) in &self.special_tokens {
            fields[name] = json!(token);
        }
        fields
    }

    /// The text's tokens.
    ///
    /// # Errors
    /// The tokenizer can't take the text, which none of the known ones does.
    pub fn encode(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let encoding = if self.cleans {
            self.inner.encode_fast(clean(text), true)?
        } else {
            self.inner.encode_fast(text, true)?
        };
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            is_truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

/// Examples as the model reads them, in their order. They are tokenized on `threads` threads, this one
/// included, or on fewer, where the system doesn't let as many be started.
///
/// # Errors
/// The tokenizer can't take a text: that of the first such example.
pub fn tokenize(
    tokenizer: &Tokenizer,
    examples: &[Example],
    threads: usize,
    name: &'static str,
) -> Result<Labelled, Box<dyn Error + Send + Sync>> {
    const CHUNK: usize = 64;
    let chunks: Vec<&[Example]> = examples.chunks(CHUNK).collect();
    let tokenized: Vec<OnceLock<Result<Vec<_>, String>>> = vec![OnceLock::new(); chunks.len()];
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let encode = |example: &Example| match tokenizer.encode(&example.text) {
        Ok(tokens) => Ok(tokens.ids),
        Err(error) => Err(format!("the text in row {}: {error}", example.row)),
    };
    // Chunks are taken in their order, so that all before one that fails are tokenized, too.
    let take_chunks = |progress: &mut dyn FnMut()| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            let sequences: Result<_, _> = chunk.iter().map(encode).collect();
            if sequences.is_err() {
                next.store(chunks.len(), Ordering::Relaxed);
            }
            let _ = tokenized[index].set(sequences);
            done.fetch_add(chunk.len(), Ordering::Relaxed);
            progress();
        }
    };
    let mut progress = Progress::new(name, examples.len(), 0);
    let mut report = || progress.advance_to(done.load(Ordering::Relaxed));
    let others = threads.min(chunks.len()).saturating_sub(1);
    process::with_threads(
        others,
        || take_chunks(&mut || ()),
        || take_chunks(&mut report),
    );
    report();
    let mut sequences = Vec::with_capacity(examples.len());
    for chunk in tokenized {
        let chunk = chunk.into_inner();
        sequences.extend(chunk.expect("all chunks before one that fails are tokenized")?);
    }
    let labels = examples.iter().map(|example| example.label).collect();
    Ok(Labelled { sequences, labels })
}

#[cfg(test)]
mod tests;
