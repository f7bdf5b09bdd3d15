//! What the engine knows of containers.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as StateStatus, ContainerSummary,
    ContainerSummaryStateEnum as SummaryStatus, HealthStatusEnum, PortMap, PortSummaryTypeEnum,
};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use jiff::Timestamp;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::engine::run::{Container, Status};
use crate::model::Digest;

impl DockerEngine {
    /// A container by its id or name; `None` if the engine does not have it.
    ///
    /// # Errors
    ///
    /// The engine refused or stopped answering.
    pub async fn container(&self, id_or_name: &str) -> Result<Option<Container>, EngineError> {
        let asking = self
            .docker
            .inspect_container(id_or_name, None::<InspectContainerOptions>);
        match self.call(asking).await {
            Ok(found) => Ok(Some(inspected(found))),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The containers that have a label, of this value or of any, whatever they do. It is one
    /// call, and the engine says less than for one container: times, the limit of memory, whether
    /// there is a terminal, and why it was killed are missing.
    ///
    /// # Errors
    ///
    /// The engine refused or stopped answering.
    pub async fn containers_labelled(
        &self,
        label: &str,
        value: Option<&str>,
    ) -> Result<Vec<Container>, EngineError> {
        let filter = match value {
            Some(value) => format!("{label}={value}"),
            None => label.to_owned(),
        };
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![filter])])),
            ..ListContainersOptions::default()
        };
        let found = self
            .call(self.docker.list_containers(Some(options)))
            .await?;
        Ok(found.into_iter().map(listed).collect())
    }

    /// The images of all containers, whatever they do.
    ///
    /// # Errors
    ///
    /// The engine refused or stopped answering.
    pub(crate) async fn images_in_use(&self) -> Result<BTreeSet<Digest>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            ..ListContainersOptions::default()
        };
        let found = self
            .call(self.docker.list_containers(Some(options)))
            .await?;
        let ids = found.into_iter().filter_map(|container| container.image_id);
        Ok(ids.filter_map(|id| id.parse().ok()).collect())
    }
}

fn inspected(found: ContainerInspectResponse) -> Container {
    let state = found.state.unwrap_or_default();
    let status = match state.status {
        Some(StateStatus::RUNNING | StateStatus::STOPPING) => Status::Running,
        Some(StateStatus::PAUSED) => Status::Paused,
        Some(StateStatus::RESTARTING) => Status::Restarting,
        Some(StateStatus::REMOVING) => Status::Removing,
        Some(StateStatus::EXITED) => Status::Exited,
        Some(StateStatus::DEAD) => Status::Dead,
        Some(StateStatus::CREATED | StateStatus::EMPTY) | None => Status::Created,
    };
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let finished = state.finished_at.as_deref().and_then(time);
    let health = state.health.and_then(|health| health.status);
    Container {
        id: found.id.unwrap_or_default(),
        name: bare(found.name.unwrap_or_default()),
        image: found.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        status,
        created: found
            .created
            .and_then(|time| Timestamp::from_nanosecond(time.unix_timestamp_nanos()).ok()),
        started: state.started_at.as_deref().and_then(time),
        finished,
        exit_code: state
            .exit_code
            .filter(|_| !status.is_up() && finished.is_some()),
        is_oom_killed: state.oom_killed.unwrap_or(false),
        error: state.error.filter(|error| !error.is_empty()),
        tty: config.tty.unwrap_or(false),
        health: health
            .filter(|health| !matches!(health, HealthStatusEnum::EMPTY | HealthStatusEnum::NONE))
            .map(|health| health.to_string()),
        memory_limit: host
            .memory
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0),
        // The engine counts before it starts it.
        restarts: found
            .restart_count
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default()
            .saturating_sub(u32::from(status == Status::Restarting)),
        ports: published(found.network_settings.and_then(|settings| settings.ports)),
    }
}

fn listed(found: ContainerSummary) -> Container {
    let status = match found.state {
        Some(SummaryStatus::RUNNING) => Status::Running,
        Some(SummaryStatus::PAUSED) => Status::Paused,
        Some(SummaryStatus::RESTARTING) => Status::Restarting,
        Some(SummaryStatus::REMOVING) => Status::Removing,
        Some(SummaryStatus::EXITED) => Status::Exited,
        Some(SummaryStatus::DEAD) => Status::Dead,
        _ => Status::Created,
    };
    let words = found.status.unwrap_or_default();
    let name = found.names.and_then(|names| names.into_iter().next());
    Container {
        id: found.id.unwrap_or_default(),
        name: bare(name.unwrap_or_default()),
        image: found.image_id.unwrap_or_default(),
        labels: found.labels.unwrap_or_default().into_iter().collect(),
        status,
        created: found
            .created
            .and_then(|second| Timestamp::from_second(second).ok()),
        started: None,
        finished: None,
        exit_code: exit_code(&words),
        is_oom_killed: false,
        error: None,
        tty: false,
        health: health(&words).map(str::to_owned),
        memory_limit: None,
        restarts: 0,
        ports: (found.ports.into_iter().flatten())
            .filter(|port| port.typ == Some(PortSummaryTypeEnum::TCP))
            .filter_map(|port| {
                let ip = port.ip?.parse().ok()?;
                Some((port.private_port, SocketAddr::new(ip, port.public_port?)))
            })
            .collect(),
    }
}

/// Ports of TCP, and where the engine has published them.
fn published(ports: Option<PortMap>) -> Vec<(u16, SocketAddr)> {
    let mut published: Vec<_> = (ports.into_iter().flatten())
        .filter_map(|(name, bindings)| {
            let inside: u16 = name.strip_suffix("/tcp")?.parse().ok()?;
            let bindings = bindings.into_iter().flatten();
            let at = bindings.filter_map(|binding| {
                let ip = binding.host_ip?.parse().ok()?;
                let port = binding.host_port?.parse().ok()?;
                Some((inside, SocketAddr::new(ip, port)))
            });
            Some(at.collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    published.sort_unstable();
    published
}

/// A name without the slash that the engine puts before it.
fn bare(name: String) -> String {
    match name.strip_prefix('/') {
        Some(bare) => bare.to_owned(),
        None => name,
    }
}

/// The engine writes the year 1 for "never".
fn time(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .filter(|time| *time > Timestamp::UNIX_EPOCH)
}

/// The exit code in `Exited (137) 3 minutes ago`.
fn exit_code(words: &str) -> Option<i64> {
    let rest = words.strip_prefix("Exited (")?;
    rest.split_once(')')?.0.parse().ok()
}

/// The health in `Up 2 minutes (healthy)` and `Up 1 second (health: starting)`.
fn health(words: &str) -> Option<&'static str> {
    let (_, rest) = words.strip_prefix("Up ")?.split_once('(')?;
    match rest.trim_end_matches(')') {
        "healthy" => Some("healthy"),
        "unhealthy" => Some("unhealthy"),
        "health: starting" | "starting" => Some("starting"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{exit_code, health};

    #[test]
    fn the_engines_summary_is_understood() {
        for (words, code, state) in [
            ("Exited (0) 3 minutes ago", Some(0), None),
            ("Exited (137) About an hour ago", Some(137), None),
            ("Up 2 minutes (healthy)", None, Some("healthy")),
            ("Up 1 second (health: starting)", None, Some("starting")),
            ("Up 3 hours (unhealthy)", None, Some("unhealthy")),
            ("Up 3 hours (Paused)", None, None),
            ("Up Less than a second", None, None),
            ("Created", None, None),
            ("Restarting (1) 5 seconds ago", None, None),
        ] {
            assert_eq!((exit_code(words), health(words)), (code, state), "{words}");
        }
    }
}
