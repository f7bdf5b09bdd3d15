//! What the command line asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Pull;
use crate::engine::run::RunSpec;
use crate::model::{EnvName, Gpus, Secret};
use crate::plan::build::BuildFlags;

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent, as flags are"
)]
pub struct RunFlags {
    /// What it says of the container, in whatever has no field of its own here. What it does not
    /// say is taken from the job, and then from our defaults.
    pub spec: RunSpec,
    /// The container's name.
    pub name: Option<String>,
    /// When images are pulled.
    pub pull: Option<Pull>,
    /// Whether the job's image is built first.
    pub building: Building,
    /// How it is built, where it is.
    pub build: BuildFlags,
    /// Variables in their order; those without a value take the caller's.
    pub environment: Vec<(EnvName, Option<Secret>)>,
    /// Env files in their order, as the user named them; relative to the working directory.
    pub env_files: Vec<PathBuf>,
    /// The proxies that docker's configuration names, as variables.
    pub proxies: BTreeMap<String, Secret>,
    /// Whether variables that the caller should supply may be missing.
    pub allows_unset: bool,
    /// A file of certificate authorities that the container is given.
    pub ca_bundle: Option<PathBuf>,
    /// GPUs.
    pub gpus: Option<Gpus>,
    /// Whether processes are kept from gaining privileges.
    pub no_new_privileges: Option<bool>,
    /// After which time it is stopped; nothing at all for a limit of none.
    pub timeout: Option<Option<Duration>>,
    /// How often it is run again.
    pub retries: Option<u32>,
    /// Whether it fails if a process of it was killed for its memory.
    pub fails_on_oom: bool,
    /// Whether it runs even if what it needs does not pass its gates.
    pub ignores_gates: bool,
    /// Whether the container is left when the run is over.
    pub is_kept: bool,
    /// Whether it is followed at the terminal: then it is started again only where `--restart` says so.
    pub is_foreground: bool,
}

/// Whether a job's image is built first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Building {
    /// It is, unless nothing changed; where the job has a `build`.
    #[default]
    Usual,
    /// It is, and a job without `build` is an error.
    Asked,
    /// It is not: the newest one is run.
    Never,
}
