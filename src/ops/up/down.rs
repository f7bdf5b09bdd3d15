//! Takes services down.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::UpFailure;
use super::service::serving;
use crate::engine::docker::DockerEngine;
use crate::event::Events;
use crate::model::RunId;
use crate::ops::run::{RunFailure, end, reconcile};
use crate::records::{FileLock, ServiceFolder, Store};

/// How often it is looked whether the process that listens has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end.
const END: Duration = Duration::from_secs(15);

/// A service that was taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The service.
    pub job: String,
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
    let Some(_lock) = store.take_up_lock()? else {
        return Err(UpFailure::Busy);
    };
    reconcile(engine, store, events).await;
    let mut jobs = store.services()?;
    let runs = store.summaries()?.runs.into_iter();
    let up = runs.filter(|run| run.is_service && !run.state.is_final());
    jobs.extend(up.filter_map(|run| run.job));
    jobs.sort();
    jobs.dedup();
    jobs.retain(|job| named.is_empty() || named.contains(job));
    let mut taken = Vec::new();
    for job in jobs {
        let service = store.service(&job);
        stop_listener(&service).await?;
        service.remove()?;
        let mut runs = Vec::new();
        for record in serving(store, &job)? {
            end(engine, store, record.id, None, None, events).await?;
            runs.push(record.id);
        }
        taken.push(Down { job, runs });
    }
    Ok(taken)
}

/// Ends the process that listens, and waits until it has.
pub(super) async fn stop_listener(service: &ServiceFolder) -> Result<(), UpFailure> {
    let lock = service.lock();
    let start = Instant::now();
    let mut is_asked = false;
    while FileLock::is_held(&lock).map_err(RunFailure::from)? {
        let holder = FileLock::holder(&lock).map_err(RunFailure::from)?;
        if let Some(pid) = holder.and_then(Pid::from_raw) {
            let signal = match start.elapsed() {
                late if late >= END => Some(Signal::KILL),
                _ if is_asked => None,
                _ => Some(Signal::TERM),
            };
            is_asked = true;
            if let Some(signal) = signal {
                // One that is gone already needs none.
                let _ = kill_process(pid, signal);
            }
        }
        sleep(LOOK).await;
    }
    Ok(())
}
