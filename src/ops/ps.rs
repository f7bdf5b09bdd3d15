//! Runs that are not over, as they are right now.

use std::collections::BTreeMap;

use super::run::RUN_LABEL;
use crate::engine::docker::DockerEngine;
use crate::engine::run::{Container, RunError, Status};
use crate::event::{Event, Events};
use crate::records::{Store, StoreError, Summary};

/// A run, and what can be seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What its record says.
    pub run: Summary,
    /// Its container, if the engine has it.
    pub container: Option<Container>,
    /// Whether a jobctl looks after it.
    pub is_attended: bool,
}

impl Listed {
    /// What it does, in a word or two.
    #[must_use]
    pub fn status(&self) -> String {
        let state = self.run.state;
        if state.is_final() {
            return match self.run.exit_code {
                Some(code) if code != 0 => format!("{} ({code})", state.word()),
                _ => state.word().to_owned(),
            };
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
        if !self.is_attended {
            status.push_str(" (unattended)");
        }
        status
    }
}

/// The runs that are not over, or all of them; newest first. Without an engine, what the records
/// say.
///
/// # Errors
///
/// The records can't be read.
pub async fn list(
    engine: Option<&DockerEngine>,
    store: &Store,
    all: bool,
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
    runs.into_iter()
        .map(|run| {
            let is_attended = run.state.is_final() || store.run(run.id).is_locked()?;
            Ok(Listed {
                container: containers.remove(&run.id.to_string()),
                is_attended,
                run,
            })
        })
        .collect()
}

/// The newest container of each run.
async fn by_run(engine: &DockerEngine) -> Result<BTreeMap<String, Container>, RunError> {
    let mut found = BTreeMap::new();
    let mut containers = engine.containers_labelled(RUN_LABEL, None).await?;
    // A further attempt has a longer name.
    containers.sort_by_key(|container| container.name.len());
    for container in containers {
        if let Some(run) = container.labels.get(RUN_LABEL).cloned() {
            found.insert(run, container);
        }
    }
    Ok(found)
}
