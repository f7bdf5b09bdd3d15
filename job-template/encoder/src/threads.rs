//! Loops over rows on the very threads that libtorch computes with: those of its OpenMP.
//!
//! Threads of our own would be a second set on the same cores, while the first one waits busily.

#![expect(unsafe_code, reason = "the interface of OpenMP's run-time library")]

use std::ffi::{c_int, c_uint, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

unsafe extern "C" {
    /// Calls `body(argument)` on `threads` threads, this one among them, and waits for them: what a
    /// compiler makes of `#pragma omp parallel` (GCC's libgomp).
    fn GOMP_parallel(
        body: extern "C" fn(*mut c_void),
        argument: *mut c_void,
        threads: c_uint,
        flags: c_uint,
    );

    /// The calling thread's number among those of `GOMP_parallel`; 0 is the one that called it.
    fn omp_get_thread_num() -> c_int;

    /// Sets the threads of the calling thread's next `GOMP_parallel` that doesn't say how many.
    fn omp_set_num_threads(threads: c_int);

    /// The same for MKL.
    #[cfg(target_arch = "x86_64")]
    fn MKL_Set_Num_Threads_Local(threads: c_int) -> c_int;

    /// Ends the threads that wait for the calling thread's next `GOMP_parallel` (OpenMP 5.0).
    fn omp_pause_resource_all(kind: c_int) -> c_int;
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
    // All of them, also where there are fewer chunks: OpenMP would end those that are left out, and start them
    // anew for the next loop.
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    if threads <= 1 || chunks <= 1 {
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

/// Sets the threads that the calling thread's computations are shared by.
///
/// libtorch's own function would also start as many threads for XNNPACK, which nothing here uses, and start
/// them anew with each change.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(1);
    // A thread's first question has libtorch set it to the number that was set last; not later, then.
    tch::get_num_threads();
    // SAFETY: they only set a number of the calling thread.
    unsafe {
        omp_set_num_threads(threads as c_int);
        #[cfg(target_arch = "x86_64")]
        MKL_Set_Num_Threads_Local(threads as c_int);
    }
}

/// Calls `body` with 0, 1, … on so many of libtorch's threads at once, and waits for them; 0 is the calling
/// thread. A loop or a product that `body` computes is not shared out again.
///
/// `body` must not panic: that would end the process.
pub fn on_each_thread(threads: usize, body: &(dyn Fn(usize) + Sync)) {
    extern "C" fn call(argument: *mut c_void) {
        // SAFETY: it is the reference below, which outlives the threads' work.
        let body = unsafe { *argument.cast_const().cast::<&(dyn Fn(usize) + Sync)>() };
        // SAFETY: it only reads the thread's number.
        let number = unsafe { omp_get_thread_num() };
        body(number as usize);
    }
    // SAFETY: `call` takes what it is given here, which outlives the call.
    unsafe {
        GOMP_parallel(
            call,
            (&raw const body).cast_mut().cast(),
            threads as c_uint,
            0,
        );
    }
}

/// Ends the threads that the calling thread has computed with, but for one, which sleeps. With it, there are more
/// threads than cores where every core has one that computes; and then OpenMP's threads don't wait busily for each
/// other (libgomp's manual, `GOMP_SPINCOUNT`), which takes cores from other processes, and from a thread that is
/// waited for.
pub fn leave_computing_to_others() {
    /// Keeps settings.
    const SOFT: c_int = 1;
    // SAFETY: nothing is computed on them now, as nothing is that this thread doesn't wait for. If they can't
    // be ended, they stay.
    unsafe {
        omp_pause_resource_all(SOFT);
    }
    on_each_thread(2, &|_| {});
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
