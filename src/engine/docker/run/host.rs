//! What of a container is the engine's machine's.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountTmpfsOptions, MountType,
    MountVolumeOptions, PortMap, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::devices::{device_files, device_requests};
use crate::engine::run::{Bound, BoundKind, RunSpec};
use crate::model::{ByteSize, MountSource, Restart};

/// The part of a request that is about the engine's machine.
pub(super) fn host_config(spec: &RunSpec, ports: PortMap, is_podman: bool) -> HostConfig {
    let limits = &spec.limits;
    let binds = spec
        .mounts
        .iter()
        .filter(|mount| *mount.source() != MountSource::Anonymous)
        .map(ToString::to_string);
    let ulimits = limits.ulimits.iter().map(|limit| ResourcesUlimits {
        name: Some(limit.name().to_owned()),
        soft: Some(limit.soft()),
        hard: Some(limit.hard()),
    });
    HostConfig {
        memory: limits.memory.as_ref().map(bytes),
        nano_cpus: limits.cpus.as_ref().map(|cpus| saturated(cpus.nano())),
        shm_size: limits.shm_size.as_ref().map(bytes),
        ulimits: some(ulimits),
        devices: some(device_files(&spec.devices)),
        device_requests: some(device_requests(&spec.gpus, &spec.devices)),
        binds: some(binds),
        mounts: some(spec.bound.iter().map(mount)),
        tmpfs: (!spec.tmpfs.is_empty()).then(|| spec.tmpfs.clone().into_iter().collect()),
        port_bindings: (!ports.is_empty()).then_some(ports),
        network_mode: Some(network_mode(spec)),
        log_config: (!is_podman).then(log_config),
        restart_policy: Some(restart_policy(spec.restart)),
        cap_add: some(spec.cap_add.clone()),
        cap_drop: some(spec.cap_drop.clone()),
        extra_hosts: some(spec.extra_hosts.clone()),
        ipc_mode: spec.ipc.clone(),
        privileged: Some(spec.is_privileged),
        readonly_rootfs: Some(spec.is_read_only),
        security_opt: some(spec.security.clone()),
        init: spec.init,
        runtime: spec.runtime.clone(),
        ..HostConfig::default()
    }
}

/// A list for a field that is left out when it is empty.
fn some<T>(list: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let list: Vec<_> = list.into_iter().collect();
    (!list.is_empty()).then_some(list)
}

/// The first network, which is attached when the container is made.
fn network_mode(spec: &RunSpec) -> String {
    let first = spec.networks.first();
    first.map_or_else(|| "default".to_owned(), |network| network.name.clone())
}

fn bytes(size: &ByteSize) -> i64 {
    saturated(size.bytes())
}

fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A duration as the engine's API has it.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// How the engine keeps what the container writes: byte for byte, which its own default does not
/// do, and no more than a gigabyte.
fn log_config() -> HostConfigLogConfig {
    let options = [("max-size", "100m"), ("max-file", "10")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    HostConfigLogConfig {
        typ: Some("local".to_owned()),
        config: Some(HashMap::from(options)),
    }
}

fn mount(bound: &Bound) -> Mount {
    let typ = match bound.kind {
        BoundKind::Bind => MountType::BIND,
        BoundKind::Volume => MountType::VOLUME,
        BoundKind::Tmpfs => MountType::TMPFS,
    };
    Mount {
        target: Some(bound.target.clone()),
        source: bound.source.clone(),
        typ: Some(typ),
        read_only: bound.is_read_only.then_some(true),
        consistency: bound.consistency.clone(),
        bind_options: bound
            .propagation
            .as_ref()
            .map(|propagation| MountBindOptions {
                propagation: propagation.parse().ok(),
                ..MountBindOptions::default()
            }),
        volume_options: bound.is_not_copied_to.then(|| MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        tmpfs_options: (bound.size.is_some() || bound.mode.is_some()).then(|| MountTmpfsOptions {
            size_bytes: bound.size.as_ref().map(bytes),
            mode: bound.mode.map(i64::from),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    }
}

fn restart_policy(restart: Option<Restart>) -> RestartPolicy {
    let (name, limit) = match restart {
        None | Some(Restart::No) => (RestartPolicyNameEnum::NO, None),
        Some(Restart::Always) => (RestartPolicyNameEnum::ALWAYS, None),
        Some(Restart::UnlessStopped) => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Some(Restart::OnFailure(limit)) => (RestartPolicyNameEnum::ON_FAILURE, limit),
    };
    RestartPolicy {
        name: Some(name),
        maximum_retry_count: limit.map(i64::from),
    }
}
