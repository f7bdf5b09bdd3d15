//! What the system knows of this process and its processor.

use std::fs;
use std::io::{self, Write as _};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

/// Ends the process at once. Threads that still compute are not waited for, and no destructor of a library
/// runs while they do: libtorch's would take from them what they use.
pub fn exit_now(code: u8) -> ! {
    // What can't be written any more has nobody who reads it.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    #[expect(unsafe_code, reason = "the C library's own end of a process")]
    // SAFETY: it takes any code, and doesn't return.
    unsafe {
        libc::_exit(code.into())
    }
}

/// How many threads can be started now, up to `wanted`. They are gone again when it returns.
#[must_use]
pub fn available_threads(wanted: usize) -> usize {
    let before = threads();
    // All of them wait for it, so that they are there at the same time.
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write();
    let started: Vec<_> = (0..wanted)
        .map_while(|_| {
            let gate = Arc::clone(&gate);
            let wait = move || drop(gate.read());
            thread::Builder::new().stack_size(64 << 10).spawn(wait).ok()
        })
        .collect();
    drop(closed);
    let available = started.len();
    for thread in started {
        // It can't have panicked.
        let _ = thread.join();
    }
    // A thread that was joined still counts for a moment.
    for _ in 0..1000 {
        if threads() <= before {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    available
}

/// The threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Seconds of processors' time that this process took, of all its threads.
#[must_use]
pub fn cpu_seconds() -> f64 {
    /// As `sysconf(_SC_CLK_TCK)` says on Linux everywhere.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, which may hold blanks.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    ticks / TICKS_PER_SECOND
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
        #[cfg(target_env = "gnu")]
        #[expect(unsafe_code, reason = "settings of the C library")]
        // SAFETY: the calls only set how it allocates from then on.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
        Self(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        /// The C library's own number of mappings, and the largest thresholds that it would come to by
        /// itself if it hadn't been told any.
        #[cfg(target_env = "gnu")]
        const SETTINGS: [(libc::c_int, libc::c_int); 3] = [
            (libc::M_MMAP_MAX, 65_536),
            (libc::M_MMAP_THRESHOLD, 32 << 20),
            (libc::M_TRIM_THRESHOLD, 64 << 20),
        ];
        #[cfg(target_env = "gnu")]
        #[expect(unsafe_code, reason = "settings of the C library")]
        // SAFETY: as above; and only what is free is given back.
        unsafe {
            for (setting, value) in SETTINGS {
                libc::mallopt(setting, value);
            }
            libc::malloc_trim(0);
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
    use super::*;

    #[test]
    fn threads_can_be_started() {
        assert_eq!(available_threads(20), 20);
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
