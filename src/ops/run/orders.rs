//! What is done to runs from outside: ended, signalled, removed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::adopt::{Adopted, check_place, look_after};
use super::container::{self, container_of, up_container_of};
use super::{Ended, RunFailure, attend};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::run::Container;
use crate::event::Events;
use crate::model::RunId;
use crate::ops::run::Streams;
use crate::records::{Attempt, Ending, Record, Store, StoreError, Summary};

/// How long a run's supervisor has to finish it, once its container has ended.
const FINISH: Duration = Duration::from_mins(10);

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

/// Ends a run, and waits until its record says so.
///
/// # Errors
///
/// It has no container that is up, or the engine can't be used.
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
    let found = check_ours(engine, store, &record).await?;
    let folder = store.run(id);
    folder.want_stop()?;
    if let Some(container) = found.filter(|container| container.status.is_up()) {
        let grace = grace.unwrap_or(Duration::from_millis(record.policy.grace_ms));
        engine.stop(&container.id, signal, grace).await?;
    }
    finished(engine, store, id, events).await
}

/// Sends a run a signal. One that kills it is waited for.
///
/// # Errors
///
/// It has no container that is up, or the engine can't be used.
pub async fn signal(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    signal: &str,
    events: &Events,
) -> Result<(), RunFailure> {
    let container = up_container_of(engine, &store.run(id)).await?;
    let kills = matches!(signal, "KILL" | "SIGKILL" | "9");
    if kills {
        store.run(id).want_stop()?;
    }
    engine.kill(&container.id, signal).await?;
    if kills {
        finished(engine, store, id, events).await?;
    }
    Ok(())
}

/// Waits until a run's record is final: its supervisor's work, or ours if it has none.
async fn finished(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    events: &Events,
) -> Result<(), RunFailure> {
    let (_sender, mut controls) = tokio::sync::mpsc::unbounded_channel();
    let connect = async || Ok(engine.clone());
    let streams = Streams::default();
    let attending = attend(connect, store, id, streams, &mut controls, events);
    match tokio::time::timeout(FINISH, attending).await {
        Ok(ended) => ended.map(|_: Ended| ()),
        Err(_) => Ok(()),
    }
}

/// Removes a run with all that is kept of it; one that goes on is ended first, if that is forced.
///
/// # Errors
///
/// It goes on, or it can't be removed.
pub async fn remove(
    connect: impl AsyncFn() -> Result<DockerEngine, EngineError>,
    store: &Store,
    id: RunId,
    is_forced: bool,
    events: &Events,
) -> Result<(), RunFailure> {
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
    let Some(_lock) = store.run(id).try_lock()? else {
        return Err(RunFailure::GoesOn { id });
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
