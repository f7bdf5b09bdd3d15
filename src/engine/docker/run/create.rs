//! Making a container.

use bollard::models::{ContainerCreateBody, HealthConfig};
use bollard::query_parameters::CreateContainerOptions;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use super::host::{host_config, nanoseconds};
use super::ports::ports;
use crate::engine::run::{Created, Health, RunError, RunSpec};
use crate::model::MountSource;

impl DockerEngine {
    /// Makes a container with its networks, and does not start it.
    ///
    /// # Errors
    ///
    /// The image is not there, the name is taken, the runtime for GPUs is unknown, a network can't be attached, or
    /// the engine refused or stopped answering.
    pub async fn create(&self, spec: &RunSpec) -> Result<Created, RunError> {
        let options = CreateContainerOptions {
            name: (!spec.name.is_empty()).then(|| spec.name.clone()),
            platform: spec.platform.clone().unwrap_or_default(),
        };
        // Podman would take the image for another platform.
        if self.is_podman
            && let Some(wanted) = &spec.platform
            && let Some(found) = self.image_details(&spec.image).await?
            && !found.is_for(wanted)
        {
            return Err(RunError::OtherPlatform {
                image: spec.image.clone(),
                platform: wanted.clone(),
            });
        }
        let body = body(spec, self.is_podman);
        let creating = self.docker.create_container(Some(options), body);
        let created = self
            .call_within(super::LONG, creating)
            .await
            .map_err(|error| of_create(error, spec))?;
        if let Err(error) = self.attach_networks(&created.id, &spec.networks).await {
            // It never started: there is nothing in it to keep.
            let _ = self.remove(&created.id).await;
            return Err(error);
        }
        Ok(Created {
            id: created.id,
            warnings: created.warnings,
        })
    }
}

/// A container as the engine's API has it.
fn body(spec: &RunSpec, is_podman: bool) -> ContainerCreateBody {
    let environment = spec
        .environment
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={}", value.expose()),
            None => name.to_string(),
        })
        .collect();
    let volumes: Vec<_> = spec
        .mounts
        .iter()
        .filter(|mount| *mount.source() == MountSource::Anonymous)
        .map(|mount| mount.target().as_str().to_owned())
        .collect();
    let (exposed, bindings) = ports(&spec.ports);
    let entrypoint = spec.entrypoint.clone().map(|words| {
        // An empty list would mean the image's; one empty word means none.
        if words.is_empty() {
            vec![String::new()]
        } else {
            words
        }
    });
    ContainerCreateBody {
        hostname: spec.hostname.clone(),
        user: spec.user.clone(),
        attach_stdin: Some(spec.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin),
        env: Some(environment),
        cmd: spec.command.clone(),
        healthcheck: spec.health.as_ref().map(health),
        image: Some(spec.image.clone()),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: spec.workdir.clone(),
        entrypoint,
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_grace.map(super::end::whole_seconds),
        host_config: Some(host_config(spec, bindings, is_podman)),
        networking_config: super::networks::first(&spec.networks),
        ..ContainerCreateBody::default()
    }
}

fn health(health: &Health) -> HealthConfig {
    HealthConfig {
        test: (!health.test.is_empty()).then(|| health.test.clone()),
        interval: health.interval.map(nanoseconds),
        timeout: health.timeout.map(nanoseconds),
        retries: health.retries.map(i64::from),
        start_period: health.start_period.map(nanoseconds),
        start_interval: None,
    }
}

/// Why a container was not made, by the engine's words.
fn of_create(error: EngineError, spec: &RunSpec) -> RunError {
    let EngineError::Refused { status, message } = error else {
        return error.into();
    };
    let lower = message.to_lowercase();
    let is_about_runtime =
        lower.contains("unknown runtime") || lower.contains("invalid runtime name");
    if status == 404 && (lower.contains("no such image") || lower.contains("image not known")) {
        return RunError::NoImage {
            image: spec.image.clone(),
        };
    }
    // Of Podman; and of Docker, which says it only when the container is started.
    if lower.contains("container-init binary not found") {
        return RunError::NoInit { message };
    }
    if let Some(peer) = super::start::missing_container(&message) {
        return RunError::NoPeer { peer };
    }
    if says_other_platform(&lower)
        && let Some(platform) = &spec.platform
    {
        return RunError::OtherPlatform {
            image: spec.image.clone(),
            platform: platform.clone(),
        };
    }
    if let Some(holder) = holder(&message) {
        return RunError::NameTaken {
            name: spec.name.clone(),
            holder: holder.to_owned(),
        };
    }
    if is_about_runtime && spec.runtime.as_deref() == Some("nvidia") {
        return RunError::NoGpu { message };
    }
    EngineError::Refused { status, message }.into()
}

/// Whether an engine says that it has the image, but not for the platform that was asked for: 20.10 and 26,
/// 28, and 28 with containerd's image store.
fn says_other_platform(message: &str) -> bool {
    [
        "does not match the specified platform",
        "does not provide the specified platform",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// The id in docker's `… is already in use by container "ID". …` and Podman's `… by ID. …`.
fn holder(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("already in use by ")?;
    let rest = rest.strip_prefix("container ").unwrap_or(rest);
    rest.split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() >= 12)
}
