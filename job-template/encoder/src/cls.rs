//! Attention of each sequence's first token, which is all that a classifier needs of the last layer:
//! without keys and values.
//!
//! A query's product with a token's key is the token's vector times what the key's weight makes of
//! the query; and the values, weighted, are the value's weight times the weighted vectors. So keys
//! and values of all tokens, which would be nearly all of this layer's arithmetic, aren't computed,
//! and the result is the same (as multi-head latent attention absorbs weights; DeepSeek-AI, 2024).
//! A key's bias adds the same to all of a query's scores, and so does nothing.

use tch::{Kind, Tensor};

use crate::batch::{Batch, Group};
use crate::layers::{apply, bias_gradient, weight_gradient};
use crate::parameters::Linear;

/// The dense layer of queries, keys and values, to be used for first tokens.
pub(crate) struct ClsAttention<'a> {
    /// [3 hidden, hidden]
    linear: &'a Linear,
    /// Heads, which divide the hidden vector.
    count: i64,
    batch: &'a Batch,
}

/// What the backward pass needs to know.
pub(crate) struct Saved {
    /// The first tokens' vectors, [sequences, hidden].
    pub(crate) input: Tensor,
    /// [heads, sequences, hidden / heads]
    query: Tensor,
    /// The keys' weight absorbed into the queries, [sequences, heads, hidden].
    absorbed_query: Tensor,
    /// The attention probabilities of each query, a group each: [sequences, heads, tokens].
    attention_probs: Vec<Tensor>,
    /// The tokens' vectors, weighted by their attention probabilities, [sequences, heads, hidden].
    context: Tensor,
}

impl<'a> ClsAttention<'a> {
    pub(crate) fn new(linear: &'a Linear, count: i64, batch: &'a Batch) -> Self {
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
    fn part(&self, linear: &Linear, part: i64) -> Linear {
        let (start, len) = (part * self.hidden(), self.hidden());
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
    pub(crate) fn forward(&self, x: &Tensor) -> (Tensor, Saved) {
        let input = x.index_select(0, &self.batch.firsts);
        let query = self.split(&apply(&self.part(self.linear, 0), &input)) * self.scale();
        let key = self.part(self.linear, 1);
        let value = self.part(self.linear, 2);
        let absorbed_query = query
            .bmm(&self.by_head(&key.weight))
            .transpose(0, 1)
            .contiguous();
        let (mut attention_probs, mut context) = (Vec::new(), Vec::new());
        for group in &self.batch.groups {
            let tokens = tokens(x, group);
            let scores = sequences(&absorbed_query, group).bmm(&tokens.transpose(1, 2));
            let of_group = scores.softmax(-1, Kind::Float).to_kind(x.kind());
            context.push(of_group.bmm(&tokens));
            attention_probs.push(of_group);
        }
        let context = Tensor::cat(&context, 0);
        let values = context
            .transpose(0, 1)
            .bmm(&self.by_head(&value.weight).transpose(1, 2));
        let output = self.join(&values) + value.bias;
        let saved = Saved {
            input,
            query,
            absorbed_query,
            attention_probs,
            context,
        };
        (output, saved)
    }

    /// Writes the gradients of the dense layer, and gives those of the first tokens' vectors by their
    /// queries, [sequences, hidden], and of all vectors by keys and values, [rows, hidden].
    pub(crate) fn backward(
        &self,
        gradient: &Tensor,
        saved: &Saved,
        x: &Tensor,
        into: &Linear,
    ) -> (Tensor, Tensor) {
        let [query, key, value] = [0, 1, 2].map(|part| self.part(self.linear, part));
        let [query_into, key_into, value_into] = [0, 1, 2].map(|part| self.part(into, part));

        let grad_values = self.split(gradient);
        let grad_value_weight = grad_values
            .transpose(1, 2)
            .bmm(&saved.context.transpose(0, 1));
        self.by_head(&value_into.weight).copy_(&grad_value_weight);
        bias_gradient(&value_into.bias, gradient);
        let grad_context = grad_values
            .bmm(&self.by_head(&value.weight))
            .transpose(0, 1)
            .contiguous();

        let grad_x = x.empty_like();
        let mut grad_absorbed_query = Vec::new();
        for (group, attention_probs) in self.batch.groups.iter().zip(&saved.attention_probs) {
            let tokens_of_group = tokens(x, group);
            let grad_context = sequences(&grad_context, group);
            let grad_probs = grad_context.bmm(&tokens_of_group.transpose(1, 2));
            let row_dot = (&grad_probs * attention_probs).sum_dim_intlist(-1, true, Kind::Float);
            let grad_scores =
                attention_probs * (grad_probs - row_dot.to_kind(attention_probs.kind()));
            grad_absorbed_query.push(grad_scores.bmm(&tokens_of_group));
            let factors = Tensor::cat(&[attention_probs, &grad_scores], 1).transpose(1, 2);
            let vectors = Tensor::cat(&[grad_context, sequences(&saved.absorbed_query, group)], 1);
            tokens(&grad_x, group).copy_(&factors.bmm(&vectors));
        }
        let grad_absorbed_query = Tensor::cat(&grad_absorbed_query, 0).transpose(0, 1);

        let grad_key_weight = saved.query.transpose(1, 2).bmm(&grad_absorbed_query);
        self.by_head(&key_into.weight).copy_(&grad_key_weight);
        let _ = key_into.bias.shallow_clone().zero_();
        let grad_query =
            grad_absorbed_query.bmm(&self.by_head(&key.weight).transpose(1, 2)) * self.scale();
        let grad_query = self.join(&grad_query);
        weight_gradient(&query_into.weight, &grad_query, &saved.input);
        bias_gradient(&query_into.bias, &grad_query);
        (grad_query.matmul(&query.weight), grad_x)
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
