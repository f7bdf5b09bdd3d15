//! The feed-forward layer's activation function, by config.json's `hidden_act`.
//!
//! | `hidden_act` | function |
//! |---|---|
//! | `gelu` | `x * Φ(x)`, where `Φ(x) = (1 + erf(x / sqrt(2))) / 2`, as exact as binary32 is |
//! | `gelu_new`, `gelu_pytorch_tanh` | `x * (1 + tanh(sqrt(2 / π) * (x + 0.044715 * x³))) / 2` |
//! | `relu` | `max(x, 0)` |
//!
//! The first two are the Gaussian error linear unit of Hendrycks and Gimpel (2016), and their own
//! approximation of it.
//!
//! In training, one pass over memory adds the dense layer's bias and computes the function and its
//! derivative, so that the backward pass only multiplies. The README derives the derivatives. Each CPU
//! kernel has a version in tensor operations, which other devices use and tests compare it with.

use tch::{Device, Kind, Tensor};

use crate::math::{exp, normal_cdf, sigmoid};
use crate::slices::{RowsMut, as_mut_slice, as_slice, for_each_chunk_mut, suits_kernels};

/// Rows of a chunk. Each chunk is summed by itself first, so that sums don't depend on the number of threads.
const CHUNK: usize = 32;

/// `sqrt(2 / π)` and the factor of the cube, of GELU's approximation.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC_COEFFICIENT: f32 = 0.044_715;

/// The feed-forward layer's activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU with the exact error function (Hendrycks and Gimpel, 2016).
    Gelu,
    /// GELU's approximation with tanh, from the same paper.
    GeluTanh,
    /// The rectified linear unit, `max(x, 0)`.
    Relu,
}

/// Their names in config.json.
const NAMES: [(&str, Activation); 4] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
];

impl Activation {
    /// The function that `hidden_act` names.
    ///
    /// # Errors
    /// The name is not supported; the message lists those that are.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, activation)| *activation).ok_or_else(|| {
            let known = NAMES.map(|(name, _)| name).join(", ");
            format!("`hidden_act` is {name:?}; {known} are supported")
        })
    }

    /// Applies the function to each number, in place.
    pub(crate) fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Gelu => gelu(numbers),
            Self::GeluTanh => gelu_tanh(numbers),
            Self::Relu => relu(numbers),
        }
    }

    fn apply_with_derivatives(self, numbers: &mut [f32], derivatives: &mut [f32]) {
        match self {
            Self::Gelu => gelu_and_derivative(numbers, derivatives),
            Self::GeluTanh => gelu_tanh_and_derivative(numbers, derivatives),
            Self::Relu => relu_and_derivative(numbers, derivatives),
        }
    }
}

/// φ(0) = 1 / sqrt(2 π), the standard normal density at 0.
const NORMAL_PDF_AT_0: f32 = 0.398_942_3;

impl Activation {
    /// The function of `dense + bias`, and with `wants_derivative` its derivative, [rows, columns] each.
    pub(crate) fn forward(
        self,
        dense: Tensor,
        bias: &Tensor,
        wants_derivative: bool,
    ) -> (Tensor, Option<Tensor>) {
        if suits_kernels(&dense) {
            self.fast_forward(dense, bias, wants_derivative)
        } else {
            self.plain_forward(&dense, bias, wants_derivative)
        }
    }

    fn plain_forward(
        self,
        dense: &Tensor,
        bias: &Tensor,
        wants_derivative: bool,
    ) -> (Tensor, Option<Tensor>) {
        let x = dense + bias;
        let ones = || x.ones_like();
        match self {
            Self::Gelu => {
                let derivative = wants_derivative.then(|| x.gelu_backward(&ones(), "none"));
                (x.gelu("none"), derivative)
            }
            Self::GeluTanh => {
                let derivative = wants_derivative.then(|| x.gelu_backward(&ones(), "tanh"));
                (x.gelu("tanh"), derivative)
            }
            Self::Relu => {
                let derivative = wants_derivative.then(|| x.gt(0.0).to_kind(x.kind()));
                (x.relu(), derivative)
            }
        }
    }

    fn fast_forward(
        self,
        mut dense: Tensor,
        bias: &Tensor,
        wants_derivative: bool,
    ) -> (Tensor, Option<Tensor>) {
        let (rows, columns) = (dense.size()[0] as usize, dense.size()[1] as usize);
        let mut derivative = wants_derivative.then(|| dense.empty_like());
        {
            #[expect(unsafe_code, reason = "tensors' memory")]
            // SAFETY: nobody else has the result of the dense layer, or the new tensor; the bias is only read.
            let (x, derivative, bias) = unsafe {
                (
                    as_mut_slice(&mut dense),
                    derivative
                        .as_mut()
                        .map(|derivative| as_mut_slice(derivative)),
                    as_slice(bias),
                )
            };
            let add_bias = |x: &mut [f32]| {
                for (x, bias) in x.iter_mut().zip(bias) {
                    *x += bias;
                }
            };
            let x = RowsMut::new(x, columns);
            match derivative {
                Some(derivative) => {
                    let derivative = RowsMut::new(derivative, columns);
                    for_each_chunk_mut(
                        rows,
                        CHUNK,
                        [x, derivative],
                        [],
                        |_, [x, derivative], []| {
                            let derivative = derivative.chunks_exact_mut(columns);
                            for (x, derivative) in x.chunks_exact_mut(columns).zip(derivative) {
                                add_bias(x);
                                self.apply_with_derivatives(x, derivative);
                            }
                        },
                    );
                }
                None => for_each_chunk_mut(rows, CHUNK, [x], [], |_, [x], []| {
                    for x in x.chunks_exact_mut(columns) {
                        add_bias(x);
                        self.apply(x);
                    }
                }),
            }
        }
        (dense, derivative)
    }
}

/// The gradient by `dense`, [rows, columns], given that by the result and the function's derivative; writes the
/// one by `bias`, `[columns]`.
pub(crate) fn backward(gradient: Tensor, derivative: &Tensor, bias: &Tensor) -> Tensor {
    if suits_kernels(&gradient) {
        fast_backward(gradient, derivative, bias)
    } else {
        plain_backward(gradient, derivative, bias)
    }
}

fn plain_backward(gradient: Tensor, derivative: &Tensor, bias: &Tensor) -> Tensor {
    let gradient = gradient * derivative;
    let sums = gradient.sum_dim_intlist(0, false, Kind::Float);
    bias.shallow_clone().copy_(&sums);
    gradient
}

fn fast_backward(mut gradient: Tensor, derivative: &Tensor, bias: &Tensor) -> Tensor {
    let (rows, columns) = (gradient.size()[0] as usize, gradient.size()[1] as usize);
    let size = [rows.div_ceil(CHUNK) as i64, columns as i64];
    let mut sums = Tensor::zeros(size, (Kind::Float, Device::Cpu));
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody else has the gradient or the new tensor; the derivative is only read.
        let (gradient, sums, derivative) = unsafe {
            (
                as_mut_slice(&mut gradient),
                as_mut_slice(&mut sums),
                as_slice(derivative),
            )
        };
        for_each_chunk_mut(
            rows,
            CHUNK,
            [RowsMut::new(gradient, columns)],
            [RowsMut::new(sums, columns)],
            |rows, [gradient], [sums]| {
                let derivative = derivative[rows.start * columns..].chunks_exact(columns);
                for (gradient, derivative) in gradient.chunks_exact_mut(columns).zip(derivative) {
                    multiply_and_sum(gradient, derivative, sums);
                }
            },
        );
    }
    bias.shallow_clone()
        .copy_(&sums.sum_dim_intlist(0, false, Kind::Float));
    gradient
}

/// Applies GELU in place.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn gelu(numbers: &mut [f32]) {
    for number in numbers {
        *number *= normal_cdf(*number);
    }
}

/// Applies GELU in place, and writes its derivative `Φ(x) + x φ(x)`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn gelu_and_derivative(numbers: &mut [f32], derivatives: &mut [f32]) {
    for (number, derivative) in numbers.iter_mut().zip(derivatives) {
        let cdf = normal_cdf(*number);
        let pdf = NORMAL_PDF_AT_0 * exp(-0.5 * *number * *number);
        *derivative = number.mul_add(pdf, cdf);
        *number *= cdf;
    }
}

/// Applies GELU's tanh approximation in place.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn gelu_tanh(numbers: &mut [f32]) {
    for number in numbers {
        *number *= sigmoid(tanh_argument(*number));
    }
}

/// Applies GELU's tanh approximation in place, and writes the approximation's derivative.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn gelu_tanh_and_derivative(numbers: &mut [f32], derivatives: &mut [f32]) {
    for (number, derivative) in numbers.iter_mut().zip(derivatives) {
        let x = *number;
        let argument = tanh_argument(x);
        // Not `1 - value`, which cancels where `value` is near 1.
        let (value, complement) = (sigmoid(argument), sigmoid(-argument));
        let slope = 2.0 * SQRT_2_OVER_PI * (3.0 * CUBIC_COEFFICIENT * x).mul_add(x, 1.0);
        *derivative = (x * slope * value).mul_add(complement, value);
        *number *= value;
    }
}

/// Applies the rectified linear unit in place.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn relu(numbers: &mut [f32]) {
    for number in numbers {
        // Keeps NaN, by which training notices that it diverged; `f32::max` would not.
        *number = if *number < 0.0 { 0.0 } else { *number };
    }
}

/// Applies the rectified linear unit in place, and writes its derivative, 0 or 1.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn relu_and_derivative(numbers: &mut [f32], derivatives: &mut [f32]) {
    for (number, derivative) in numbers.iter_mut().zip(derivatives) {
        *derivative = if *number > 0.0 { 1.0 } else { 0.0 };
        *number = if *number < 0.0 { 0.0 } else { *number };
    }
}

/// Twice tanh's argument `y`, as `(1 + tanh(y)) / 2 = sigmoid(2 y)`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to be inlined into vectorized loops"
)]
fn tanh_argument(x: f32) -> f32 {
    2.0 * SQRT_2_OVER_PI * (CUBIC_COEFFICIENT * x * x).mul_add(x, x)
}

/// Multiplies each gradient by the derivative, in place, and adds the product to its column's sum.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn multiply_and_sum(gradients: &mut [f32], derivatives: &[f32], sums: &mut [f32]) {
    for ((gradient, derivative), sum) in gradients.iter_mut().zip(derivatives).zip(sums) {
        *gradient *= derivative;
        *sum += *gradient;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::tensor;
    use crate::threads::with_threads;

    fn assert_close(left: &Tensor, right: &Tensor) {
        let difference = (left - right).abs() / right.abs().clamp_min(1.0);
        let difference = difference.max().double_value(&[]);
        // libtorch's own is 1e-6 off, times a gradient of up to 4.
        assert!(difference < 4e-6, "differ by {difference}");
    }

    const ALL: [Activation; 3] = [Activation::Gelu, Activation::GeluTanh, Activation::Relu];

    #[test]
    fn values_and_derivatives_match_libtorch() {
        let x = Tensor::arange_start_step(-16.0, 16.0, 0.001, (Kind::Float, Device::Cpu));
        let x = x.view([-1, 100]);
        let bias = Tensor::zeros([100], (Kind::Float, Device::Cpu));
        for activation in ALL {
            let (y, derivative) = activation.fast_forward(x.copy(), &bias, true);
            let (plain_y, plain_derivative) = activation.plain_forward(&x, &bias, true);
            assert_close(&y, &plain_y);
            assert_close(&derivative.unwrap(), &plain_derivative.unwrap());
        }
    }

    #[test]
    fn large_numbers_stay_finite() {
        let x = Tensor::from_slice(&[-3e4_f32, -1e3, -30.0, 0.0, 30.0, 1e3, 3e4]).view([1, -1]);
        let bias = Tensor::zeros([7], (Kind::Float, Device::Cpu));
        for activation in ALL {
            let (y, derivative) = activation.fast_forward(x.copy(), &bias, true);
            let apart = ((&y - x.relu()) / x.abs().clamp_min(1.0)).abs().max();
            assert!(apart.double_value(&[]) < 1e-6, "{activation:?}: {y}");
            let expected = [0.0, 0.0, 0.0, f32::NAN, 1.0, 1.0, 1.0];
            let derivative: Vec<f32> = Vec::try_from(derivative.unwrap().view(-1)).unwrap();
            let pairs = derivative.into_iter().zip(expected);
            assert!(
                pairs
                    .filter(|(_, it)| it.is_finite())
                    .all(|(ours, it)| (ours - it).abs() < 1e-6),
                "{activation:?}"
            );
        }
    }

    #[test]
    fn kernels_match_tensor_operations() {
        for activation in ALL {
            for (rows, columns) in [(1, 8), (100, 1536), (33, 7)] {
                let (dense, bias) = (tensor(1, &[rows, columns]), tensor(2, &[columns]));
                let gradient = tensor(3, &[rows, columns]);
                let plain = activation.plain_forward(&dense, &bias, true);
                let fast = activation.fast_forward(dense, &bias, true);
                assert_close(&plain.0, &fast.0);
                let [plain_bias, fast_bias] = [(); 2].map(|()| bias.empty_like());
                let plain = plain_backward(gradient.copy(), &plain.1.unwrap(), &plain_bias);
                let fast = fast_backward(gradient, &fast.1.unwrap(), &fast_bias);
                assert_close(&plain, &fast);
                assert_close(&(plain_bias / rows), &(fast_bias / rows));
            }
        }
    }

    #[test]
    fn results_are_bit_equal_for_any_number_of_threads() {
        let outcomes = with_threads(|| {
            let bias = tensor(2, &[96]);
            let (y, derivative) = Activation::Gelu.fast_forward(tensor(1, &[500, 96]), &bias, true);
            let gradient = fast_backward(tensor(3, &[500, 96]), &derivative.unwrap(), &bias);
            (y, gradient, bias)
        });
        for outcome in &outcomes[1..] {
            assert_eq!(*outcome, outcomes[0]);
        }
    }

    #[test]
    fn the_derivative_is_computed_on_request_only() {
        let (dense, bias) = (tensor(1, &[3, 4]), tensor(2, &[4]));
        for activation in ALL {
            let (y, derivative) = activation.fast_forward(dense.copy(), &bias, false);
            let (plain, plain_derivative) = activation.plain_forward(&dense, &bias, false);
            assert_close(&y, &plain);
            assert!(derivative.is_none() && plain_derivative.is_none());
        }
    }

    #[test]
    fn names_are_those_of_transformers() {
        assert_eq!(Activation::named("gelu_new"), Ok(Activation::GeluTanh));
        assert_eq!(
            Activation::named("silu").unwrap_err(),
            "`hidden_act` is \"silu\"; gelu, gelu_new, gelu_pytorch_tanh, relu are supported"
        );
    }
}
