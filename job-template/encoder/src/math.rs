//! Elementary functions in binary32, to be inlined into vectorized loops.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// 1.5 · 2²³: adding it rounds a number of small magnitude to the nearest integer, which is then in the
/// lowest bits of the sum's mantissa.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// For |x| above it, erf(x) rounds to ±1 in binary32.
const ERF_SATURATION: f32 = 4.0;

/// Coefficients of a rational approximation of `erf(x) / x` in x², from the highest power down; those of
/// Eigen's `generic_fast_erf_float`.
const ERF_NUMERATOR: [f32; 7] = [
    -2.726_142_3e-10,
    2.770_681_4e-8,
    -2.101_024e-6,
    -5.692_506_5e-5,
    -7.349_906_4e-4,
    -2.954_6e-3,
    -1.609_603_3e-2,
];
const ERF_DENOMINATOR: [f32; 5] = [
    -1.456_607_2e-5,
    -2.133_740_6e-4,
    -1.682_827e-3,
    -7.373_329e-3,
    -1.426_473_9e-2,
];

/// Coefficients of a polynomial for `exp(x)`, |x| ≤ ln(2) / 2, from the highest power down; those of
/// Cephes' `expf`.
const EXP_COEFFICIENTS: [f32; 8] = [
    1.987_569_2e-4,
    1.398_2e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
    1.0,
    1.0,
];
/// ln(2) in two parts (Cody and Waite's reduction): the first times a small integer is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Below it, exp(x) is subnormal in binary32.
const MIN_EXPONENT: f32 = -87.0;
/// `1 / (1 + exp(-x))`.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to be inlined into vectorized loops"
)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let power = exp(-x.abs());
    let numerator = if x < 0.0 { power } else { 1.0 };
    numerator / (1.0 + power)
}

/// Φ(x), the standard normal distribution function.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to be inlined into vectorized loops"
)]
pub(crate) fn normal_cdf(number: f32) -> f32 {
    let x = number * FRAC_1_SQRT_2;
    // Not `clamp`, whose handling of NaN costs instructions.
    let x = if x > ERF_SATURATION {
        ERF_SATURATION
    } else {
        x
    };
    let x = if x < -ERF_SATURATION {
        -ERF_SATURATION
    } else {
        x
    };
    let square = x * x;
    (x * polynomial(ERF_NUMERATOR, square) / polynomial(ERF_DENOMINATOR, square)).mul_add(0.5, 0.5)
}

/// `exp(x)` for x ≤ 0.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to be inlined into vectorized loops"
)]
pub(crate) fn exp(number: f32) -> f32 {
    let number = if number < MIN_EXPONENT {
        MIN_EXPONENT
    } else {
        number
    };
    let rounded = number.mul_add(LOG2_E, ROUNDING);
    let power = rounded - ROUNDING;
    let rest = LN_2
        .iter()
        .fold(number, |rest, part| (-power).mul_add(*part, rest));
    let exponent = rounded.to_bits().wrapping_sub(ROUNDING.to_bits());
    let scale = f32::from_bits(exponent.wrapping_add(127) << 23);
    polynomial(EXP_COEFFICIENTS, rest) * scale
}

/// A polynomial by Horner's scheme, coefficients from the highest power down. Always with fused multiply-add, so
/// that the result is the same on every processor.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to be inlined into vectorized loops"
)]
fn polynomial<const COUNT: usize>(coefficients: [f32; COUNT], x: f32) -> f32 {
    coefficients[1..]
        .iter()
        .fold(coefficients[0], |sum, &next| sum.mul_add(x, next))
}
