//! The threads of this process. A machine that has none to spare is reported before anything starts.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Threads for what blocks: disks, and what is typed. tokio makes more where they are to be had, and
/// would wait for ever where there is none.
const BLOCKING: usize = 4;
/// Threads for what is shown: a job's output, and progress.
const SHOWING: usize = 2;
/// How long a thread takes to start on a busy machine, at most.
const START: Duration = Duration::from_secs(10);
/// For how long a thread is kept that has nothing to do: as long as it may be needed.
const KEPT: Duration = Duration::from_hours(24 * 365);

/// No thread is to be had.
#[derive(Debug, thiserror::Error)]
#[error("no thread can be started: {0}")]
pub(super) struct NoThread(String);

impl NoThread {
    pub(super) const HELP: &str = "the limit of processes is reached: see `ulimit -u`, and `pids` of \
                                   the container or the cgroup that jobctl is in";

    pub(super) fn of(error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(crate::diagnostic::plain(error)))
    }

    /// Whether that is what went wrong.
    pub(super) fn is_cause(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<Self>)
    }
}

/// What runs asynchronous work, with all threads that it can't do without.
pub(super) fn runtime() -> io::Result<Runtime> {
    let mut workers = thread::available_parallelism().map_or(1, usize::from);
    if try_threads(workers + BLOCKING + SHOWING).is_err() {
        workers = 1;
        try_threads(workers + BLOCKING + SHOWING).map_err(|error| NoThread::of(&error))?;
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_keep_alive(KEPT)
        .enable_all()
        .build()?;
    // All wait for the same, so that each has its own thread.
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, started) = mpsc::channel();
    for _ in 0..BLOCKING {
        let (gate, sender) = (Arc::clone(&gate), sender.clone());
        runtime.spawn_blocking(move || {
            // Whoever waited for it may have given up.
            let _ = sender.send(());
            drop(gate.lock());
        });
    }
    for _ in 0..BLOCKING {
        if started.recv_timeout(START).is_err() {
            drop(held);
            runtime.shutdown_background();
            return Err(NoThread::of(&io::ErrorKind::WouldBlock.into()));
        }
    }
    drop(held);
    Ok(runtime)
}

/// Whether so many threads are to be had at once: tokio panics where its first is not.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let _held = gate.lock();
        for _ in 0..count {
            thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
        }
        Ok(())
    })
}
