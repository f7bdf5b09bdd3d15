//! The Gaussian error linear unit (Hendrycks and Gimpel, 2016), as exact as binary32 is:
//! `x * Φ(x)`, where `Φ(x) = (1 + erf(x / sqrt(2))) / 2`.
//!
//! In training, what follows a dense layer is one pass over memory: its bias, the unit, and the unit's
//! derivative, `Φ(x) + x * φ(x)`, so that the backward pass only multiplies. Each kernel stands beside
//! its plain version, which other devices use, and which tests compare it with.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use tch::{Device, Kind, Tensor};

use super::ROUNDING;
use crate::parallel::{for_each_chunk, numbers, shared, suits_kernels};

/// Rows of a chunk. Sums over rows are of chunks first, so that they don't depend on threads.
const CHUNK: usize = 32;

/// Beyond this, the error function is ±1 in binary32.
const BEYOND: f32 = 4.0;

/// The error function as a quotient of polynomials of the square, from the highest power down; as in
/// Eigen's `generic_fast_erf_float`.
const ABOVE: [f32; 7] = [
    -2.726_142_3e-10,
    2.770_681_4e-8,
    -2.101_024e-6,
    -5.692_506_5e-5,
    -7.349_906_4e-4,
    -2.954_6e-3,
    -1.609_603_3e-2,
];
const BELOW: [f32; 5] = [
    -1.456_607_2e-5,
    -2.133_740_6e-4,
    -1.682_827e-3,
    -7.373_329e-3,
    -1.426_473_9e-2,
];

/// `exp(x)` for |x| up to half the logarithm of 2, from the highest power down; as in Cephes' `expf`.
const POWERS: [f32; 8] = [
    1.987_569_2e-4,
    1.398_2e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
    1.0,
    1.0,
];
/// The logarithm of 2 in two parts, of which the first times a small integer is exact.
const LOGARITHM: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Below this, the exponential function is no normal number in binary32 any more.
const LEAST_EXPONENT: f32 = -87.0;
/// φ(0), the density at the mean.
const DENSITY: f32 = 0.398_942_3;

/// `gelu(dense + bias)`, and its derivative if that `is_wanted`, [rows, columns] each.
pub(super) fn forward(dense: Tensor, bias: &Tensor, is_wanted: bool) -> (Tensor, Option<Tensor>) {
    if suits_kernels(&dense) {
        fast_forward(dense, bias, is_wanted)
    } else {
        plain_forward(&dense, bias, is_wanted)
    }
}

/// The gradient of `dense`, given that of the result and the derivative; writes that of the bias.
pub(super) fn backward(gradient: Tensor, derivative: &Tensor, bias: &Tensor) -> Tensor {
    if suits_kernels(&gradient) {
        fast_backward(gradient, derivative, bias)
    } else {
        plain_backward(gradient, derivative, bias)
    }
}

fn plain_forward(dense: &Tensor, bias: &Tensor, is_wanted: bool) -> (Tensor, Option<Tensor>) {
    let x = dense + bias;
    let derivative = is_wanted.then(|| x.gelu_backward(&x.ones_like(), "none"));
    (x.gelu("none"), derivative)
}

fn plain_backward(gradient: Tensor, derivative: &Tensor, bias: &Tensor) -> Tensor {
    let gradient = gradient * derivative;
    let sums = gradient.sum_dim_intlist(0, false, Kind::Float);
    bias.shallow_clone().copy_(&sums);
    gradient
}

fn fast_forward(mut dense: Tensor, bias: &Tensor, is_wanted: bool) -> (Tensor, Option<Tensor>) {
    let (rows, columns) = (dense.size()[0] as usize, dense.size()[1] as usize);
    let mut derivative = is_wanted.then(|| dense.empty_like());
    {
        let x = shared(&mut dense);
        let derivative = derivative.as_mut().map(shared);
        let bias = numbers(bias);
        for_each_chunk(rows, CHUNK, |_, rows| {
            for row in rows {
                let range = row * columns..(row + 1) * columns;
                #[expect(unsafe_code, reason = "each row is of one chunk alone")]
                // SAFETY: chunks have rows of their own.
                let (x, derivative) = unsafe {
                    (
                        x.part(range.clone()),
                        derivative.map(|derivative| derivative.part(range)),
                    )
                };
                for (x, bias) in x.iter_mut().zip(bias) {
                    *x += bias;
                }
                match derivative {
                    Some(derivative) => gelu_and_derivative(x, derivative),
                    None => gelu(x),
                }
            }
        });
    }
    (dense, derivative)
}

fn fast_backward(mut gradient: Tensor, derivative: &Tensor, bias: &Tensor) -> Tensor {
    let (rows, columns) = (gradient.size()[0] as usize, gradient.size()[1] as usize);
    let size = [rows.div_ceil(CHUNK) as i64, columns as i64];
    let mut sums = Tensor::zeros(size, (Kind::Float, Device::Cpu));
    {
        let (gradient, sums) = (shared(&mut gradient), shared(&mut sums));
        let derivative = numbers(derivative);
        for_each_chunk(rows, CHUNK, |chunk, rows| {
            #[expect(unsafe_code, reason = "each chunk has sums of its own")]
            // SAFETY: no other chunk has its number.
            let sums = unsafe { sums.part(chunk * columns..(chunk + 1) * columns) };
            for row in rows {
                let range = row * columns..(row + 1) * columns;
                #[expect(unsafe_code, reason = "each row is of one chunk alone")]
                // SAFETY: chunks have rows of their own.
                let gradient = unsafe { gradient.part(range.clone()) };
                multiply_and_add(gradient, &derivative[range], sums);
            }
        });
    }
    bias.shallow_clone()
        .copy_(&sums.sum_dim_intlist(0, false, Kind::Float));
    gradient
}

/// Each number becomes `gelu(number)`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn gelu(numbers: &mut [f32]) {
    for number in numbers {
        *number *= distribution(*number);
    }
}

/// The same, and writes the unit's derivative at each of the numbers.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn gelu_and_derivative(numbers: &mut [f32], derivatives: &mut [f32]) {
    for (number, derivative) in numbers.iter_mut().zip(derivatives) {
        let distribution = distribution(*number);
        let density = DENSITY * exp(-0.5 * *number * *number);
        *derivative = number.mul_add(density, distribution);
        *number *= distribution;
    }
}

/// Each gradient is multiplied with its derivative, and then added to its sum.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn multiply_and_add(gradients: &mut [f32], derivatives: &[f32], sums: &mut [f32]) {
    for ((gradient, derivative), sum) in gradients.iter_mut().zip(derivatives).zip(sums) {
        *gradient *= derivative;
        *sum += *gradient;
    }
}

/// Φ(x).
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to become part of loops over vectors"
)]
fn distribution(number: f32) -> f32 {
    let x = number * FRAC_1_SQRT_2;
    // Not `clamp`, which does more about what isn't a number.
    let x = if x > BEYOND { BEYOND } else { x };
    let x = if x < -BEYOND { -BEYOND } else { x };
    let square = x * x;
    (x * polynomial(ABOVE, square) / polynomial(BELOW, square)).mul_add(0.5, 0.5)
}

/// `e` to the power of a number that isn't above 0.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to become part of loops over vectors"
)]
pub(super) fn exp(number: f32) -> f32 {
    let number = if number < LEAST_EXPONENT {
        LEAST_EXPONENT
    } else {
        number
    };
    let rounded = number.mul_add(LOG2_E, ROUNDING);
    let power = rounded - ROUNDING;
    let rest = LOGARITHM
        .iter()
        .fold(number, |rest, part| (-power).mul_add(*part, rest));
    let exponent = rounded.to_bits().wrapping_sub(ROUNDING.to_bits());
    let scale = f32::from_bits(exponent.wrapping_add(127) << 23);
    polynomial(POWERS, rest) * scale
}

/// A polynomial by its factors, from the highest power down. Fused, so that the result doesn't depend on
/// whether the processor can.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to become part of loops over vectors"
)]
fn polynomial<const COUNT: usize>(factors: [f32; COUNT], x: f32) -> f32 {
    factors[1..]
        .iter()
        .fold(factors[0], |sum, &factor| sum.mul_add(x, factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::with_threads;
    use crate::random::tensor;

    fn assert_close(left: &Tensor, right: &Tensor) {
        let difference = (left - right).abs().max().double_value(&[]);
        assert!(difference < 2e-6, "differ by {difference}");
    }

    #[test]
    fn it_is_that_of_libtorch_and_so_is_its_derivative() {
        let x = Tensor::arange_start_step(-16.0, 16.0, 0.001, (Kind::Float, Device::Cpu));
        let x = x.view([-1, 100]);
        let bias = Tensor::zeros([100], (Kind::Float, Device::Cpu));
        let (y, derivative) = fast_forward(x.copy(), &bias, true);
        assert_close(&y, &x.gelu("none"));
        assert_close(
            &derivative.unwrap(),
            &x.gelu_backward(&x.ones_like(), "none"),
        );
    }

    #[test]
    fn the_fast_version_is_the_plain_one() {
        for (rows, columns) in [(1, 8), (100, 1536), (33, 7)] {
            let (dense, bias) = (tensor(1, &[rows, columns]), tensor(2, &[columns]));
            let gradient = tensor(3, &[rows, columns]);
            let plain = plain_forward(&dense, &bias, true);
            let fast = fast_forward(dense, &bias, true);
            assert_close(&plain.0, &fast.0);
            let [plain_bias, fast_bias] = [(); 2].map(|()| bias.empty_like());
            let plain = plain_backward(gradient.copy(), &plain.1.unwrap(), &plain_bias);
            let fast = fast_backward(gradient, &fast.1.unwrap(), &fast_bias);
            assert_close(&plain, &fast);
            assert_close(&(plain_bias / rows), &(fast_bias / rows));
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let outcomes = with_threads(|| {
            let bias = tensor(2, &[96]);
            let (y, derivative) = fast_forward(tensor(1, &[500, 96]), &bias, true);
            let gradient = fast_backward(tensor(3, &[500, 96]), &derivative.unwrap(), &bias);
            (y, gradient, bias)
        });
        for outcome in &outcomes[1..] {
            assert_eq!(*outcome, outcomes[0]);
        }
    }

    #[test]
    fn without_a_need_for_the_derivative_there_is_none() {
        let (dense, bias) = (tensor(1, &[3, 4]), tensor(2, &[4]));
        for (y, derivative) in [
            fast_forward(dense.copy(), &bias, false),
            plain_forward(&dense, &bias, false),
        ] {
            assert_close(&y, &(&dense + &bias).gelu("none"));
            assert!(derivative.is_none());
        }
    }
}
