//! A job.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;

use super::{Build, Command, EnvFiles, GpusKey, Metrics, Needs, Retry, Variables};
use crate::manifest::decode::{Decode, Decoder, Located, Names, Table, decode_table};
use crate::manifest::node::{Kind, Node};
use crate::model::{
    ByteSize, ContainerPath, Cpus, Duration, EnvName, HostPath, ImageRef, Mount, Name, Port,
    Restart, Scalar, ValueError, WorkingDir,
};

/// A program in an image: how the image comes to be, what is run, with what, for what.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Job {
    /// How its image is built. Exactly one of `build` and `image` is needed.
    #[schemars(with = "Option<crate::manifest::json_schema::BuildForms>")]
    pub build: Option<Build>,
    /// Its image: a reference, or `job:NAME` for the very image that another job ran.
    pub image: Option<Located<ImageSource>>,
    /// What the container runs; the image's own command if not given.
    pub command: Option<Located<Command>>,
    /// The program in place of the image's entry point, and its first arguments; empty for none.
    pub entrypoint: Option<Located<Command>>,
    /// User and group that it runs as, as docker's `--user` takes them; the image's own if not given.
    pub user: Option<Located<User>>,
    /// Where it starts in the container; the image's own working directory if not given.
    pub working_dir: Option<Located<WorkingDir>>,
    /// GPUs: `none`, `optional`, `all`, a number, or what docker's `--gpus` takes.
    pub gpus: Option<Located<GpusKey>>,
    /// Files of environment variables.
    #[schemars(default)]
    pub env_file: EnvFiles,
    /// Environment variables. One without a value must be supplied by the caller.
    #[schemars(default)]
    pub environment: Variables,
    /// Names of variables whose values are secrets, besides those that say so themselves: they are
    /// neither kept nor shown.
    #[schemars(default)]
    pub sensitive: Vec<Located<EnvName>>,
    /// Files and directories that the job reads: hashed, and mounted read-only.
    #[schemars(default)]
    pub inputs: Names<Input>,
    /// Directories in the container that are collected, hashed, and kept with the run: a path, or a mapping.
    #[schemars(default, with = "Names<crate::manifest::json_schema::OutputForms>")]
    pub outputs: Names<Output>,
    /// Where the job's metrics are found.
    pub metrics: Option<Metrics>,
    /// How much of the machine the container may use.
    pub resources: Option<Resources>,
    /// After which time the job is stopped.
    pub timeout: Option<Located<Duration>>,
    /// Whether and when a failed job is run again.
    pub retry: Option<Located<Retry>>,
    /// Volumes and directories, as docker's `--volume` takes them.
    #[schemars(default)]
    pub volumes: Vec<Located<Mount>>,
    /// The container's network: `bridge`, `none`, `host`, or one that exists.
    pub network: Option<Located<Network>>,
    /// Jobs that must have succeeded first, and what is taken from them.
    #[schemars(default)]
    pub needs: Needs,
    /// Whether the job stays up; its health then says whether it started.
    pub service: Option<Located<bool>>,
    /// Ports of a service, as docker's `--publish` takes them.
    #[schemars(default)]
    pub ports: Vec<Located<Port>>,
    /// How a service is found to be healthy.
    pub healthcheck: Option<Located<Healthcheck>>,
    /// When the engine starts a service again whose process has ended: `no`, `always`, `on-failure`,
    /// `on-failure:N`, or `unless-stopped`, which is the default.
    pub restart: Option<Located<Restart>>,
}

decode_table!(Job, "a job", {
    build, image, command, entrypoint, user, working_dir, gpus, env_file, environment, sensitive, inputs,
    outputs, metrics, resources, timeout, retry, volumes, network, needs, service, ports, healthcheck, restart,
});

impl Job {
    /// Whether the job stays up.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.service.as_deref().copied().unwrap_or(false)
    }
}

/// Where a job's image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The very image that another job ran.
    Job(Name),
    /// An image by its reference.
    Reference(ImageRef),
}

impl FromStr for ImageSource {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix("job:") {
            Some(name) => name.parse().map(Self::Job),
            None => text.parse().map(Self::Reference),
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(name) => write!(f, "job:{name}"),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}

impl Scalar for ImageSource {
    const NAME: &'static str = "ImageSource";
    const EXPECTED: &'static str = "an image such as `python:3.13` or `job:train`";
    const PATTERN: &'static str = ImageRef::PATTERN;
    const EXAMPLES: &'static [&'static str] = &["job:train", "python:3.13"];
}

/// A file or directory that a job reads.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Input {
    /// The file or directory on this machine, relative to this file.
    pub source: Located<HostPath>,
    /// Where it appears in the container.
    pub target: Located<ContainerPath>,
}

decode_table!(Input, "an input", { source, target });

/// A directory or file that a job makes.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Output {
    /// Where it is in the container. A directory that the image does not have is made for the job's user.
    pub path: Located<ContainerPath>,
    /// How large it may be; a larger one is not collected, and the run fails.
    pub max_size: Option<Located<ByteSize>>,
    /// Whether a run may succeed without it.
    pub optional: Option<Located<bool>>,
}

impl Decode for Output {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            return Some(Self {
                path: Located::decode(node, decoder)?,
                max_size: None,
                optional: None,
            });
        }
        let mut table = Table::open(node, "an output", decoder)?;
        let path = table.field("path", decoder);
        let max_size = table.field("max_size", decoder);
        let optional = table.field("optional", decoder);
        table.close(decoder);
        Some(Self {
            path: path?,
            max_size: max_size?,
            optional: optional?,
        })
    }
}

/// How much of the machine a container may use.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resources {
    /// Processor cores; parts of one are possible.
    pub cpus: Option<Located<Cpus>>,
    /// Memory.
    pub memory: Option<Located<ByteSize>>,
    /// The size of /dev/shm, which data loaders with workers need.
    pub shm_size: Option<Located<ByteSize>>,
}

decode_table!(Resources, "`resources`", { cpus, memory, shm_size });

/// A container's network: `bridge`, `none`, `host`, or the name of one that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network(String);

impl FromStr for Network {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_word) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new("this is not the name of a network")
            .help("write `bridge`, `none`, `host`, or a name that `docker network ls` shows"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Network {
    const NAME: &'static str = "Network";
    const EXPECTED: &'static str = "a network such as `bridge` or `none`";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9_.-]*$";
    const EXAMPLES: &'static [&'static str] = &["bridge", "none", "host"];
}

/// Whom a job runs as: `NAME|UID[:GROUP|GID]`, as docker's `--user` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

impl FromStr for User {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_name = |name: &str| {
            let is_odd = |c: char| c.is_whitespace() || c.is_control();
            !name.is_empty() && !name.contains(is_odd)
        };
        let mut names = text.splitn(3, ':');
        let (user, group, more) = (names.next(), names.next(), names.next());
        if user.is_some_and(is_name) && group.is_none_or(is_name) && more.is_none() {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new("this is not a user and a group")
            .help("write `1000`, `1000:1000`, or a name that the image has: `nobody`"))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for User {
    const NAME: &'static str = "User";
    const EXPECTED: &'static str = "a user such as `1000:1000` or `nobody`";
    const PATTERN: &'static str = "^[^:\\s]+(:[^:\\s]+)?$";
    const EXAMPLES: &'static [&'static str] = &["1000:1000", "nobody", "0"];
    const ACCEPTS_NUMBERS: bool = true;
}

/// How a service is found to be healthy, as compose has it.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Healthcheck {
    /// What is run in the container: `["CMD", program, …]`, `["CMD-SHELL", line]`, or a line for
    /// the container's shell. `["NONE"]` turns the image's own check off.
    pub test: Option<Located<HealthTest>>,
    /// The time between two checks.
    pub interval: Option<Located<Duration>>,
    /// The time a check may take.
    pub timeout: Option<Located<Duration>>,
    /// How many failures in a row mean unhealthy.
    pub retries: Option<Located<u32>>,
    /// The time after the start in which failures do not count.
    pub start_period: Option<Located<Duration>>,
}

decode_table!(Healthcheck, "`healthcheck`", { test, interval, timeout, retries, start_period });

/// What a health check runs, in the engine's form: `CMD`, `CMD-SHELL` or `NONE` first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthTest(pub Vec<String>);

impl Decode for HealthTest {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Kind::Scalar(text) = &node.kind {
            return Some(Self(vec!["CMD-SHELL".to_owned(), text.value.clone()]));
        }
        let words = Vec::<String>::decode(node, decoder)?;
        let is_complete = match words.first().map(String::as_str) {
            Some("NONE") => words.len() == 1,
            Some("CMD") => words.len() > 1,
            Some("CMD-SHELL") => words.len() == 2,
            _ => false,
        };
        if is_complete {
            return Some(Self(words));
        }
        decoder.invalid(
            node,
            "the list must begin with `CMD`, `CMD-SHELL` or `NONE`",
            r#"write `["CMD", "program", "argument"]`"#.to_owned(),
        );
        None
    }
}
