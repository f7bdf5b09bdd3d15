//! The threads that compute: a share of the model for each, and what comes of a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::batcher::Text;
use crate::config::Compute;
use crate::model::{Classify, Failure, Loaded};
use crate::pool::{NotFinite, Ready, Shared, Texts, Waiting, Work, lock};

/// What the model is tried with before it is ready, and after a text that it can't compute.
const SAMPLE: &str = "I would watch it again tomorrow.";

/// Words of a text that is longer than any model reads.
const LONG_WORDS: usize = 1024;

/// Loads the model, and has every thread compute once: what a first computation sets up is there before the
/// first request, and a model that can't compute is never ready.
pub(crate) fn prepare<C: Classify>(
    load: impl FnOnce() -> Result<Loaded<C>, Failure>,
    shared: Arc<Shared>,
) -> Result<(Workers<C>, Ready), Failure> {
    let Loaded {
        classifier,
        tokenize,
        info,
    } = load()?;
    let tokens = |text: &str| -> Result<Vec<u32>, Failure> {
        let ids = tokenize(text)?.ids;
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
        let logits = rows.concat();
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(failure());
        }
        if logits.len() != info.labels.len() {
            let (logits, labels) = (logits.len(), info.labels.len());
            return Err(
                format!("it computes {logits} logits for a text, and has {labels} labels").into(),
            );
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
    Ok((workers, Ready { tokenize, info }))
}

/// What the model's threads compute with.
pub(crate) struct Workers<C> {
    shared: Arc<Shared>,
    /// A share of the model for each thread.
    shares: Vec<Mutex<C>>,
    /// It computes nothing, so that no panic damages it: shares are replaced from it.
    original: Mutex<C>,
    /// A text that the model could compute when it was loaded.
    sample: Vec<u32>,
}

impl<C: Classify> Workers<C> {
    /// Computes until it is over.
    pub(crate) fn work(&self) {
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
        // The client may be gone.
        let _ = text.ticket.outcome.send(outcome);
    }
}
