//! What follows a dense layer in an encoder: its bias, dropout, the residual, and layer
//! normalisation (Ba et al., 2016), as one pass over memory, forward and backward.
//!
//! With plain tensor operations these are half a dozen passes, and a third of a training step's time
//! on a CPU. Each kernel stands beside its plain version, which other devices use, and which tests
//! compare it with.

use tch::{Device, Kind, Tensor};

use crate::dropout::Mask;
use crate::parameters::Norm;
use crate::slices::{RowsMut, as_mut_slice, as_slice, for_each_chunk_mut, suits_kernels};

/// Rows of a chunk. Sums over rows are of chunks first, so that they don't depend on threads.
const CHUNK: usize = 32;

/// `normalised = (x - mean) / deviation`, `y = normalised * weight + bias`
/// where `x = dropout(dense + dense_bias) + residual`.
pub(crate) struct Input<'a> {
    /// What the dense layer gave, [rows, hidden].
    pub(crate) dense: Tensor,
    /// The dense layer's bias, `[hidden]`; none: added already.
    pub(crate) dense_bias: Option<&'a Tensor>,
    /// How the dense layer's elements are dropped; none: they are not.
    pub(crate) mask: Option<Mask>,
    /// What the dense layer is added to, [rows, hidden].
    pub(crate) residual: Option<&'a Tensor>,
}

/// What the backward pass needs to know.
pub(crate) struct Saved {
    /// [rows, hidden]
    normalised: Tensor,
    /// [rows, 1]
    rstd: Tensor,
    mask: Option<Mask>,
}

/// Where the gradients of the parameters go.
pub(crate) struct Gradients<'a> {
    pub(crate) norm: &'a Norm,
    pub(crate) dense_bias: Option<&'a Tensor>,
}

/// The normalised rows, [rows, hidden], and what the backward pass needs.
pub(crate) fn forward(input: Input<'_>, norm: &Norm, eps: f64) -> (Tensor, Saved) {
    if suits_kernels(&input.dense) {
        fast_forward(input, norm, eps)
    } else {
        plain_forward(&input, norm, eps)
    }
}

/// The gradients of the residual and of what the dense layer gave, [rows, hidden] each.
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
    let normalised = centred * &rstd;
    let y = (&normalised * &norm.weight + &norm.bias).to_kind(kind);
    (
        y,
        Saved {
            normalised,
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
        .copy_(&sum(&(&gradient * &saved.normalised)));
    gradients.norm.bias.shallow_clone().copy_(&sum(&gradient));
    let scaled = gradient * &norm.weight;
    let residual =
        (&scaled - mean(&scaled) - &saved.normalised * mean(&(&scaled * &saved.normalised)))
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
    let mut normalised = dense.empty_like();
    let mut rstd = Tensor::empty([rows as i64, 1], (Kind::Float, Device::Cpu));
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody else has the result of the dense layer, or the new tensors.
        let (dense, normalised, rstd) = unsafe {
            (
                as_mut_slice(&mut dense),
                as_mut_slice(&mut normalised),
                as_mut_slice(&mut rstd),
            )
        };
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody writes to parameters or to the residual meanwhile.
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
            RowsMut::new(normalised, hidden),
            RowsMut::new(rstd, 1),
        ];
        for_each_chunk_mut(
            rows,
            CHUNK,
            per_row,
            [],
            |rows, [x, normalised, rstd], []| {
                let outputs = x
                    .chunks_exact_mut(hidden)
                    .zip(normalised.chunks_exact_mut(hidden));
                for ((row, rstd), (x, normalised)) in rows.zip(rstd).zip(outputs) {
                    let start = row * hidden;
                    let residual = residual.map(|residual| &residual[start..start + hidden]);
                    *rstd = forward_row(x, residual, normalised, start as u32, &parameters);
                }
            },
        );
    }
    (
        dense,
        Saved {
            normalised,
            rstd,
            mask,
        },
    )
}

/// What a row's normalisation takes; as [`Input`] and [`Norm`] have it.
pub(crate) struct ForwardParameters<'a> {
    pub(crate) dense_bias: Option<&'a [f32]>,
    pub(crate) mask: Option<Mask>,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
}

/// One row: `x` goes from what the dense layer gave to the result. Gives 1 / deviation.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
pub(crate) fn forward_row(
    x: &mut [f32],
    residual: Option<&[f32]>,
    normalised: &mut [f32],
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
    for (normalised, x) in normalised.iter_mut().zip(x.iter()) {
        *normalised = (x - mean) * rstd;
    }
    let parameters = parameters.weight.iter().zip(parameters.bias);
    for ((x, normalised), (weight, bias)) in x.iter_mut().zip(normalised).zip(parameters) {
        *x = *normalised * weight + bias;
    }
    rstd
}

/// The sum of all `of(number)`, in eight lanes, which become one vector register.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to become part of what calls it"
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
        // SAFETY: nobody else has the new tensors.
        let (residual, dense, sums) = unsafe {
            (
                as_mut_slice(&mut residual),
                as_mut_slice(&mut dense),
                as_mut_slice(&mut sums),
            )
        };
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody writes to these meanwhile.
        let (gradient, normalised, rstd, weight) = unsafe {
            (
                as_slice(gradient),
                as_slice(&saved.normalised),
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
                        normalised: &normalised[range.clone()],
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
    normalised: &'a [f32],
    rstd: f32,
    weight: &'a [f32],
    mask: Option<Mask>,
    /// The number of the row's first element.
    first: u32,
    residual: &'a mut [f32],
    dense: &'a mut [f32],
    /// Of the gradients of weight, bias, and the dense layer's bias, one after the other.
    sums: &'a mut [f32],
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn backward_row(row: BackwardRow<'_>) {
    let BackwardRow {
        gradient,
        normalised,
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
        weight_sums[index] += gradient[index] * normalised[index];
        bias_sums[index] += gradient[index];
        // Both for a moment only: the scaled gradient, and its product with the normalised row.
        residual[index] = gradient[index] * weight[index];
        dense[index] = residual[index] * normalised[index];
    }
    let mean = sum(residual, |number| number) / hidden as f32;
    let along = sum(dense, |number| number) / hidden as f32;
    for index in 0..hidden {
        residual[index] = (residual[index] - mean - normalised[index] * along) * rstd;
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
    fn the_fast_version_is_the_plain_one() {
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
    fn threads_do_not_change_a_bit() {
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
