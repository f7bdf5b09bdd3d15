//! What follows a dense layer in an encoder: its bias, dropout, the residual, and layer
//! normalisation (Ba et al., 2016), as one pass over memory, forward and backward.
//!
//! With plain tensor operations these are half a dozen passes, and a third of a training step's time
//! on a CPU. Each kernel stands beside its plain version, which other devices use, and which tests
//! compare it with.

use tch::{Device, Kind, Tensor};

use super::dropout::Mask;
use super::parameters::Norm;
use crate::parallel::{for_each_chunk, numbers, shared, suits_kernels};

/// Rows of a chunk. Sums over rows are of chunks first, so that they don't depend on threads.
const CHUNK: usize = 32;

/// `normalised = (x - mean) / deviation`, `y = normalised * weight + bias`
/// where `x = dropout(dense + dense_bias) + residual`.
pub(super) struct Input<'a> {
    /// What the dense layer gave, [rows, hidden].
    pub(super) dense: Tensor,
    /// The dense layer's bias, `[hidden]`; none: added already.
    pub(super) dense_bias: Option<&'a Tensor>,
    /// How the dense layer's elements are dropped; none: they are not.
    pub(super) mask: Option<Mask>,
    /// What the dense layer is added to, [rows, hidden].
    pub(super) residual: Option<&'a Tensor>,
}

/// What the backward pass needs to know.
pub(super) struct Saved {
    /// [rows, hidden]
    normalised: Tensor,
    /// [rows, 1]
    inverse_deviation: Tensor,
    mask: Option<Mask>,
}

/// Where the gradients of the parameters go.
pub(super) struct Gradients<'a> {
    pub(super) norm: &'a Norm,
    pub(super) dense_bias: Option<&'a Tensor>,
}

/// The normalised rows, [rows, hidden], and what the backward pass needs.
pub(super) fn forward(input: Input<'_>, norm: &Norm, eps: f64) -> (Tensor, Saved) {
    if suits_kernels(&input.dense) {
        fast_forward(input, norm, eps)
    } else {
        plain_forward(&input, norm, eps)
    }
}

/// The gradients of the residual and of what the dense layer gave, [rows, hidden] each.
pub(super) fn backward(
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
    let inverse_deviation = (variance + eps).rsqrt();
    let normalised = centred * &inverse_deviation;
    let y = (&normalised * &norm.weight + &norm.bias).to_kind(kind);
    (
        y,
        Saved {
            normalised,
            inverse_deviation,
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
            * &saved.inverse_deviation;
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
    let mut inverse_deviation = Tensor::empty([rows as i64, 1], (Kind::Float, Device::Cpu));
    {
        let (dense, normalised) = (shared(&mut dense), shared(&mut normalised));
        let deviations = shared(&mut inverse_deviation);
        let parameters = ForwardParameters {
            dense_bias: dense_bias.map(numbers),
            mask,
            weight: numbers(&norm.weight),
            bias: numbers(&norm.bias),
            eps: eps as f32,
        };
        let residual = residual.map(numbers);
        for_each_chunk(rows, CHUNK, |_, rows| {
            for row in rows {
                let range = row * hidden..(row + 1) * hidden;
                #[expect(unsafe_code, reason = "each row is of one chunk alone")]
                // SAFETY: chunks have rows of their own.
                let (x, normalised, deviation) = unsafe {
                    (
                        dense.part(range.clone()),
                        normalised.part(range.clone()),
                        deviations.part(row..row + 1),
                    )
                };
                let residual = residual.map(|residual| &residual[range.clone()]);
                deviation[0] =
                    forward_row(x, residual, normalised, range.start as u32, &parameters);
            }
        });
    }
    (
        dense,
        Saved {
            normalised,
            inverse_deviation,
            mask,
        },
    )
}

/// What a row's normalisation goes by; as [`Input`] and [`Norm`] have it.
pub(super) struct ForwardParameters<'a> {
    pub(super) dense_bias: Option<&'a [f32]>,
    pub(super) mask: Option<Mask>,
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) eps: f32,
}

/// One row: `x` goes from what the dense layer gave to the result. Gives 1 / deviation.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn forward_row(
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
    let inverse_deviation = 1.0 / (variance + parameters.eps).sqrt();
    for (normalised, x) in normalised.iter_mut().zip(x.iter()) {
        *normalised = (x - mean) * inverse_deviation;
    }
    let parameters = parameters.weight.iter().zip(parameters.bias);
    for ((x, normalised), (weight, bias)) in x.iter_mut().zip(normalised).zip(parameters) {
        *x = *normalised * weight + bias;
    }
    inverse_deviation
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
        let (residual, dense) = (shared(&mut residual), shared(&mut dense));
        let sums = shared(&mut sums);
        let gradient = numbers(gradient);
        let normalised = numbers(&saved.normalised);
        let deviations = numbers(&saved.inverse_deviation);
        let (weight, mask) = (numbers(&norm.weight), saved.mask);
        for_each_chunk(rows, CHUNK, |chunk, rows| {
            #[expect(unsafe_code, reason = "each chunk has sums of its own")]
            // SAFETY: no other chunk has its number.
            let sums = unsafe { sums.part(chunk * 3 * hidden..(chunk + 1) * 3 * hidden) };
            for row in rows {
                let range = row * hidden..(row + 1) * hidden;
                #[expect(unsafe_code, reason = "each row is of one chunk alone")]
                // SAFETY: chunks have rows of their own.
                let (residual, dense) =
                    unsafe { (residual.part(range.clone()), dense.part(range.clone())) };
                backward_row(BackwardRow {
                    gradient: &gradient[range.clone()],
                    normalised: &normalised[range.clone()],
                    inverse_deviation: deviations[row],
                    weight,
                    mask,
                    first: range.start as u32,
                    residual,
                    dense,
                    sums,
                });
            }
        });
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
    inverse_deviation: f32,
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
        inverse_deviation,
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
        residual[index] = (residual[index] - mean - normalised[index] * along) * inverse_deviation;
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
    use crate::model::dropout::Dropout;
    use crate::parallel::with_threads;
    use crate::random::tensor;

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
