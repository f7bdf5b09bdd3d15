//! The vocabulary that engines, operations and reporters share.
//!
//! Work is a tree of steps. Whoever works sends events; it never draws. The four records follow
//! BuildKit's (vertex, status, log, end), so that a build fits without translation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// A step's number, unique within one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// What a count of progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown as `12.3 MB`.
    Bytes,
    /// Things, shown as they are.
    Count,
}

/// Which of a process's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It needed no work: the result was there already.
    Cached,
    /// It was left out, and why.
    Skipped(String),
    /// It was done, but something is to be looked at.
    Warned(String),
    /// It failed, and why.
    Failed(String),
    /// It was given up because the user or another failure asked for it.
    Cancelled,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began.
    StepStarted {
        /// Its number.
        step: StepId,
        /// The step that it is part of.
        parent: Option<StepId>,
        /// What it does, as shown: `check the engine`.
        name: String,
    },
    /// A step got further.
    StepProgress {
        /// Its number.
        step: StepId,
        /// How much is done.
        current: u64,
        /// Out of how much, where known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// A step said something: one line, without its end.
    StepLog {
        /// Its number.
        step: StepId,
        /// Where it was said.
        stream: Stream,
        /// What was said.
        line: String,
    },
    /// A step ended.
    StepFinished {
        /// Its number.
        step: StepId,
        /// How.
        outcome: Outcome,
        /// How long it took.
        elapsed: Duration,
    },
    /// Something the user should know that is not part of a step.
    Note(String),
    /// Something that is likely wrong but stops nothing.
    Warning(String),
}

/// The sending end: cheap to clone, never blocks, never fails (when nobody listens, events are
/// dropped, as a failing display must not fail a job).
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::UnboundedSender<Event>,
    next_step: Arc<AtomicU64>,
}

impl Events {
    /// A channel of events.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let next_step = Arc::default();
        (Self { sender, next_step }, receiver)
    }

    /// Tells an event.
    pub fn send(&self, event: Event) {
        // A closed channel means that nobody draws any more; the work goes on.
        let _ = self.sender.send(event);
    }

    /// Begins a step.
    #[must_use]
    pub fn step(&self, parent: Option<StepId>, name: impl Into<String>) -> Step {
        let id = StepId(self.next_step.fetch_add(1, Ordering::Relaxed));
        self.send(Event::StepStarted {
            step: id,
            parent,
            name: name.into(),
        });
        Step {
            id,
            events: self.clone(),
            started: Instant::now(),
            is_finished: false,
        }
    }
}

/// A step under way. One that is dropped was cancelled.
#[derive(Debug)]
pub struct Step {
    id: StepId,
    events: Events,
    started: Instant,
    is_finished: bool,
}

impl Step {
    /// Its number, for the steps that are part of it.
    #[must_use]
    pub fn id(&self) -> StepId {
        self.id
    }

    /// Tells how far it got.
    pub fn progress(&self, current: u64, total: Option<u64>, unit: Unit) {
        self.events.send(Event::StepProgress {
            step: self.id,
            current,
            total,
            unit,
        });
    }

    /// Says something.
    pub fn log(&self, stream: Stream, line: impl Into<String>) {
        self.events.send(Event::StepLog {
            step: self.id,
            stream,
            line: line.into(),
        });
    }

    /// Ends it.
    pub fn finish(self, outcome: Outcome) {
        let elapsed = self.started.elapsed();
        self.finish_after(outcome, elapsed);
    }

    /// Ends it, with the time it took where somebody else's clock tells it.
    pub fn finish_after(mut self, outcome: Outcome, elapsed: Duration) {
        self.is_finished = true;
        self.events.send(Event::StepFinished {
            step: self.id,
            outcome,
            elapsed,
        });
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.is_finished {
            self.events.send(Event::StepFinished {
                step: self.id,
                outcome: Outcome::Cancelled,
                elapsed: self.started.elapsed(),
            });
        }
    }
}
