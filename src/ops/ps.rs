//! Runs that are not over, as they are right now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use super::run::adopt::is_of;
use super::run::{Orphan, container, orphans};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::run::{Container, Status};
use crate::event::{Event, Events};
use crate::facts::host;
use crate::model::RunId;
use crate::plan::run::PROJECT_LABEL;
use crate::records::{Attempt, Record, State, Store, StoreError, Summary};

/// A run, and what can be seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What its record says.
    pub run: Summary,
    /// Its container, if the engine has it.
    pub container: Option<Container>,
    /// Whether a jobctl looks after it.
    pub is_attended: bool,
    /// The host that it is on, if that is another.
    pub other_host: Option<String>,
    /// Whether its record is gone: what is known of it is what the engine knows.
    pub is_orphan: bool,
    /// Where a service is reached on this machine.
    pub addresses: Vec<SocketAddr>,
    /// Why it is not reached there.
    pub unreachable: Option<String>,
}

impl Listed {
    fn orphan(orphan: Orphan) -> Self {
        let container = orphan.container;
        let mut record = Record::new(orphan.run, orphan.run.time());
        record.project = container.labels.get(PROJECT_LABEL).cloned();
        record.job = orphan.job;
        record.state = State::Running;
        record.image.name.clone_from(&container.image);
        record.policy.is_service = orphan.is_service;
        record.attempts.push(Attempt {
            container: container.name.clone(),
            container_id: Some(container.id.clone()),
            ..Attempt::default()
        });
        Self {
            run: Summary::from(&record),
            container: Some(container),
            is_attended: false,
            other_host: None,
            is_orphan: true,
            addresses: Vec::new(),
            unreachable: None,
        }
    }
}

impl Listed {
    /// How often the engine has started its container again by itself.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        let seen = self.container.as_ref().map_or(0, |found| found.restarts);
        self.run.restarts.max(seen)
    }

    /// What it does, in a word or two.
    #[must_use]
    pub fn status(&self) -> String {
        if self.is_orphan {
            return "orphan".to_owned();
        }
        let state = self.run.state;
        if state.is_final() {
            return match self.run.exit_code {
                Some(code) if code != 0 => format!("{} ({code})", state.word()),
                _ => state.word().to_owned(),
            };
        }
        if let Some(host) = &self.other_host {
            return format!("{} on {host}", state.word());
        }
        let Some(container) = &self.container else {
            return state.word().to_owned();
        };
        let mut status = match container.status {
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Created => "starting",
            Status::Removing | Status::Exited | Status::Dead => "ending",
        }
        .to_owned();
        if let Some(health) = &container.health {
            status = format!("{status}, {health}");
        }
        if let Some(restarted) = restarted(self.restarts()) {
            let _ = write!(status, ", {restarted}");
        }
        if self.unreachable.is_some() {
            status.push_str(", not reachable");
        }
        if !self.is_attended {
            status.push_str(" (unattended)");
        }
        status
    }
}

/// How often a container was started again, in words.
#[must_use]
pub fn restarted(count: u32) -> Option<String> {
    match count {
        0 => None,
        1 => Some("restarted once".to_owned()),
        count => Some(format!("restarted {count} times")),
    }
}

/// The runs that are not over, or all of them, newest first; and containers whose records are gone. Without
/// an engine, what the records say.
///
/// # Errors
///
/// The records can't be read.
pub async fn list(
    engine: Option<&DockerEngine>,
    store: &Store,
    all: bool,
    mut unreachable: BTreeMap<RunId, String>,
    events: &Events,
) -> Result<Vec<Listed>, StoreError> {
    let mut runs = store.summaries()?.runs;
    runs.retain(|run| all || !run.state.is_final());
    let is_any_up = runs.iter().any(|run| !run.state.is_final());
    let mut containers = match engine {
        Some(engine) if is_any_up => by_run(engine).await.unwrap_or_else(|error| {
            events.send(Event::Warning(format!(
                "{error}; what is shown is what was last known"
            )));
            BTreeMap::new()
        }),
        _ => BTreeMap::new(),
    };
    let orphans = match engine {
        Some(engine) => orphans(engine, store).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let listed = runs.into_iter().map(|run| {
        let is_attended = run.state.is_final() || store.run(run.id).is_locked()?;
        let container = containers.remove(&run.id);
        Ok(Listed {
            addresses: addresses(store, &run, container.as_ref()),
            container,
            unreachable: unreachable.remove(&run.id),
            is_attended,
            other_host: other_host(engine, store, &run),
            is_orphan: false,
            run,
        })
    });
    let orphans = orphans.into_iter().map(|orphan| Ok(Listed::orphan(orphan)));
    listed.chain(orphans).collect()
}

/// Where a service is reached: where a process of ours listens for it, or where the engine has published its
/// ports.
fn addresses(store: &Store, run: &Summary, container: Option<&Container>) -> Vec<SocketAddr> {
    if run.state.is_final() || !run.is_service {
        return Vec::new();
    }
    let job = run.job.as_ref().and_then(|job| job.parse().ok());
    let route = job.and_then(|job| store.service(&job).route().ok().flatten());
    match route.filter(|route| route.run == run.id) {
        Some(route) => route.ports.iter().map(|(address, _)| *address).collect(),
        None => {
            let ports = container.iter().flat_map(|container| &container.ports);
            ports.map(|(_, address)| *address).collect()
        }
    }
}

/// The host of a run that is not over, if that is not this machine.
fn other_host(engine: Option<&DockerEngine>, store: &Store, run: &Summary) -> Option<String> {
    let engine = engine.filter(|_| !run.state.is_final())?;
    let record = store.read(run.id).ok()?;
    let host = record.host.as_ref()?.name.clone();
    (!is_of(&record, engine) && host != host::name()).then_some(host)
}

/// The newest container of each run.
async fn by_run(engine: &DockerEngine) -> Result<BTreeMap<RunId, Container>, EngineError> {
    let containers = container::all(engine).await?.into_iter();
    let runs = containers.filter_map(|found| Some((container::run_of(&found)?, found)));
    Ok(runs.collect())
}
