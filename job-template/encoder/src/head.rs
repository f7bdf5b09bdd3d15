//! The classification head: a dense layer with tanh, dropout, a dense layer to the labels, and the
//! cross-entropy.

use tch::{Kind, Tensor};

use crate::dropout::Mask;
use crate::layers::{apply, bias_gradient, weight_gradient};
use crate::parameters::Parameters;

/// What the backward pass needs.
pub(crate) struct Saved {
    /// [sequences, hidden]
    features: Tensor,
    /// After tanh, [sequences, hidden].
    pooled: Tensor,
    /// [sequences, hidden]; none without dropout.
    mask: Option<Tensor>,
}

/// The hidden layer after tanh, [sequences, hidden], of features, [sequences, hidden].
pub(crate) fn pooled(parameters: &Parameters, features: &Tensor) -> Tensor {
    apply(&parameters.pooler, features).tanh()
}

/// The logits, [sequences, labels], of features, [sequences, hidden].
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

/// The targets of a batch's logits in training.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The right labels' indexes, int64 `[sequences]` in the batch's order ([`Batch::arrange`](crate::Batch::arrange)).
    pub labels: &'a Tensor,
    /// The weights of the sequences' losses, binary32 `[sequences]` in the batch's order; none: 1 each.
    pub weights: Option<&'a Tensor>,
    /// The divisor of the sum of weighted losses. For their mean: the sum of the weights of all sequences of the
    /// optimizer's step.
    pub normalizer: f64,
}

/// The weighted sum of the labels' cross-entropies, divided by the normalizer (a tensor of one number), and its
/// gradient by the logits, [sequences, labels].
pub(crate) fn cross_entropy(logits: &Tensor, targets: Targets<'_>) -> (Tensor, Tensor) {
    let labels = targets.labels.unsqueeze(1);
    let log_probs = logits.log_softmax(-1, Kind::Float);
    let losses = -log_probs.gather(1, &labels, false);
    let mut gradient = log_probs.exp();
    let ones = Tensor::ones(labels.size(), (Kind::Float, logits.device()));
    let _ = gradient.scatter_add_(1, &labels, &-ones);
    let weighted = |tensor: Tensor| match targets.weights {
        Some(weights) => tensor * weights.unsqueeze(1),
        None => tensor,
    };
    let loss = weighted(losses).sum(Kind::Float) / targets.normalizer;
    let gradient = weighted(gradient) / targets.normalizer;
    (loss, gradient.to_kind(logits.kind()))
}

/// Writes the gradients of the head's parameters, and gives the one by the features, [sequences, hidden].
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
