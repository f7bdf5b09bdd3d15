//! Randomness that is the same everywhere: no generator of a library's, no order of threads.

use sha2::{Digest, Sha256};

/// A generator whose numbers follow from a seed and a purpose (SplitMix64 by Steele, Lea, and
/// Flood, 2014).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator of its own for each purpose: what one draws doesn't change what another does.
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

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        // By the high half of a product (Lemire, 2019): off by less than 2^-40 for any data set.
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// A number from 0 to below 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A normally distributed number, of mean 0 and standard deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Puts the items in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// A tensor of normally distributed numbers, for tests: libtorch's generator is one for all threads.
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

    /// The numbers that the algorithm's published code gives for the state 1234567.
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
    fn purposes_have_numbers_of_their_own() {
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
    fn normal_numbers_have_mean_0_and_deviation_1() {
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
