//! A pseudorandom generator whose numbers are part of this crate's contract: weights, orders and, on a CPU, dropout
//! that a seed gave once, it gives with every later version.
//!
//! Why not `rand` with `rand_chacha`? `rand_chacha`'s bits are stable, but the step from bits to ranges, normal
//! numbers and shuffles is `rand`'s, which reserves the right to change results between releases; and a generator
//! of a stream can't give element `i` of dropout's mask without the elements before it, which threads need. SplitMix64 with the few functions below is shorter than pinning all of that.

use sha2::{Digest, Sha256};

/// SplitMix64 (Steele, Lea and Flood, 2014), seeded by a number and a purpose. Not for cryptography.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator for `purpose`: its state is the beginning of SHA-256(seed, purpose), so that generators of
    /// different purposes are independent.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(purpose)
            .finalize();
        let bytes = digest.first_chunk().expect("a digest has 32 bytes");
        Self {
            state: u64::from_le_bytes(*bytes),
        }
    }

    /// 64 uniformly distributed bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// An integer, uniformly distributed in `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        // The high half of a product (Lemire, 2019), without rejection: for fewer than 2^24 items,
        // probabilities are off by less than a factor of 2^-40.
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// A multiple of 2^-53, uniformly distributed in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normally distributed number (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles the items, each order with the same probability (Fisher and Yates; Durstenfeld, 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// A binary32 tensor of standard normally distributed numbers, for tests, which run in parallel: libtorch's
/// generator is shared by all threads.
#[cfg(test)]
pub(crate) fn tensor(seed: u64, shape: &[i64]) -> tch::Tensor {
    let mut random = Random::new(seed, "tensor");
    let count: i64 = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
    tch::Tensor::from_slice(&numbers).view(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of the algorithm's published code for the state 1234567.
    #[test]
    fn bits_are_those_of_splitmix64() {
        let mut random = Random { state: 1_234_567 };
        assert_eq!(
            [random.bits(), random.bits(), random.bits()],
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn seeds_and_purposes_give_different_numbers() {
        assert_ne!(Random::new(1, "a").bits(), Random::new(1, "b").bits());
        assert_ne!(Random::new(1, "a").bits(), Random::new(2, "a").bits());
    }

    #[test]
    fn a_shuffle_keeps_all_items() {
        let mut items: Vec<usize> = (0..1000).collect();
        Random::new(7, "order").shuffle(&mut items);
        assert!(items.iter().enumerate().any(|(index, &item)| index != item));
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut random = Random::new(3, "normal");
        let numbers: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers
            .iter()
            .map(|number| (number - mean).powi(2))
            .sum::<f64>()
            / 20_000.0;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
    }
}
