//! The queue that requests and the model's threads share, and what each thread does next. Each takes what waited while
//! it was busy as its next batch: no timer, so that no text waits for company.
//!
//! There are as many threads as were asked for, in two states. A text that comes alone is computed by all of them
//! together. As soon as more texts wait, each computes batches of its own, until nothing is left to compute.
//! They are one team of the model's library in both states (OpenMP's, for libtorch): a thread that calls it from
//! outside of the team gets a team of its own, and n such threads would make n². So they are not tokio's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::batcher::{Batcher, Refusal, Text, Ticket};
use crate::config::{Compute, ServerConfig};
use crate::metrics::Metrics;
use crate::model::{Classify, Failure, Loaded, ModelInfo, Tokenize};
use crate::workers::prepare;

/// The score of each label, or why there is none. A closed channel is a panic.
pub(crate) type Outcome = Result<Vec<f32>, NotFinite>;

/// The model's answer isn't a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotFinite;

/// Where a text's outcome is sent, and since when the text waits.
pub(crate) struct Waiting {
    pub(crate) outcome: oneshot::Sender<Outcome>,
    since: Instant,
}

impl Ticket for Waiting {
    fn is_abandoned(&self) -> bool {
        self.outcome.is_closed()
    }
}

/// The model's threads, and the queue. They end when this is dropped, after the batches that they compute; the drop
/// does not block on them, as a model can hang.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// A model that was loaded and tried, but for what computes.
pub(crate) struct Ready {
    pub(crate) tokenize: Box<Tokenize>,
    pub(crate) info: ModelInfo,
}

pub(crate) type Texts = Vec<Text<Waiting>>;

pub(crate) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    pub(crate) compute: Compute,
    batch_time: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

struct State {
    batcher: Batcher<Waiting>,
    /// The threads that compute a batch, and since when.
    busy: BTreeMap<usize, Instant>,
    /// Whether threads that compute batches of their own are to come together again.
    is_joining: bool,
    /// Whether the model can't even compute what it could when it was loaded.
    is_broken: bool,
    is_stopped: bool,
}

/// What is computed next.
pub(crate) enum Work {
    /// A batch on all threads.
    Together(Texts),
    /// Batches on a thread each; the first is this one.
    Apart(Texts),
}

impl Pool {
    /// Starts the thread that loads the model, tries it and computes. What comes of loading is sent once.
    pub(crate) fn start<C: Classify>(
        load: impl FnOnce() -> Result<Loaded<C>, Failure> + Send + 'static,
        config: &ServerConfig,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, oneshot::Receiver<Result<Ready, Failure>>)> {
        let state = State {
            batcher: Batcher::new(config.limits),
            busy: BTreeMap::new(),
            is_joining: false,
            is_broken: false,
            is_stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            compute: config.compute,
            batch_time: config.timeouts.batch,
            metrics,
        });
        let niceness = config.compute.processor.niceness();
        let pool = Self {
            shared: Arc::clone(&shared),
        };
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new()
            .name("model".to_owned())
            .spawn(move || {
                // Of this thread alone, on Linux, and of those of OpenMP that it starts. Without it answers
                // are later, and that is all.
                let _ = rustix::process::nice(niceness);
                let loaded = catch_unwind(AssertUnwindSafe(|| prepare(load, shared)))
                    .unwrap_or_else(|_| Err("loading it panicked".into()));
                // It may have been stopped meanwhile.
                match loaded {
                    Ok((workers, ready)) => {
                        let _ = sender.send(Ok(ready));
                        workers.work();
                    }
                    Err(error) => drop(sender.send(Err(error))),
                }
            })?;
        Ok((pool, receiver))
    }

    /// Whether `client` may bring so many texts now: to be asked before they are tokenized.
    pub(crate) fn check(&self, client: IpAddr, texts: usize) -> Result<(), Refusal> {
        self.shared.lock().batcher.check(client, texts)
    }

    /// Has texts wait for the model. Their outcomes come in the same order; to drop the receiver is
    /// to want it no more.
    pub(crate) fn submit(
        &self,
        client: IpAddr,
        texts: Vec<Vec<u32>>,
    ) -> Result<Vec<oneshot::Receiver<Outcome>>, Refusal> {
        let since = Instant::now();
        let (texts, receivers) = texts
            .into_iter()
            .map(|ids| {
                let (outcome, receiver) = oneshot::channel();
                let ticket = Waiting { outcome, since };
                (Text { ids, ticket }, receiver)
            })
            .unzip();
        let mut state = self.shared.lock();
        if !state.is_stopped {
            state.batcher.push(client, texts)?;
            self.shared.wake.notify_all();
        }
        Ok(receivers)
    }

    /// Texts that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().batcher.len()
    }

    /// Whether the model fails with all texts.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.lock().is_broken
    }

    /// Whether a batch takes so long that it'll never be ready.
    pub(crate) fn is_hanging(&self) -> bool {
        let batch_time = self.shared.batch_time;
        let state = self.shared.lock();
        state
            .busy
            .values()
            .any(|since| since.elapsed() > batch_time)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.wake
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self, state: &mut State, thread: usize) -> Option<Texts> {
        let processor = self.compute.processor;
        let texts = state
            .batcher
            .next_batch(processor.threads(), processor.batch_tokens());
        if texts.is_empty() {
            return None;
        }
        let now = Instant::now();
        state.busy.insert(thread, now);
        for text in &texts {
            self.metrics.waited(now - text.ticket.since);
        }
        Some(texts)
    }

    /// Waits for what all threads do next. None: it is over.
    pub(crate) fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        state.is_joining = false;
        loop {
            if state.is_stopped {
                return None;
            }
            if let Some(texts) = self.next_batch(&mut state, 0) {
                let is_alone = state.batcher.is_empty() || self.compute.processor.threads() == 1;
                return Some(if is_alone {
                    Work::Together(texts)
                } else {
                    Work::Apart(texts)
                });
            }
            state = self.wait(state);
        }
    }

    /// Waits for the next batch of a thread that computes its own. None: nothing is computed any more, and
    /// the threads come together.
    pub(crate) fn next_of(&self, thread: usize) -> Option<Texts> {
        let mut state = self.lock();
        loop {
            if state.is_stopped || state.is_joining {
                return None;
            }
            if let Some(texts) = self.next_batch(&mut state, thread) {
                return Some(texts);
            }
            if state.busy.is_empty() {
                state.is_joining = true;
                self.wake.notify_all();
                return None;
            }
            state = self.wait(state);
        }
    }

    /// A thread has computed its batch. To be called before anybody gets an answer: the text that a client asks
    /// about next finds the threads together again.
    pub(crate) fn finished(&self, thread: usize) {
        let mut state = self.lock();
        state.busy.remove(&thread);
        if state.busy.is_empty() && state.batcher.is_empty() {
            state.is_joining = true;
            self.wake.notify_all();
        }
    }

    /// The model can't even compute its sample: what waits for it is dropped.
    pub(crate) fn broke(&self) {
        let mut state = self.lock();
        state.is_broken = true;
        state.is_stopped = true;
        state.batcher.clear();
        self.wake.notify_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
