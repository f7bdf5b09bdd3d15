//! A run from its first attempt to its end.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::attempt::{Asked, Input, Work, latest};
use super::cancel::{Cancel, StopCause, Undone};
use super::control::Controls;
use super::follow::{Followed, GONE};
use super::outcome::conclude;
use super::pump::Pump;
use super::{Ended, Prepared, RunFailure, collect};
use crate::engine::docker::DockerEngine;
use crate::engine::run::Chunk;
use crate::event::{Event, Events};
use crate::records::mask::Masker;
use crate::records::{Attempt, Ending, Record, State};

/// What connects a run to whoever watches it.
#[derive(Default)]
pub struct Streams {
    /// Where its output is shown, besides being kept.
    pub display: Option<mpsc::Sender<Chunk>>,
    /// What is read for its standard input.
    pub input: Option<Input>,
    /// Where its container's id is written, once it runs: a file that is not there yet.
    pub cidfile: Option<PathBuf>,
    /// Gets whether its program seems to be missing, before `started` gets anything.
    pub lacks_program: Option<tokio::sync::oneshot::Sender<bool>>,
    /// Told its container's id, once it runs.
    pub started: Option<tokio::sync::oneshot::Sender<String>>,
}

/// Runs what was prepared to its end: every attempt, and what is collected of the last.
///
/// # Errors
///
/// The engine can't be used, or the record can't be written. What the job or its container does is
/// no error, and stands in the record.
pub async fn supervise(
    engine: &DockerEngine,
    prepared: Prepared,
    mut streams: Streams,
    controls: &mut Controls,
    events: &Events,
) -> Result<Ended, RunFailure> {
    let Prepared {
        mut record,
        run,
        spec,
        copied,
        pull,
        secrets,
    } = prepared;
    let work = Work {
        engine,
        folder: &run.folder,
        events,
        masker: Masker::new(&secrets),
    };
    let asked = Asked {
        spec: &spec,
        copied: &copied,
        pull,
    };
    let mut pump = Pump::open(&work, &record, secrets, streams.display.take())?;
    let mut pause = Duration::from_millis(record.policy.retry.backoff_ms);
    let limit = record.policy.timeout_ms.map(Duration::from_millis);
    let deadline = || limit.map(|limit| Instant::now() + limit);
    let mut cancel = Cancel::new(controls, &run.folder, events, deadline());
    let stopped = loop {
        record.attempts.push(Attempt {
            log_from: pump.next_attempt(),
            ..Attempt::default()
        });
        let trying = work.attempt(&mut record, &asked, &mut pump, &mut cancel, &mut streams);
        let tried = Box::pin(trying).await;
        let followed = match tried {
            Ok(followed) => followed,
            Err(moved @ RunFailure::Moved { .. }) => return Err(moved),
            Err(error) => {
                latest(&mut record).message = Some(error.to_string());
                work.mask(latest(&mut record));
                latest(&mut record).ending = Some(Ending::Infra);
                conclude(&mut record, None);
                work.discard(&mut record).await;
                work.keep(&mut record, "failed")?;
                return Err(error);
            }
        };
        match followed {
            Followed::Over => {}
            Followed::Stopped(StopCause::TimedOut) if is_tried_again(&record) => {}
            Followed::Stopped(cause) => break Some(cause),
            Followed::Detached => {
                work.keep(&mut record, "detached")?;
                return Ok(Ended::Detached(record.id));
            }
        }
        record.warnings.append(&mut pump.warnings);
        let awaiting = work.await_restart(&mut record);
        if cancel.outlast(RESTARTING, awaiting).await.is_err() {
            work.keep(&mut record, "detached")?;
            return Ok(Ended::Detached(record.id));
        }
        let collecting = collect::collect(&work, &mut record);
        if cancel.outlast(COLLECTING, collecting).await.is_err() {
            work.keep(&mut record, "detached")?;
            return Ok(Ended::Detached(record.id));
        }
        // What was lost is not made up for by another try, and its container must stay.
        if !record.lost_outputs.is_empty() || !is_tried_again(&record) {
            break None;
        }
        let ending = latest(&mut record).ending;
        work.discard(&mut record).await;
        record.state = State::Submitted;
        work.keep(&mut record, "retried")?;
        events.send(Event::Note(format!(
            "attempt {} of {} failed ({}); the next begins in {} s",
            record.attempts.len(),
            record.policy.retry.attempts,
            ending.map_or("lost", Ending::word),
            pause.as_secs_f32(),
        )));
        // Who retries what ran out of its time gives each attempt as much.
        let is_of_attempt = record.policy.retry.on.contains(&Ending::Timeout);
        if is_of_attempt {
            cancel.deadline = None;
        }
        if let Err(Undone::Stopped(cause)) = cancel.pause(pause).await {
            break Some(cause);
        }
        if is_of_attempt {
            cancel.deadline = deadline();
        }
        pause *= 2;
    };
    make_final(&work, &mut record, stopped)?;
    let tidying = cancel.outlast("its container is being removed", tidy(&work, &mut record));
    // One that is left is removed by the next jobctl: the record is final.
    if let Ok(tidied) = tidying.await {
        tidied?;
    }
    Ok(Ended::Over(Box::new(record)))
}

/// How often an engine that was stopped is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// What is waited for after an engine has stopped a job.
const RESTARTING: &str = "jobctl waits for its engine to come back";

/// What is done while outputs are collected.
pub(super) const COLLECTING: &str = "its outputs are being collected";

/// Makes a run's record final, and removes its container.
pub(super) async fn finish(
    work: &Work<'_>,
    record: &mut Record,
    stopped: Option<StopCause>,
) -> Result<(), RunFailure> {
    make_final(work, record, stopped)?;
    tidy(work, record).await
}

/// Makes a run's record final: as its last attempt ended, or as it was stopped where none was under way.
fn make_final(
    work: &Work<'_>,
    record: &mut Record,
    stopped: Option<StopCause>,
) -> Result<(), RunFailure> {
    conclude(record, stopped);
    // Only what is on disk may be removed from the engine.
    work.keep(record, "finished")
}

/// Removes the container of a run whose record is final, unless it is kept.
async fn tidy(work: &Work<'_>, record: &mut Record) -> Result<(), RunFailure> {
    if !record.policy.keep {
        work.discard(record).await;
        let is_removed = latest(record).is_removed;
        work.keep(record, if is_removed { "removed" } else { "left" })?;
    }
    Ok(())
}

/// Warns of a run that would be tried again if its jobctl were still there: only that one has what its
/// container is made of, secrets included.
pub(super) fn warn_of_retries(work: &Work<'_>, record: &mut Record) {
    if is_tried_again(record) {
        let of = record.policy.retry.attempts;
        let warning = format!(
            "it is not tried again, as the jobctl that began it is gone: {of} attempts were asked for"
        );
        work.warn(record, warning);
    }
}

impl Work<'_> {
    /// Waits for an engine that stopped with its job, where something is still wanted of it: the job's outputs,
    /// or another attempt.
    async fn await_restart(&self, record: &mut Record) {
        let is_wanted = is_tried_again(record) || !record.policy.outputs.is_empty();
        let attempt = latest(record);
        let container = attempt.container_id.as_deref().unwrap_or_default();
        if attempt.ending == Some(Ending::EngineStopped) && is_wanted {
            self.events.send(Event::Note(
                "the engine stopped, and the job with it; jobctl waits for it".to_owned(),
            ));
            // One that shuts down answers for a while yet. What needs an engine that does not come back
            // fails by itself.
            let back = async {
                while !self.engine.is_listening().await {
                    sleep(LOOK).await;
                }
                self.patiently(|| self.engine.container(container)).await
            };
            let _ = timeout(GONE, back).await;
        }
    }
}

fn is_tried_again(record: &Record) -> bool {
    let retry = &record.policy.retry;
    let tried = u32::try_from(record.attempts.len()).unwrap_or(u32::MAX);
    let ending = record.attempts.last().and_then(|attempt| attempt.ending);
    tried < retry.attempts && ending.is_some_and(|ending| retry.on.contains(&ending))
}
