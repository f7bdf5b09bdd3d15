//! The Gaussian error linear unit (Hendrycks and Gimpel, 2016), as exact as binary32 is.

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

/// Each number becomes `x * (1 + erf(x / sqrt(2))) / 2`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn gelu(numbers: &mut [f32]) {
    for number in numbers {
        let x = *number * std::f32::consts::FRAC_1_SQRT_2;
        // Not `clamp`, which does more about what isn't a number.
        let x = if x > BEYOND { BEYOND } else { x };
        let x = if x < -BEYOND { -BEYOND } else { x };
        let square = x * x;
        // Fused, so that the result doesn't depend on whether the processor can.
        let above = ABOVE[1..]
            .iter()
            .fold(ABOVE[0], |sum, &factor| sum.mul_add(square, factor));
        let below = BELOW[1..]
            .iter()
            .fold(BELOW[0], |sum, &factor| sum.mul_add(square, factor));
        let half = *number * 0.5;
        *number = half.mul_add(x * above / below, half);
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;
    use crate::parallel::numbers;

    #[test]
    fn it_is_that_of_libtorch() {
        let mut ours: Vec<f32> = (-16_000..16_000).map(|x| x as f32 / 1000.0).collect();
        let theirs = Tensor::from_slice(&ours).gelu("none");
        gelu(&mut ours);
        for (ours, theirs) in ours.iter().zip(numbers(&theirs)) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} and {theirs}");
        }
    }
}
