//! What is done to runs from outside: ended, signalled, removed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use super::adopt::{Adopted, check_place, look_after};
use super::container::{self, container_of, up_container_of};
use super::{Ended, RunFailure, attend};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::run::{Container, RunError, Status};
use crate::event::{Event, Events};
use crate::model::RunId;
use crate::ops::run::Streams;
use crate::records::{Attempt, Ending, Record, Store, StoreError, Summary};

/// How long a run's supervisor has to finish it, once its container has ended.
const FINISH: Duration = Duration::from_mins(10);
/// How long it has to notice that the run is to end where there is no container: longer than an engine may
/// take to make one.
const NOTICE: Duration = Duration::from_mins(3);
/// After how long it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for a container that is to be stopped, and whether the supervisor of a run that is
/// over has ended; and how many times for the latter.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

/// Signals that ask a program to end.
const ENDING: [&str; 6] = ["INT", "QUIT", "TERM", "2", "3", "15"];

/// Which runs stay when the others are removed.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// So many of each job's newest, and so many of its newest that succeeded.
    pub newest: usize,
    /// Those from then on.
    pub since: Option<Timestamp>,
}

/// The container of a run's newest attempt, if the engine has it, of a run that this state folder, this
/// machine, and this engine have.
///
/// # Errors
///
/// It is a run of another one, or the engine can't be used.
pub async fn check_ours(
    engine: &DockerEngine,
    store: &Store,
    record: &Record,
) -> Result<Option<Container>, RunFailure> {
    check_place(record, engine)?;
    container_of(engine, &store.run(record.id)).await
}

/// Ends a run, and waits until its record says so. One that has no container yet, as its image is being
/// pulled or its inputs copied, gets none any more.
///
/// # Errors
///
/// It could not be ended, or the engine can't be used.
pub async fn end(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    signal: Option<&str>,
    grace: Option<Duration>,
    events: &Events,
) -> Result<(), RunFailure> {
    let record = store.read(id)?;
    if record.state.is_final() {
        return Ok(());
    }
    let grace = grace.unwrap_or(Duration::from_millis(record.policy.grace_ms));
    check_ours(engine, store, &record).await?;
    let stopping = |container: String| async move { engine.stop(&container, signal, grace).await };
    halt(engine, store, id, stopping, events).await
}

/// Sends a run a signal. One that kills it is waited for, and ends a run that has no container yet.
///
/// # Errors
///
/// It has no container that is up, could not be ended, or the engine can't be used.
pub async fn signal(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    signal: &str,
    events: &Events,
) -> Result<(), RunFailure> {
    let record = store.read(id)?;
    if record.state.is_final() {
        return Err(RunFailure::Finished { id });
    }
    let kills = matches!(signal, "KILL" | "SIGKILL" | "9");
    if kills {
        check_ours(engine, store, &record).await?;
        let killing = |container: String| async move { engine.kill(&container, signal).await };
        return halt(engine, store, id, killing, events).await;
    }
    let folder = store.run(id);
    let container = up_container_of(engine, &folder).await?;
    if ENDING.contains(&signal.trim_start_matches("SIG")) {
        // A job that ends with 0 has not done all that it was to do.
        folder.want_stop()?;
    }
    Ok(engine.kill(&container.id, signal).await?)
}

/// Ends a run that is this machine's: its container where there is one, and its supervisor's work on it.
async fn halt<E>(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    end_container: impl Fn(String) -> E,
    events: &Events,
) -> Result<(), RunFailure>
where
    E: Future<Output = Result<(), RunError>>,
{
    let folder = store.run(id);
    // Before a container is looked for: from now on its supervisor starts none.
    folder.want_stop()?;
    let ending = async {
        loop {
            let found = container_of(engine, &folder).await?;
            if let Some(up) = found.filter(|container| container.status.is_up()) {
                return match end_container(up.id).await {
                    // It has just ended by itself.
                    Err(RunError::NoContainer { .. }) => Ok::<_, RunFailure>(()),
                    ended => Ok(ended?),
                };
            }
            sleep(LOOK).await;
        }
    };
    let finished = finished(engine, store, id, events);
    let mut finished = std::pin::pin!(finished);
    tokio::select! {
        ended = ending => ended?,
        finished = &mut finished => return finished,
    }
    finished.await
}

/// Waits until a run's record is final: its supervisor's work, or ours if it has none.
async fn finished(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    events: &Events,
) -> Result<(), RunFailure> {
    let (_sender, mut controls) = tokio::sync::mpsc::unbounded_channel();
    let is_ours = AtomicBool::new(false);
    let connect = || async {
        is_ours.store(true, Ordering::Relaxed);
        Ok(engine.clone())
    };
    let streams = Streams::default();
    let attending = attend(connect, store, id, streams, &mut controls, events);
    let mut attending = Box::pin(attending);
    let start = Instant::now();
    if let Ok(ended) = timeout(PATIENCE, &mut attending).await {
        return ended.map(|_: Ended| ());
    }
    events.send(Event::Note(format!(
        "waiting until the supervisor of the run {} has collected its outputs and finished its record",
        id.short()
    )));
    loop {
        if let Ok(ended) = timeout(NOTICE, &mut attending).await {
            return ended.map(|_: Ended| ());
        }
        let found = container_of(engine, &store.run(id)).await?;
        let has_ended = |container: Container| match container.status {
            Status::Created => false,
            status => !status.is_up(),
        };
        let has_ended = found.is_some_and(has_ended);
        if !is_ours.load(Ordering::Relaxed) && (!has_ended || start.elapsed() >= FINISH) {
            return Err(RunFailure::NotStopped { id, has_ended });
        }
    }
}

/// Removes a run with all that is kept of it; one that goes on is ended first, if that is forced.
///
/// # Errors
///
/// It goes on, or it can't be removed.
pub async fn remove<C>(
    connect: impl Fn() -> C,
    store: &Store,
    id: RunId,
    is_forced: bool,
    events: &Events,
) -> Result<(), RunFailure>
where
    C: Future<Output = Result<DockerEngine, EngineError>>,
{
    if !is_forced && let Some(by) = reader(store, id)? {
        return Err(RunFailure::InUse { id, by });
    }
    let known = store.read(id).ok();
    // One that can't be read has nobody who finishes it.
    if let Some(record) = known {
        let has_container = record
            .attempts
            .last()
            .is_some_and(|attempt| !attempt.is_removed);
        if !is_forced && has_container && !record.lost_outputs.is_empty() {
            let outputs = record.lost_outputs.into_keys().collect();
            return Err(RunFailure::Uncollected { id, outputs });
        }
        if !record.state.is_final() {
            let engine = connect().await?;
            let ended = if is_forced {
                end(&engine, store, id, None, None, events).await
            } else {
                let found = look_after(&engine, store, id, events).await;
                found.map(|_: Adopted| ())
            };
            match ended {
                // Of a copy nothing but the copy is removed.
                Err(RunFailure::Elsewhere { .. } | RunFailure::NotHere { .. }) => {}
                ended => {
                    ended?;
                    if !store.read(id)?.state.is_final() {
                        return Err(RunFailure::GoesOn { id });
                    }
                }
            }
        }
        if record.attempts.iter().any(may_be_left) {
            let engine = connect().await?;
            let left = match container::all_of(&engine, &store.run(id)).await {
                Err(RunFailure::Elsewhere { .. }) => Vec::new(),
                left => left?,
            };
            for left in left {
                container::remove(&engine, id, &left.id).await?;
            }
        }
    }
    let mut looks = 0;
    let _lock = loop {
        if let Some(lock) = store.run(id).try_lock()? {
            break lock;
        }
        // Whoever has finished it just now removes its container, and is done.
        let is_over = store.read(id).is_ok_and(|record| record.state.is_final());
        if !is_over || looks == LOOKS {
            return Err(RunFailure::GoesOn { id });
        }
        looks += 1;
        sleep(LOOK).await;
    };
    store.remove(id)?;
    Ok(())
}

fn may_be_left(attempt: &Attempt) -> bool {
    attempt.container_id.is_some() && !attempt.is_removed
}

/// A run that goes on, and reads what another has made.
fn reader(store: &Store, id: RunId) -> Result<Option<RunId>, StoreError> {
    let reads = |reader: &RunId| {
        let record = store.read(*reader);
        record.is_ok_and(|record| record.parents.values().any(|parent| *parent == id))
    };
    Ok(store.unfinished()?.into_iter().find(reads))
}

/// Removes the runs that are over and that nothing keeps. Which, newest first.
///
/// # Errors
///
/// A record can't be read or removed.
pub fn prune(store: &Store, kept: Kept, is_dry: bool) -> Result<Vec<RunId>, StoreError> {
    let runs = store.summaries()?.runs;
    let mut parents = store.promoted()?.runs();
    let mut counts = BTreeMap::new();
    let mut chosen = Vec::new();
    for run in &runs {
        if is_kept(run, kept, &mut counts) || parents.contains(&run.id) {
            // A parent is older than its children, and so comes after them.
            if let Ok(record) = store.read(run.id) {
                parents.extend(record.parents.into_values());
            }
            continue;
        }
        chosen.push(run.id);
    }
    if is_dry {
        return Ok(chosen);
    }
    let mut removed = Vec::new();
    for id in chosen {
        if let Some(_lock) = store.run(id).try_lock()? {
            store.remove(id)?;
            removed.push(id);
        }
    }
    Ok(removed)
}

/// How many runs of a job were seen, and how many of them succeeded.
type Counts = BTreeMap<Option<String>, [usize; 2]>;

/// Whether a run stays. As many that succeeded stay as of all: failures must not push out the last result.
fn is_kept(run: &Summary, kept: Kept, counts: &mut Counts) -> bool {
    // Its container is still to be removed, by whoever asks for it.
    let has_container = run.container_id.is_some() && !run.is_removed;
    let has_succeeded = run.ending == Some(Ending::Success);
    let [all, succeeded] = counts.entry(run.job.clone()).or_default();
    *all += 1;
    *succeeded += usize::from(has_succeeded);
    !run.state.is_final()
        || has_container
        || *all <= kept.newest
        || (has_succeeded && *succeeded <= kept.newest)
        || kept.since.is_some_and(|since| run.created >= since)
}
