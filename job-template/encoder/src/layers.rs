//! The BERT encoder (Devlin et al., 2019), forward and backward.
//!
//! The backward pass is written out: every line is the derivative of one of the forward pass. That
//! is shorter than it sounds, keeps only what is needed, and writes each gradient where it belongs.
//! A test compares it with libtorch's automatic differentiation.

use tch::Tensor;

use crate::activation;
use crate::architecture::{Architecture, Pooling};
use crate::attention::{self, Heads};
use crate::batch::Batch;
use crate::cls::{self, ClsAttention};
use crate::dropout::Dropout;
use crate::normalize::{self, Gradients, Input};
use crate::parameters::{Layer, Linear, Parameters};
use crate::slices::{as_mut_slice, as_slice, suits_kernels};

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
pub(crate) fn apply(linear: &Linear, x: &Tensor) -> Tensor {
    linear.bias.addmm(x, &linear.weight.tr())
}

/// The gradient of a dense layer's weight, from that of its result.
pub(crate) fn weight_gradient(into: &Tensor, gradient: &Tensor, x: &Tensor) {
    let _ = gradient.tr().mm_out(into, x);
}

/// The gradient of a dense layer's bias, from that of its result.
pub(crate) fn bias_gradient(into: &Tensor, gradient: &Tensor) {
    let _ = gradient.sum_intlist_out(into, 0, false, gradient.kind());
}

/// The gradient of a table of vectors, from those of the rows that were taken of it. On a CPU, that
/// of others is left as it is.
fn table_gradient(into: &Tensor, rows: &Tensor, gradient: &Tensor) {
    let mut into = into.shallow_clone();
    if suits_kernels(&into) {
        let width = into.size()[1] as usize;
        let rows: Vec<i64> = Vec::try_from(rows).expect("rows are integers");
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody else has the table or the gradient meanwhile.
        let (table, gradient) = unsafe { (as_mut_slice(&mut into), as_slice(gradient)) };
        let range = |row: i64| row as usize * width..(row as usize + 1) * width;
        for &row in &rows {
            table[range(row)].fill(0.0);
        }
        for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(width)) {
            for (sum, gradient) in table[range(row)].iter_mut().zip(gradient) {
                *sum += gradient;
            }
        }
    } else {
        // On a GPU, the order of `index_add_`'s additions isn't certain.
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
pub(crate) struct Tape {
    embedding: normalize::Saved,
    layers: Vec<Saved>,
}

/// What the backward pass needs of a layer.
struct Saved {
    /// The layer's input, [rows, hidden].
    input: Tensor,
    attention: Attention,
    /// [query rows, hidden]
    context: Tensor,
    attention_norm: normalize::Saved,
    /// [query rows, hidden]
    normed: Tensor,
    /// After the feed-forward layer's inner dense layer and the activation, [query rows, intermediate].
    inner: Tensor,
    /// The activation's derivative there; none without training.
    derivative: Option<Tensor>,
    output_norm: normalize::Saved,
}

/// What the backward pass needs of attention.
enum Attention {
    /// Queries, keys and values, [rows, 3 hidden], and what else is needed of all tokens.
    All(Tensor, attention::Saved),
    /// That of the first tokens alone.
    Cls(cls::Saved),
}

/// The embeddings of a batch's tokens, normalized, [rows, hidden].
pub(crate) fn embed(
    parameters: &Parameters,
    architecture: &Architecture,
    batch: &Batch,
) -> (Tensor, normalize::Saved) {
    let embedded = parameters.word_embeddings.index_select(0, &batch.ids)
        + parameters
            .position_embeddings
            .index_select(0, &batch.positions)
        + parameters.token_type_embeddings.get(0);
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
pub(crate) fn forward(
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
            LayerPass {
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
struct LayerPass<'a> {
    number: usize,
    layer: &'a Layer,
    architecture: &'a Architecture,
    batch: &'a Batch,
    dropout: Option<Dropout>,
}

impl<'a> LayerPass<'a> {
    fn heads(&self, query_key_value: &'a Tensor) -> Heads<'a> {
        Heads {
            query_key_value,
            count: self.architecture.heads,
            groups: &self.batch.groups,
        }
    }

    fn cls_attention(&self) -> ClsAttention<'a> {
        let linear = &self.layer.query_key_value;
        ClsAttention::new(linear, self.architecture.heads, self.batch)
    }
}

fn forward_layer(pass: LayerPass<'_>, x: &Tensor, only_first: bool) -> (Tensor, Saved) {
    let LayerPass {
        number,
        layer,
        architecture,
        dropout,
        ..
    } = pass;
    let (context, attention) = if only_first {
        let (context, saved) = pass.cls_attention().forward(x);
        (context, Attention::Cls(saved))
    } else {
        let all = apply(&layer.query_key_value, x);
        let (context, saved) = pass.heads(&all).forward();
        (context, Attention::All(all, saved))
    };
    let residual = match &attention {
        Attention::All(..) => x,
        Attention::Cls(saved) => &saved.input,
    };
    let input = Input {
        dense: multiply(&context, &layer.attention_output.weight),
        dense_bias: Some(&layer.attention_output.bias),
        mask: dropout.map(|dropout| dropout.mask(after_attention(number))),
        residual: Some(residual),
    };
    let (normed, attention_norm) =
        normalize::forward(input, &layer.attention_norm, architecture.norm_eps);
    let dense = multiply(&normed, &layer.intermediate.weight);
    let (inner, derivative) =
        architecture
            .activation
            .forward(dense, &layer.intermediate.bias, dropout.is_some());
    let input = Input {
        dense: multiply(&inner, &layer.output.weight),
        dense_bias: Some(&layer.output.bias),
        mask: dropout.map(|dropout| dropout.mask(after_feed_forward(number))),
        residual: Some(&normed),
    };
    let (y, output_norm) = normalize::forward(input, &layer.output_norm, architecture.norm_eps);
    let saved = Saved {
        input: x.shallow_clone(),
        attention,
        context,
        attention_norm,
        normed,
        inner,
        derivative,
        output_norm,
    };
    (y, saved)
}

/// Writes the gradients of the encoder's parameters, given that of its result.
pub(crate) fn backward(
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
        let pass = LayerPass {
            number,
            layer,
            architecture,
            batch,
            dropout: Some(dropout),
        };
        gradient = backward_layer(pass, &gradients.layers[number], saved, &gradient);
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
    table_gradient(&gradients.word_embeddings, &batch.ids, &gradient);
    let _ = gradients.position_embeddings.shallow_clone().zero_();
    table_gradient(&gradients.position_embeddings, &batch.positions, &gradient);
    let mut token_types = gradients.token_type_embeddings.shallow_clone();
    let _ = token_types.zero_();
    bias_gradient(&token_types.get(0), &gradient);
}

/// The gradient of the layer's input.
fn backward_layer(pass: LayerPass<'_>, into: &Layer, saved: &Saved, gradient: &Tensor) -> Tensor {
    let LayerPass { layer, batch, .. } = pass;
    let norm = Gradients {
        norm: &into.output_norm,
        dense_bias: Some(&into.output.bias),
    };
    // By the residual; what comes by the feed-forward layer is added later.
    let (mut grad_normed, dense) =
        normalize::backward(gradient, &saved.output_norm, &layer.output_norm, &norm);
    weight_gradient(&into.output.weight, &dense, &saved.inner);
    let derivative = saved.derivative.as_ref();
    let grad_inner = activation::backward(
        dense.matmul(&layer.output.weight),
        derivative.expect("a layer that is trained has its derivative"),
        &into.intermediate.bias,
    );
    weight_gradient(&into.intermediate.weight, &grad_inner, &saved.normed);
    let _ = grad_normed.addmm_(&grad_inner, &layer.intermediate.weight);

    let norm = Gradients {
        norm: &into.attention_norm,
        dense_bias: Some(&into.attention_output.bias),
    };
    let (mut residual, dense) = normalize::backward(
        &grad_normed,
        &saved.attention_norm,
        &layer.attention_norm,
        &norm,
    );
    weight_gradient(&into.attention_output.weight, &dense, &saved.context);
    let context = dense.matmul(&layer.attention_output.weight);

    match &saved.attention {
        Attention::All(all, of_all_tokens) => {
            let heads = pass.heads(all);
            let grad_all = heads.backward(&context, &saved.context, of_all_tokens);
            weight_gradient(&into.query_key_value.weight, &grad_all, &saved.input);
            bias_gradient(&into.query_key_value.bias, &grad_all);
            residual.addmm_(&grad_all, &layer.query_key_value.weight)
        }
        Attention::Cls(of_cls) => {
            let (by_query, mut grad_input) = pass.cls_attention().backward(
                &context,
                of_cls,
                &saved.input,
                &into.query_key_value,
            );
            grad_input.index_add_(0, &batch.firsts, &(residual + by_query))
        }
    }
}
