//! Inference in int8 on a CPU: dynamic quantization of the encoder's dense layers.
//!
//! Weights are quantized once, symmetrically, with a scale per output; activations when they are computed,
//! asymmetrically, with a scale and a zero point per token (the README has the formulas). So a token's result does
//! not depend on the batch. Everything else computes in binary32.

mod kernel;
mod linear;

use std::cell::RefCell;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use self::linear::{Linear, Rows};
use crate::activation::Activation;
use crate::architecture::{Architecture, Pooling};
use crate::attention::Heads;
use crate::batch::Batch;
use crate::cls::ClsAttention;
use crate::encoder::Encoder;
use crate::head;
use crate::layers::embed;
use crate::normalize::{ForwardParameters, forward_row};
use crate::parameters::{self, Parameters};
use crate::slices::{RowsMut, as_mut_slice, as_slice, for_each_chunk_mut, to_vec};

/// Rows that a thread computes a layer for at a time: few, so that they stay in its cache.
const CHUNK: usize = 16;

/// A model for inference whose encoder layers multiply in int8; embeddings, layer normalization, attention and head
/// compute in binary32.
#[derive(Debug)]
pub struct Int8Encoder {
    /// Its sizes, labels and pooling.
    pub architecture: Architecture,
    /// The embeddings and the head; no layers.
    parameters: Parameters,
    layers: Arc<[Layer]>,
    /// With [`Pooling::First`], the last layer's query, key and value weights in binary32: [`ClsAttention`] multiplies
    /// so little that int8 would be slower.
    last: Option<parameters::Linear>,
}

#[derive(Debug)]
struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
    activation: Activation,
}

/// A layer normalization's parameters.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    fn new(norm: &parameters::Norm, eps: f64) -> Self {
        Self {
            weight: to_vec(&norm.weight),
            bias: to_vec(&norm.bias),
            eps: eps as f32,
        }
    }

    fn parameters(&self) -> ForwardParameters<'_> {
        ForwardParameters {
            dense_bias: None,
            mask: None,
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
        }
    }
}

/// A thread's buffers, reused for all chunks and layers.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    /// After attention's layer normalization, [rows, hidden].
    normed: Vec<f32>,
    /// The feed-forward layer's inner vectors, [rows, intermediate].
    wide: Vec<f32>,
    /// A row before the layer normalization's weight and bias, `[hidden]`.
    normalized: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Int8Encoder {
    /// Quantizes the weights of all layers. The instructions (AVX-512 VNNI, AVX-VNNI, AVX2, or none) are chosen by the
    /// processor; the result is the same.
    ///
    /// # Panics
    /// Where the model isn't in binary32 on the CPU.
    #[must_use]
    pub fn quantize(encoder: &Encoder) -> Self {
        let (parameters, architecture) = (&encoder.parameters, &encoder.architecture);
        let eps = architecture.norm_eps;
        let layers = parameters.layers.iter().map(|layer| Layer {
            query_key_value: Linear::new(&layer.query_key_value),
            attention_output: Linear::new(&layer.attention_output),
            attention_norm: Norm::new(&layer.attention_norm, eps),
            intermediate: Linear::new(&layer.intermediate),
            output: Linear::new(&layer.output),
            output_norm: Norm::new(&layer.output_norm, eps),
            activation: architecture.activation,
        });
        let last = parameters.layers.last();
        let last = last.filter(|_| architecture.pooling == Pooling::First);
        Self {
            architecture: architecture.clone(),
            parameters: parameters.without_layers(architecture),
            layers: layers.collect(),
            last: last.map(|layer| parameters::Linear {
                weight: layer.query_key_value.weight.copy(),
                bias: layer.query_key_value.bias.copy(),
            }),
        }
    }

    /// The logits, [sequences, labels] in the batch's order.
    pub fn forward(&self, batch: &Batch) -> Tensor {
        let features = self.features(batch, self.architecture.pooling);
        head::forward(&self.parameters, &features, None).0
    }

    /// The head's input: a vector for each sequence, [sequences, hidden] in the batch's order.
    pub fn features(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        pooling.pool(self.encode(batch, pooling), batch)
    }

    /// Another handle of the model, for another thread; the weights are shared.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            architecture: self.architecture.clone(),
            parameters: self.parameters.share(&self.architecture),
            layers: Arc::clone(&self.layers),
            last: self.last.as_ref().map(|last| parameters::Linear {
                weight: last.weight.shallow_clone(),
                bias: last.bias.shallow_clone(),
            }),
        }
    }

    /// As `layers::forward`, without dropout.
    fn encode(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        let architecture = &self.architecture;
        let (mut x, _) = embed(&self.parameters, architecture, batch);
        for (number, layer) in self.layers.iter().enumerate() {
            let only_first = number + 1 == self.layers.len() && pooling == Pooling::First;
            x = match &self.last {
                Some(last) if only_first => {
                    let attention = ClsAttention::new(last, architecture.heads, batch);
                    let (context, saved) = attention.forward(&x);
                    layer.after_attention(&context, &saved.input)
                }
                _ => {
                    let all = apply(&layer.query_key_value, &x);
                    let heads = Heads {
                        query_key_value: &all,
                        count: architecture.heads,
                        groups: &batch.groups,
                    };
                    layer.after_attention(&heads.forward().0, &x)
                }
            };
        }
        x
    }
}

impl Layer {
    /// The layer's output, [rows, hidden], from attention's output and the layer's input.
    fn after_attention(&self, context: &Tensor, residual: &Tensor) -> Tensor {
        let hidden = self.output.columns;
        let rows = residual.size()[0] as usize;
        let mut result = residual.empty_like();
        {
            #[expect(unsafe_code, reason = "tensors' memory")]
            // SAFETY: no other handle of the new tensor exists, and nothing writes to the others.
            let (into, context, residual) = unsafe {
                (
                    as_mut_slice(&mut result),
                    as_slice(context),
                    as_slice(residual),
                )
            };
            let into = RowsMut::new(into, hidden);
            for_each_chunk_mut(rows, CHUNK, [into], [], |rows, [into], []| {
                let range = rows.start * hidden..rows.end * hidden;
                SCRATCH.with_borrow_mut(|scratch| {
                    self.chunk_after_attention(
                        &context[range.clone()],
                        &residual[range],
                        into,
                        scratch,
                    );
                });
            });
        }
        result
    }

    fn chunk_after_attention(
        &self,
        context: &[f32],
        residual: &[f32],
        into: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch {
            rows,
            normed,
            wide,
            normalized,
        } = scratch;
        let (hidden, inner) = (self.output.columns, self.intermediate.columns);
        normed.resize(into.len(), 0.0);
        wide.resize(into.len() / hidden * inner, 0.0);
        normalized.resize(hidden, 0.0);
        let mut normalize = |x: &mut [f32], residual: &[f32], norm: &Norm| {
            let parameters = norm.parameters();
            let residuals = residual.chunks_exact(hidden);
            for (x, residual) in x.chunks_exact_mut(hidden).zip(residuals) {
                forward_row(x, Some(residual), normalized, 0, &parameters);
            }
        };
        rows.quantize(context, hidden);
        self.attention_output.apply(rows, normed);
        normalize(normed, residual, &self.attention_norm);
        rows.quantize(normed, hidden);
        self.intermediate.apply(rows, wide);
        self.activation.apply(wide);
        rows.quantize(wide, inner);
        self.output.apply(rows, into);
        normalize(into, normed, &self.output_norm);
    }
}

/// A dense layer's output, [rows, columns], of `x`, [rows, width].
fn apply(layer: &Linear, x: &Tensor) -> Tensor {
    let (rows, width) = (x.size()[0], x.size()[1] as usize);
    let mut result = Tensor::empty([rows, layer.columns as i64], (Kind::Float, Device::Cpu));
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: no other handle of the new tensor exists, and nothing writes to the other.
        let (into, x) = unsafe { (as_mut_slice(&mut result), as_slice(x)) };
        let into = RowsMut::new(into, layer.columns);
        for_each_chunk_mut(rows as usize, CHUNK, [into], [], |range, [into], []| {
            SCRATCH.with_borrow_mut(|Scratch { rows, .. }| {
                rows.quantize(&x[range.start * width..range.end * width], width);
                layer.apply(rows, into);
            });
        });
    }
    result
}
