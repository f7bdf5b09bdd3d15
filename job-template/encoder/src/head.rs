//! The classifier on top: a dense layer with tanh, dropout, and a dense layer to the labels.

use tch::{Kind, Tensor};

use crate::dropout::Mask;
use crate::layers::{apply, bias_gradient, weight_gradient};
use crate::parameters::Parameters;

/// What the backward pass needs to know.
pub(crate) struct Saved {
    /// [sequences, hidden]
    features: Tensor,
    /// After tanh, [sequences, hidden].
    pooled: Tensor,
    /// [sequences, hidden]; none without dropout.
    mask: Option<Tensor>,
}

/// The hidden layer, [sequences, hidden], of a vector a sequence, [sequences, hidden].
pub(crate) fn pooled(parameters: &Parameters, features: &Tensor) -> Tensor {
    apply(&parameters.pooler, features).tanh()
}

/// The labels' logits, [sequences, labels], from a vector a sequence, [sequences, hidden].
pub(crate) fn forward(
    parameters: &Parameters,
    features: &Tensor,
    mask: Option<Mask>,
) -> (Tensor, Saved) {
    let pooled = pooled(parameters, features);
    let mask = mask.map(|mask| mask.tensor(&pooled.size(), pooled.kind(), pooled.device()));
    let dropped = match &mask {
        Some(mask) => &pooled * mask,
        None => pooled.shallow_clone(),
    };
    let logits = apply(&parameters.classifier, &dropped);
    (
        logits,
        Saved {
            features: features.shallow_clone(),
            pooled,
            mask,
        },
    )
}

/// What a batch's logits are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// Numbers of the right labels, int64 `[sequences]` in the batch's order.
    pub labels: &'a Tensor,
    /// The weight that each sequence's loss has, `[sequences]`; none: 1 each.
    pub weights: Option<&'a Tensor>,
    /// What the sum of the weighted losses is divided by: the sum of the weights of all sequences that a
    /// step learns from, where their mean is wanted.
    pub normalizer: f64,
}

/// The cross-entropy of the labels, summed with weights and divided by the normalizer (a tensor of one
/// number), and its gradient by the logits.
pub(crate) fn cross_entropy(logits: &Tensor, targets: Targets<'_>) -> (Tensor, Tensor) {
    let labels = targets.labels.unsqueeze(1);
    let log_probs = logits.log_softmax(-1, Kind::Float);
    let losses = -log_probs.gather(1, &labels, false);
    let mut gradient = log_probs.exp();
    let ones = Tensor::ones(labels.size(), (Kind::Float, logits.device()));
    let _ = gradient.scatter_add_(1, &labels, &-ones);
    let weigh = |tensor: Tensor| match targets.weights {
        Some(weights) => tensor * weights.unsqueeze(1),
        None => tensor,
    };
    let loss = weigh(losses).sum(Kind::Float) / targets.normalizer;
    let gradient = weigh(gradient) / targets.normalizer;
    (loss, gradient.to_kind(logits.kind()))
}

/// Writes the gradients of the head's parameters, and gives that of the features.
pub(crate) fn backward(
    parameters: &Parameters,
    gradients: &Parameters,
    saved: &Saved,
    gradient: &Tensor,
) -> Tensor {
    let masked = |tensor: &Tensor| match &saved.mask {
        Some(mask) => tensor * mask,
        None => tensor.shallow_clone(),
    };
    weight_gradient(
        &gradients.classifier.weight,
        gradient,
        &masked(&saved.pooled),
    );
    bias_gradient(&gradients.classifier.bias, gradient);
    let grad_pooled = masked(&gradient.matmul(&parameters.classifier.weight));
    let grad_pooler = Tensor::tanh_backward(&grad_pooled, &saved.pooled);
    weight_gradient(&gradients.pooler.weight, &grad_pooler, &saved.features);
    bias_gradient(&gradients.pooler.bias, &grad_pooler);
    grad_pooler.matmul(&parameters.pooler.weight)
}
