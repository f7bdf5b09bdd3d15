//! Tensors' memory as slices, and parallel loops over them.
//!
//! Any handle of a libtorch tensor may write to its memory, so making a slice of it is `unsafe`, once per
//! kernel. From there on, types guarantee that each thread has disjoint parts.

#![expect(
    unsafe_code,
    reason = "Rust's borrow checker doesn't see libtorch's memory"
)]

use std::marker::PhantomData;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::threads::for_each_chunk;

/// Whether the CPU kernels apply to a tensor: binary32 in main memory, without automatic differentiation.
pub(crate) fn suits_kernels(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && !tensor.requires_grad()
}

fn assert_suitable(tensor: &Tensor) {
    assert!(
        suits_kernels(tensor) && tensor.is_contiguous(),
        "kernels take contiguous binary32 numbers in main memory"
    );
}

/// A contiguous tensor's elements.
///
/// # Panics
/// Where the tensor isn't contiguous, or [`suits_kernels`] is false.
///
/// # Safety
/// Nothing writes to them while the slice lives: neither another handle of this tensor, nor a view of it.
pub(crate) unsafe fn as_slice(tensor: &Tensor) -> &[f32] {
    assert_suitable(tensor);
    // SAFETY: a contiguous tensor's elements are adjacent, and live as long as the tensor.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), tensor.numel()) }
}

/// A contiguous tensor's elements, mutable.
///
/// # Panics
/// As of [`as_slice`].
///
/// # Safety
/// Nothing else reads or writes them while the slice lives.
pub(crate) unsafe fn as_mut_slice(tensor: &mut Tensor) -> &mut [f32] {
    assert_suitable(tensor);
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

/// A copy of a tensor's elements, binary32.
pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.reshape(-1)).expect("a tensor of binary32 numbers")
}

/// A slice that several threads write to, each to disjoint parts.
pub(crate) struct DisjointMut<'a> {
    start: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: `part`'s contract is that no other thread has the part.
unsafe impl Send for DisjointMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for DisjointMut<'_> {}

impl<'a> DisjointMut<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// The elements at `range`.
    ///
    /// # Panics
    /// Where the range is out of bounds.
    ///
    /// # Safety
    /// No other part overlaps it while it lives.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "the part is within bounds"
        );
        // SAFETY: it is within bounds; that nothing overlaps it is this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// A matrix that a parallel loop writes: adjacent rows of `width` elements.
pub(crate) struct RowsMut<'a> {
    slice: DisjointMut<'a>,
    width: usize,
}

impl<'a> RowsMut<'a> {
    pub(crate) fn new(slice: &'a mut [f32], width: usize) -> Self {
        Self {
            slice: DisjointMut::new(slice),
            width,
        }
    }

    /// These rows.
    ///
    /// # Safety
    /// As of [`DisjointMut::part`].
    unsafe fn part(&self, rows: Range<usize>) -> &'a mut [f32] {
        // SAFETY: it is this function's contract.
        unsafe {
            self.slice
                .part(rows.start * self.width..rows.end * self.width)
        }
    }
}

/// Calls `body` for every chunk of `size` rows, on libtorch's threads: with the range of its rows, these rows of
/// each of `per_row`, and the chunk's row of each of `per_chunk`. See [`for_each_chunk`].
///
/// # Panics
/// Where a matrix has fewer rows than the loop.
#[expect(
    clippy::needless_pass_by_value,
    reason = "taking them by value keeps their borrows for the whole loop"
)]
pub(crate) fn for_each_chunk_mut<const ROWS: usize, const CHUNKS: usize>(
    rows: usize,
    size: usize,
    per_row: [RowsMut<'_>; ROWS],
    per_chunk: [RowsMut<'_>; CHUNKS],
    body: impl Fn(Range<usize>, [&mut [f32]; ROWS], [&mut [f32]; CHUNKS]) + Sync,
) {
    let chunks = rows.div_ceil(size);
    let all = per_row.iter().map(|of| (of, rows));
    let mut all = all.chain(per_chunk.iter().map(|of| (of, chunks)));
    // Here, as a panic on one of libtorch's threads would abort the process.
    let is_inside = all.all(|(of, rows)| rows * of.width <= of.slice.len);
    assert!(is_inside, "all rows are within bounds");
    for_each_chunk(rows, size, |chunk, range| {
        // SAFETY: no other chunk has these rows, and the slices are borrowed until the loop returns.
        let of_rows = per_row
            .each_ref()
            .map(|of| unsafe { of.part(range.clone()) });
        // SAFETY: no other chunk has this number.
        let of_chunk = per_chunk
            .each_ref()
            .map(|of| unsafe { of.part(chunk..chunk + 1) });
        body(range, of_rows, of_chunk);
    });
}

/// Calls `body` for each of `parts`, on libtorch's threads, with its index and this part of each slice.
///
/// # Panics
/// Where parts aren't in ascending order, overlap, or are out of bounds.
pub(crate) fn for_each_part_mut<const SLICES: usize>(
    parts: &[Range<usize>],
    slices: [&mut [f32]; SLICES],
    body: impl Fn(usize, [&mut [f32]; SLICES]) + Sync,
) {
    let is_disjoint = parts.is_sorted_by(|left, right| left.end <= right.start);
    assert!(is_disjoint, "parts don't overlap");
    // Here, as a panic on one of libtorch's threads would abort the process.
    let end = parts.last().map_or(0, |part| part.end);
    let is_inside = slices.iter().all(|slice| end <= slice.len());
    assert!(is_inside, "all parts are within bounds");
    let slices = slices.map(DisjointMut::new);
    for_each_chunk(parts.len(), 1, |index, _| {
        let part = parts[index].clone();
        // SAFETY: parts don't overlap, as asserted above, and each index is taken once.
        let of_part = slices
            .each_ref()
            .map(|slice| unsafe { slice.part(part.clone()) });
        body(index, of_part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_rows() {
        let (mut rows, mut sums) = (vec![0.0; 7 * 3], vec![0.0; 4]);
        for_each_chunk_mut(
            7,
            2,
            [RowsMut::new(&mut rows, 3)],
            [RowsMut::new(&mut sums, 1)],
            |range, [rows], [sum]| {
                assert_eq!(rows.len(), range.len() * 3);
                rows.fill(range.start as f32);
                sum[0] = range.len() as f32;
            },
        );
        assert_eq!(sums, [2.0, 2.0, 2.0, 1.0]);
        let firsts: Vec<f32> = rows.iter().copied().step_by(3).collect();
        assert_eq!(firsts, [0.0, 0.0, 2.0, 2.0, 4.0, 4.0, 6.0]);
    }

    #[test]
    #[should_panic(expected = "parts don't overlap")]
    fn overlapping_parts_panic() {
        for_each_part_mut(&[0..2, 1..3], [&mut [0.0; 3]], |_, _| {});
    }

    #[test]
    #[should_panic(expected = "all parts are within bounds")]
    fn parts_out_of_bounds_panic() {
        for_each_part_mut(&[0..2, 2..4], [&mut [0.0; 3]], |_, _| {});
    }

    #[test]
    #[should_panic(expected = "contiguous")]
    fn a_slice_of_a_strided_tensor_panics() {
        let tensor = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)).tr();
        // SAFETY: nothing writes to the tensor.
        let _ = unsafe { as_slice(&tensor) };
    }
}
