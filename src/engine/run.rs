//! What an engine is asked to run, and what it says of it.
//!
//! Nothing here is docker's alone: another engine takes the same [`RunSpec`], or says before
//! anything is submitted what of it it can't do.

mod error;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

pub use self::error::RunError;
use crate::model::{
    ByteSize, Cpus, Device, EnvName, GpuRequest, Mount, NetworkAttachment, Port, Restart, Secret,
    Ulimit, csv,
};

/// A container as it is to be made.
///
/// A field that is `None` or empty leaves it to the image or to the engine.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent, as docker's flags are"
)]
pub struct RunSpec {
    /// The image: an id (`sha256:…`) or a name.
    pub image: String,
    /// The container's name.
    pub name: String,
    /// The platform of the image.
    pub platform: Option<String>,
    /// What replaces the image's entry point; empty for none at all.
    pub entrypoint: Option<Vec<String>>,
    /// What replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Variables in the order that they are given in; without a value, the image's is taken away.
    pub environment: Vec<(EnvName, Option<Secret>)>,
    /// User and group, as docker's `--user` takes them.
    pub user: Option<String>,
    /// The working directory.
    pub workdir: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Volumes and folders; those of this machine are absolute.
    pub mounts: Vec<Mount>,
    /// Mounts as docker's `--mount` takes them.
    pub bound: Vec<Bound>,
    /// Memory that is mounted, by where it appears, with options as docker's `--tmpfs` takes them.
    pub tmpfs: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Its networks; several, or one with addresses, are ones that exist. None: the engine's choice.
    pub networks: Vec<NetworkAttachment>,
    /// GPUs, and other devices that a driver provides.
    pub gpus: Vec<GpuRequest>,
    /// Devices, those of drivers among them.
    pub devices: Vec<Device>,
    /// The program that runs containers: `runc`, `nvidia`.
    pub runtime: Option<String>,
    /// Limits and sizes.
    pub limits: Limits,
    /// Whose System V IPC is used, as docker's `--ipc` takes it.
    pub ipc: Option<String>,
    /// Whether an init process is the first one in the container.
    pub init: Option<bool>,
    /// Options of the engine's confinement: `no-new-privileges`.
    pub security: Vec<String>,
    /// Capabilities that are added.
    pub cap_add: Vec<String>,
    /// Capabilities that are taken away.
    pub cap_drop: Vec<String>,
    /// Whether everything is allowed.
    pub is_privileged: bool,
    /// Whether the container's root file system can't be written to.
    pub is_read_only: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is ours.
    pub stdin: bool,
    /// The signal that asks it to end: `SIGTERM`.
    pub stop_signal: Option<String>,
    /// How long it may take to end before it is killed; [`Duration::MAX`] for as long as it takes.
    pub stop_grace: Option<Duration>,
    /// How it is found to be healthy.
    pub health: Option<Health>,
    /// When the engine starts it again.
    pub restart: Option<Restart>,
    /// The host's name in the container.
    pub hostname: Option<String>,
    /// Lines for the container's /etc/hosts, `name:address`.
    pub extra_hosts: Vec<String>,
}

/// Limits and sizes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Processor cores.
    pub cpus: Option<Cpus>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Of /dev/shm.
    pub shm_size: Option<ByteSize>,
    /// Of resources, as `ulimit` sets them.
    pub ulimits: Vec<Ulimit>,
}

/// A mount with its parts told apart, as docker's `--mount` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What is mounted.
    pub kind: BoundKind,
    /// A folder of the engine's machine, or a volume's name; nothing for a new volume and for tmpfs.
    pub source: Option<String>,
    /// Where it appears.
    pub target: String,
    /// Whether the container can't write to it.
    pub is_read_only: bool,
    /// The largest size of a tmpfs.
    pub size: Option<ByteSize>,
    /// The permissions of a tmpfs: `0o700`.
    pub mode: Option<u32>,
    /// Whether a new volume stays empty, instead of having what the image has there.
    pub is_not_copied_to: bool,
    /// How mounts below pass between a directory and the container: `rslave`.
    pub propagation: Option<String>,
    /// How soon both sides see changes, where the engine knows of that: `cached`.
    pub consistency: Option<String>,
}

impl Bound {
    /// A mount without options.
    #[must_use]
    pub fn of(kind: BoundKind, source: Option<String>, target: impl Into<String>) -> Self {
        Self {
            kind,
            source,
            target: target.into(),
            is_read_only: false,
            size: None,
            mode: None,
            is_not_copied_to: false,
            propagation: None,
            consistency: None,
        }
    }

    /// The same, which the container can't write to.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }
}

impl fmt::Display for Bound {
    /// As docker's `--mount` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            BoundKind::Bind => "bind",
            BoundKind::Volume => "volume",
            BoundKind::Tmpfs => "tmpfs",
        };
        let mut fields = vec![format!("type={kind}")];
        let source = self.source.iter();
        fields.extend(source.map(|source| format!("source={source}")));
        fields.push(format!("target={}", self.target));
        if self.is_read_only {
            fields.push("readonly".to_owned());
        }
        let size = self.size.iter();
        fields.extend(size.map(|size| format!("tmpfs-size={size}")));
        fields.extend(self.mode.map(|mode| format!("tmpfs-mode={mode:o}")));
        if self.is_not_copied_to {
            fields.push("volume-nocopy".to_owned());
        }
        let propagation = self.propagation.iter();
        fields.extend(propagation.map(|propagation| format!("bind-propagation={propagation}")));
        let consistency = self.consistency.iter();
        fields.extend(consistency.map(|consistency| format!("consistency={consistency}")));
        f.write_str(&csv::record(fields))
    }
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundKind {
    /// A file or folder of the engine's machine.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// How a container is found to be healthy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `CMD`, `CMD-SHELL` or `NONE`, and what is run; empty for the image's.
    pub test: Vec<String>,
    /// The time between two checks.
    pub interval: Option<Duration>,
    /// The time that a check may take.
    pub timeout: Option<Duration>,
    /// The time after the start in which failures don't count.
    pub start_period: Option<Duration>,
    /// How many failures in a row mean unhealthy.
    pub retries: Option<u32>,
}

impl Health {
    /// No health check at all, whatever the image has.
    #[must_use]
    pub fn none() -> Self {
        Self {
            test: vec!["NONE".to_owned()],
            ..Self::default()
        }
    }
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// What the engine warns of: `your kernel does not support swap limit capabilities`.
    pub warnings: Vec<String>,
}

/// How one is connected to a container's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// Whether the container has a terminal, as it was made with.
    pub tty: bool,
    /// Whether its standard input is written to.
    pub stdin: bool,
    /// Which keys detach, as docker's `--detach-keys` takes them.
    pub detach_keys: Option<String>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// That the container is not running; true at once for one that never started.
    Stopped,
    /// That it ends, from now on.
    NextExit,
    /// That it is removed.
    Removed,
}

/// What a container takes of memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySample {
    /// In bytes, without what the kernel would give back at once.
    pub used: u64,
    /// The most so far in bytes, caches included, where the kernel keeps count (cgroup v1).
    pub peak: Option<u64>,
}

/// What an engine knows of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// The id of the image it was made from.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub status: Status,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it started, if it did.
    pub started: Option<Timestamp>,
    /// When it ended, if it did.
    pub finished: Option<Timestamp>,
    /// Its exit code, if it ended.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed a process of it because its memory was full.
    pub is_oom_killed: bool,
    /// Why the engine could not start it, in its words.
    pub error: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// What its health check says, if it has one: `starting`, `healthy`, `unhealthy`.
    pub health: Option<String>,
    /// Its limit of memory in bytes, if it has one.
    pub memory_limit: Option<u64>,
    /// How often the engine has started it again by itself, as far as the engine knows.
    pub restarts: u32,
    /// Its ports of TCP that are published now, and where.
    pub ports: Vec<(u16, SocketAddr)>,
}

impl Container {
    /// Where a port of TCP is published on this machine.
    #[must_use]
    pub fn published(&self, port: u16) -> Option<SocketAddr> {
        let mut ports = self.ports.iter();
        ports.find(|(inside, _)| *inside == port).map(|(_, at)| *at)
    }
}

/// What a container does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// It was made, and never started.
    #[default]
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// The engine is starting it again.
    Restarting,
    /// The engine is removing it.
    Removing,
    /// It ended.
    Exited,
    /// The engine could not remove it whole.
    Dead,
}

impl Status {
    /// Whether processes of it are there.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// Which of a process's streams bytes are of.
pub use crate::event::Stream;

/// Bytes that a container wrote. With a terminal, all are of standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it wrote them.
    pub stream: Stream,
    /// The bytes.
    pub bytes: hyper::body::Bytes,
    /// When, where the engine says so.
    pub time: Option<Timestamp>,
}

/// Which part of a container's log is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogRequest {
    /// Whether to wait for more.
    pub follow: bool,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only until then.
    pub until: Option<Timestamp>,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Whether each chunk says when it was written.
    pub timestamps: bool,
}

/// A program to be run in a container that is up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Further variables.
    pub environment: Vec<(EnvName, Secret)>,
    /// User and group.
    pub user: Option<String>,
    /// The working directory.
    pub workdir: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is ours.
    pub stdin: bool,
    /// Whether everything is allowed.
    pub is_privileged: bool,
    /// Which keys detach, as docker's `--detach-keys` takes them.
    pub detach_keys: Option<String>,
}
