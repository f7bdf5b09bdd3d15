//! Dropout (Srivastava et al., 2014) whose masks are computed, not drawn: whether an element is
//! dropped follows from the seed, the step, the place in the model, and the element's number.
//!
//! So a mask needs no memory between the forward and the backward pass, is the same for any number of
//! threads, and a run that continues after a break sees the masks it would have.
//!
//! On a CPU it is a hash of the element's number. On a GPU that would be a dozen kernels, each a pass over
//! memory; there, libtorch's own generator is seeded for each mask, and draws it in one (Philox 4x32; Salmon
//! et al., 2011), which depends on nothing else.

use tch::{Device, Kind, Tensor};

use crate::random::Random;
use crate::slices::{RowsMut, as_mut_slice, for_each_chunk_mut, suits_kernels};

/// How elements are dropped in one step of training.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    probability: f64,
    /// That of the vector that the classifier is given.
    classifier_probability: f64,
    seed: u64,
    step: u64,
}

/// How elements of one tensor are dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    key: u32,
    /// Of 2^24: an element whose random number is below is dropped.
    threshold: u32,
    /// What the others are multiplied with, so that the mean stays.
    pub(crate) scale: f32,
}

impl Dropout {
    /// Drops elements with this probability, 0 to below 1.
    #[must_use]
    pub fn new(probability: f64, seed: u64, step: u64) -> Self {
        Self {
            probability,
            classifier_probability: probability,
            seed,
            step,
        }
    }

    /// The same, but for another probability, 0 to below 1, of the elements that the classifier is given.
    #[must_use]
    pub fn with_classifier(self, classifier_probability: f64) -> Self {
        Self {
            classifier_probability,
            ..self
        }
    }

    /// The mask of the head's hidden vectors, in a model of so many layers.
    pub(crate) fn head_mask(&self, layers: usize) -> Mask {
        let classifier = Self {
            probability: self.classifier_probability,
            ..*self
        };
        classifier.mask(1 + 2 * layers)
    }

    /// The mask of the tensor at `place`, a number of its own for each place in the model.
    pub(crate) fn mask(&self, place: usize) -> Mask {
        let key = Random::new(self.seed, &format!("dropout {} {place}", self.step)).bits();
        Mask {
            key: key as u32,
            threshold: (self.probability * THRESHOLDS).round() as u32,
            scale: (1.0 / (1.0 - self.probability)) as f32,
        }
    }
}

/// As many thresholds as there are of 24 random bits.
const THRESHOLDS: f64 = 16_777_216.0;
const FIRST: u32 = 0x7feb_352d;
const SECOND: u32 = 0x846c_a68b;

impl Mask {
    /// What element number `index` is multiplied with: 0, or the scale.
    ///
    /// The random number is a hash of the index (`lowbias32` of Wellons' hash-prospector).
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it has to become part of loops over vectors"
    )]
    pub(crate) fn factor(self, index: u32) -> f32 {
        let mut bits = index.wrapping_mul(0x9e37_79b9) ^ self.key;
        bits = (bits ^ (bits >> 16)).wrapping_mul(FIRST);
        bits = (bits ^ (bits >> 15)).wrapping_mul(SECOND);
        bits ^= bits >> 16;
        if bits >> 8 < self.threshold {
            0.0
        } else {
            self.scale
        }
    }

    /// Multiplies all elements with their factors, in place.
    pub(crate) fn apply(self, tensor: &mut Tensor) {
        const CHUNK: usize = 1 << 14;
        if !suits_kernels(tensor) {
            *tensor *= self.tensor(&tensor.size(), tensor.kind(), tensor.device());
            return;
        }
        #[expect(unsafe_code, reason = "the tensor's memory")]
        // SAFETY: who calls has the only handle of it.
        let numbers = unsafe { as_mut_slice(tensor) };
        let numbers = (numbers.len(), RowsMut::new(numbers, 1));
        for_each_chunk_mut(numbers.0, CHUNK, [numbers.1], [], |range, [numbers], []| {
            multiply(numbers, self, range.start as u32);
        });
    }

    /// All elements' factors, as a tensor of this shape.
    pub(crate) fn tensor(self, shape: &[i64], kind: Kind, device: Device) -> Tensor {
        if device == Device::Cpu {
            self.hashed(shape, kind)
        } else {
            self.drawn(shape, kind, device)
        }
    }

    /// Drawn by libtorch's generator, in one kernel.
    fn drawn(self, shape: &[i64], kind: Kind, device: Device) -> Tensor {
        tch::manual_seed(i64::from(self.key));
        let kept = 1.0 - f64::from(self.threshold) / THRESHOLDS;
        let mut mask = Tensor::empty(shape, (Kind::Float, device)).bernoulli_float_(kept);
        mask *= f64::from(self.scale);
        mask.to_kind(kind)
    }

    /// The plain version of [`Mask::factor`].
    fn hashed(self, shape: &[i64], kind: Kind) -> Tensor {
        const LOW: i64 = 0xffff_ffff;
        let times = |bits: Tensor, number: u32| (bits * i64::from(number)).bitwise_and(LOW);
        let fold = |bits: &Tensor, shift: i64| {
            bits.bitwise_xor_tensor(&bits.bitwise_right_shift_tensor_scalar(shift))
        };
        let count: i64 = shape.iter().product();
        let bits = times(
            Tensor::arange(count, (Kind::Int64, Device::Cpu)),
            0x9e37_79b9,
        );
        let bits = bits.bitwise_xor(i64::from(self.key));
        let bits = times(fold(&bits, 16), FIRST);
        let bits = times(fold(&bits, 15), SECOND);
        let bits = fold(&bits, 16).bitwise_right_shift_tensor_scalar(8);
        let is_kept = bits.ge(i64::from(self.threshold));
        (is_kept.to_kind(Kind::Float) * f64::from(self.scale))
            .to_kind(kind)
            .view(shape)
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn multiply(numbers: &mut [f32], mask: Mask, first: u32) {
    for (index, number) in (first..).zip(numbers) {
        *number *= mask.factor(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_dropped_and_the_mean_stays() {
        let mask = Dropout::new(0.1, 1337, 5).mask(3);
        let factors: Vec<f32> = (0..1_000_000).map(|index| mask.factor(index)).collect();
        let dropped = factors.iter().filter(|factor| **factor == 0.0).count();
        assert!((99_000..101_000).contains(&dropped), "{dropped}");
        let mean = factors.iter().map(|factor| f64::from(*factor)).sum::<f64>() / 1e6;
        assert!((mean - 1.0).abs() < 2e-3, "{mean}");
    }

    #[test]
    fn steps_places_and_seeds_have_masks_of_their_own() {
        let factors = |seed, step, place| {
            let mask = Dropout::new(0.5, seed, step).mask(place);
            (0..64).map(|index| mask.factor(index)).collect::<Vec<_>>()
        };
        assert_eq!(factors(1, 2, 3), factors(1, 2, 3));
        assert_ne!(factors(1, 2, 3), factors(2, 2, 3));
        assert_ne!(factors(1, 2, 3), factors(1, 3, 3));
        assert_ne!(factors(1, 2, 3), factors(1, 2, 4));
    }

    #[test]
    fn the_classifier_has_a_probability_of_its_own() {
        let dropped = |dropout: Dropout, mask: fn(&Dropout) -> Mask| {
            let mask = mask(&dropout);
            (0..10_000)
                .filter(|&index| mask.factor(index) == 0.0)
                .count()
        };
        let dropout = Dropout::new(0.1, 1, 1);
        let head = |dropout: &Dropout| dropout.head_mask(2);
        assert!((900..1100).contains(&dropped(dropout, head)));
        let dropout = dropout.with_classifier(0.5);
        assert!((4800..5200).contains(&dropped(dropout, head)));
        assert!((900..1100).contains(&dropped(dropout, |dropout| dropout.mask(2))));
        assert_eq!(dropped(dropout.with_classifier(0.0), head), 0);
    }

    #[test]
    fn the_plain_version_has_the_same_factors() {
        let mask = Dropout::new(0.1, 9, 1).mask(0);
        let plain: Vec<f32> =
            Vec::try_from(mask.tensor(&[3000], Kind::Float, Device::Cpu)).unwrap();
        assert_eq!(
            plain,
            (0..3000)
                .map(|index| mask.factor(index))
                .collect::<Vec<_>>()
        );
    }

    /// What a GPU's masks are drawn by is there on a CPU, too.
    #[test]
    fn what_is_drawn_follows_from_the_mask_alone() {
        let dropout = Dropout::new(0.1, 9, 1);
        let draw = |place| {
            dropout
                .mask(place)
                .drawn(&[1000, 100], Kind::Float, Device::Cpu)
        };
        let first = draw(0);
        assert_ne!(draw(1), first);
        assert_eq!(draw(0), first);
        let dropped = first.eq(0.0).sum(Kind::Int64).int64_value(&[]);
        assert!((9_500..10_500).contains(&dropped), "{dropped}");
        assert!((first.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 5e-3);
    }
}
