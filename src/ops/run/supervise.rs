//! A run from its first attempt to its end.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::attempt::{Asked, Followed, Input, Work, latest};
use super::control::{Controls, released};
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
    loop {
        record.attempts.push(Attempt {
            log_from: pump.next_attempt(),
            ..Attempt::default()
        });
        let trying = work.attempt(&mut record, &asked, &mut pump, controls, &mut streams);
        let tried = Box::pin(trying).await;
        let followed = match tried {
            Ok(followed) => followed,
            Err(error) => {
                latest(&mut record).message = Some(error.to_string());
                work.mask(latest(&mut record));
                latest(&mut record).ending = Some(Ending::Infra);
                conclude(&mut record);
                work.discard(&mut record).await;
                work.keep(&mut record, "failed")?;
                return Err(error);
            }
        };
        if followed == Followed::Detached {
            work.keep(&mut record, "detached")?;
            return Ok(Ended::Detached(record.id));
        }
        record.warnings.append(&mut pump.warnings);
        collect::collect(&work, &mut record).await;
        // What was lost is not made up for by another try, and its container must stay.
        if !record.lost_outputs.is_empty() || !is_tried_again(&record) {
            break;
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
        if !rest(pause, controls).await {
            break;
        }
        pause *= 2;
    }
    finish(&work, &mut record).await?;
    Ok(Ended::Over(Box::new(record)))
}

/// Makes a run's record final, and removes its container.
pub(super) async fn finish(work: &Work<'_>, record: &mut Record) -> Result<(), RunFailure> {
    conclude(record);
    // Only what is on disk may be removed from the engine.
    work.keep(record, "finished")?;
    if !record.policy.keep {
        work.discard(record).await;
        let is_removed = latest(record).is_removed;
        work.keep(record, if is_removed { "removed" } else { "left" })?;
    }
    Ok(())
}

fn is_tried_again(record: &Record) -> bool {
    let retry = &record.policy.retry;
    let tried = u32::try_from(record.attempts.len()).unwrap_or(u32::MAX);
    let ending = record.attempts.last().and_then(|attempt| attempt.ending);
    tried < retry.attempts && ending.is_some_and(|ending| retry.on.contains(&ending))
}

/// Waits, unless the user wants no more of it.
async fn rest(pause: Duration, controls: &mut Controls) -> bool {
    tokio::select! {
        () = sleep(pause) => true,
        () = released(controls) => false,
    }
}
