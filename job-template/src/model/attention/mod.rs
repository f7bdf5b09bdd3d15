//! Scaled dot-product attention (Vaswani et al., 2017) over packed sequences, without dropout.

mod fast;
mod matrix;

use tch::{Kind, Tensor};

use super::batch::Group;
use crate::parallel::suits_kernels;
use crate::runtime::has_avx2;

/// What attention works on.
pub(super) struct Heads<'a> {
    /// Queries, keys and values side by side, [rows, 3 hidden].
    pub(super) query_key_value: &'a Tensor,
    /// Heads, which divide the hidden vector.
    pub(super) count: i64,
    /// Which sequences lie where in the rows.
    pub(super) groups: &'a [Group],
}

/// What the backward pass needs to know.
pub(super) enum Saved {
    /// The fast version: the logarithms of the sums of powers, [heads, rows].
    Logarithms(Tensor),
    /// The plain version: each group's shares, [sequences, heads, tokens, tokens].
    Shares(Vec<Tensor>),
}

impl Heads<'_> {
    fn hidden(&self) -> i64 {
        self.query_key_value.size()[1] / 3
    }

    /// What each token gets, [rows, hidden], and what the backward pass needs.
    pub(super) fn forward(&self) -> (Tensor, Saved) {
        if suits_kernels(self.query_key_value) && can_fuse() {
            let (attended, logarithms) = fast::forward(self);
            (attended, Saved::Logarithms(logarithms))
        } else {
            let (attended, shares) = self.plain_forward();
            (attended, Saved::Shares(shares))
        }
    }

    /// The gradients of queries, keys and values, [rows, 3 hidden], given that of what each token got,
    /// `attended`.
    pub(super) fn backward(&self, gradient: &Tensor, attended: &Tensor, saved: &Saved) -> Tensor {
        match saved {
            Saved::Logarithms(logarithms) => fast::backward(self, gradient, attended, logarithms),
            Saved::Shares(shares) => self.plain_backward(gradient, shares),
        }
    }

    fn plain_forward(&self) -> (Tensor, Vec<Tensor>) {
        let all = self.query_key_value;
        let result = Tensor::empty([all.size()[0], self.hidden()], (all.kind(), all.device()));
        let shares = self.groups.iter().map(|group| {
            let [query, key, value] = self.thirds(all, group);
            let scores = query.matmul(&key.transpose(-1, -2)) * self.scale();
            let shares = scores.softmax(-1, Kind::Float).to_kind(all.kind());
            self.split(&result, group).copy_(&shares.matmul(&value));
            shares
        });
        let shares = shares.collect();
        (result, shares)
    }

    fn plain_backward(&self, gradient: &Tensor, shares: &[Tensor]) -> Tensor {
        let result = self.query_key_value.empty_like();
        for (group, shares) in self.groups.iter().zip(shares) {
            let gradient = self.split(gradient, group);
            let [query, key, value] = self.thirds(self.query_key_value, group);
            let of_value = shares.transpose(-1, -2).matmul(&gradient);
            let of_shares = gradient.matmul(&value.transpose(-1, -2));
            let along = (&of_shares * shares).sum_dim_intlist(-1, true, Kind::Float);
            let of_scores = shares * (of_shares - along.to_kind(shares.kind())) * self.scale();
            let of_query = of_scores.matmul(&key);
            let of_key = of_scores.transpose(-1, -2).matmul(&query);
            let gradients = [of_query, of_key, of_value];
            for (mut into, gradient) in self.thirds(&result, group).into_iter().zip(gradients) {
                into.copy_(&gradient);
            }
        }
        result
    }

    /// The rows of `tensor` that are a group's, as [sequences, heads, tokens, hidden / heads].
    fn split(&self, tensor: &Tensor, group: &Group) -> Tensor {
        tensor
            .narrow(0, group.row, group.count * group.length)
            .view([group.count, group.length, self.count, -1])
            .transpose(1, 2)
    }

    /// A group's queries, keys and values, or their gradients; [`split`](Self::split) each.
    fn thirds(&self, tensor: &Tensor, group: &Group) -> [Tensor; 3] {
        let hidden = self.hidden();
        [0, 1, 2].map(|third| self.split(&tensor.narrow(1, third * hidden, hidden), group))
    }

    fn scale(&self) -> f64 {
        1.0 / ((self.hidden() / self.count) as f64).sqrt()
    }
}

/// Whether the processor multiplies and adds in one instruction. Without it, the fast version is slower than
/// the plain one, by far.
fn can_fuse() -> bool {
    cfg!(not(target_arch = "x86_64")) || has_avx2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::Batch;
    use crate::parallel::with_threads;
    use crate::random::tensor;
    use tch::Device;

    /// A batch of sequences of these lengths.
    fn batch(lengths: &[usize]) -> Batch {
        let sequences: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![1; length]).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        Batch::new(&sequences, Device::Cpu)
    }

    fn assert_close(left: &Tensor, right: &Tensor) {
        let difference = (left - right).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "differ by {difference}");
    }

    /// What each token gets, and the gradients, by the fast version and by the plain one.
    fn both(query_key_value: &Tensor, count: i64, batch: &Batch) -> [(Tensor, Tensor); 2] {
        let heads = Heads {
            query_key_value,
            count,
            groups: &batch.groups,
        };
        let gradient = tensor(2, &[query_key_value.size()[0], heads.hidden()]);
        let (attended, logarithms) = fast::forward(&heads);
        let of_all = fast::backward(&heads, &gradient, &attended, &logarithms);
        let (plain_attended, shares) = heads.plain_forward();
        let plain_of_all = heads.plain_backward(&gradient, &shares);
        [(attended, of_all), (plain_attended, plain_of_all)]
    }

    #[test]
    fn the_fast_version_is_the_plain_one() {
        let batch = batch(&[1, 2, 5, 6, 7, 16, 17, 47, 48, 49, 49, 97, 200, 512]);
        let rows = batch.ids.size()[0];
        for (size, count) in [(32, 2), (64, 1), (8, 3), (20, 2)] {
            let query_key_value = tensor(1, &[rows, 3 * size * count]);
            let [fast, plain] = both(&query_key_value, count, &batch);
            assert_close(&fast.0, &plain.0);
            assert_close(&fast.1, &plain.1);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let batch = batch(&[3, 70, 200, 200, 31]);
        let query_key_value = tensor(1, &[504, 3 * 96]);
        let outcomes = with_threads(|| {
            let [fast, _] = both(&query_key_value, 3, &batch);
            fast
        });
        for outcome in &outcomes[1..] {
            assert_eq!(*outcome, outcomes[0]);
        }
    }

    /// Powers of such scores are no numbers in binary32.
    #[test]
    fn scores_may_be_large() {
        let batch = batch(&[20]);
        let query_key_value = tensor(1, &[20, 3 * 32]) * 30.0;
        let [fast, plain] = both(&query_key_value, 1, &batch);
        assert_close(&(fast.0 / 30.0), &(plain.0 / 30.0));
        assert_close(&(fast.1 / 900.0), &(plain.1 / 900.0));
    }

    /// A sequence that isn't numbers stays so, and doesn't touch others.
    #[test]
    fn what_is_not_a_number_stays_in_its_sequence() {
        let batch = batch(&[9, 30]);
        let query_key_value = tensor(1, &[39, 3 * 32]);
        let _ = query_key_value.narrow(0, 15, 1).fill_(f64::NAN);
        let [(attended, of_all), _] = both(&query_key_value, 1, &batch);
        for found in [attended, of_all] {
            let is_nan = found.isnan();
            assert_eq!(is_nan.narrow(0, 0, 9).any().int64_value(&[]), 0);
            assert_eq!(is_nan.narrow(0, 9, 30).all().int64_value(&[]), 1);
        }
    }
}
