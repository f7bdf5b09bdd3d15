//! The places for connections, and who loses theirs when all are taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::task::AbortHandle;

const IDLE: u8 = 0;
const ASKED: u8 = 1;
const ANSWERED: u8 = 2;

/// Whether a client waits for something on a connection.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicU8);

impl Turn {
    /// A request's head is there.
    pub(crate) fn asked(&self) {
        self.0.store(ASKED, Ordering::Relaxed);
    }

    /// The answer is to be sent next.
    pub(crate) fn answered(&self) {
        self.0.store(ANSWERED, Ordering::Relaxed);
    }

    /// Everything that was to be sent is.
    pub(crate) fn flushed(&self) {
        let _ = self
            .0
            .compare_exchange(ANSWERED, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IDLE
    }
}

/// A connection that has a place.
struct Open {
    task: AbortHandle,
    turn: Arc<Turn>,
}

/// So many places for connections.
pub(crate) struct Places {
    most: usize,
    /// The oldest first. Some may have ended.
    open: VecDeque<Open>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            open: VecDeque::new(),
        }
    }

    /// Makes room for one more. If all places are taken, the oldest connection on which nobody waits
    /// for an answer is ended: who opens many, and asks nothing, keeps nobody else out. False if
    /// there is no such one.
    pub(crate) fn make_room(&mut self) -> bool {
        if self.open.len() < self.most {
            return true;
        }
        self.open.retain(|open| !open.task.is_finished());
        if self.open.len() < self.most {
            return true;
        }
        let idle = self.open.iter().position(|open| open.turn.is_idle());
        match idle.and_then(|index| self.open.remove(index)) {
            Some(open) => {
                open.task.abort();
                true
            }
            None => false,
        }
    }

    /// Gives a place to a connection.
    pub(crate) fn take(&mut self, task: AbortHandle, turn: Arc<Turn>) {
        self.open.push_back(Open { task, turn });
    }
}
