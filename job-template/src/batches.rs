//! What a model learns from, and which examples are computed together.

use bert_encoder::random::Random;
use tch::Tensor;

/// What a model learns from.
#[derive(Debug)]
pub enum Examples {
    /// Sequences of token ids: the whole model is trained.
    Sequences(Vec<Vec<u32>>),
    /// What the encoder makes of them, [examples, hidden], computed once: the head is trained.
    Features(Tensor),
}

/// Which examples a step learns from, and how.
#[derive(Debug)]
pub struct MicroBatch<'a> {
    /// Their indexes.
    pub indexes: &'a [usize],
    /// The numbers of their labels.
    pub labels: &'a [usize],
    /// The weights of their losses; none: 1 each.
    pub weights: Option<&'a [f32]>,
    /// What the sum of weighted losses is divided by: the sum of the weights of all that the step learns from.
    pub normalizer: f64,
    /// A number that no other micro-batch of the training has; what dropout drops follows from it.
    pub number: u64,
}

/// The batches of an epoch: every example once, in an order that follows from seed and epoch.
#[must_use]
pub fn shuffled(examples: usize, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples).collect();
    Random::new(seed, &format!("order of epoch {epoch}")).shuffle(&mut order);
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

/// Batches of similar lengths with at most so many tokens, where nothing is learned from the order.
/// A sequence that is longer is a batch of its own.
#[must_use]
pub fn by_length(lengths: &[usize], most_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in order {
        let length = lengths[index];
        match batches.last_mut() {
            Some(batch) if tokens + length <= most_tokens => {
                tokens += length;
                batch.push(index);
            }
            _ => {
                tokens = length;
                batches.push(vec![index]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once() {
        let batches = shuffled(103, 8, 1, 0);
        assert_eq!(batches.len(), 13);
        assert_eq!(batches[12].len(), 7);
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_ne!(shuffled(103, 8, 1, 1), batches);
        assert_eq!(shuffled(103, 8, 1, 0), batches);
    }

    #[test]
    fn batches_by_length_keep_to_their_tokens() {
        let lengths = [5, 100, 7, 3, 9, 2];
        let batches = by_length(&lengths, 12);
        assert_eq!(batches, [vec![5, 3, 0], vec![2], vec![4], vec![1]]);
    }
}
