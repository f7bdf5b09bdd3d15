//! What the system knows of this process and its processor.

use std::fs;
use std::sync::RwLock;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Ends the process at once. Threads that still compute are not waited for, and no destructor of a library
/// runs while they do: libtorch's would take from them what they use.
pub fn exit_now(code: u8) -> ! {
    #[expect(unsafe_code, reason = "the C library's own end of a process")]
    // SAFETY: it takes any code, and doesn't return.
    unsafe {
        libc::_exit(code.into())
    }
}

/// Does `own` on this thread, and `other` on up to `others` more, as far as they can be started. They are gone
/// again when it returns; gives how many they were.
pub fn with_threads(others: usize, other: impl Fn() + Sync, own: impl FnOnce()) -> usize {
    let before = threads();
    let started = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, &other).ok();
        let started = (0..others).map_while(start).count();
        own();
        started
    });
    // A thread that has ended still counts for a moment.
    for _ in 0..1000 {
        if threads() <= before {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    started
}

/// How many threads can be started now, up to `wanted`.
#[must_use]
pub fn available_threads(wanted: usize) -> usize {
    // All of them wait for it, so that they are there at the same time.
    let gate = RwLock::new(());
    let closed = gate.write();
    with_threads(wanted, || drop(gate.read()), || drop(closed))
}

/// The threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Seconds of processors' time that this process took, of all its threads.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that this process had, in bytes.
#[must_use]
pub fn peak_memory() -> u64 {
    field("/proc/self/status", "VmHWM")
        .and_then(|value| value.trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// While there is one, memory that is freed is kept for what is allocated next; then it is given back.
///
/// Each step of training allocates and frees the same tensors. Given back to the system in between, all
/// their pages would be mapped and cleared anew, which takes a tenth of a step on a CPU. It is the main
/// thread's memory that is kept; of other threads', the C library still maps what is large.
#[derive(Debug)]
pub struct KeptMemory(());

impl KeptMemory {
    /// Keeps memory from now on. There is to be but one at a time.
    #[must_use]
    pub fn start() -> Self {
        set_allocator(&[(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1)]);
        Self(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        // The C library's own number of mappings, and the largest thresholds that it would come to by itself
        // if it hadn't been given any.
        set_allocator(&[
            (libc::M_MMAP_MAX, 65_536),
            (libc::M_MMAP_THRESHOLD, 32 << 20),
            (libc::M_TRIM_THRESHOLD, 64 << 20),
        ]);
        #[expect(unsafe_code, reason = "a function of the C library")]
        // SAFETY: it only gives back what is free.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

fn set_allocator(settings: &[(libc::c_int, libc::c_int)]) {
    for (setting, value) in settings {
        #[expect(unsafe_code, reason = "a function of the C library")]
        // SAFETY: it only sets how memory is allocated from then on.
        unsafe {
            libc::mallopt(*setting, *value);
        }
    }
}

/// The processor's model.
#[must_use]
pub fn processor() -> String {
    field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// A field's value in a file of lines `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn threads_can_be_started() {
        assert_eq!(available_threads(20), 20);
        let started = AtomicUsize::new(0);
        let mut is_own = false;
        let count = || {
            started.fetch_add(1, Ordering::Relaxed);
        };
        let others = with_threads(3, count, || is_own = true);
        assert_eq!((others, started.into_inner(), is_own), (3, 3, true));
    }

    #[test]
    fn the_system_tells() {
        assert!(peak_memory() > 1 << 20);
        assert!(!processor().is_empty());
        let before = cpu_seconds();
        let mut number = 1_u64;
        while cpu_seconds() < before + 0.02 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
    }
}
