//! The threads that compute. Each takes what waited while it was busy as its next batch: no timer, so nobody
//! waits for company.
//!
//! There are as many as were asked for, in two states. A text that comes alone is computed by all of them
//! together. As soon as more texts wait, each computes batches of its own, until nothing is left to compute.
//! They are one team of libtorch's OpenMP in both states: a thread that calls libtorch from outside of the team
//! gets a team of its own, and n such threads would make n².

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Loaded;
use super::batcher::{Batcher, Limits, Refusal, Text, Ticket};
use super::info::ModelInfo;
use super::metrics::Metrics;
use crate::classify::Classify;
use crate::tokenize::Tokenizer;

/// Tokens that a processor's core computes together. Twice as many are 4 % faster, and have whoever comes
/// meanwhile wait twice as long.
const CPU_BATCH_TOKENS: usize = 256;

/// What the model is tried with before it is ready, and after a text that it can't compute.
const SAMPLE: &str = "I would watch it again tomorrow.";

/// Words of a text that is longer than any model reads.
const LONG_WORDS: usize = 1024;

/// How much nicer threads that compute on a CPU are than those that answer. Where all cores compute, to be
/// refused, or told that the model is ready, would else take until one of them has had its turn.
const NICENESS: i32 = 10;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// So many threads. A text that comes alone gets all; while more wait, each computes its own.
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
    /// Calls a function with 0, 1, … on so many threads at once, and waits for them; 0 is the calling thread.
    pub on_each_thread: fn(usize, &(dyn Fn(usize) + Sync)),
    /// A batch that takes longer is never ready: the model hangs.
    pub hang_time: Duration,
}

impl Processor {
    /// Threads that compute, of which each may have a batch of its own.
    pub(crate) fn threads(self) -> usize {
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

/// Who waits for a text's outcome, and since when.
struct Waiting {
    outcome: oneshot::Sender<Outcome>,
    since: Instant,
}

impl Ticket for Waiting {
    fn is_abandoned(&self) -> bool {
        self.outcome.is_closed()
    }
}

/// The model's threads, and what waits for them. They end when this is dropped, after the batches that they
/// compute; nobody waits for that, as a model can hang.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// A model that was loaded and tried, but for what computes.
pub(crate) struct Ready {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) info: ModelInfo,
}

type Failure = Box<dyn Error + Send + Sync>;

type Texts = Vec<Text<Waiting>>;

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    compute: Compute,
    metrics: Arc<Metrics>,
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
enum Work {
    /// A batch on all threads.
    Together(Texts),
    /// Batches on a thread each; the first is this one.
    Apart(Texts),
}

impl Pool {
    /// Starts the thread that loads the model, tries it and computes. What comes of loading is sent once.
    pub(crate) fn start<C: Classify>(
        load: impl FnOnce() -> Result<Loaded<C>, Failure> + Send + 'static,
        limits: Limits,
        compute: Compute,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, oneshot::Receiver<Result<Ready, Failure>>)> {
        let state = State {
            batcher: Batcher::new(limits),
            busy: BTreeMap::new(),
            is_joining: false,
            is_broken: false,
            is_stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            compute,
            metrics,
        });
        let pool = Self {
            shared: Arc::clone(&shared),
        };
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new()
            .name("model".to_owned())
            .spawn(move || {
                // Of this thread alone, on Linux, and of those of OpenMP that it starts. Without it answers
                // are later, and that is all.
                let _ = rustix::process::nice(compute.processor.niceness());
                let loaded = catch_unwind(AssertUnwindSafe(|| prepare(load, shared)))
                    .unwrap_or_else(|_| Err("loading it panicked".into()));
                // Who stopped meanwhile doesn't want it.
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
    fn next(&self) -> Option<Work> {
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
    fn next_of(&self, thread: usize) -> Option<Texts> {
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
    fn finished(&self, thread: usize) {
        let mut state = self.lock();
        state.busy.remove(&thread);
        if state.busy.is_empty() && state.batcher.is_empty() {
            state.is_joining = true;
            self.wake.notify_all();
        }
    }

    fn broke(&self) {
        let mut state = self.lock();
        state.is_broken = true;
        state.is_stopped = true;
        state.batcher.clear();
        self.wake.notify_all();
    }
}

/// Loads the model, and has every thread compute once: what a first computation sets up is there before the
/// first request, and a model that can't compute is never ready.
fn prepare<C: Classify>(
    load: impl FnOnce() -> Result<Loaded<C>, Failure>,
    shared: Arc<Shared>,
) -> Result<(Workers<C>, Ready), Failure> {
    let Loaded {
        classifier,
        tokenizer,
        info,
    } = load()?;
    let tokens = |text: &str| -> Result<Vec<u32>, Failure> {
        let ids = tokenizer.encode(text)?.ids;
        Ok(if ids.is_empty() { vec![0] } else { ids })
    };
    let threads = shared.compute.processor.threads();
    let workers = Workers {
        shares: (0..threads)
            .map(|_| Mutex::new(classifier.share()))
            .collect(),
        original: Mutex::new(classifier),
        sample: tokens(SAMPLE)?,
        shared,
    };
    let failure = || Failure::from("it can't compute a sample text: its weights may be damaged");
    (workers.shared.compute.set_threads)(threads);
    for ids in [&workers.sample, &tokens(&"again ".repeat(LONG_WORDS))?] {
        let rows = workers.logits(0, &[ids]).ok_or_else(failure)?;
        if !rows.iter().flatten().all(|logit| logit.is_finite()) {
            return Err(failure());
        }
    }
    let failures = AtomicUsize::new(0);
    workers.on_each_thread(&|thread| {
        if workers.logits(thread, &[&workers.sample]).is_none() {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    });
    if failures.into_inner() > 0 {
        return Err(failure());
    }
    Ok((workers, Ready { tokenizer, info }))
}

/// What the model's threads compute with.
struct Workers<C> {
    shared: Arc<Shared>,
    /// A share of the model for each thread.
    shares: Vec<Mutex<C>>,
    /// Nobody computes with this one: after a panic, it is as good as it was.
    original: Mutex<C>,
    /// A text that the model could compute when it was loaded.
    sample: Vec<u32>,
}

impl<C: Classify> Workers<C> {
    /// Computes until it is over.
    fn work(&self) {
        let threads = self.shares.len();
        while let Some(work) = self.shared.next() {
            match work {
                Work::Together(texts) => {
                    (self.shared.compute.set_threads)(threads);
                    self.answer(0, texts);
                }
                Work::Apart(texts) => {
                    let first = Mutex::new(Some(texts));
                    self.on_each_thread(&|thread| {
                        let mut next = if thread == 0 {
                            lock(&first).take()
                        } else {
                            self.shared.next_of(thread)
                        };
                        while let Some(texts) = next {
                            self.answer(thread, texts);
                            next = self.shared.next_of(thread);
                        }
                    });
                }
            }
        }
    }

    /// Calls `body` on all threads, each of which computes by itself.
    fn on_each_thread(&self, body: &(dyn Fn(usize) + Sync)) {
        let Compute {
            set_threads,
            on_each_thread,
            ..
        } = self.shared.compute;
        on_each_thread(self.shares.len(), &|thread| {
            set_threads(1);
            body(thread);
        });
    }

    /// Answers a batch. If the model panics, each of its texts is computed again by itself, so that one that
    /// it can't compute fails alone.
    fn answer(&self, thread: usize, texts: Texts) {
        let ids: Vec<&[u32]> = texts.iter().map(|text| text.ids.as_slice()).collect();
        let tokens = ids.iter().map(|ids| ids.len()).sum();
        let began = Instant::now();
        if let Some(rows) = self.logits(thread, &ids) {
            self.shared
                .metrics
                .computed(texts.len(), tokens, began.elapsed());
            self.shared.finished(thread);
            for (text, row) in texts.into_iter().zip(rows) {
                self.send(thread, text, &row);
            }
            return;
        }
        let is_one = texts.len() == 1;
        let mut outcomes = Vec::with_capacity(texts.len());
        let mut failed = Vec::new();
        for text in texts {
            let began = Instant::now();
            let row = (!is_one)
                .then(|| self.logits(thread, &[&text.ids]))
                .flatten();
            match row.and_then(|mut rows| rows.pop()) {
                Some(row) => {
                    self.shared
                        .metrics
                        .computed(1, text.ids.len(), began.elapsed());
                    outcomes.push((text, row));
                }
                // Before its client knows, so that its next look at the health is right.
                None if self.logits(thread, &[&self.sample]).is_none() => {
                    self.shared.broke();
                    break;
                }
                None => failed.push(text),
            }
        }
        self.shared.finished(thread);
        drop(failed);
        for (text, row) in outcomes {
            self.send(thread, text, &row);
        }
    }

    /// The logits of a batch; none if the model panics.
    fn logits(&self, thread: usize, batch: &[&[u32]]) -> Option<Vec<Vec<f32>>> {
        let mut share = lock(&self.shares[thread]);
        let computed = catch_unwind(AssertUnwindSafe(|| share.logits(batch)));
        if computed.is_err() {
            self.shared.metrics.model_restarts.inc();
            // What a panic leaves behind in it is thrown away.
            *share = lock(&self.original).share();
        }
        computed.ok()
    }

    /// Answers a text with its scores, unless its logits are no numbers.
    fn send(&self, thread: usize, text: Text<Waiting>, logits: &[f32]) {
        let is_finite = logits.iter().all(|logit| logit.is_finite());
        let outcome = if is_finite {
            Ok(lock(&self.shares[thread]).scores(logits))
        } else {
            Err(NotFinite)
        };
        // Who left meanwhile doesn't want it.
        let _ = text.ticket.outcome.send(outcome);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
