//! What keeps a service reachable is brought back, whoever has ended it: the process that supervises it, the
//! one that listens on its ports, and where that one passes connections on.

use std::collections::BTreeMap;

use super::Launcher;
use super::down::stop_listener;
use crate::engine::docker::DockerEngine;
use crate::engine::run::Status;
use crate::event::{Event, Events};
use crate::model::{Name, RunId};
use crate::ops::run::{RunFailure, check_ours};
use crate::records::{FileLock, Store};

/// Brings back what keeps services reachable whose containers are up. Those that can't be reached at their
/// addresses all the same, and why.
///
/// Another process that changes what runs is left to it.
pub async fn restore(
    engine: &DockerEngine,
    store: &Store,
    launcher: &impl Launcher,
    lock: Option<&FileLock>,
    events: &Events,
) -> BTreeMap<RunId, String> {
    let mut unreachable = BTreeMap::new();
    let runs = store.summaries().map(|listing| listing.runs);
    let runs = runs.unwrap_or_default().into_iter();
    for run in runs.filter(|run| run.is_service && !run.state.is_final()) {
        let Some(job) = run.job.as_ref().and_then(|job| job.parse().ok()) else {
            continue;
        };
        match restore_one(engine, store, launcher, lock, &job, run.id).await {
            Ok(None) => {}
            Ok(Some(why)) => {
                unreachable.insert(run.id, why);
            }
            // What is elsewhere is kept reachable there.
            Err(RunFailure::NotHere { .. } | RunFailure::Elsewhere { .. }) => {}
            Err(error) => events.send(Event::Warning(format!(
                "the service `{job}` may not be reachable: {error}"
            ))),
        }
    }
    unreachable
}

async fn restore_one(
    engine: &DockerEngine,
    store: &Store,
    launcher: &impl Launcher,
    lock: Option<&FileLock>,
    job: &Name,
    id: RunId,
) -> Result<Option<String>, RunFailure> {
    let record = store.read(id)?;
    let found = check_ours(engine, store, &record).await?;
    let Some(container) = found.filter(|container| container.status.is_up()) else {
        return Ok(None);
    };
    if !store.run(id).is_locked()? {
        tokio::task::block_in_place(|| launcher.adopter(id))?;
    }
    let service = store.service(job);
    if service.route()?.is_none_or(|route| route.run != id) {
        return Ok(None);
    }
    service.change_route(id, |route| route.lead_to(&container))?;
    if container.status == Status::Running
        && let Some(port) = (service.route()?).and_then(|route| route.unpublished(&container))
    {
        return Ok(Some(format!(
            "the engine has not published port {port} of its container"
        )));
    }
    if FileLock::is_held(&service.lock())? {
        if !service.is_frozen().await {
            return Ok(None);
        }
        if lock.is_none() || stop_listener(job, &service).await.is_err() {
            return Ok(Some("the process that listens does not answer".to_owned()));
        }
    }
    // Whoever changes what runs starts the process itself, or wants it no more.
    let taken;
    if lock.is_none() {
        taken = store.take_up_lock()?;
        if taken.is_none() {
            return Ok(None);
        }
    }
    if FileLock::is_held(&service.lock())? || service.route()?.is_none() {
        return Ok(None);
    }
    let listening = tokio::task::block_in_place(|| launcher.listener(job));
    Ok(listening.err())
}
