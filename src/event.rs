//! The vocabulary that engines, operations and reporters share.
//!
//! Work is a tree of steps. Whoever works sends events; it never draws. The four records follow
//! BuildKit's (vertex, status, log, end), so that a build fits without translation.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// How much of what steps said waits to be drawn, in bytes. What is more is left out: whoever draws
/// may be as slow as the reader of a pipe, and the work does not wait for that.
const MOST_WAITING: usize = 16 << 20;

/// The sending end: cheap to clone, never blocks, never fails (when nobody listens, events are
/// dropped, as a failing display must not fail a job).
#[derive(Debug, Clone)]
pub struct Events {
    sender: Arc<Sender>,
    next_step: Arc<AtomicU64>,
}

/// The receiving end.
#[derive(Debug)]
pub struct EventReceiver(Arc<Queue>);

/// What there is to receive.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// What happened next.
    Event(Event),
    /// Nothing happened for a while.
    Nothing,
    /// Nothing happens any more.
    Closed,
}

/// All clones of [`Events`]; the queue is closed with the last.
#[derive(Debug)]
struct Sender(Arc<Queue>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.change(|waiting| waiting.is_closed = true);
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The events that wait to be drawn, in order. None is left out but what steps said where that is
/// too much; of a step's progress, only the last counts.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// The progress of steps that have one among the events.
    progress: HashMap<StepId, Event>,
    /// How many bytes of lines are among the events.
    said_bytes: usize,
    /// How many lines were left out.
    left_out: u64,
    is_closed: bool,
    is_unheard: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked while it had the lock left it whole: each change is one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }
}

impl Waiting {
    fn put(&mut self, event: Event) {
        if self.is_unheard {
            return;
        }
        if let Event::StepProgress { step, .. } = &event
            && self.progress.insert(*step, event.clone()).is_some()
        {
            return;
        }
        if let Event::StepLog { line, .. } = &event {
            if self.said_bytes + line.len() > MOST_WAITING {
                self.left_out += 1;
                return;
            }
            self.said_bytes += size_of::<Event>() + line.len();
        }
        self.events.push_back(event);
    }

    fn take(&mut self) -> Option<Event> {
        let Some(event) = self.events.pop_front() else {
            let left_out = std::mem::take(&mut self.left_out);
            return (left_out > 0).then(|| {
                Event::Note(format!(
                    "{left_out} lines are not shown: they came faster than they could be written"
                ))
            });
        };
        match &event {
            Event::StepProgress { step, .. } => self.progress.remove(step),
            Event::StepLog { line, .. } => {
                self.said_bytes -= size_of::<Event>() + line.len();
                None
            }
            _ => None,
        }
        .or(Some(event))
    }
}

impl EventReceiver {
    /// Waits for the next event, but only for so long.
    #[must_use]
    pub fn receive(&self, patience: Duration) -> Received {
        let is_idle = |waiting: &mut Waiting| {
            waiting.events.is_empty() && waiting.left_out == 0 && !waiting.is_closed
        };
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), patience, is_idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.take() {
            Some(event) => Received::Event(event),
            None if waiting.is_closed => Received::Closed,
            None => Received::Nothing,
        }
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        self.0.change(|waiting| {
            *waiting = Waiting {
                is_unheard: true,
                ..Waiting::default()
            };
        });
    }
}

impl Events {
    /// A channel of events.
    #[must_use]
    pub fn channel() -> (Self, EventReceiver) {
        let queue: Arc<Queue> = Arc::default();
        let sender = Arc::new(Sender(Arc::clone(&queue)));
        let next_step = Arc::default();
        (Self { sender, next_step }, EventReceiver(queue))
    }

    /// Tells an event.
    pub fn send(&self, event: Event) {
        self.sender.0.change(|waiting| waiting.put(event));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &EventReceiver) -> Vec<Event> {
        let mut events = Vec::new();
        while let Received::Event(event) = receiver.receive(Duration::ZERO) {
            events.push(event);
        }
        events
    }

    #[test]
    fn what_nobody_draws_does_not_grow_and_loses_no_warning_and_no_end() {
        let (events, receiver) = Events::channel();
        let step = events.step(None, "pull");
        let line = "x".repeat(1 << 20);
        for count in 0..100_000 {
            step.progress(count, None, Unit::Bytes);
        }
        for _ in 0..100 {
            step.log(Stream::Stdout, line.as_str());
        }
        events.send(Event::Warning("careful".to_owned()));
        step.progress(7, Some(8), Unit::Bytes);
        step.finish(Outcome::Done);
        let received = received(&receiver);
        let kind = |event: &Event| match event {
            Event::StepStarted { .. } => "started",
            Event::StepProgress { current, .. } => {
                assert_eq!(*current, 7);
                "progress"
            }
            Event::StepLog { .. } => "log",
            Event::StepFinished { .. } => "finished",
            Event::Note(text) => {
                assert!(text.starts_with("85 lines"), "{text}");
                "note"
            }
            Event::Warning(_) => "warning",
        };
        let mut kinds: Vec<_> = received.iter().map(kind).collect();
        kinds.dedup();
        let expected = ["started", "progress", "log", "warning", "finished", "note"];
        assert_eq!(kinds, expected);
        assert_eq!(receiver.receive(Duration::ZERO), Received::Nothing);
        drop(events);
        assert_eq!(receiver.receive(Duration::ZERO), Received::Closed);
    }

    #[test]
    fn who_does_not_listen_keeps_nothing() {
        let (events, receiver) = Events::channel();
        let queue = Arc::clone(&receiver.0);
        drop(receiver);
        events.send(Event::Note("hello".to_owned()));
        assert!(queue.lock().events.is_empty());
    }
}
