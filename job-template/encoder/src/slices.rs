//! Tensors' memory as slices, and loops over them that threads share.
//!
//! libtorch lets any handle write to memory that others see, and so a slice of a tensor is made in
//! `unsafe` code, once per kernel. From there on, types keep threads apart: each gets the parts that
//! are its own.

#![expect(
    unsafe_code,
    reason = "libtorch's memory is not borrowed from Rust's types"
)]

use std::marker::PhantomData;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::threads::for_each_chunk;

/// Whether kernels can take a tensor: binary32 numbers in main memory that libtorch isn't asked to
/// differentiate.
pub(crate) fn suits_kernels(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && !tensor.requires_grad()
}

fn assert_suitable(tensor: &Tensor) {
    assert!(
        suits_kernels(tensor) && tensor.is_contiguous(),
        "kernels take contiguous binary32 numbers in main memory"
    );
}

/// A tensor's numbers.
///
/// # Safety
/// Nothing writes to them while the slice lives: neither another handle of this tensor, nor a view of it.
pub(crate) unsafe fn as_slice(tensor: &Tensor) -> &[f32] {
    assert_suitable(tensor);
    // SAFETY: a contiguous tensor's numbers lie one after the other, and live as long as it does.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), tensor.numel()) }
}

/// A tensor's numbers, to be written.
///
/// # Safety
/// Nothing else reads or writes them while the slice lives.
pub(crate) unsafe fn as_mut_slice(tensor: &mut Tensor) -> &mut [f32] {
    assert_suitable(tensor);
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

/// A copy of a tensor's numbers.
pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.reshape(-1)).expect("a tensor of binary32 numbers")
}

/// A slice that several threads write to, each to parts of its own.
pub(crate) struct DisjointMut<'a> {
    start: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: whoever takes a part promises that no other thread has it.
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

    /// The part at `range`.
    ///
    /// # Panics
    /// Where the range isn't inside.
    ///
    /// # Safety
    /// Nobody else has any of it while the part lives.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "the part is inside"
        );
        // SAFETY: it is inside, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// What threads write in a loop: rows one after the other, of this many numbers each.
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
        // SAFETY: who calls promises it.
        unsafe {
            self.slice
                .part(rows.start * self.width..rows.end * self.width)
        }
    }
}

/// Calls `body` for every chunk of `size` rows, on libtorch's threads, with its range of rows, with these rows
/// of each of `per_row`, and with the chunk's row of each of `per_chunk`. See [`for_each_chunk`].
#[expect(
    clippy::needless_pass_by_value,
    reason = "no other loop has the slices meanwhile"
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
    // As below.
    let is_inside = all.all(|(of, rows)| rows * of.width <= of.slice.len);
    assert!(is_inside, "all rows are inside");
    for_each_chunk(rows, size, |chunk, range| {
        // SAFETY: no other chunk has these rows; and the slices are borrowed until the loop has ended.
        let of_rows = per_row
            .each_ref()
            .map(|of| unsafe { of.part(range.clone()) });
        // SAFETY: no other chunk has its number.
        let of_chunk = per_chunk
            .each_ref()
            .map(|of| unsafe { of.part(chunk..chunk + 1) });
        body(range, of_rows, of_chunk);
    });
}

/// Calls `body` for every one of `parts`, on libtorch's threads, with its number and these parts of each slice.
///
/// # Panics
/// Where parts aren't in ascending order, or overlap, or aren't inside.
pub(crate) fn for_each_part_mut<const SLICES: usize>(
    parts: &[Range<usize>],
    slices: [&mut [f32]; SLICES],
    body: impl Fn(usize, [&mut [f32]; SLICES]) + Sync,
) {
    let is_disjoint = parts.is_sorted_by(|left, right| left.end <= right.start);
    assert!(is_disjoint, "parts don't overlap");
    // Here, as a panic on one of libtorch's threads would end the process.
    let end = parts.last().map_or(0, |part| part.end);
    let is_inside = slices.iter().all(|slice| end <= slice.len());
    assert!(is_inside, "all parts are inside");
    let slices = slices.map(DisjointMut::new);
    for_each_chunk(parts.len(), 1, |index, _| {
        let part = parts[index].clone();
        // SAFETY: it was looked at above that parts don't overlap, and each is taken by one thread.
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
    fn chunks_are_whole_rows_and_all_of_them() {
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
    fn parts_that_overlap_are_refused() {
        for_each_part_mut(&[0..2, 1..3], [&mut [0.0; 3]], |_, _| {});
    }

    #[test]
    #[should_panic(expected = "all parts are inside")]
    fn what_is_not_there_is_not_given() {
        for_each_part_mut(&[0..2, 2..4], [&mut [0.0; 3]], |_, _| {});
    }

    #[test]
    #[should_panic(expected = "contiguous")]
    fn what_is_not_contiguous_is_no_slice() {
        let tensor = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)).tr();
        // SAFETY: nothing writes to it.
        let _ = unsafe { as_slice(&tensor) };
    }
}
