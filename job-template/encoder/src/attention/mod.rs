//! Scaled dot-product attention (Vaswani et al., 2017) over packed sequences, without dropout.

mod fast;
mod matrix;

use tch::{Kind, Tensor};

use crate::batch::Group;
use crate::cpu::has_avx2;
use crate::slices::suits_kernels;

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
    /// The fast version: the log-sum-exp of each query's scores, [heads, rows].
    LogSumExp(Tensor),
    /// The plain version: nothing.
    Nothing,
}

impl Heads<'_> {
    fn hidden(&self) -> i64 {
        self.query_key_value.size()[1] / 3
    }

    /// The context vectors: what each token gets, [rows, hidden]; and what the backward pass needs.
    pub(super) fn forward(&self) -> (Tensor, Saved) {
        if suits_kernels(self.query_key_value) && has_fma() {
            let (context, logsumexp) = fast::forward(self);
            (context, Saved::LogSumExp(logsumexp))
        } else {
            (self.plain_forward(), Saved::Nothing)
        }
    }

    /// The gradients of queries, keys and values, [rows, 3 hidden], given that of what each token got,
    /// `context`.
    pub(super) fn backward(&self, gradient: &Tensor, context: &Tensor, saved: &Saved) -> Tensor {
        match saved {
            Saved::LogSumExp(logsumexp) => fast::backward(self, gradient, context, logsumexp),
            Saved::Nothing => self.plain_backward(gradient),
        }
    }

    /// By libtorch's fused kernels, which keep no probabilities. Sequences of equal length are computed
    /// together, without padding.
    fn plain_forward(&self) -> Tensor {
        let all = self.query_key_value;
        let result = Tensor::empty([all.size()[0], self.hidden()], (all.kind(), all.device()));
        for group in self.groups {
            let [query, key, value] = self.query_key_value_of(all, group);
            let context = Tensor::scaled_dot_product_attention(
                &query,
                &key,
                &value,
                None::<&Tensor>,
                0.0,
                false,
                None,
                false,
            );
            self.split(&result, group).copy_(&context);
        }
        result
    }

    /// Recomputes the probabilities, which takes less memory than to keep them, and adds in the same order
    /// every time, as the fused kernels' own backward pass doesn't on a GPU.
    fn plain_backward(&self, gradient: &Tensor) -> Tensor {
        let result = self.query_key_value.empty_like();
        for group in self.groups {
            let gradient = self.split(gradient, group);
            let [query, key, value] = self.query_key_value_of(self.query_key_value, group);
            let scores = query.matmul(&key.transpose(-1, -2)) * self.scale();
            let probs = scores.softmax(-1, Kind::Float).to_kind(query.kind());
            let grad_value = probs.transpose(-1, -2).matmul(&gradient);
            let grad_probs = gradient.matmul(&value.transpose(-1, -2));
            let row_dot = (&grad_probs * &probs).sum_dim_intlist(-1, true, Kind::Float);
            let grad_scores = &probs * (grad_probs - row_dot.to_kind(probs.kind())) * self.scale();
            let grad_query = grad_scores.matmul(&key);
            let grad_key = grad_scores.transpose(-1, -2).matmul(&query);
            let gradients = [grad_query, grad_key, grad_value];
            let parts = self.query_key_value_of(&result, group);
            for (mut into, gradient) in parts.into_iter().zip(gradients) {
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
    fn query_key_value_of(&self, tensor: &Tensor, group: &Group) -> [Tensor; 3] {
        let hidden = self.hidden();
        [0, 1, 2].map(|part| self.split(&tensor.narrow(1, part * hidden, hidden), group))
    }

    fn scale(&self) -> f64 {
        1.0 / ((self.hidden() / self.count) as f64).sqrt()
    }
}

/// Whether the processor multiplies and adds in one instruction. Without it, the fast version is slower than
/// the plain one, by far.
fn has_fma() -> bool {
    cfg!(not(target_arch = "x86_64")) || has_avx2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::random::tensor;
    use crate::threads::with_threads;
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
        let (context, logsumexp) = fast::forward(&heads);
        let grad_all = fast::backward(&heads, &gradient, &context, &logsumexp);
        let plain_context = heads.plain_forward();
        let plain_grad = heads.plain_backward(&gradient);
        [(context, grad_all), (plain_context, plain_grad)]
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
        let [(context, grad_all), _] = both(&query_key_value, 1, &batch);
        for found in [context, grad_all] {
            let is_nan = found.isnan();
            assert_eq!(is_nan.narrow(0, 0, 9).any().int64_value(&[]), 0);
            assert_eq!(is_nan.narrow(0, 9, 30).all().int64_value(&[]), 1);
        }
    }
}
