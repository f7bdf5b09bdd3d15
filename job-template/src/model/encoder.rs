//! The BERT encoder (Devlin et al., 2019), forward and backward.
//!
//! The backward pass is written out: every line is the derivative of one of the forward pass. That
//! is shorter than it sounds, keeps only what is needed, and writes each gradient where it belongs.
//! A test compares it with libtorch's automatic differentiation.

use tch::{Device, Tensor};

use super::architecture::{Architecture, Pooling};
use super::attention::{self, Heads};
use super::batch::Batch;
use super::dropout::Dropout;
use super::normalize::{self, Gradients, Input};
use super::parameters::{Layer, Linear, Parameters};

/// Places of dropout: the embeddings', then two a layer, then the head's.
const EMBEDDINGS: usize = 0;

fn after_attention(layer: usize) -> usize {
    1 + 2 * layer
}

fn after_feed_forward(layer: usize) -> usize {
    2 + 2 * layer
}

/// `x` times the weight, without the bias.
fn multiply(x: &Tensor, weight: &Tensor) -> Tensor {
    x.matmul(&weight.tr())
}

/// `x` times the weight, and the bias.
pub(super) fn apply(linear: &Linear, x: &Tensor) -> Tensor {
    linear.bias.addmm(x, &linear.weight.tr())
}

/// The gradient of a dense layer's weight, from that of its result.
pub(super) fn weight_gradient(into: &Tensor, gradient: &Tensor, x: &Tensor) {
    let _ = gradient.tr().mm_out(into, x);
}

/// The gradient of a dense layer's bias, from that of its result.
pub(super) fn bias_gradient(into: &Tensor, gradient: &Tensor) {
    let _ = gradient.sum_intlist_out(into, 0, false, gradient.kind());
}

/// The gradient of a table of vectors, from those of the rows that were taken of it.
fn table_gradient(into: &Tensor, rows: &Tensor, gradient: &Tensor) {
    let mut into = into.shallow_clone();
    if into.device() == Device::Cpu {
        let _ = into.zero_();
        let _ = into.index_add_(0, rows, gradient);
    } else {
        // On a GPU, the order of that one's additions isn't certain.
        into.copy_(&Tensor::embedding_dense_backward(
            gradient,
            rows,
            into.size()[0],
            -1,
            false,
        ));
    }
}

/// What the backward pass needs of the embeddings and of all layers.
pub(super) struct Tape {
    embedding: normalize::Saved,
    layers: Vec<Saved>,
}

/// What the backward pass needs of a layer.
struct Saved {
    /// The layer's input, [rows, hidden].
    input: Tensor,
    query_key_value: QueryKeyValue,
    attention: Vec<attention::Saved>,
    /// [query rows, hidden]
    attended: Tensor,
    attention_norm: normalize::Saved,
    /// [query rows, hidden]
    normed: Tensor,
    /// [query rows, intermediate]
    before_gelu: Tensor,
    /// [query rows, intermediate]
    after_gelu: Tensor,
    output_norm: normalize::Saved,
}

/// Queries, keys and values; in the last layer, queries of the first tokens only.
enum QueryKeyValue {
    /// [rows, 3 hidden]
    All(Tensor),
    /// The first tokens' inputs and queries, [sequences, hidden]; keys and values, [rows, 2 hidden].
    First {
        input: Tensor,
        query: Tensor,
        key_value: Tensor,
    },
}

impl QueryKeyValue {
    fn heads<'a>(
        &self,
        views: &'a mut Option<[Tensor; 3]>,
        batch: &'a Batch,
        heads: i64,
    ) -> Heads<'a> {
        let only_first = matches!(self, Self::First { .. });
        let [query, key, value] = views.insert(match self {
            Self::All(all) => thirds(all),
            Self::First {
                query, key_value, ..
            } => {
                let [key, value] = halves(key_value);
                [query.shallow_clone(), key, value]
            }
        });
        Heads {
            query,
            key,
            value,
            count: heads,
            groups: &batch.groups,
            only_first,
        }
    }
}

fn thirds(tensor: &Tensor) -> [Tensor; 3] {
    let size = tensor.size()[1] / 3;
    [0, 1, 2].map(|third| tensor.narrow(1, third * size, size))
}

fn halves(tensor: &Tensor) -> [Tensor; 2] {
    let size = tensor.size()[1] / 2;
    [0, 1].map(|half| tensor.narrow(1, half * size, size))
}

/// A part of the dense layer of queries, keys and values: rows from `start`.
pub(super) fn part(linear: &Linear, start: i64, len: i64) -> Linear {
    Linear {
        weight: linear.weight.narrow(0, start, len),
        bias: linear.bias.narrow(0, start, len),
    }
}

/// The embeddings of a batch's tokens, normalised, [rows, hidden].
pub(super) fn embed(
    parameters: &Parameters,
    architecture: &Architecture,
    batch: &Batch,
) -> (Tensor, normalize::Saved) {
    let embedded = parameters.words.index_select(0, &batch.ids)
        + parameters.positions.index_select(0, &batch.positions)
        + parameters.token_types.get(0);
    let input = Input {
        dense: embedded,
        dense_bias: None,
        mask: None,
        residual: None,
    };
    normalize::forward(input, &parameters.embedding_norm, architecture.norm_eps)
}

/// Vectors of a batch, and what the backward pass needs.
///
/// With [`Pooling::First`] they are those of the first tokens, [sequences, hidden], and the last
/// layer computes no others; with [`Pooling::Mean`] those of all tokens, [rows, hidden].
pub(super) fn forward(
    parameters: &Parameters,
    architecture: &Architecture,
    batch: &Batch,
    dropout: Option<Dropout>,
    pooling: Pooling,
) -> (Tensor, Tape) {
    let (mut x, embedding) = embed(parameters, architecture, batch);
    if let Some(dropout) = dropout {
        dropout.mask(EMBEDDINGS).apply(&mut x);
    }
    let last = parameters.layers.len() - 1;
    let mut layers = Vec::with_capacity(parameters.layers.len());
    for (number, layer) in parameters.layers.iter().enumerate() {
        let only_first = number == last && pooling == Pooling::First;
        let (y, saved) = forward_layer(
            Place {
                number,
                layer,
                architecture,
                batch,
                dropout,
            },
            &x,
            only_first,
        );
        // Without training, nothing of it is needed any more.
        if dropout.is_some() {
            layers.push(saved);
        }
        x = y;
    }
    (x, Tape { embedding, layers })
}

/// A layer and all that is around it.
#[derive(Clone, Copy)]
struct Place<'a> {
    number: usize,
    layer: &'a Layer,
    architecture: &'a Architecture,
    batch: &'a Batch,
    dropout: Option<Dropout>,
}

fn forward_layer(place: Place<'_>, x: &Tensor, only_first: bool) -> (Tensor, Saved) {
    let Place {
        number,
        layer,
        architecture,
        batch,
        dropout,
    } = place;
    let hidden = architecture.hidden_size;
    let query_key_value = if only_first {
        let input = x.index_select(0, &batch.firsts);
        let query = apply(&part(&layer.query_key_value, 0, hidden), &input);
        let key_value = apply(&part(&layer.query_key_value, hidden, 2 * hidden), x);
        QueryKeyValue::First {
            input,
            query,
            key_value,
        }
    } else {
        QueryKeyValue::All(apply(&layer.query_key_value, x))
    };
    let mut views = None;
    let (attended, attention) = query_key_value
        .heads(&mut views, batch, architecture.heads)
        .forward();
    let residual = match &query_key_value {
        QueryKeyValue::First { input, .. } => input,
        QueryKeyValue::All(_) => x,
    };
    let input = Input {
        dense: multiply(&attended, &layer.attention_output.weight),
        dense_bias: Some(&layer.attention_output.bias),
        mask: dropout.map(|dropout| dropout.mask(after_attention(number))),
        residual: Some(residual),
    };
    let (normed, attention_norm) =
        normalize::forward(input, &layer.attention_norm, architecture.norm_eps);
    let before_gelu = apply(&layer.intermediate, &normed);
    let after_gelu = before_gelu.gelu("none");
    let input = Input {
        dense: multiply(&after_gelu, &layer.output.weight),
        dense_bias: Some(&layer.output.bias),
        mask: dropout.map(|dropout| dropout.mask(after_feed_forward(number))),
        residual: Some(&normed),
    };
    let (y, output_norm) = normalize::forward(input, &layer.output_norm, architecture.norm_eps);
    let saved = Saved {
        input: x.shallow_clone(),
        query_key_value,
        attention,
        attended,
        attention_norm,
        normed,
        before_gelu,
        after_gelu,
        output_norm,
    };
    (y, saved)
}

/// Writes the gradients of the encoder's parameters, given that of its result.
pub(super) fn backward(
    parameters: &Parameters,
    gradients: &Parameters,
    architecture: &Architecture,
    batch: &Batch,
    tape: &Tape,
    dropout: Dropout,
    gradient: Tensor,
) {
    let mut gradient = gradient;
    for (number, saved) in tape.layers.iter().enumerate().rev() {
        let layer = &parameters.layers[number];
        let place = Place {
            number,
            layer,
            architecture,
            batch,
            dropout: Some(dropout),
        };
        gradient = backward_layer(place, &gradients.layers[number], saved, &gradient);
    }
    dropout.mask(EMBEDDINGS).apply(&mut gradient);
    let into = Gradients {
        norm: &gradients.embedding_norm,
        dense_bias: None,
    };
    let (gradient, _) = normalize::backward(
        &gradient,
        &tape.embedding,
        &parameters.embedding_norm,
        &into,
    );
    table_gradient(&gradients.words, &batch.ids, &gradient);
    table_gradient(&gradients.positions, &batch.positions, &gradient);
    let mut token_types = gradients.token_types.shallow_clone();
    let _ = token_types.zero_();
    bias_gradient(&token_types.get(0), &gradient);
}

/// The gradient of the layer's input.
fn backward_layer(place: Place<'_>, into: &Layer, saved: &Saved, gradient: &Tensor) -> Tensor {
    let Place {
        layer,
        architecture,
        batch,
        ..
    } = place;
    let hidden = architecture.hidden_size;

    let norm = Gradients {
        norm: &into.output_norm,
        dense_bias: Some(&into.output.bias),
    };
    let (residual, dense) =
        normalize::backward(gradient, &saved.output_norm, &layer.output_norm, &norm);
    weight_gradient(&into.output.weight, &dense, &saved.after_gelu);
    let of_gelu = saved
        .before_gelu
        .gelu_backward(&dense.matmul(&layer.output.weight), "none");
    weight_gradient(&into.intermediate.weight, &of_gelu, &saved.normed);
    bias_gradient(&into.intermediate.bias, &of_gelu);
    let normed = residual.addmm(&of_gelu, &layer.intermediate.weight);

    let norm = Gradients {
        norm: &into.attention_norm,
        dense_bias: Some(&into.attention_output.bias),
    };
    let (residual, dense) =
        normalize::backward(&normed, &saved.attention_norm, &layer.attention_norm, &norm);
    weight_gradient(&into.attention_output.weight, &dense, &saved.attended);
    let attended = dense.matmul(&layer.attention_output.weight);

    let mut views = None;
    let heads = saved
        .query_key_value
        .heads(&mut views, batch, architecture.heads);
    match &saved.query_key_value {
        QueryKeyValue::All(all) => {
            let of_all = all.empty_like();
            heads.backward(&attended, &saved.attention, &thirds(&of_all));
            weight_gradient(&into.query_key_value.weight, &of_all, &saved.input);
            bias_gradient(&into.query_key_value.bias, &of_all);
            residual.addmm(&of_all, &layer.query_key_value.weight)
        }
        QueryKeyValue::First {
            input,
            query,
            key_value,
        } => {
            let of_query = query.empty_like();
            let of_key_value = key_value.empty_like();
            let [of_key, of_value] = halves(&of_key_value);
            let views = [of_query.shallow_clone(), of_key, of_value];
            heads.backward(&attended, &saved.attention, &views);
            let (query_into, key_value_into) = (
                part(&into.query_key_value, 0, hidden),
                part(&into.query_key_value, hidden, 2 * hidden),
            );
            weight_gradient(&query_into.weight, &of_query, input);
            bias_gradient(&query_into.bias, &of_query);
            weight_gradient(&key_value_into.weight, &of_key_value, &saved.input);
            bias_gradient(&key_value_into.bias, &of_key_value);
            let query_part = part(&layer.query_key_value, 0, hidden);
            let key_value_part = part(&layer.query_key_value, hidden, 2 * hidden);
            let of_first = residual.addmm(&of_query, &query_part.weight);
            let mut of_input = of_key_value.matmul(&key_value_part.weight);
            of_input.index_add_(0, &batch.firsts, &of_first)
        }
    }
}
