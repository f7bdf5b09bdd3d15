//! Takes services down.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::service::serving;
use super::{UpFailure, take_lock};
use crate::engine::docker::DockerEngine;
use crate::event::Events;
use crate::model::{Name, RunId};
use crate::ops::run::{Orphan, RunFailure, check_ours, end, orphans, reconcile, remove_orphan};
use crate::records::{FileLock, ServiceFolder, Store};

/// How often it is looked whether the process that listens has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end.
const END: Duration = Duration::from_secs(15);

/// A service that was taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The service.
    pub job: Name,
    /// Its runs that were ended.
    pub runs: Vec<RunId>,
}

/// Takes services down: those that are named, or all.
///
/// # Errors
///
/// The engine can't be used, or another process changes what runs.
pub async fn down(
    engine: &DockerEngine,
    store: &Store,
    named: &[String],
    events: &Events,
) -> Result<Vec<Down>, UpFailure> {
    let _lock = take_lock(store).await?;
    reconcile(engine, store, events).await;
    let orphans = orphans(engine, store).await?.into_iter();
    let orphans: Vec<_> = orphans.filter(|orphan| orphan.is_service).collect();
    let mut jobs = store.services()?;
    // What has no job's name was not started by jobctl.
    let name = |job: &String| job.parse::<Name>().ok();
    let orphan_job = |orphan: &Orphan| orphan.job.as_ref().and_then(name);
    jobs.extend(orphans.iter().filter_map(orphan_job));
    let runs = store.summaries()?.runs.into_iter();
    let up = runs.filter(|run| run.is_service && !run.state.is_final());
    jobs.extend(up.filter_map(|run| run.job.as_ref().and_then(name)));
    jobs.sort();
    jobs.dedup();
    jobs.retain(|job| named.is_empty() || named.iter().any(|name| name == job.as_str()));
    let mut taken = Vec::new();
    for job in jobs {
        let serving = serving(store, job.as_str())?;
        // A record that came with a copy or a clone says nothing about what is up here.
        for record in &serving {
            check_ours(engine, store, record).await?;
        }
        let service = store.service(&job);
        stop_listener(&job, &service).await?;
        service.remove()?;
        let mut runs = Vec::new();
        for record in serving {
            end(engine, store, record.id, None, None, events).await?;
            runs.push(record.id);
        }
        for orphan in orphans
            .iter()
            .filter(|orphan| orphan_job(orphan).as_ref() == Some(&job))
        {
            remove_orphan(engine, orphan, true).await?;
            runs.push(orphan.run);
        }
        taken.push(Down { job, runs });
    }
    Ok(taken)
}

/// Ends the process that listens, and waits until it has. It is asked to; one that does not hear, as of
/// an earlier version of jobctl, is signalled.
pub(super) async fn stop_listener(job: &Name, service: &ServiceFolder) -> Result<(), UpFailure> {
    let lock = service.lock();
    let is_held = || FileLock::is_held(&lock).map_err(RunFailure::from);
    if !is_held()? {
        return Ok(());
    }
    if service.ask_to_stop().await.is_err() {
        signal(&lock, Signal::TERM)?;
    }
    for _ in 0..2 {
        let start = Instant::now();
        while start.elapsed() < END {
            if !is_held()? {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        if !signal(&lock, Signal::KILL)? {
            break;
        }
    }
    Err(UpFailure::Listener {
        job: job.clone(),
        lock,
    })
}

/// Sends a signal to the process that has a lock, if it can be seen; whether that was done.
fn signal(lock: &Path, signal: Signal) -> Result<bool, RunFailure> {
    let holder = FileLock::holder(lock)?;
    Ok(holder.is_some_and(|holder| holder.signal(signal).is_ok()))
}
