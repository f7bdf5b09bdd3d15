//! What the server needs of a model and its tokenizer, and nothing more.

use std::error::Error;

/// Why something of the model failed; its text is what a client or the log gets.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A model that scores labels.
pub trait Classify: Send + 'static {
    /// The logits of the labels, for each sequence of token ids: one row per sequence, one column per
    /// label, in the order of [`ModelInfo::labels`].
    ///
    /// It may panic: the texts of the batch are then computed one by one, and those that make it panic fail.
    fn logits(&self, batch: &[&[u32]]) -> Vec<Vec<f32>>;

    /// What an answer says of each label, by its logits: its probability.
    fn scores(&self, logits: &[f32]) -> Vec<f32> {
        softmax(logits)
    }

    /// The same model for another thread. The weights are shared.
    #[must_use]
    fn share(&self) -> Self
    where
        Self: Sized;
}

/// The probability of each label: the softmax of a row of logits.
#[must_use]
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The probability of a label by itself: `1 / (1 + exp(-logit))`.
#[must_use]
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids of the vocabulary. Without any, the text is refused: there is nothing to compute.
    pub ids: Vec<u32>,
    /// Whether the model reads only the beginning of the text.
    pub is_truncated: bool,
}

/// From a text to at most [`ModelInfo::text_tokens`] tokens, on any thread. Its error is of that text alone.
pub type Tokenize = dyn Fn(&str) -> Result<Tokens, Failure> + Send + Sync;

/// A model that can be served.
pub struct Loaded<C> {
    /// Computes the logits.
    pub classifier: C,
    /// The tokenizer.
    pub tokenize: Box<Tokenize>,
    /// What `GET /info` answers.
    pub info: ModelInfo,
}

/// What `GET /info` answers of a model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// SHA-256 of its weights, in hexadecimal.
    pub sha256: String,
    /// The labels, in the order of the logits.
    pub labels: Vec<String>,
    /// The device that it computes on.
    pub device: String,
    /// The numbers that it computes in.
    pub precision: &'static str,
    /// Tokens of a text that it reads.
    pub text_tokens: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_to_one_however_large_the_logits() {
        for logits in [[1.0, -1.0], [1e4, 1e4 - 2.0], [-1e4, -1e4 - 2.0]] {
            let scores = softmax(&logits);
            assert!((scores[0] - sigmoid(2.0)).abs() < 1e-6, "{scores:?}");
            assert!(
                (scores.iter().sum::<f32>() - 1.0).abs() < 1e-6,
                "{scores:?}"
            );
        }
        for (logit, score) in [(-1e4, 0.0), (0.0, 0.5), (1e4, 1.0)] {
            assert!((sigmoid(logit) - score).abs() < 1e-6, "{logit}");
        }
    }
}
