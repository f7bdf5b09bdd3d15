//! Attention of each sequence's first token, which is all that a classifier needs of the last layer:
//! without keys and values.
//!
//! A query's product with a token's key is the token's vector times what the key's weight makes of
//! the query; and the values, weighted, are the value's weight times the weighted vectors. So keys
//! and values of all tokens, which would be nearly all of this layer's arithmetic, aren't computed,
//! and the result is the same (as multi-head latent attention absorbs weights; DeepSeek-AI, 2024).
//! A key's bias adds the same to all of a query's scores, and so does nothing.

use tch::{Kind, Tensor};

use super::batch::{Batch, Group};
use super::encoder::{apply, bias_gradient, weight_gradient};
use super::parameters::Linear;

/// The dense layer of queries, keys and values, to be used for first tokens.
pub(super) struct FirstHeads<'a> {
    /// [3 hidden, hidden]
    linear: &'a Linear,
    /// Heads, which divide the hidden vector.
    count: i64,
    batch: &'a Batch,
}

/// What the backward pass needs to know.
pub(super) struct Saved {
    /// The first tokens' vectors, [sequences, hidden].
    pub(super) input: Tensor,
    /// [heads, sequences, hidden / heads]
    query: Tensor,
    /// What the keys' weight makes of the queries, [sequences, heads, hidden].
    asked: Tensor,
    /// The shares that tokens have of each query, a group each: [sequences, heads, tokens].
    shares: Vec<Tensor>,
    /// The tokens' vectors, weighted by their shares, [sequences, heads, hidden].
    mixed: Tensor,
}

impl<'a> FirstHeads<'a> {
    pub(super) fn new(linear: &'a Linear, count: i64, batch: &'a Batch) -> Self {
        Self {
            linear,
            count,
            batch,
        }
    }

    fn hidden(&self) -> i64 {
        self.linear.weight.size()[1]
    }

    /// A dense layer's part of queries (0), keys (1) or values (2).
    fn third(&self, linear: &Linear, third: i64) -> Linear {
        let (start, len) = (third * self.hidden(), self.hidden());
        Linear {
            weight: linear.weight.narrow(0, start, len),
            bias: linear.bias.narrow(0, start, len),
        }
    }

    /// A weight, head by head: [heads, hidden / heads, hidden].
    fn by_head(&self, weight: &Tensor) -> Tensor {
        let hidden = self.hidden();
        weight.view([self.count, hidden / self.count, hidden])
    }

    /// Rows of all heads, [sequences, hidden], head by head: [heads, sequences, hidden / heads].
    fn split(&self, rows: &Tensor) -> Tensor {
        let size = self.hidden() / self.count;
        rows.view([-1, self.count, size]).transpose(0, 1)
    }

    /// Back from [`split`](Self::split).
    fn join(&self, split: &Tensor) -> Tensor {
        split.transpose(0, 1).reshape([-1, self.hidden()])
    }

    fn scale(&self) -> f64 {
        1.0 / ((self.hidden() / self.count) as f64).sqrt()
    }

    /// What each first token gets of the vectors `x`, [rows, hidden]: [sequences, hidden].
    pub(super) fn forward(&self, x: &Tensor) -> (Tensor, Saved) {
        let input = x.index_select(0, &self.batch.firsts);
        let query = self.split(&apply(&self.third(self.linear, 0), &input)) * self.scale();
        let key = self.third(self.linear, 1);
        let value = self.third(self.linear, 2);
        let asked = query
            .bmm(&self.by_head(&key.weight))
            .transpose(0, 1)
            .contiguous();
        let (mut shares, mut mixed) = (Vec::new(), Vec::new());
        for group in &self.batch.groups {
            let tokens = tokens(x, group);
            let scores = sequences(&asked, group).bmm(&tokens.transpose(1, 2));
            let of_group = scores.softmax(-1, Kind::Float).to_kind(x.kind());
            mixed.push(of_group.bmm(&tokens));
            shares.push(of_group);
        }
        let mixed = Tensor::cat(&mixed, 0);
        let values = mixed
            .transpose(0, 1)
            .bmm(&self.by_head(&value.weight).transpose(1, 2));
        let attended = self.join(&values) + value.bias;
        let saved = Saved {
            input,
            query,
            asked,
            shares,
            mixed,
        };
        (attended, saved)
    }

    /// Writes the gradients of the dense layer, and gives those of the first tokens' vectors by their
    /// queries, [sequences, hidden], and of all vectors by keys and values, [rows, hidden].
    pub(super) fn backward(
        &self,
        gradient: &Tensor,
        saved: &Saved,
        x: &Tensor,
        into: &Linear,
    ) -> (Tensor, Tensor) {
        let [query, key, value] = [0, 1, 2].map(|third| self.third(self.linear, third));
        let [query_into, key_into, value_into] = [0, 1, 2].map(|third| self.third(into, third));

        let of_values = self.split(gradient);
        let of_value_weight = of_values.transpose(1, 2).bmm(&saved.mixed.transpose(0, 1));
        self.by_head(&value_into.weight).copy_(&of_value_weight);
        bias_gradient(&value_into.bias, gradient);
        let of_mixed = of_values
            .bmm(&self.by_head(&value.weight))
            .transpose(0, 1)
            .contiguous();

        let of_x = x.empty_like();
        let mut of_asked = Vec::new();
        for (group, shares) in self.batch.groups.iter().zip(&saved.shares) {
            let tokens_of_group = tokens(x, group);
            let of_mixed = sequences(&of_mixed, group);
            let of_shares = of_mixed.bmm(&tokens_of_group.transpose(1, 2));
            let along = (&of_shares * shares).sum_dim_intlist(-1, true, Kind::Float);
            let of_scores = shares * (of_shares - along.to_kind(shares.kind()));
            of_asked.push(of_scores.bmm(&tokens_of_group));
            let factors = Tensor::cat(&[shares, &of_scores], 1).transpose(1, 2);
            let vectors = Tensor::cat(&[of_mixed, sequences(&saved.asked, group)], 1);
            tokens(&of_x, group).copy_(&factors.bmm(&vectors));
        }
        let of_asked = Tensor::cat(&of_asked, 0).transpose(0, 1);

        let of_key_weight = saved.query.transpose(1, 2).bmm(&of_asked);
        self.by_head(&key_into.weight).copy_(&of_key_weight);
        let _ = key_into.bias.shallow_clone().zero_();
        let of_query = of_asked.bmm(&self.by_head(&key.weight).transpose(1, 2)) * self.scale();
        let of_query = self.join(&of_query);
        weight_gradient(&query_into.weight, &of_query, &saved.input);
        bias_gradient(&query_into.bias, &of_query);
        (of_query.matmul(&query.weight), of_x)
    }
}

/// A group's vectors, [sequences, tokens, hidden], of [rows, hidden].
fn tokens(x: &Tensor, group: &Group) -> Tensor {
    x.narrow(0, group.row, group.count * group.length).view([
        group.count,
        group.length,
        x.size()[1],
    ])
}

/// A group's sequences of a tensor that has all of them.
fn sequences(tensor: &Tensor, group: &Group) -> Tensor {
    tensor.narrow(0, group.sequence, group.count)
}
