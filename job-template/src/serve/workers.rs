//! The threads that compute. Each owns a share of the model, and takes what waited while it was busy
//! as its next batch: no timer, so nobody waits for company.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batcher::{Batcher, Limits, Refusal, Text, Ticket};
use super::metrics::Metrics;
use crate::classify::Classify;

/// After so many panics with no success in between, the model counts as broken.
const MOST_PANICS: usize = 3;

/// Tokens that a processor's core computes together. Twice as many are 4 % faster, and have whoever comes
/// meanwhile wait twice as long.
const CPU_BATCH_TOKENS: usize = 256;

/// How much nicer threads that compute on a CPU are than those that answer. Where all cores compute, to be
/// refused, or told that the model is ready, would else take until one of them has had its turn.
const NICENESS: i32 = 10;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// So many threads. While many texts come, each computes its own; a text that comes alone gets
    /// all.
    Cpu {
        /// Threads, 1 at least.
        threads: usize,
    },
    /// A GPU, which a single thread keeps busy.
    Gpu,
}

/// What computes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Compute {
    /// What computes.
    pub processor: Processor,
    /// Sets how many threads the thread that calls it computes with.
    pub set_threads: fn(usize),
    /// A batch that takes longer is never ready: the model hangs.
    pub hang_time: Duration,
}

impl Processor {
    fn workers(self) -> usize {
        match self {
            Self::Cpu { threads } => threads.max(1),
            Self::Gpu => 1,
        }
    }

    fn batch_tokens(self) -> usize {
        match self {
            Self::Cpu { .. } => CPU_BATCH_TOKENS,
            Self::Gpu => usize::MAX,
        }
    }

    /// The thread of a GPU has little to do, and the GPU waits for it.
    fn niceness(self) -> i32 {
        match self {
            Self::Cpu { .. } => NICENESS,
            Self::Gpu => 0,
        }
    }
}

/// How likely each label is, or why the model doesn't say. A closed channel is a panic.
pub(crate) type Outcome = Result<Vec<f32>, NotFinite>;

/// The model's answer isn't a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotFinite;

impl Ticket for oneshot::Sender<Outcome> {
    fn is_abandoned(&self) -> bool {
        self.is_closed()
    }
}

/// The workers, and what waits for them. They end when this is dropped, after the batch that they
/// compute; nobody waits for that, as a model can hang.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    compute: Compute,
    metrics: Arc<Metrics>,
}

struct State {
    batcher: Batcher<oneshot::Sender<Outcome>>,
    /// The workers that compute, and since when.
    busy: BTreeMap<usize, Instant>,
    /// Panics since the last success.
    panics: usize,
    is_stopped: bool,
}

/// What a worker computes next, and on how many threads.
struct Batch {
    texts: Vec<Text<oneshot::Sender<Outcome>>>,
    threads: usize,
}

impl Pool {
    /// Starts the workers. Each calls `set_threads` before a batch, on its own thread.
    pub(crate) fn start<C: Classify>(
        classifier: C,
        limits: Limits,
        compute: Compute,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let state = State {
            batcher: Batcher::new(limits),
            busy: BTreeMap::new(),
            panics: 0,
            is_stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            compute,
            metrics,
        });
        // Nobody computes with this one: after a panic, it is as good as it was.
        let original = Arc::new(Mutex::new(classifier));
        let pool = Self { shared };
        for number in 0..compute.processor.workers() {
            let (shared, original) = (Arc::clone(&pool.shared), Arc::clone(&original));
            std::thread::Builder::new()
                .name(format!("model-{number}"))
                .spawn(move || {
                    // Of this thread alone, on Linux, and of those of OpenMP that it starts. Without it
                    // answers are later, and that is all.
                    let _ = rustix::process::nice(compute.processor.niceness());
                    work(number, &shared, &original);
                })?;
        }
        Ok(pool)
    }

    /// Whether `client` may bring so many texts now: to ask before they are cut to tokens.
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
        let (texts, receivers) = texts
            .into_iter()
            .map(|ids| {
                let (ticket, receiver) = oneshot::channel();
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

    /// Whether the model panicked too often to go on.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.lock().panics >= MOST_PANICS
    }

    /// Whether a batch takes so long that it'll never be ready.
    pub(crate) fn is_hanging(&self) -> bool {
        let hang_time = self.shared.compute.hang_time;
        self.shared
            .lock()
            .busy
            .values()
            .any(|since| since.elapsed() > hang_time)
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next batch. None: it is over.
    fn next(&self, worker: usize) -> Option<Batch> {
        let processor = self.compute.processor;
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            let texts = state
                .batcher
                .next_batch(processor.workers(), processor.batch_tokens());
            if !texts.is_empty() {
                state.busy.insert(worker, Instant::now());
                let is_alone = state.busy.len() == 1 && state.batcher.is_empty();
                let threads = if is_alone { processor.workers() } else { 1 };
                return Some(Batch { texts, threads });
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn succeeded(&self, worker: usize) {
        let mut state = self.lock();
        state.busy.remove(&worker);
        // Broken stays broken, also if another worker was about to succeed.
        if !state.is_stopped {
            state.panics = 0;
        }
    }

    fn panicked(&self, worker: usize) {
        self.metrics.model_restarts.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.busy.remove(&worker);
        state.panics += 1;
        if state.panics >= MOST_PANICS {
            state.is_stopped = true;
            state.batcher.clear();
            self.wake.notify_all();
        }
    }
}

/// A worker's life.
fn work<C: Classify>(number: usize, shared: &Shared, original: &Mutex<C>) {
    let fresh = || {
        original
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .share()
    };
    let mut classifier = fresh();
    while let Some(Batch { texts, threads }) = shared.next(number) {
        (shared.compute.set_threads)(threads);
        let ids: Vec<&[u32]> = texts.iter().map(|text| text.ids.as_slice()).collect();
        // What a panic leaves behind in the classifier is thrown away.
        let computed = catch_unwind(AssertUnwindSafe(|| classifier.logits(&ids)));
        let tokens = ids.iter().map(|ids| ids.len()).sum();
        if let Ok(rows) = computed {
            shared.metrics.computed(texts.len(), tokens);
            shared.succeeded(number);
            for (text, row) in texts.into_iter().zip(rows) {
                let is_finite = row.iter().all(|logit| logit.is_finite());
                let outcome = if is_finite {
                    Ok(classifier.scores(&row))
                } else {
                    Err(NotFinite)
                };
                // Who left meanwhile doesn't want it.
                let _ = text.ticket.send(outcome);
            }
        } else {
            shared.panicked(number);
            classifier = fresh();
        }
    }
}
