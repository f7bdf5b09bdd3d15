//! What serving needs of a model, and nothing more.

/// A model that tells how likely each label is.
pub trait Classify: Send + 'static {
    /// The logits of the labels, for each sequence of token ids: one row a sequence, one column a
    /// label, in the order of the labels.
    fn logits(&self, batch: &[&[u32]]) -> Vec<Vec<f32>>;

    /// What an answer says of each label, by its logits: how likely it is.
    fn scores(&self, logits: &[f32]) -> Vec<f32> {
        softmax(logits)
    }

    /// The same model for another thread. The weights are shared.
    #[must_use]
    fn share(&self) -> Self
    where
        Self: Sized;
}

/// How likely each label is: the softmax of a row of logits.
#[must_use]
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// How likely a label is by itself: `1 / (1 + exp(-logit))`.
#[must_use]
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
