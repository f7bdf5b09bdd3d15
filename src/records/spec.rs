//! A container's description in a record, from which it can be made once more.
//!
//! All of it but the variables, which have a place of their own: their values are not kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::run::{Bound, BoundKind, Health, Limits, RunSpec};
use crate::model::{Devices, GpuRequest, Restart, Scalar, ValueError};

/// Why a container's description can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It is not what this version writes.
    #[error("the container's description in the record is not one: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A value in it is none.
    #[error("`{field}` of the container's description in the record: {error}")]
    Value {
        /// Where it stands.
        field: &'static str,
        /// What is wrong.
        error: ValueError,
    },
}

/// The description as a record keeps it.
///
/// # Panics
///
/// Never: all keys are texts.
#[must_use]
pub fn to_json(spec: &RunSpec) -> Value {
    serde_json::to_value(Form::from(spec)).expect("a form has texts as keys")
}

/// The description that a record keeps, without variables.
///
/// # Errors
///
/// It has a field that this version does not know, or a value that is none.
pub fn from_json(value: &Value) -> Result<RunSpec, SpecError> {
    Form::deserialize(value)?.spec()
}

/// A description as it is written: what is not there, nobody asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent, as docker's flags are"
)]
struct Form {
    #[serde(skip_serializing_if = "String::is_empty")]
    image: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<BoundForm>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    further_networks: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gpus: Vec<GpuForm>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    security: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cap_add: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cap_drop: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    privileged: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tty: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stdin: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_grace: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<RestartForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra_hosts: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundForm {
    #[serde(rename = "type")]
    kind: BoundKindForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    target: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    read_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    nocopy: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    propagation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consistency: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BoundKindForm {
    Bind,
    Volume,
    Tmpfs,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GpuForm {
    devices: DevicesForm,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    driver: String,
    capabilities: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DevicesForm {
    All,
    Count(u32),
    Ids(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthForm {
    test: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_period: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RestartForm {
    Always,
    UnlessStopped,
    OnFailure(Option<u32>),
}

impl From<&RunSpec> for Form {
    fn from(spec: &RunSpec) -> Self {
        let RunSpec {
            environment: _,
            limits,
            ..
        } = spec;
        Self {
            image: spec.image.clone(),
            name: spec.name.clone(),
            platform: spec.platform.clone(),
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            user: spec.user.clone(),
            workdir: spec.workdir.clone(),
            labels: spec.labels.clone(),
            volumes: texts(&spec.mounts),
            mounts: spec.bound.iter().map(BoundForm::from).collect(),
            tmpfs: spec.tmpfs.clone(),
            ports: texts(&spec.ports),
            network: spec.networks.first().map(ToString::to_string),
            further_networks: texts(spec.networks.get(1..).unwrap_or_default()),
            gpus: spec.gpus.iter().map(GpuForm::from).collect(),
            devices: texts(&spec.devices),
            runtime: spec.runtime.clone(),
            cpus: limits.cpus.as_ref().map(ToString::to_string),
            memory: limits.memory.as_ref().map(ToString::to_string),
            shm_size: limits.shm_size.as_ref().map(ToString::to_string),
            ulimits: texts(&limits.ulimits),
            ipc: spec.ipc.clone(),
            init: spec.init,
            security: spec.security.clone(),
            cap_add: spec.cap_add.clone(),
            cap_drop: spec.cap_drop.clone(),
            privileged: spec.is_privileged,
            read_only: spec.is_read_only,
            tty: spec.tty,
            stdin: spec.stdin,
            stop_signal: spec.stop_signal.clone(),
            stop_grace: spec.stop_grace,
            health: spec.health.as_ref().map(HealthForm::from),
            restart: spec.restart.and_then(|restart| match restart {
                Restart::No => None,
                Restart::Always => Some(RestartForm::Always),
                Restart::UnlessStopped => Some(RestartForm::UnlessStopped),
                Restart::OnFailure(count) => Some(RestartForm::OnFailure(count)),
            }),
            hostname: spec.hostname.clone(),
            extra_hosts: spec.extra_hosts.clone(),
        }
    }
}

impl Form {
    fn spec(self) -> Result<RunSpec, SpecError> {
        Ok(RunSpec {
            image: self.image,
            name: self.name,
            platform: self.platform,
            entrypoint: self.entrypoint,
            command: self.command,
            environment: Vec::new(),
            user: self.user,
            workdir: self.workdir,
            labels: self.labels,
            mounts: values("volumes", &self.volumes)?,
            bound: self
                .mounts
                .into_iter()
                .map(BoundForm::bound)
                .collect::<Result<_, _>>()?,
            tmpfs: self.tmpfs,
            ports: values("ports", &self.ports)?,
            networks: values(
                "network",
                &[self.network.into_iter().collect(), self.further_networks].concat(),
            )?,
            gpus: self.gpus.into_iter().map(GpuForm::request).collect(),
            devices: values("devices", &self.devices)?,
            runtime: self.runtime,
            limits: Limits {
                cpus: optional("cpus", self.cpus.as_deref())?,
                memory: optional("memory", self.memory.as_deref())?,
                shm_size: optional("shm_size", self.shm_size.as_deref())?,
                ulimits: values("ulimits", &self.ulimits)?,
            },
            ipc: self.ipc,
            init: self.init,
            security: self.security,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            is_privileged: self.privileged,
            is_read_only: self.read_only,
            tty: self.tty,
            stdin: self.stdin,
            stop_signal: self.stop_signal,
            stop_grace: self.stop_grace,
            health: self.health.map(HealthForm::health),
            restart: self.restart.map(|restart| match restart {
                RestartForm::Always => Restart::Always,
                RestartForm::UnlessStopped => Restart::UnlessStopped,
                RestartForm::OnFailure(count) => Restart::OnFailure(count),
            }),
            hostname: self.hostname,
            extra_hosts: self.extra_hosts,
        })
    }
}

impl From<&Bound> for BoundForm {
    fn from(bound: &Bound) -> Self {
        Self {
            kind: match bound.kind {
                BoundKind::Bind => BoundKindForm::Bind,
                BoundKind::Volume => BoundKindForm::Volume,
                BoundKind::Tmpfs => BoundKindForm::Tmpfs,
            },
            source: bound.source.clone(),
            target: bound.target.clone(),
            read_only: bound.is_read_only,
            size: bound.size.as_ref().map(ToString::to_string),
            mode: bound.mode,
            nocopy: bound.is_not_copied_to,
            propagation: bound.propagation.clone(),
            consistency: bound.consistency.clone(),
        }
    }
}

impl BoundForm {
    fn bound(self) -> Result<Bound, SpecError> {
        Ok(Bound {
            kind: match self.kind {
                BoundKindForm::Bind => BoundKind::Bind,
                BoundKindForm::Volume => BoundKind::Volume,
                BoundKindForm::Tmpfs => BoundKind::Tmpfs,
            },
            source: self.source,
            target: self.target,
            is_read_only: self.read_only,
            size: optional("mounts", self.size.as_deref())?,
            mode: self.mode,
            is_not_copied_to: self.nocopy,
            propagation: self.propagation,
            consistency: self.consistency,
        })
    }
}

impl From<&GpuRequest> for GpuForm {
    fn from(request: &GpuRequest) -> Self {
        Self {
            devices: match &request.devices {
                Devices::All => DevicesForm::All,
                Devices::Count(count) => DevicesForm::Count(*count),
                Devices::Ids(ids) => DevicesForm::Ids(ids.clone()),
            },
            driver: request.driver.clone(),
            capabilities: request.capabilities.clone(),
            options: request.options.clone(),
        }
    }
}

impl GpuForm {
    fn request(self) -> GpuRequest {
        GpuRequest {
            devices: match self.devices {
                DevicesForm::All => Devices::All,
                DevicesForm::Count(count) => Devices::Count(count),
                DevicesForm::Ids(ids) => Devices::Ids(ids),
            },
            driver: self.driver,
            capabilities: self.capabilities,
            options: self.options,
        }
    }
}

impl From<&Health> for HealthForm {
    fn from(health: &Health) -> Self {
        Self {
            test: health.test.clone(),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            retries: health.retries,
        }
    }
}

impl HealthForm {
    fn health(self) -> Health {
        Health {
            test: self.test,
            interval: self.interval,
            timeout: self.timeout,
            start_period: self.start_period,
            retries: self.retries,
        }
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn values<T: Scalar>(field: &'static str, texts: &[String]) -> Result<Vec<T>, SpecError> {
    let values = texts.iter().map(|text| text.parse());
    values
        .collect::<Result<_, _>>()
        .map_err(|error| SpecError::Value { field, error })
}

fn optional<T: Scalar>(field: &'static str, text: Option<&str>) -> Result<Option<T>, SpecError> {
    text.map(str::parse)
        .transpose()
        .map_err(|error| SpecError::Value { field, error })
}

#[cfg(test)]
mod tests;
