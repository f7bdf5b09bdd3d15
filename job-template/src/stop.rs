//! SIGTERM and SIGINT, while something is computed that can't be asked to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::process;
use crate::progress::say;

/// As a shell reports that SIGTERM ended a program.
pub const TERMINATED: u8 = 143;

/// A message for each SIGTERM and SIGINT from now on, as [`text_server::serve`] takes them. To be called in a tokio
/// runtime.
///
/// # Errors
/// The system doesn't let signals be handled.
pub fn signals() -> io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// What the process does when it is signalled to end.
///
/// It ends at once: files are replaced whole, and what a training had done by its last checkpoint is on disk.
/// Only while steps are made does it wait, until the one that is being made is done and written. A second
/// signal ends that, too.
#[derive(Debug, Default)]
pub struct Stop {
    requested: AtomicBool,
    /// Whether who computes looks at `requested`, and ends by itself.
    deferred: AtomicBool,
    /// Whether others listen to the signals now.
    disarmed: AtomicBool,
}

impl Stop {
    /// Listens to the signals from now on, on a thread of its own.
    ///
    /// # Errors
    /// The system doesn't let signals be handled, or a thread be started.
    pub fn listen() -> io::Result<Arc<Self>> {
        let stop = Arc::new(Self::default());
        let stop_seen = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let signals = {
            let _guard = runtime.enter();
            signals()?
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(stop_seen.wait(signals)))?;
        Ok(stop)
    }

    async fn wait(&self, mut signals: mpsc::Receiver<()>) {
        while signals.recv().await.is_some() {
            if self.disarmed.load(Ordering::SeqCst) {
                return;
            }
            let is_second = self.requested.swap(true, Ordering::SeqCst);
            if is_second || !self.deferred.load(Ordering::SeqCst) {
                if !is_second {
                    say("stopped; run it again with the same OUTPUT_DIR to continue");
                }
                process::exit_now(TERMINATED);
            }
        }
    }

    /// From now on, who computes looks at [`Stop::is_requested`]; or not any more. What was requested meanwhile
    /// is to be looked at once more after that.
    pub fn defer(&self, is_deferred: bool) {
        self.deferred.store(is_deferred, Ordering::SeqCst);
    }

    /// Whether the process was signalled to end.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Leaves the signals to others, who listen already.
    pub fn disarm(&self) {
        self.disarmed.store(true, Ordering::SeqCst);
    }
}
