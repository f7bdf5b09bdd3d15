//! A job's output on this process's own.

use std::io::{self, Write as _};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::engine::run::Chunk;
use crate::event::Stream;

/// Chunks that wait to be shown. A job that writes faster than its reader reads has to wait, as it
/// would without jobctl.
const WAITING: usize = 32;

/// Shows what comes, byte for byte, in a thread of its own: whoever reads it may be slow.
pub(in crate::cli) struct Display {
    thread: JoinHandle<()>,
}

impl Display {
    /// A display, and where what it shows is sent.
    pub(in crate::cli) fn start() -> (Self, mpsc::Sender<Chunk>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let thread = std::thread::spawn(move || show(receiver));
        (Self { thread }, sender)
    }

    /// Waits until all is shown. All senders must be gone.
    pub(in crate::cli) fn finish(self) {
        // A display that failed has nothing to do with the job.
        let _ = self.thread.join();
    }
}

/// Ends as soon as nobody reads; senders then see that it is gone.
fn show(mut receiver: mpsc::Receiver<Chunk>) {
    while let Some(chunk) = receiver.blocking_recv() {
        let shown = match chunk.stream {
            // Not line by line, as `Stdout` would: what is there is passed on whole.
            Stream::Stdout => write(rustix::stdio::stdout(), &chunk.bytes),
            Stream::Stderr => io::stderr().lock().write_all(&chunk.bytes),
        };
        if shown.is_err() {
            return;
        }
    }
}

fn write(to: impl rustix::fd::AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
