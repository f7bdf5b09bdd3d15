//! Bias, dropout, residual connection and layer normalization (Ba et al., 2016) after a dense layer, as
//! one pass over memory, forward and backward. The README derives the backward pass.
//!
//! As separate tensor operations these are six passes over memory, and a third of a training step's time
//! on a CPU. Each CPU kernel has a version in tensor operations, which other devices use and tests
//! compare it with.

use tch::{Device, Kind, Tensor};

use crate::dropout::Mask;
use crate::parameters::Norm;
use crate::slices::{RowsMut, as_mut_slice, as_slice, for_each_chunk_mut, suits_kernels};

/// Rows of a chunk. Each chunk is summed by itself first, so that sums don't depend on the number of threads.
const CHUNK: usize = 32;

/// The operands of `x = dropout(dense + dense_bias) + residual`, `normalized = (x - mean(x)) * rstd`,
/// `rstd = 1 / sqrt(var(x) + eps)`, `y = normalized * weight + bias`.
pub(crate) struct Input<'a> {
    /// The dense layer's product, [rows, hidden].
    pub(crate) dense: Tensor,
    /// The dense layer's bias, `[hidden]`; none: there is none, or it is added already.
    pub(crate) dense_bias: Option<&'a Tensor>,
    /// Dropout's mask; none: no dropout.
    pub(crate) mask: Option<Mask>,
    /// The residual connection, [rows, hidden].
    pub(crate) residual: Option<&'a Tensor>,
}

/// What the backward pass needs.
pub(crate) struct Saved {
    /// [rows, hidden]
    normalized: Tensor,
    /// Reciprocals of the standard deviations, [rows, 1].
    rstd: Tensor,
    mask: Option<Mask>,
}

/// Where the parameters' gradients are written.
pub(crate) struct Gradients<'a> {
    /// By the layer normalization's weight and bias.
    pub(crate) norm: &'a Norm,
    /// By the dense layer's bias, `[hidden]`.
    pub(crate) dense_bias: Option<&'a Tensor>,
}

/// `y`, [rows, hidden], and what the backward pass needs.
pub(crate) fn forward(input: Input<'_>, norm: &Norm, eps: f64) -> (Tensor, Saved) {
    if suits_kernels(&input.dense) {
        fast_forward(input, norm, eps)
    } else {
        plain_forward(&input, norm, eps)
    }
}

/// The gradients by `residual` and by `dense`, [rows, hidden] each, given that by `y`; writes the parameters'.
pub(crate) fn backward(
    gradient: &Tensor,
    saved: &Saved,
    norm: &Norm,
    gradients: &Gradients<'_>,
) -> (Tensor, Tensor) {
    if suits_kernels(gradient) {
        fast_backward(gradient, saved, norm, gradients)
    } else {
        plain_backward(gradient, saved, norm, gradients)
    }
}

fn plain_forward(input: &Input<'_>, norm: &Norm, eps: f64) -> (Tensor, Saved) {
    let kind = input.dense.kind();
    let mut x = input.dense.to_kind(Kind::Float);
    if let Some(bias) = input.dense_bias {
        x += bias;
    }
    if let Some(mask) = input.mask {
        x *= mask.tensor(&x.size(), Kind::Float, x.device());
    }
    if let Some(residual) = input.residual {
        x += residual;
    }
    let mean = x.mean_dim(-1, true, Kind::Float);
    let centred = x - mean;
    let variance = centred.square().mean_dim(-1, true, Kind::Float);
    let rstd = (variance + eps).rsqrt();
    let normalized = centred * &rstd;
    let y = (&normalized * &norm.weight + &norm.bias).to_kind(kind);
    (
        y,
        Saved {
            normalized,
            rstd,
            mask: input.mask,
        },
    )
}

fn plain_backward(
    gradient: &Tensor,
    saved: &Saved,
    norm: &Norm,
    gradients: &Gradients<'_>,
) -> (Tensor, Tensor) {
    let kind = gradient.kind();
    let gradient = gradient.to_kind(Kind::Float);
    let sum = |tensor: &Tensor| tensor.sum_dim_intlist(0, false, Kind::Float);
    let mean = |tensor: &Tensor| tensor.mean_dim(-1, true, Kind::Float);
    gradients
        .norm
        .weight
        .shallow_clone()
        .copy_(&sum(&(&gradient * &saved.normalized)));
    gradients.norm.bias.shallow_clone().copy_(&sum(&gradient));
    let scaled = gradient * &norm.weight;
    let residual =
        (&scaled - mean(&scaled) - &saved.normalized * mean(&(&scaled * &saved.normalized)))
            * &saved.rstd;
    let dense = match saved.mask {
        Some(mask) => &residual * mask.tensor(&residual.size(), Kind::Float, residual.device()),
        None => residual.shallow_clone(),
    };
    if let Some(bias) = gradients.dense_bias {
        bias.shallow_clone().copy_(&sum(&dense));
    }
    (residual.to_kind(kind), dense.to_kind(kind))
}

fn fast_forward(input: Input<'_>, norm: &Norm, eps: f64) -> (Tensor, Saved) {
    let Input {
        mut dense,
        dense_bias,
        mask,
        residual,
    } = input;
    let size = dense.size();
    let (rows, hidden) = (size[0] as usize, size[1] as usize);
    let mut normalized = dense.empty_like();
    let mut rstd = Tensor::empty([rows as i64, 1], (Kind::Float, Device::Cpu));
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: no other handle of the dense layer's product or of the new tensors exists.
        let (dense, normalized, rstd) = unsafe {
            (
                as_mut_slice(&mut dense),
                as_mut_slice(&mut normalized),
                as_mut_slice(&mut rstd),
            )
        };
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nothing writes to parameters or to the residual meanwhile.
        let (dense_bias, weight, bias, residual) = unsafe {
            (
                dense_bias.map(|bias| as_slice(bias)),
                as_slice(&norm.weight),
                as_slice(&norm.bias),
                residual.map(|residual| as_slice(residual)),
            )
        };
        let parameters = ForwardParameters {
            dense_bias,
            mask,
            weight,
            bias,
            eps: eps as f32,
        };
        let per_row = [
            RowsMut::new(dense, hidden),
            RowsMut::new(normalized, hidden),
            RowsMut::new(rstd, 1),
        ];
        for_each_chunk_mut(
            rows,
            CHUNK,
            per_row,
            [],
            |rows, [x, normalized, rstd], []| {
                let outputs = x
                    .chunks_exact_mut(hidden)
                    .zip(normalized.chunks_exact_mut(hidden));
                for ((row, rstd), (x, normalized)) in rows.zip(rstd).zip(outputs) {
                    let start = row * hidden;
                    let residual = residual.map(|residual| &residual[start..start + hidden]);
                    *rstd = forward_row(x, residual, normalized, start as u32, &parameters);
                }
            },
        );
    }
    (
        dense,
        Saved {
            normalized,
            rstd,
            mask,
        },
    )
}

/// What all rows have in common: [`Input`]'s and [`Norm`]'s fields, and the epsilon that is added to variances.
pub(crate) struct ForwardParameters<'a> {
    pub(crate) dense_bias: Option<&'a [f32]>,
    pub(crate) mask: Option<Mask>,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
}

/// One row, in place: `x` is `dense` before and `y` after. `first` is the number of the row's first element in
/// dropout's mask. Gives the row's `rstd`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
pub(crate) fn forward_row(
    x: &mut [f32],
    residual: Option<&[f32]>,
    normalized: &mut [f32],
    first: u32,
    parameters: &ForwardParameters<'_>,
) -> f32 {
    if let Some(bias) = parameters.dense_bias {
        for (x, bias) in x.iter_mut().zip(bias) {
            *x += bias;
        }
    }
    if let Some(mask) = parameters.mask {
        for (index, x) in (first..).zip(x.iter_mut()) {
            *x *= mask.factor(index);
        }
    }
    if let Some(residual) = residual {
        for (x, residual) in x.iter_mut().zip(residual) {
            *x += residual;
        }
    }
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    let rstd = 1.0 / (variance + parameters.eps).sqrt();
    for (normalized, x) in normalized.iter_mut().zip(x.iter()) {
        *normalized = (x - mean) * rstd;
    }
    let parameters = parameters.weight.iter().zip(parameters.bias);
    for ((x, normalized), (weight, bias)) in x.iter_mut().zip(normalized).zip(parameters) {
        *x = *normalized * weight + bias;
    }
    rstd
}

/// The sum of `of(number)` in eight lanes, which the compiler keeps in one vector register.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to be inlined into functions for several instruction sets"
)]
fn sum(numbers: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut lanes = [0.0_f32; 8];
    for eight in eights {
        for (lane, &number) in lanes.iter_mut().zip(eight) {
            *lane += of(number);
        }
    }
    rest.iter().map(|&number| of(number)).sum::<f32>() + lanes.iter().sum::<f32>()
}

fn fast_backward(
    gradient: &Tensor,
    saved: &Saved,
    norm: &Norm,
    gradients: &Gradients<'_>,
) -> (Tensor, Tensor) {
    let size = gradient.size();
    let (rows, hidden) = (size[0] as usize, size[1] as usize);
    let mut residual = gradient.empty_like();
    let mut dense = gradient.empty_like();
    let mut sums = Tensor::zeros(
        [rows.div_ceil(CHUNK) as i64, 3, hidden as i64],
        (Kind::Float, Device::Cpu),
    );
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: no other handle of the new tensors exists.
        let (residual, dense, sums) = unsafe {
            (
                as_mut_slice(&mut residual),
                as_mut_slice(&mut dense),
                as_mut_slice(&mut sums),
            )
        };
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nothing writes to these meanwhile.
        let (gradient, normalized, rstd, weight) = unsafe {
            (
                as_slice(gradient),
                as_slice(&saved.normalized),
                as_slice(&saved.rstd),
                as_slice(&norm.weight),
            )
        };
        let mask = saved.mask;
        let per_row = [RowsMut::new(residual, hidden), RowsMut::new(dense, hidden)];
        let per_chunk = [RowsMut::new(sums, 3 * hidden)];
        for_each_chunk_mut(
            rows,
            CHUNK,
            per_row,
            per_chunk,
            |rows, [residual, dense], [sums]| {
                let outputs = residual
                    .chunks_exact_mut(hidden)
                    .zip(dense.chunks_exact_mut(hidden));
                for (row, (residual, dense)) in rows.zip(outputs) {
                    let range = row * hidden..(row + 1) * hidden;
                    backward_row(BackwardRow {
                        gradient: &gradient[range.clone()],
                        normalized: &normalized[range.clone()],
                        rstd: rstd[row],
                        weight,
                        mask,
                        first: range.start as u32,
                        residual,
                        dense,
                        sums,
                    });
                }
            },
        );
    }
    let sums = sums.sum_dim_intlist(0, false, Kind::Float);
    gradients.norm.weight.shallow_clone().copy_(&sums.get(0));
    gradients.norm.bias.shallow_clone().copy_(&sums.get(1));
    if let Some(bias) = gradients.dense_bias {
        bias.shallow_clone().copy_(&sums.get(2));
    }
    (residual, dense)
}

struct BackwardRow<'a> {
    gradient: &'a [f32],
    normalized: &'a [f32],
    rstd: f32,
    weight: &'a [f32],
    mask: Option<Mask>,
    /// The number of the row's first element in dropout's mask.
    first: u32,
    residual: &'a mut [f32],
    dense: &'a mut [f32],
    /// Sums of the gradients by weight, bias and the dense layer's bias, one after the other, [3 hidden].
    sums: &'a mut [f32],
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn backward_row(row: BackwardRow<'_>) {
    let BackwardRow {
        gradient,
        normalized,
        rstd,
        weight,
        residual,
        dense,
        ..
    } = row;
    let hidden = gradient.len();
    let (weight_sums, rest) = row.sums.split_at_mut(hidden);
    let (bias_sums, dense_sums) = rest.split_at_mut(hidden);
    for index in 0..hidden {
        weight_sums[index] += gradient[index] * normalized[index];
        bias_sums[index] += gradient[index];
        // Intermediate values: `scaled = gradient * weight`, and `scaled * normalized`.
        residual[index] = gradient[index] * weight[index];
        dense[index] = residual[index] * normalized[index];
    }
    let mean = sum(residual, |number| number) / hidden as f32;
    let mean_product = sum(dense, |number| number) / hidden as f32;
    for index in 0..hidden {
        residual[index] = (residual[index] - mean - normalized[index] * mean_product) * rstd;
    }
    match row.mask {
        Some(mask) => {
            for (index, (dense, residual)) in
                (row.first..).zip(dense.iter_mut().zip(residual.iter()))
            {
                *dense = residual * mask.factor(index);
            }
        }
        None => dense.copy_from_slice(residual),
    }
    for (sum, dense) in dense_sums.iter_mut().zip(dense.iter()) {
        *sum += dense;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::Dropout;
    use crate::random::tensor;
    use crate::threads::with_threads;

    fn assert_close(left: &Tensor, right: &Tensor) {
        let difference = (left - right).abs().max().double_value(&[]);
        assert!(difference < 2e-5, "differ by {difference}");
    }

    struct Outcome {
        y: Tensor,
        residual: Tensor,
        dense: Tensor,
        gradients: [Tensor; 3],
    }

    fn both(rows: i64, hidden: i64, with_dropout: bool) -> [Outcome; 2] {
        let (dense, residual) = (tensor(1, &[rows, hidden]), tensor(2, &[rows, hidden]));
        let dense_bias = tensor(3, &[hidden]);
        let norm = Norm {
            weight: tensor(4, &[hidden]),
            bias: tensor(5, &[hidden]),
        };
        let gradient = tensor(6, &[rows, hidden]);
        let mask = with_dropout.then(|| Dropout::new(0.1, 4, 2).mask(1));
        [true, false].map(|is_plain| {
            let input = Input {
                dense: dense.copy(),
                dense_bias: Some(&dense_bias),
                mask,
                residual: Some(&residual),
            };
            let zeros = || Tensor::zeros([hidden], (Kind::Float, Device::Cpu));
            let norm_gradients = Norm {
                weight: zeros(),
                bias: zeros(),
            };
            let bias_gradient = zeros();
            let into = Gradients {
                norm: &norm_gradients,
                dense_bias: Some(&bias_gradient),
            };
            let (y, saved, (residual, dense)) = if is_plain {
                let (y, saved) = plain_forward(&input, &norm, 1e-12);
                let gradients = plain_backward(&gradient, &saved, &norm, &into);
                (y, saved, gradients)
            } else {
                let (y, saved) = fast_forward(input, &norm, 1e-12);
                let gradients = fast_backward(&gradient, &saved, &norm, &into);
                (y, saved, gradients)
            };
            drop(saved);
            let gradients = [norm_gradients.weight, norm_gradients.bias, bias_gradient];
            Outcome {
                y,
                residual,
                dense,
                gradients,
            }
        })
    }

    #[test]
    fn kernels_match_tensor_operations() {
        for (rows, hidden, with_dropout) in [
            (1, 8, false),
            (100, 384, true),
            (33, 312, true),
            (7, 5, true),
        ] {
            let [plain, fast] = both(rows, hidden, with_dropout);
            assert_close(&plain.y, &fast.y);
            assert_close(&plain.residual, &fast.residual);
            assert_close(&plain.dense, &fast.dense);
            for (plain, fast) in plain.gradients.iter().zip(&fast.gradients) {
                assert_close(&(plain / rows), &(fast / rows));
            }
        }
    }

    #[test]
    fn results_are_bit_equal_for_any_number_of_threads() {
        let outcomes = with_threads(|| {
            let [_, fast] = both(500, 384, true);
            fast
        });
        for outcome in &outcomes[1..] {
            assert_eq!(outcome.y, outcomes[0].y);
            assert_eq!(outcome.dense, outcomes[0].dense);
            assert_eq!(outcome.gradients, outcomes[0].gradients);
        }
    }
}
