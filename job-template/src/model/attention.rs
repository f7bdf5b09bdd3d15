//! Scaled dot-product attention (Vaswani et al., 2017) over packed sequences, without dropout.

use tch::{Kind, Tensor};

use super::batch::Group;
use crate::parallel::suits_kernels;

/// What attention works on: queries, keys and values side by side in rows of tokens.
pub(super) struct Heads<'a> {
    /// [query rows, hidden]
    pub(super) query: &'a Tensor,
    /// [rows, hidden]
    pub(super) key: &'a Tensor,
    /// [rows, hidden]
    pub(super) value: &'a Tensor,
    /// Heads, which divide the hidden vector.
    pub(super) count: i64,
    /// Which sequences lie where in the rows.
    pub(super) groups: &'a [Group],
    /// Whether only each sequence's first token asks; then there is a query row a sequence.
    pub(super) only_first: bool,
}

/// What the backward pass needs to know of a group.
pub(super) struct Saved {
    /// [sequences, heads, queries, hidden / heads]
    output: Tensor,
    /// The fast version: the logarithm of the sum of powers. The plain one: the shares.
    statistics: Tensor,
}

impl Heads<'_> {
    /// The rows of `tensor` that are a group's, as [sequences, heads, tokens, hidden / heads].
    fn split(&self, tensor: &Tensor, row: i64, count: i64, length: i64) -> Tensor {
        tensor
            .narrow(0, row, count * length)
            .view([count, length, self.count, tensor.size()[1] / self.count])
            .transpose(1, 2)
    }

    fn queries(&self, tensor: &Tensor, group: &Group) -> Tensor {
        if self.only_first {
            self.split(tensor, group.sequence, group.count, 1)
        } else {
            self.split(tensor, group.row, group.count, group.length)
        }
    }

    fn tokens(&self, tensor: &Tensor, group: &Group) -> Tensor {
        self.split(tensor, group.row, group.count, group.length)
    }

    fn scale(&self) -> f64 {
        1.0 / ((self.query.size()[1] / self.count) as f64).sqrt()
    }

    /// What each query gets, [query rows, hidden], and what the backward pass needs.
    pub(super) fn forward(&self) -> (Tensor, Vec<Saved>) {
        let size = [self.query.size()[0], self.query.size()[1]];
        let result = Tensor::empty(size, (self.query.kind(), self.query.device()));
        let saved = self.groups.iter().map(|group| {
            let query = self.queries(self.query, group);
            let (key, value) = (self.tokens(self.key, group), self.tokens(self.value, group));
            let (output, statistics) = if suits_kernels(self.query) {
                Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
                    &query,
                    &key,
                    &value,
                    0.0,
                    false,
                    None::<Tensor>,
                    self.scale(),
                )
            } else {
                plain_forward(&query, &key, &value, self.scale())
            };
            self.queries(&result, group).copy_(&output);
            Saved { output, statistics }
        });
        let saved = saved.collect();
        (result, saved)
    }

    /// The gradients of queries, keys and values, written into tensors of their shapes.
    pub(super) fn backward(&self, gradient: &Tensor, saved: &[Saved], into: &[Tensor; 3]) {
        for (group, saved) in self.groups.iter().zip(saved) {
            let gradient = self.queries(gradient, group);
            let query = self.queries(self.query, group);
            let (key, value) = (self.tokens(self.key, group), self.tokens(self.value, group));
            let gradients = if suits_kernels(self.query) {
                Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
                    &gradient,
                    &query,
                    &key,
                    &value,
                    &saved.output,
                    &saved.statistics,
                    0.0,
                    false,
                    None::<Tensor>,
                    self.scale(),
                )
            } else {
                plain_backward(
                    &gradient,
                    [&query, &key, &value],
                    &saved.statistics,
                    self.scale(),
                )
            };
            self.queries(&into[0], group).copy_(&gradients.0);
            self.tokens(&into[1], group).copy_(&gradients.1);
            self.tokens(&into[2], group).copy_(&gradients.2);
        }
    }
}

/// The values, weighted by the shares that the keys have of each query; and these shares.
fn plain_forward(query: &Tensor, key: &Tensor, value: &Tensor, scale: f64) -> (Tensor, Tensor) {
    let scores = query.matmul(&key.transpose(-1, -2)) * scale;
    let shares = scores.softmax(-1, Kind::Float).to_kind(query.kind());
    (shares.matmul(value), shares)
}

fn plain_backward(
    gradient: &Tensor,
    [query, key, value]: [&Tensor; 3],
    shares: &Tensor,
    scale: f64,
) -> (Tensor, Tensor, Tensor) {
    let of_value = shares.transpose(-1, -2).matmul(gradient);
    let of_shares = gradient.matmul(&value.transpose(-1, -2));
    let along = (&of_shares * shares).sum_dim_intlist(-1, true, Kind::Float);
    let of_scores = shares * (of_shares - along.to_kind(shares.kind())) * scale;
    (
        of_scores.matmul(key),
        of_scores.transpose(-1, -2).matmul(query),
        of_value,
    )
}
