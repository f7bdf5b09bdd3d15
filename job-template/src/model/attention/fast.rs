//! Attention on a CPU, head by head: a block of queries meets all keys while they are in the processor's
//! cache, and the backward pass computes the shares once more, as `FlashAttention` does (Dao et al.,
//! 2022).

use std::cell::RefCell;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::Heads;
use super::matrix::{COLUMNS, Matrix, ROWS, Size, multiply};
use crate::model::activation::exp;
use crate::parallel::{Shared, for_each_chunk, numbers, shared};

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
    /// A block's scores, which become its shares.
    shares: Vec<f32>,
    /// The gradients of a block's shares, which become those of its scores.
    of_shares: Vec<f32>,
    of_key: Vec<f32>,
    of_value: Vec<f32>,
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

/// What each token gets, [rows, hidden], and the logarithm of each query's sum of powers, [heads, rows].
pub(super) fn forward(heads: &Heads<'_>) -> (Tensor, Tensor) {
    let (rows, options) = (heads.query_key_value.size()[0], (Kind::Float, Device::Cpu));
    let mut attended = Tensor::empty([rows, heads.hidden()], options);
    let mut logarithms = Tensor::empty([heads.count, rows], options);
    {
        let query_key_value = numbers(heads.query_key_value);
        let (attended, logarithms) = (shared(&mut attended), shared(&mut logarithms));
        let heads = all(heads);
        for_each_chunk(heads.len(), 1, |index, _| {
            let head = heads[index];
            let first = head.number * rows as usize + head.row;
            #[expect(unsafe_code, reason = "each head of a sequence has its own")]
            // SAFETY: no other chunk has this one.
            let logarithms = unsafe { logarithms.part(first..first + head.tokens) };
            SCRATCH.with_borrow_mut(|scratch| {
                head.forward(query_key_value, attended, logarithms, scratch);
            });
        });
    }
    (attended, logarithms)
}

/// The gradients of queries, keys and values, [rows, 3 hidden], given that of what each token got, and
/// what [`forward`] gave.
pub(super) fn backward(
    heads: &Heads<'_>,
    gradient: &Tensor,
    attended: &Tensor,
    logarithms: &Tensor,
) -> Tensor {
    let rows = gradient.size()[0] as usize;
    let mut result = heads.query_key_value.empty_like();
    {
        let query_key_value = numbers(heads.query_key_value);
        let (gradient, attended) = (numbers(gradient), numbers(attended));
        let (logarithms, into) = (numbers(logarithms), shared(&mut result));
        let heads = all(heads);
        for_each_chunk(heads.len(), 1, |index, _| {
            let head = heads[index];
            let given = Given {
                query_key_value,
                gradient,
                attended,
                logarithms: &logarithms[head.number * rows + head.row..][..head.tokens],
            };
            SCRATCH.with_borrow_mut(|scratch| head.backward(&given, into, scratch));
        });
    }
    result
}

/// What the backward pass goes by.
struct Given<'a> {
    query_key_value: &'a [f32],
    gradient: &'a [f32],
    attended: &'a [f32],
    /// Those of the head's queries.
    logarithms: &'a [f32],
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
        attended: Shared<'_>,
        logarithms: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (width, row_of_scores) = (self.width(), self.row_of_scores());
        let [query, key, value] = [0, 1, 2].map(|part| self.rows(query_key_value, part));
        copy(query, self.scale(), width, &mut scratch.query);
        copy(key, 1.0, width, &mut scratch.key);
        copy(value, 1.0, width, &mut scratch.value);
        self.transpose(&scratch.key, &mut scratch.key_transposed);
        let Scratch { shares, block, .. } = scratch;
        for start in (0..self.tokens).step_by(BLOCK) {
            let count = (self.tokens - start).min(BLOCK);
            self.multiply_by_columns(
                &scratch.query[start * width..],
                &scratch.key_transposed,
                count,
                shares,
            );
            let mut factors = [0.0; BLOCK];
            for (index, scores) in rows_of(shares, row_of_scores, count).enumerate() {
                let (most, sum) = soften(scores, self.tokens);
                logarithms[start + index] = most + sum.ln();
                factors[index] = 1.0 / sum;
            }
            self.multiply_by_rows(shares, &scratch.value, count, block);
            for (index, values) in rows_of(block, width, count).enumerate() {
                let range = self.range(start + index, 0, 1);
                write(values, factors[index], attended, range);
            }
        }
    }

    fn backward(self, given: &Given<'_>, into: Shared<'_>, scratch: &mut Scratch) {
        let (width, row_of_scores) = (self.width(), self.row_of_scores());
        let [query, key, value] = [0, 1, 2].map(|part| self.rows(given.query_key_value, part));
        let gradient = (0..self.tokens).map(|token| &given.gradient[self.range(token, 0, 1)]);
        copy(query, self.scale(), width, &mut scratch.query);
        copy(key, 1.0, width, &mut scratch.key);
        copy(value, 1.0, width, &mut scratch.value);
        copy(gradient, 1.0, width, &mut scratch.gradient);
        self.transpose(&scratch.key, &mut scratch.key_transposed);
        self.transpose(&scratch.value, &mut scratch.value_transposed);
        for sums in [&mut scratch.of_key, &mut scratch.of_value] {
            sums.clear();
            sums.resize(self.tokens.next_multiple_of(ROWS) * width, 0.0);
        }

        for start in (0..self.tokens).step_by(BLOCK) {
            let count = (self.tokens - start).min(BLOCK);
            let query = &scratch.query[start * width..];
            let gradient = &scratch.gradient[start * width..];
            let (shares, of_shares) = (&mut scratch.shares, &mut scratch.of_shares);
            self.multiply_by_columns(query, &scratch.key_transposed, count, shares);
            self.multiply_by_columns(gradient, &scratch.value_transposed, count, of_shares);
            let rows = rows_of(shares, row_of_scores, count);
            let rows = rows.zip(rows_of(of_shares, row_of_scores, count));
            for (index, (scores, of_shares)) in rows.enumerate() {
                let token = start + index;
                shares_again(scores, self.tokens, given.logarithms[token]);
                let attended = &given.attended[self.range(token, 0, 1)];
                let along = dot(&gradient[index * width..][..self.size], attended);
                gradient_of_scores(of_shares, scores, along);
            }
            self.add_product(shares, gradient, count, &mut scratch.of_value);
            self.add_product(of_shares, query, count, &mut scratch.of_key);
            self.multiply_by_rows(of_shares, &scratch.key, count, &mut scratch.block);
            for (index, of_query) in rows_of(&mut scratch.block, width, count).enumerate() {
                write(
                    of_query,
                    self.scale(),
                    into,
                    self.range(start + index, 0, 3),
                );
            }
        }
        for (part, sums) in [(1, &mut scratch.of_key), (2, &mut scratch.of_value)] {
            for (token, sums) in rows_of(sums, width, self.tokens).enumerate() {
                write(sums, 1.0, into, self.range(token, part, 3));
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
fn write(numbers: &[f32], factor: f32, into: Shared<'_>, range: Range<usize>) {
    #[expect(unsafe_code, reason = "each head has numbers of its own")]
    // SAFETY: no other thread has this head of this sequence.
    let into = unsafe { into.part(range) };
    for (number, into) in numbers.iter().zip(into) {
        *into = number * factor;
    }
}

/// Makes powers of a row's scores, of which the greatest is 1. Gives the greatest score, and the powers'
/// sum. What is beyond `tokens` becomes 0.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn soften(scores: &mut [f32], tokens: usize) -> (f32, f32) {
    let filled = tokens.next_multiple_of(COLUMNS);
    scores[tokens..filled].fill(f32::NEG_INFINITY);
    let tiles = scores[..filled].as_chunks_mut::<COLUMNS>().0;
    let mut most = [f32::NEG_INFINITY; COLUMNS];
    for tile in tiles.iter() {
        for (most, &score) in most.iter_mut().zip(tile) {
            // Not `max`, which does more about what isn't a number.
            *most = if score > *most { score } else { *most };
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; COLUMNS];
    for tile in tiles {
        for (sum, score) in sums.iter_mut().zip(tile) {
            *score = exp(*score - most);
            *sum += *score;
        }
    }
    scores[tokens..].fill(0.0);
    (most, sums.iter().sum())
}

/// Makes shares of a row's scores, given the logarithm of the sum of their powers. What is beyond `tokens`
/// becomes 0.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn shares_again(scores: &mut [f32], tokens: usize, logarithm: f32) {
    for score in &mut scores[..tokens.next_multiple_of(COLUMNS)] {
        *score = exp(*score - logarithm);
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

/// Makes of the gradients of a row's shares those of its scores. `along` is the part of them that goes along
/// with the shares.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn gradient_of_scores(gradients: &mut [f32], shares: &[f32], along: f32) {
    for (gradient, share) in gradients.iter_mut().zip(shares) {
        *gradient = share * (*gradient - along);
    }
}
