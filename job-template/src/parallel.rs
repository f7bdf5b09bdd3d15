//! Loops over rows on the very threads that libtorch computes with: those of its OpenMP.
//!
//! Threads of our own would be a second set on the same cores, while the first one waits busily.

#![expect(
    unsafe_code,
    reason = "the interface of OpenMP's run-time library, and slices of tensors"
)]

use std::ffi::{c_uint, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    /// Calls `body(argument)` on `threads` threads, this one among them, and waits for them: what a
    /// compiler makes of `#pragma omp parallel` (GCC's libgomp).
    fn GOMP_parallel(
        body: extern "C" fn(*mut c_void),
        argument: *mut c_void,
        threads: c_uint,
        flags: c_uint,
    );
}

/// A loop that threads share: each takes the next chunk until there is none.
struct Loop<'a> {
    next: AtomicUsize,
    chunks: usize,
    body: &'a (dyn Fn(usize) + Sync),
}

extern "C" fn take_chunks(argument: *mut c_void) {
    // SAFETY: `for_each_chunk` gives a loop that lives until all threads are back.
    let shared = unsafe { &*argument.cast_const().cast::<Loop<'_>>() };
    loop {
        let chunk = shared.next.fetch_add(1, Ordering::Relaxed);
        if chunk >= shared.chunks {
            break;
        }
        (shared.body)(chunk);
    }
}

/// Calls `body` with every chunk of the rows, `size` rows each, on libtorch's threads.
///
/// Which thread takes a chunk isn't certain, so that results must depend on the chunk alone; then
/// they are the same for any number of threads.
pub(crate) fn for_each_chunk(rows: usize, size: usize, body: impl Fn(usize, Range<usize>) + Sync) {
    let chunks = rows.div_ceil(size);
    let body = |chunk: usize| body(chunk, chunk * size..rows.min((chunk + 1) * size));
    let threads = usize::try_from(tch::get_num_threads())
        .unwrap_or(1)
        .min(chunks);
    if threads <= 1 {
        (0..chunks).for_each(body);
        return;
    }
    let shared = Loop {
        next: AtomicUsize::new(0),
        chunks,
        body: &body,
    };
    // SAFETY: `take_chunks` takes what it is given here, which outlives the call. A panic in it ends
    // the process, as for any function that C calls.
    unsafe {
        GOMP_parallel(
            take_chunks,
            (&raw const shared).cast_mut().cast(),
            threads as c_uint,
            0,
        );
    }
}

/// Numbers that threads write, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    tensor: std::marker::PhantomData<&'a Tensor>,
}

// SAFETY: whoever takes a part promises that no other thread has it.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    /// The part at `range`.
    ///
    /// # Safety
    /// Nobody else has any of it meanwhile.
    pub(crate) unsafe fn part<'b>(self, range: Range<usize>) -> &'b mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "the part is inside"
        );
        // SAFETY: it is inside, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

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

/// A tensor's numbers, to be written in parts.
pub(crate) fn shared(tensor: &mut Tensor) -> Shared<'_> {
    assert_suitable(tensor);
    Shared {
        start: tensor.data_ptr().cast(),
        len: tensor.numel(),
        tensor: std::marker::PhantomData,
    }
}

/// A tensor's numbers.
pub(crate) fn numbers(tensor: &Tensor) -> &[f32] {
    assert_suitable(tensor);
    // SAFETY: a contiguous tensor's numbers lie one after the other, and live as long as it does.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), tensor.numel()) }
}

/// What `body` gives with one thread, with two, and with three.
#[cfg(test)]
pub(crate) fn with_threads<T>(body: impl Fn() -> T) -> [T; 3] {
    let before = tch::get_num_threads();
    let results = [1, 2, 3].map(|threads| {
        tch::set_num_threads(threads);
        body()
    });
    tch::set_num_threads(before);
    results
}
