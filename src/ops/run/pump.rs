//! A container's output: masked, kept, searched for metrics, and shown.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::RunFailure;
use super::attempt::Work;

use crate::engine::docker::run::Output;
use crate::engine::run::{Chunk, RunError};
use crate::event::{Event, Events, Stream as Source};
use crate::facts::host::now;
use crate::model::Secret;
use crate::records::Record;
use crate::records::log::LogWriter;
use crate::records::mask::Masker;
use crate::records::metrics::{MetricScanner, MetricsWriter, Point, series};

/// How long output may take to end once its container has.
const DRAIN: Duration = Duration::from_secs(10);

/// Waits until nothing can be expected any more where nothing comes.
pub(super) async fn silence(has_ended: &mut watch::Receiver<bool>) {
    // Whoever knew is gone; it has ended.
    let _ = has_ended.wait_for(|has_ended| *has_ended).await;
    sleep(DRAIN).await;
}

/// Where a container's output goes.
pub(super) struct Pump {
    log: LogWriter,
    secrets: Vec<Secret>,
    /// For standard output and standard error.
    maskers: [Masker; 2],
    scanners: [MetricScanner; 2],
    metrics: MetricsWriter,
    /// The run's directory, where its metrics are.
    folder: PathBuf,
    /// The metrics in what is passed over, until all of that has come.
    passed: Vec<Point>,
    display: Option<mpsc::Sender<Chunk>>,
    /// When the last was written that was kept.
    times: [Option<Timestamp>; 2],
    /// What an earlier stream told already.
    known: [Known; 2],
    /// Up to where the engine's log is kept.
    mark: Option<Mark>,
    /// What of the engine's log comes once more that is kept already.
    kept: Option<Mark>,
    events: Events,
    /// Warnings that were printed, for the record.
    pub(super) warnings: Vec<String>,
}

/// A place in the engine's log: what was written before a moment, and so many bytes of standard output and
/// standard error that were written at it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    time: Timestamp,
    bytes: [usize; 2],
}

/// What is passed over, as it is there already.
struct Known {
    left: u64,
    hash: Sha256,
    expected: [u8; 32],
}

impl Known {
    fn nothing() -> Self {
        Self {
            left: 0,
            hash: Sha256::new(),
            expected: [0; 32],
        }
    }
}

impl Pump {
    /// A pump that writes to a run's folder.
    pub(super) fn open(
        work: &Work<'_>,
        record: &Record,
        secrets: Vec<Secret>,
        display: Option<mpsc::Sender<Chunk>>,
    ) -> Result<Self, RunFailure> {
        let latest = record.attempts.last();
        let log_from = latest.map_or([0; 2], |attempt| attempt.log_from);
        let policy = &record.policy;
        let step = policy.metric_step.as_deref();
        let scanner = MetricScanner::new(&policy.metric_names, &policy.metric_patterns, step)
            .expect("the manifest's patterns are patterns");
        Ok(Self {
            log: work.folder.log_writer(log_from)?,
            maskers: [Masker::new(&secrets), Masker::new(&secrets)],
            secrets,
            scanners: [scanner.clone(), scanner],
            metrics: MetricsWriter::open(work.folder.path(), record.attempts.len())?,
            folder: work.folder.path().to_owned(),
            passed: Vec::new(),
            display,
            times: [None; 2],
            known: [Known::nothing(), Known::nothing()],
            mark: None,
            kept: None,
            events: work.events.clone(),
            warnings: Vec::new(),
        })
    }

    /// Notes that all that the engine had in its log at a moment is kept, where that is not known already.
    pub(super) fn note_whole(&mut self, time: Timestamp) {
        let whole = Mark {
            time,
            bytes: [0; 2],
        };
        self.mark.get_or_insert(whole);
    }

    /// Expects the engine's log from where it was left: since when, if that is known.
    pub(super) fn resume(&mut self) -> Option<Timestamp> {
        self.maskers = [Masker::new(&self.secrets), Masker::new(&self.secrets)];
        self.resume_within()
    }

    /// The same in the middle of an output: what comes next follows the last byte that came.
    pub(super) fn resume_within(&mut self) -> Option<Timestamp> {
        self.known = [Known::nothing(), Known::nothing()];
        self.kept = self.mark;
        self.mark.map(|mark| mark.time)
    }

    /// Expects the attempt's output from its beginning once more: what is kept of it is passed over.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        (self.mark, self.kept) = (None, None);
        self.maskers = [Masker::new(&self.secrets), Masker::new(&self.secrets)];
        // The attempt's first line comes again.
        self.scanners.iter_mut().for_each(MetricScanner::restart);
        self.passed.clear();
        for (index, stream) in [Source::Stdout, Source::Stderr].into_iter().enumerate() {
            let stored = self.log.stored(stream)?;
            self.known[index] = Known {
                left: stored.bytes,
                hash: Sha256::new(),
                expected: stored.sha256,
            };
        }
        Ok(())
    }

    /// Begins the next attempt: how many bytes of standard output and standard error are there.
    pub(super) fn next_attempt(&mut self) -> [u64; 2] {
        (self.mark, self.kept) = (None, None);
        self.maskers = [Masker::new(&self.secrets), Masker::new(&self.secrets)];
        self.scanners.iter_mut().for_each(MetricScanner::restart);
        self.known = [Known::nothing(), Known::nothing()];
        self.metrics.next_attempt();
        self.log.next_attempt()
    }

    /// Takes all that comes. [`Self::finish`] follows where nothing more will.
    ///
    /// Once the container has ended, an output that stays open has nothing more. However long it takes
    /// to show what came before, all of it is taken.
    pub(super) async fn run(
        &mut self,
        mut output: Output,
        mut has_ended: watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        loop {
            // On disk before there is time to wait.
            let next = match output.next().now_or_never() {
                Some(next) => next,
                None => {
                    self.log.flush();
                    tokio::select! {
                        next = output.next() => next,
                        () = silence(&mut has_ended) => None,
                    }
                }
            };
            match next {
                None => break,
                Some(Ok(chunk)) => self.take(chunk).await,
                Some(Err(error)) => {
                    self.log.flush();
                    return Err(error);
                }
            }
        }
        self.log.flush();
        Ok(())
    }

    async fn take(&mut self, mut chunk: Chunk) {
        let index = usize::from(chunk.stream == Source::Stderr);
        if let Some(time) = chunk.time {
            if let Some(kept) = &mut self.kept
                && kept.time == time
            {
                let count = kept.bytes[index].min(chunk.bytes.len());
                kept.bytes[index] -= count;
                let _ = chunk.bytes.split_to(count);
            }
            let mark = self.mark.get_or_insert(Mark {
                time,
                bytes: [0; 2],
            });
            if mark.time < time {
                *mark = Mark {
                    time,
                    bytes: [0; 2],
                };
            }
            if mark.time == time {
                mark.bytes[index] += chunk.bytes.len();
            }
        }
        let bytes = match self.maskers[index].feed(&chunk.bytes) {
            // As it came: nothing is copied.
            Cow::Borrowed(masked) => chunk.bytes.slice_ref(masked),
            Cow::Owned(masked) => masked.into(),
        };
        self.keep(Chunk { bytes, ..chunk }).await;
    }

    /// Takes what was held back, as it could have been the beginning of a secret, and makes all of it
    /// durable.
    pub(super) async fn finish(&mut self) {
        for (index, stream) in [Source::Stdout, Source::Stderr].into_iter().enumerate() {
            let bytes = self.maskers[index].finish().into();
            let time = None;
            self.keep(Chunk {
                stream,
                bytes,
                time,
            })
            .await;
        }
        for index in 0..2 {
            let found = self.scanners[index].finish();
            self.note(&found, self.times[index].unwrap_or_else(now));
        }
        self.log.sync();
        self.look_for_trouble();
    }

    /// Keeps metrics of lines that were written at that time.
    fn note(&mut self, points: &[Point], time: Timestamp) {
        if points.is_empty() {
            return;
        }
        // A line that is in the log and has no metrics is noticed by who adopts the run; the other way round
        // they would be kept twice.
        self.log.flush();
        if let Err(error) = self.metrics.append(points, time) {
            self.warn(format!("metrics of the log are lost: {error}"));
        }
    }

    /// Keeps what of the metrics in the log that is there is not kept: jobctl was killed after it had written a
    /// line, and before it had written the line's metrics.
    fn recover(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        let attempt = self.metrics.attempt();
        let kept = series(&self.folder, None).unwrap_or_default();
        let mut counts = HashMap::<_, usize>::new();
        for point in kept
            .iter()
            .filter(|point| point.attempt.unwrap_or(1) == attempt)
        {
            *counts.entry(point.name.as_str()).or_default() += 1;
        }
        let lost = passed.into_iter().filter(|point| {
            let count = counts.get_mut(point.name.as_str());
            let kept = count.filter(|count| **count > 0);
            kept.is_none_or(|kept| {
                *kept -= 1;
                false
            })
        });
        let lost: Vec<_> = lost.collect();
        self.note(&lost, now());
    }

    fn look_for_trouble(&mut self) {
        if let Some(trouble) = self.log.trouble() {
            let warning = format!("the log is not whole: {trouble}");
            self.warn(warning);
        }
    }

    /// Says what should be looked at, once.
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.events.send(Event::Warning(warning.clone()));
            self.warnings.push(warning);
        }
    }

    async fn keep(&mut self, mut chunk: Chunk) {
        let index = usize::from(chunk.stream == Source::Stderr);
        let known = &mut self.known[index];
        if known.left > 0 {
            let count = usize::try_from(known.left)
                .map_or(chunk.bytes.len(), |left| left.min(chunk.bytes.len()));
            let passed = chunk.bytes.split_to(count);
            known.hash.update(&passed);
            known.left -= count as u64;
            let found = self.scanners[index].feed(&passed).into_iter();
            let time = chunk.time.unwrap_or_else(now);
            self.passed.extend(found.map(|point| Point {
                time: Some(time),
                ..point
            }));
            if known.left == 0 && known.hash.finalize_reset().as_slice() != known.expected {
                self.warn(
                    "the engine's log differs from what was read before: it may have a gap, or \
                     something twice"
                        .to_owned(),
                );
            }
        }
        if self.known.iter().all(|known| known.left == 0) && !self.passed.is_empty() {
            self.recover();
        }
        if chunk.bytes.is_empty() {
            return;
        }
        let time = chunk.time.unwrap_or_else(now);
        self.times[index] = Some(time);
        self.log.append(chunk.stream, &chunk.bytes, time);
        self.look_for_trouble();
        let found = self.scanners[index].feed(&chunk.bytes);
        self.note(&found, time);
        let Some(display) = &self.display else { return };
        let sent = match display.try_send(chunk) {
            Err(TrySendError::Full(chunk)) => {
                // On disk before there is time to wait.
                self.log.flush();
                display.send(chunk).await.is_ok()
            }
            sent => sent.is_ok(),
        };
        if !sent {
            // It can't be shown any more; the job keeps running, and so does its log.
            self.display = None;
        }
    }
}
