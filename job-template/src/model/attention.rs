//! Scaled dot-product attention (Vaswani et al., 2017) over packed sequences, without dropout.

use tch::{Kind, Tensor};

use super::batch::Group;
use crate::parallel::suits_kernels;

/// What attention works on.
pub(super) struct Heads<'a> {
    /// Queries, keys and values side by side, [rows, 3 hidden].
    pub(super) query_key_value: &'a Tensor,
    /// Heads, which divide the hidden vector.
    pub(super) count: i64,
    /// Which sequences lie where in the rows.
    pub(super) groups: &'a [Group],
}

/// What the backward pass needs to know of a group.
pub(super) struct Saved {
    /// [sequences, heads, tokens, hidden / heads]
    output: Tensor,
    /// The fast version: the logarithm of the sum of powers. The plain one: the shares.
    statistics: Tensor,
}

impl Heads<'_> {
    fn hidden(&self) -> i64 {
        self.query_key_value.size()[1] / 3
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

    fn is_fast(&self) -> bool {
        suits_kernels(self.query_key_value)
    }

    /// What each token gets, [rows, hidden], and what the backward pass needs.
    pub(super) fn forward(&self) -> (Tensor, Vec<Saved>) {
        let all = self.query_key_value;
        let result = Tensor::empty([all.size()[0], self.hidden()], (all.kind(), all.device()));
        let saved = self.groups.iter().map(|group| {
            let [query, key, value] = self.thirds(all, group);
            let (output, statistics) = if self.is_fast() {
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
            self.split(&result, group).copy_(&output);
            Saved { output, statistics }
        });
        let saved = saved.collect();
        (result, saved)
    }

    /// The gradients of queries, keys and values, [rows, 3 hidden].
    pub(super) fn backward(&self, gradient: &Tensor, saved: &[Saved]) -> Tensor {
        let result = self.query_key_value.empty_like();
        for (group, saved) in self.groups.iter().zip(saved) {
            let gradient = self.split(gradient, group);
            let [query, key, value] = self.thirds(self.query_key_value, group);
            let (of_query, of_key, of_value) = if self.is_fast() {
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
            let gradients = [of_query, of_key, of_value];
            for (mut into, gradient) in self.thirds(&result, group).into_iter().zip(gradients) {
                into.copy_(&gradient);
            }
        }
        result
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
