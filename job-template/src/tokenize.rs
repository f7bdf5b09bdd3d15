//! From text to the numbers that the model reads.

use std::path::Path;

use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

/// A Hugging Face tokenizer that cuts a text to what the model reads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
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

impl Tokenizer {
    /// Opens `folder`'s tokenizer.json. A text is cut to `max_positions` tokens, with the special
    /// ones; whatever the file says of cutting and filling up is not used.
    ///
    /// # Errors
    /// The file is missing or not a tokenizer, or makes ids that a model with `vocab_size` words
    /// doesn't know.
    pub fn open(
        folder: &Path,
        max_positions: usize,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let error = |reason| TokenizerError {
            file: path.display().to_string(),
            reason,
        };
        let file = std::fs::read_to_string(&path).map_err(|reason| error(reason.to_string()))?;
        // Not `from_bytes`, which has all that such a file may hold compiled here, with each change.
        let mut inner: tokenizers::Tokenizer = file
            .parse()
            .map_err(|reason| error(format!("not a tokenizer: {reason}")))?;
        let words = inner.get_vocab_size(true);
        if words > vocab_size {
            return Err(error(format!(
                "has {words} words, and the model {vocab_size}: they don't belong together"
            )));
        }
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_positions,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        inner.with_padding(None);
        inner
            .with_truncation(Some(truncation))
            .map_err(|reason| error(format!("can't cut texts: {reason}")))?;
        Ok(Self { inner })
    }

    /// tokenizer.json, with the cutting as it was asked for.
    ///
    /// # Errors
    /// The tokenizer can't be written.
    pub fn file(&self) -> Result<Vec<u8>, tokenizers::Error> {
        Ok(self.inner.to_string(true)?.into_bytes())
    }

    /// The text's tokens.
    ///
    /// # Errors
    /// The tokenizer can't take the text, which none of the known ones does.
    pub fn encode(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let encoding = self.inner.encode_fast(text, true)?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            is_truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}
