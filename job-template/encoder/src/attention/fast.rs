//! Attention on a CPU, head by head: a block of queries meets all keys while they are in the processor's
//! cache, and the backward pass recomputes the attention probabilities, as `FlashAttention` does (Dao et al.,
//! 2022).

use std::cell::RefCell;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::Heads;
use super::matrix::{COLUMNS, Matrix, ROWS, Size, multiply};
use crate::math::exp;
use crate::slices::{DisjointMut, as_mut_slice, as_slice};
use crate::threads::for_each_chunk;

/// Queries that are computed together.
const BLOCK: usize = 8 * ROWS;
/// A row of scores is filled up to a multiple of this: it is cut into tiles by columns, and as a column
/// by rows.
const FILL: usize = 3 * COLUMNS;
const _: () = assert!(FILL.is_multiple_of(ROWS) && FILL.is_multiple_of(COLUMNS));

/// What a thread computes with: matrices of one head, filled up with zeros.
#[derive(Default)]
struct Scratch {
    /// Queries, scaled.
    query: Vec<f32>,
    key: Vec<f32>,
    key_transposed: Vec<f32>,
    value: Vec<f32>,
    value_transposed: Vec<f32>,
    gradient: Vec<f32>,
    /// A block's scores, which become its attention probabilities.
    probs: Vec<f32>,
    /// The gradients of a block's probabilities, which become those of its scores.
    grad_probs: Vec<f32>,
    grad_key: Vec<f32>,
    grad_value: Vec<f32>,
    /// A block's values, or the gradients of its queries.
    block: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A head of a sequence.
#[derive(Clone, Copy)]
struct Head {
    number: usize,
    /// Numbers of a query, a key, or a value.
    size: usize,
    /// Of all heads.
    hidden: usize,
    /// Row of the sequence's first token.
    row: usize,
    tokens: usize,
}

/// All heads of all sequences, those of the longest first, so that threads end at about the same time.
fn all(heads: &Heads<'_>) -> Vec<Head> {
    let (hidden, count) = (heads.hidden() as usize, heads.count as usize);
    let groups = heads.groups.iter().rev();
    let sequences = groups.flat_map(|group| {
        let tokens = group.length as usize;
        (0..group.count as usize).map(move |index| (group.row as usize + index * tokens, tokens))
    });
    let heads = sequences.flat_map(|(row, tokens)| {
        (0..count).map(move |number| Head {
            number,
            size: hidden / count,
            hidden,
            row,
            tokens,
        })
    });
    heads.collect()
}

/// The context vectors, [rows, hidden], and each query's log-sum-exp, [heads, rows].
pub(super) fn forward(heads: &Heads<'_>) -> (Tensor, Tensor) {
    let (rows, options) = (heads.query_key_value.size()[0], (Kind::Float, Device::Cpu));
    let mut context = Tensor::empty([rows, heads.hidden()], options);
    let mut logsumexp = Tensor::empty([heads.count, rows], options);
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody else has the new tensors, or writes to the others.
        let (out, logsumexp, query_key_value) = unsafe {
            (
                as_mut_slice(&mut context),
                as_mut_slice(&mut logsumexp),
                as_slice(heads.query_key_value),
            )
        };
        let (out, logsumexp) = (DisjointMut::new(out), DisjointMut::new(logsumexp));
        let heads = all(heads);
        for_each_chunk(heads.len(), 1, |index, _| {
            let head = heads[index];
            let first = head.number * rows as usize + head.row;
            #[expect(unsafe_code, reason = "each head of a sequence has its own")]
            // SAFETY: no other chunk has this head of this sequence.
            let logsumexp = unsafe { logsumexp.part(first..first + head.tokens) };
            SCRATCH.with_borrow_mut(|scratch| {
                head.forward(query_key_value, &out, logsumexp, scratch);
            });
        });
    }
    (context, logsumexp)
}

/// The gradients of queries, keys and values, [rows, 3 hidden], given that of the context vectors, and
/// what [`forward`] gave.
pub(super) fn backward(
    heads: &Heads<'_>,
    gradient: &Tensor,
    context: &Tensor,
    logsumexp: &Tensor,
) -> Tensor {
    let rows = gradient.size()[0] as usize;
    let mut result = heads.query_key_value.empty_like();
    {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody else has the new tensor, or writes to the others.
        let (out, query_key_value, gradient, context, logsumexp) = unsafe {
            (
                as_mut_slice(&mut result),
                as_slice(heads.query_key_value),
                as_slice(gradient),
                as_slice(context),
                as_slice(logsumexp),
            )
        };
        let out = DisjointMut::new(out);
        let heads = all(heads);
        for_each_chunk(heads.len(), 1, |index, _| {
            let head = heads[index];
            let saved = Saved {
                query_key_value,
                gradient,
                context,
                logsumexp: &logsumexp[head.number * rows + head.row..][..head.tokens],
            };
            SCRATCH.with_borrow_mut(|scratch| head.backward(&saved, &out, scratch));
        });
    }
    result
}

/// What the backward pass takes.
struct Saved<'a> {
    query_key_value: &'a [f32],
    gradient: &'a [f32],
    context: &'a [f32],
    /// Those of the head's queries.
    logsumexp: &'a [f32],
}

impl Head {
    /// Numbers of a filled row that is as wide as the head.
    fn width(self) -> usize {
        self.size.next_multiple_of(COLUMNS)
    }

    /// Numbers of a filled row of scores.
    fn row_of_scores(self) -> usize {
        self.tokens.next_multiple_of(FILL)
    }

    fn scale(self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }

    /// Where a token's numbers lie in rows of all heads, or in part number `part` of rows that have
    /// `parts` times as many.
    fn range(self, token: usize, part: usize, parts: usize) -> Range<usize> {
        let start = ((self.row + token) * parts + part) * self.hidden + self.number * self.size;
        start..start + self.size
    }

    /// Rows of queries (part 0), keys (1) or values (2).
    fn rows(self, query_key_value: &[f32], part: usize) -> impl ExactSizeIterator<Item = &[f32]> {
        (0..self.tokens).map(move |token| &query_key_value[self.range(token, part, 3)])
    }

    fn forward(
        self,
        query_key_value: &[f32],
        out: &DisjointMut<'_>,
        logsumexp: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (width, row_of_scores) = (self.width(), self.row_of_scores());
        let [query, key, value] = [0, 1, 2].map(|part| self.rows(query_key_value, part));
        copy(query, self.scale(), width, &mut scratch.query);
        copy(key, 1.0, width, &mut scratch.key);
        copy(value, 1.0, width, &mut scratch.value);
        self.transpose(&scratch.key, &mut scratch.key_transposed);
        let Scratch { probs, block, .. } = scratch;
        for start in (0..self.tokens).step_by(BLOCK) {
            let count = (self.tokens - start).min(BLOCK);
            self.multiply_by_columns(
                &scratch.query[start * width..],
                &scratch.key_transposed,
                count,
                probs,
            );
            let mut factors = [0.0; BLOCK];
            for (index, scores) in rows_of(probs, row_of_scores, count).enumerate() {
                let (max, sum) = exp_shifted_row(scores, self.tokens);
                logsumexp[start + index] = max + sum.ln();
                factors[index] = 1.0 / sum;
            }
            self.multiply_by_rows(probs, &scratch.value, count, block);
            for (index, values) in rows_of(block, width, count).enumerate() {
                let range = self.range(start + index, 0, 1);
                write(values, factors[index], out, range);
            }
        }
    }

    fn backward(self, saved: &Saved<'_>, out: &DisjointMut<'_>, scratch: &mut Scratch) {
        let (width, row_of_scores) = (self.width(), self.row_of_scores());
        let [query, key, value] = [0, 1, 2].map(|part| self.rows(saved.query_key_value, part));
        let gradient = (0..self.tokens).map(|token| &saved.gradient[self.range(token, 0, 1)]);
        copy(query, self.scale(), width, &mut scratch.query);
        copy(key, 1.0, width, &mut scratch.key);
        copy(value, 1.0, width, &mut scratch.value);
        copy(gradient, 1.0, width, &mut scratch.gradient);
        self.transpose(&scratch.key, &mut scratch.key_transposed);
        self.transpose(&scratch.value, &mut scratch.value_transposed);
        for sums in [&mut scratch.grad_key, &mut scratch.grad_value] {
            sums.clear();
            sums.resize(self.tokens.next_multiple_of(ROWS) * width, 0.0);
        }

        for start in (0..self.tokens).step_by(BLOCK) {
            let count = (self.tokens - start).min(BLOCK);
            let query = &scratch.query[start * width..];
            let gradient = &scratch.gradient[start * width..];
            let (probs, grad_probs) = (&mut scratch.probs, &mut scratch.grad_probs);
            self.multiply_by_columns(query, &scratch.key_transposed, count, probs);
            self.multiply_by_columns(gradient, &scratch.value_transposed, count, grad_probs);
            let rows = rows_of(probs, row_of_scores, count);
            let rows = rows.zip(rows_of(grad_probs, row_of_scores, count));
            for (index, (scores, grad_probs)) in rows.enumerate() {
                let token = start + index;
                recompute_probs(scores, self.tokens, saved.logsumexp[token]);
                let context = &saved.context[self.range(token, 0, 1)];
                let row_dot = dot(&gradient[index * width..][..self.size], context);
                softmax_backward_row(grad_probs, scores, row_dot);
            }
            self.add_product(probs, gradient, count, &mut scratch.grad_value);
            self.add_product(grad_probs, query, count, &mut scratch.grad_key);
            self.multiply_by_rows(grad_probs, &scratch.key, count, &mut scratch.block);
            for (index, grad_query) in rows_of(&mut scratch.block, width, count).enumerate() {
                write(
                    grad_query,
                    self.scale(),
                    out,
                    self.range(start + index, 0, 3),
                );
            }
        }
        for (part, sums) in [(1, &mut scratch.grad_key), (2, &mut scratch.grad_value)] {
            for (token, sums) in rows_of(sums, width, self.tokens).enumerate() {
                write(sums, 1.0, out, self.range(token, part, 3));
            }
        }
    }

    /// Copies rows of the head's width as columns, into rows of scores' width.
    fn transpose(self, rows: &[f32], into: &mut Vec<f32>) {
        let width = self.row_of_scores();
        into.clear();
        into.resize(self.width() * width, 0.0);
        for (column, row) in rows.chunks_exact(self.width()).enumerate() {
            for (number, into) in row.iter().zip(into.chunks_exact_mut(width)) {
                into[column] = *number;
            }
        }
    }

    /// Products of `count` rows, of the head's width, with all keys or values.
    fn multiply_by_columns(
        self,
        rows: &[f32],
        transposed: &[f32],
        count: usize,
        into: &mut Vec<f32>,
    ) {
        let size = Size {
            rows: count.next_multiple_of(ROWS),
            depth: self.size,
            columns: self.tokens.next_multiple_of(COLUMNS),
        };
        let width = self.row_of_scores();
        into.resize(BLOCK * width, 0.0);
        let (left, right) = (
            Matrix::of(rows, self.width()),
            Matrix::of(transposed, width),
        );
        multiply::<false>(left, right, size, into, width);
    }

    /// Sums of all keys or values, for each of `count` rows of factors.
    fn multiply_by_rows(self, factors: &[f32], rows: &[f32], count: usize, into: &mut Vec<f32>) {
        let width = self.width();
        let size = Size {
            rows: count.next_multiple_of(ROWS),
            depth: self.tokens,
            columns: width,
        };
        into.resize(BLOCK * width, 0.0);
        let left = Matrix::of(factors, self.row_of_scores());
        multiply::<false>(left, Matrix::of(rows, width), size, into, width);
    }

    /// Adds to each key's or value's sum those of `count` rows, times its factors.
    fn add_product(self, factors: &[f32], rows: &[f32], count: usize, sums: &mut [f32]) {
        let width = self.width();
        let size = Size {
            rows: self.tokens.next_multiple_of(ROWS),
            depth: count,
            columns: width,
        };
        let left = Matrix::of(factors, self.row_of_scores()).transposed();
        multiply::<true>(left, Matrix::of(rows, width), size, sums, width);
    }
}

/// The first `count` rows of `width` numbers.
fn rows_of(numbers: &mut [f32], width: usize, count: usize) -> impl Iterator<Item = &mut [f32]> {
    numbers.chunks_exact_mut(width).take(count)
}

/// Copies rows, times `factor`, and fills them up to `width`, and to rows of tiles.
fn copy<'a>(
    rows: impl ExactSizeIterator<Item = &'a [f32]>,
    factor: f32,
    width: usize,
    into: &mut Vec<f32>,
) {
    into.clear();
    into.resize(rows.len().next_multiple_of(ROWS) * width, 0.0);
    for (row, into) in rows.zip(into.chunks_exact_mut(width)) {
        for (number, into) in row.iter().zip(into) {
            *into = number * factor;
        }
    }
}

/// Writes a head's numbers, times `factor`, to where they lie in a tensor.
fn write(numbers: &[f32], factor: f32, out: &DisjointMut<'_>, range: Range<usize>) {
    #[expect(unsafe_code, reason = "each head has numbers of its own")]
    // SAFETY: no other thread has this head of this sequence.
    let out = unsafe { out.part(range) };
    for (number, out) in numbers.iter().zip(out) {
        *out = number * factor;
    }
}

/// Makes `exp(score - max)` of a row's scores. Gives the greatest score, and the sum. What is beyond `tokens` becomes 0.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn exp_shifted_row(scores: &mut [f32], tokens: usize) -> (f32, f32) {
    let filled = tokens.next_multiple_of(COLUMNS);
    scores[tokens..filled].fill(f32::NEG_INFINITY);
    let tiles = scores[..filled].as_chunks_mut::<COLUMNS>().0;
    let mut max = [f32::NEG_INFINITY; COLUMNS];
    for tile in tiles.iter() {
        for (max, &score) in max.iter_mut().zip(tile) {
            // Not `max`, which does more about what isn't a number.
            *max = if score > *max { score } else { *max };
        }
    }
    let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; COLUMNS];
    for tile in tiles {
        for (sum, score) in sums.iter_mut().zip(tile) {
            *score = exp(*score - max);
            *sum += *score;
        }
    }
    scores[tokens..].fill(0.0);
    (max, sums.iter().sum())
}

/// Makes attention probabilities of a row's scores, given their log-sum-exp. What is beyond `tokens`
/// becomes 0.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn recompute_probs(scores: &mut [f32], tokens: usize, logsumexp: f32) {
    for score in &mut scores[..tokens.next_multiple_of(COLUMNS)] {
        *score = exp(*score - logsumexp);
    }
    scores[tokens..].fill(0.0);
}

/// The sum of products of two rows' numbers.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let ((one, one_rest), (other, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (one, other) in one.iter().zip(other) {
        for (sum, (one, other)) in sums.iter_mut().zip(one.iter().zip(other)) {
            *sum = one.mul_add(*other, *sum);
        }
    }
    let rest = one_rest.iter().zip(other_rest);
    rest.map(|(one, other)| one * other).sum::<f32>() + sums.iter().sum::<f32>()
}

/// The backward pass of softmax: makes of the gradients of a row's probabilities those of its scores.
/// `row_dot` is the sum of the gradients times the probabilities.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn softmax_backward_row(gradients: &mut [f32], probs: &[f32], row_dot: f32) {
    for (gradient, prob) in gradients.iter_mut().zip(probs) {
        *gradient = prob * (*gradient - row_dot);
    }
}
