//! The encoder in int8, which is faster than in binary32 on a CPU, and not trained.
//!
//! Its dense layers multiply bytes: weights are rounded once, each column of the result with a scale
//! of its own; rows of tokens are rounded as they come, each with a scale and a zero of its own. So
//! a row's result is the same in any batch. All else computes in binary32.

mod kernel;
mod linear;

use std::cell::RefCell;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use self::linear::{Linear, Rows};
use super::activation::Activation;
use super::architecture::{Architecture, Pooling};
use super::attention::Heads;
use super::batch::Batch;
use super::encoder::embed;
use super::first::FirstHeads;
use super::normalize::{ForwardParameters, forward_row};
use super::parameters::{self, Parameters};
use crate::parallel::{for_each_chunk, numbers, shared};

/// Rows that a thread takes through a layer together: few, so that they stay in its cache.
const CHUNK: usize = 16;

/// All encoder layers.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Arc<[Layer]>,
    /// The last layer's queries, keys and values in binary32, where first tokens alone are asked for: as
    /// [`FirstHeads`] use them, they cost less than in int8.
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

/// A layer normalisation's parameters.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    fn new(norm: &parameters::Norm, eps: f64) -> Self {
        Self {
            weight: numbers(&norm.weight).to_vec(),
            bias: numbers(&norm.bias).to_vec(),
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

/// What a thread computes with; kept, as it's the same for each chunk of each layer.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    /// After attention's normalisation.
    normed: Vec<f32>,
    /// The feed-forward layer's inner vectors.
    wide: Vec<f32>,
    /// A row before normalisation's weights.
    normalised: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Encoder {
    /// Rounds the weights of all layers, which are in binary32 on a CPU.
    pub(super) fn new(parameters: &Parameters, architecture: &Architecture) -> Self {
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
            layers: layers.collect(),
            last: last.map(|layer| parameters::Linear {
                weight: layer.query_key_value.weight.copy(),
                bias: layer.query_key_value.bias.copy(),
            }),
        }
    }

    /// The same encoder, for another thread.
    pub(super) fn share(&self) -> Self {
        Self {
            layers: Arc::clone(&self.layers),
            last: self.last.as_ref().map(|last| parameters::Linear {
                weight: last.weight.shallow_clone(),
                bias: last.bias.shallow_clone(),
            }),
        }
    }

    /// As `encoder::forward` without dropout; `parameters` are those around the layers.
    pub(super) fn forward(
        &self,
        parameters: &Parameters,
        architecture: &Architecture,
        batch: &Batch,
        pooling: Pooling,
    ) -> Tensor {
        let (mut x, _) = embed(parameters, architecture, batch);
        for (number, layer) in self.layers.iter().enumerate() {
            let only_first = number + 1 == self.layers.len() && pooling == Pooling::First;
            x = match &self.last {
                Some(last) if only_first => {
                    let heads = FirstHeads::new(last, architecture.heads, batch);
                    let (attended, saved) = heads.forward(&x);
                    layer.after_attention(&attended, &saved.input)
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
    /// All that follows attention, [rows, hidden].
    fn after_attention(&self, attended: &Tensor, residual: &Tensor) -> Tensor {
        let hidden = self.output.columns;
        let rows = residual.size()[0] as usize;
        let mut result = residual.empty_like();
        let into = shared(&mut result);
        let (attended, residual) = (numbers(attended), numbers(residual));
        for_each_chunk(rows, CHUNK, |_, rows| {
            let range = rows.start * hidden..rows.end * hidden;
            #[expect(unsafe_code, reason = "each row is of one chunk alone")]
            // SAFETY: chunks have rows of their own.
            let into = unsafe { into.part(range.clone()) };
            SCRATCH.with_borrow_mut(|scratch| {
                self.chunk_after_attention(
                    &attended[range.clone()],
                    &residual[range],
                    into,
                    scratch,
                );
            });
        });
        result
    }

    fn chunk_after_attention(
        &self,
        attended: &[f32],
        residual: &[f32],
        into: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch {
            rows,
            normed,
            wide,
            normalised,
        } = scratch;
        let (hidden, inner) = (self.output.columns, self.intermediate.columns);
        normed.resize(into.len(), 0.0);
        wide.resize(into.len() / hidden * inner, 0.0);
        normalised.resize(hidden, 0.0);
        let mut normalize = |x: &mut [f32], residual: &[f32], norm: &Norm| {
            let parameters = norm.parameters();
            let residuals = residual.chunks_exact(hidden);
            for (x, residual) in x.chunks_exact_mut(hidden).zip(residuals) {
                forward_row(x, Some(residual), normalised, 0, &parameters);
            }
        };
        rows.round(attended, hidden);
        self.attention_output.apply(rows, normed);
        normalize(normed, residual, &self.attention_norm);
        rows.round(normed, hidden);
        self.intermediate.apply(rows, wide);
        self.activation.apply(wide);
        rows.round(wide, inner);
        self.output.apply(rows, into);
        normalize(into, normed, &self.output_norm);
    }
}

/// What a dense layer makes of the rows, [rows, columns].
fn apply(layer: &Linear, x: &Tensor) -> Tensor {
    let (rows, width) = (x.size()[0], x.size()[1] as usize);
    let mut result = Tensor::empty([rows, layer.columns as i64], (Kind::Float, Device::Cpu));
    let into = shared(&mut result);
    let x = numbers(x);
    for_each_chunk(rows as usize, CHUNK, |_, range| {
        SCRATCH.with_borrow_mut(|Scratch { rows, .. }| {
            rows.round(&x[range.start * width..range.end * width], width);
            let range = range.start * layer.columns..range.end * layer.columns;
            #[expect(unsafe_code, reason = "each row is of one chunk alone")]
            // SAFETY: chunks have rows of their own.
            layer.apply(rows, unsafe { into.part(range) });
        });
    });
    result
}
