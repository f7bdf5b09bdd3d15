//! A job's output on this process's own.

use std::io::{self, Write as _};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::cli::standard::Standard;
use crate::cli::threads::NoThread;
use crate::engine::run::Chunk;

/// Chunks that wait to be shown. A job that writes faster than its reader reads has to wait, as it
/// would without jobctl.
const WAITING: usize = 32;

/// Shows what comes, byte for byte, in a thread of its own: whoever reads it may be slow.
pub(in crate::cli) struct Display {
    thread: JoinHandle<io::Result<()>>,
}

impl Display {
    /// A display, and where what it shows is sent.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub(in crate::cli) fn start() -> io::Result<(Self, mpsc::Sender<Chunk>)> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let thread = thread::Builder::new()
            .spawn(move || show(receiver))
            .map_err(|error| NoThread::of(&error))?;
        Ok((Self { thread }, sender))
    }

    /// Waits until all is shown. All senders must be gone.
    ///
    /// # Errors
    ///
    /// Not all was shown, and why.
    pub(in crate::cli) fn finish(self) -> io::Result<()> {
        self.thread.join().expect("showing does not panic")
    }
}

/// Ends as soon as nothing can be shown; senders then see that it is gone.
fn show(mut receiver: mpsc::Receiver<Chunk>) -> io::Result<()> {
    while let Some(chunk) = receiver.blocking_recv() {
        Standard(chunk.stream).write_all(&chunk.bytes)?;
    }
    Ok(())
}
