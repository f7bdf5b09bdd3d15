//! The encoder in int8, which is faster than in binary32 on a CPU, and not trained.
//!
//! Its dense layers multiply bytes: weights are rounded once, each column of the result with a scale
//! of its own; rows of tokens are rounded as they come, each with a scale and a zero of its own. So
//! a row's result is the same in any batch. All else computes in binary32.

mod gelu;
mod kernel;
mod linear;

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use self::gelu::gelu;
use self::linear::{Linear, Rows};
use super::architecture::{Architecture, Pooling};
use super::attention::Heads;
use super::batch::Batch;
use super::encoder::{embed, part};
use super::normalize::{ForwardParameters, forward_row};
use super::parameters::{self, Parameters};
use crate::parallel::{for_each_chunk, numbers, shared};

/// Rows that a thread takes through a layer together: few, so that they stay in its cache.
const CHUNK: usize = 16;

/// All encoder layers.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<Layer>,
    norm_eps: f32,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    /// Keys and values as one dense layer.
    key_value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// A layer normalisation's parameters.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn new(norm: &parameters::Norm) -> Self {
        Self {
            weight: numbers(&norm.weight).to_vec(),
            bias: numbers(&norm.bias).to_vec(),
        }
    }

    fn parameters(&self, eps: f32) -> ForwardParameters<'_> {
        ForwardParameters {
            dense_bias: None,
            mask: None,
            weight: &self.weight,
            bias: &self.bias,
            eps,
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
        let hidden = architecture.hidden_size;
        let layers = parameters.layers.iter().map(|layer| Layer {
            query: Linear::new(&part(&layer.query_key_value, 0, hidden)),
            key_value: Linear::new(&part(&layer.query_key_value, hidden, 2 * hidden)),
            attention_output: Linear::new(&layer.attention_output),
            attention_norm: Norm::new(&layer.attention_norm),
            intermediate: Linear::new(&layer.intermediate),
            output: Linear::new(&layer.output),
            output_norm: Norm::new(&layer.output_norm),
        });
        Self {
            layers: layers.collect(),
            norm_eps: architecture.norm_eps as f32,
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
            // What asks, and so what the layer's result is of.
            let asking = if only_first {
                x.index_select(0, &batch.firsts)
            } else {
                x.shallow_clone()
            };
            let (query, key_value) = if only_first {
                let [query] = apply([&layer.query], &asking);
                let [key_value] = apply([&layer.key_value], &x);
                (query, key_value)
            } else {
                let [query, key_value] = apply([&layer.query, &layer.key_value], &x);
                (query, key_value)
            };
            let hidden = architecture.hidden_size;
            let heads = Heads {
                query: &query,
                key: &key_value.narrow(1, 0, hidden),
                value: &key_value.narrow(1, hidden, hidden),
                count: architecture.heads,
                groups: &batch.groups,
                only_first,
            };
            x = self.after_attention(layer, &heads.forward().0, &asking);
        }
        x
    }

    /// All of a layer that follows attention, [rows, hidden].
    fn after_attention(&self, layer: &Layer, attended: &Tensor, residual: &Tensor) -> Tensor {
        let hidden = layer.output.columns;
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
                    layer,
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
        layer: &Layer,
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
        let (hidden, inner) = (layer.output.columns, layer.intermediate.columns);
        normed.resize(into.len(), 0.0);
        wide.resize(into.len() / hidden * inner, 0.0);
        normalised.resize(hidden, 0.0);
        let mut normalize = |x: &mut [f32], residual: &[f32], norm: &Norm| {
            let parameters = norm.parameters(self.norm_eps);
            let residuals = residual.chunks_exact(hidden);
            for (x, residual) in x.chunks_exact_mut(hidden).zip(residuals) {
                forward_row(x, Some(residual), normalised, 0, &parameters);
            }
        };
        rows.round(attended, hidden);
        layer.attention_output.apply(rows, normed);
        normalize(normed, residual, &layer.attention_norm);
        rows.round(normed, hidden);
        layer.intermediate.apply(rows, wide);
        gelu(wide);
        rows.round(wide, inner);
        layer.output.apply(rows, into);
        normalize(into, normed, &layer.output_norm);
    }
}

/// What dense layers that take the same rows make of them, [rows, columns] each.
fn apply<const COUNT: usize>(layers: [&Linear; COUNT], x: &Tensor) -> [Tensor; COUNT] {
    let (rows, width) = (x.size()[0], x.size()[1] as usize);
    let mut results =
        layers.map(|layer| Tensor::empty([rows, layer.columns as i64], (Kind::Float, Device::Cpu)));
    let into = results.each_mut().map(shared);
    let x = numbers(x);
    for_each_chunk(rows as usize, CHUNK, |_, range| {
        SCRATCH.with_borrow_mut(|Scratch { rows, .. }| {
            rows.round(&x[range.start * width..range.end * width], width);
            for (layer, into) in layers.into_iter().zip(into) {
                let range = range.start * layer.columns..range.end * layer.columns;
                #[expect(unsafe_code, reason = "each row is of one chunk alone")]
                // SAFETY: chunks have rows of their own.
                let into = unsafe { into.part(range) };
                layer.apply(rows, into);
            }
        });
    });
    results
}
