//! The classifier on top: a dense layer with tanh, dropout, and a dense layer to the labels.

use tch::{Kind, Tensor};

use super::dropout::Mask;
use super::encoder::{apply, bias_gradient, weight_gradient};
use super::parameters::Parameters;

/// What the backward pass needs to know.
pub(super) struct Saved {
    /// [sequences, hidden]
    features: Tensor,
    /// After tanh, [sequences, hidden].
    pooled: Tensor,
    /// [sequences, hidden]; none without dropout.
    mask: Option<Tensor>,
}

/// The hidden layer, [sequences, hidden], of a vector a sequence, [sequences, hidden].
pub(super) fn pooled(parameters: &Parameters, features: &Tensor) -> Tensor {
    apply(&parameters.pooler, features).tanh()
}

/// The labels' logits, [sequences, labels], from a vector a sequence, [sequences, hidden].
pub(super) fn forward(
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

/// The mean cross-entropy of the labels, and its gradient by the logits.
pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> (f64, Tensor) {
    let logarithms = logits.log_softmax(-1, Kind::Float);
    let chosen = logarithms.gather(1, &labels.unsqueeze(1), false);
    let loss = -chosen.mean(Kind::Float).double_value(&[]);
    let mut gradient = logarithms.exp();
    let ones = Tensor::ones([labels.size()[0], 1], (Kind::Float, logits.device()));
    let _ = gradient.scatter_add_(1, &labels.unsqueeze(1), &-ones);
    let gradient = gradient / labels.size()[0];
    (loss, gradient.to_kind(logits.kind()))
}

/// Writes the gradients of the head's parameters, and gives that of the features.
pub(super) fn backward(
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
    let of_pooled = masked(&gradient.matmul(&parameters.classifier.weight));
    let of_pooler = Tensor::tanh_backward(&of_pooled, &saved.pooled);
    weight_gradient(&gradients.pooler.weight, &of_pooler, &saved.features);
    bias_gradient(&gradients.pooler.bias, &of_pooler);
    of_pooler.matmul(&parameters.pooler.weight)
}
