//! Products of matrices that are small enough for a processor's cache.
//!
//! A head is narrow, a few registers wide, so that products of a library that is made for large matrices
//! spend much of their time on bringing numbers into an order that is then used only once.

#![expect(
    unsafe_code,
    reason = "the inner loop, after a look whether all of it is inside"
)]

/// Rows of a tile: of sums that are in registers while they grow.
pub(super) const ROWS: usize = 6;
/// Columns of a tile.
pub(super) const COLUMNS: usize = 16;

/// A matrix: its numbers, and how far from each other a row is from the next, and a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    numbers: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that lie one after the other, `width` numbers each.
    pub(super) fn of(numbers: &'a [f32], width: usize) -> Self {
        Self {
            numbers,
            row: width,
            column: 1,
        }
    }

    /// Rows as columns.
    pub(super) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    /// Without what lies before this row and this column.
    fn past(self, row: usize, column: usize) -> Self {
        Self {
            numbers: &self.numbers[row * self.row + column * self.column..],
            ..self
        }
    }

    /// Whether it has so many rows and columns.
    fn has(self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.numbers.len()
    }
}

/// How large a product is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Rows of the left matrix and of the product: a multiple of [`ROWS`].
    pub(super) rows: usize,
    /// Columns of the left matrix, and rows of the right one.
    pub(super) depth: usize,
    /// Columns of the right matrix and of the product: a multiple of [`COLUMNS`].
    pub(super) columns: usize,
}

/// Writes the product of two matrices into rows of `width` numbers, or adds it to them if it `ADDS`. The
/// right matrix isn't transposed.
///
/// # Panics
/// Where a matrix is smaller than `size` has it.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn multiply<const ADDS: bool>(
    left: Matrix<'_>,
    right: Matrix<'_>,
    size: Size,
    into: &mut [f32],
    width: usize,
) {
    for column in (0..size.columns).step_by(COLUMNS) {
        let right = right.past(0, column);
        for row in (0..size.rows).step_by(ROWS) {
            let into = &mut into[row * width + column..];
            tile::<ADDS>(left.past(row, 0), right, size.depth, into, width);
        }
    }
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "it has to become part of what calls it"
)]
fn tile<const ADDS: bool>(
    left: Matrix<'_>,
    right: Matrix<'_>,
    depth: usize,
    into: &mut [f32],
    width: usize,
) {
    assert!(
        left.has(ROWS, depth) && right.has(depth, COLUMNS) && right.column == 1,
        "the tile is inside"
    );
    // Rows by their number: where iterators are zipped, the compiler keeps the sums in memory.
    let mut sums = [[0.0_f32; COLUMNS]; ROWS];
    if ADDS {
        for (row, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(&into[row * width..][..COLUMNS]);
        }
    }
    for step in 0..depth {
        // SAFETY: `right` has as many rows, and these columns.
        let right: &[f32; COLUMNS] =
            unsafe { &*right.numbers.as_ptr().add(step * right.row).cast() };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `left` has these rows, and as many columns.
            let factor = unsafe {
                *left
                    .numbers
                    .get_unchecked(row * left.row + step * left.column)
            };
            for (sum, number) in sums.iter_mut().zip(right) {
                *sum = factor.mul_add(*number, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        into[row * width..][..COLUMNS].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;
    use crate::random::tensor;
    use crate::slices::to_vec;

    #[test]
    fn products_are_those_of_libtorch() {
        for (rows, depth, columns) in [(6, 1, 16), (6, 32, 16), (48, 207, 32), (12, 5, 64)] {
            let size = Size {
                rows,
                depth,
                columns,
            };
            let [rows, depth, columns] = [rows, depth, columns].map(|count| count as i64);
            let (left, right) = (tensor(1, &[rows, depth]), tensor(2, &[depth, columns]));
            let (turned, before) = (to_vec(&left.tr()), tensor(3, &[rows, columns]));
            let (left_rows, right) = (to_vec(&left), to_vec(&right));
            let right = Matrix::of(&right, size.columns);
            let lefts = [
                Matrix::of(&left_rows, size.depth),
                Matrix::of(&turned, size.rows).transposed(),
            ];
            for left_matrix in lefts {
                let mut sums = to_vec(&before);
                multiply::<true>(left_matrix, right, size, &mut sums, size.columns);
                let mut product = to_vec(&before);
                multiply::<false>(left_matrix, right, size, &mut product, size.columns);
                let expected = left.matmul(&tensor(2, &[depth, columns]));
                let found = Tensor::from_slice(&product).view([rows, columns]);
                assert!((found - &expected).abs().max().double_value(&[]) < 1e-4);
                let found = Tensor::from_slice(&sums).view([rows, columns]);
                assert!((found - expected - &before).abs().max().double_value(&[]) < 1e-4);
            }
        }
    }

    #[test]
    fn rows_of_the_product_may_be_apart() {
        let left = [1.0; ROWS];
        let right: Vec<f32> = (0..COLUMNS).map(|column| column as f32).collect();
        let size = Size {
            rows: ROWS,
            depth: 1,
            columns: COLUMNS,
        };
        let mut into = [-1.0; ROWS * 20];
        let (left, right) = (Matrix::of(&left, 1), Matrix::of(&right, COLUMNS));
        multiply::<false>(left, right, size, &mut into, 20);
        for row in into.chunks_exact(20) {
            assert_eq!(row[..COLUMNS], right.numbers[..]);
            assert_eq!(row[COLUMNS..], [-1.0; 4]);
        }
    }

    #[test]
    #[should_panic(expected = "the tile is inside")]
    fn what_is_not_there_is_not_read() {
        let size = Size {
            rows: ROWS,
            depth: 2,
            columns: COLUMNS,
        };
        let numbers = [0.0; 2 * COLUMNS - 1];
        let matrix = Matrix::of(&numbers, COLUMNS);
        multiply::<false>(matrix, matrix, size, &mut [0.0; ROWS * COLUMNS], COLUMNS);
    }
}
