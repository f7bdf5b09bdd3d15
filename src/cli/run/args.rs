//! What `jobctl run` is called with.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use crate::cli::trust::TrustArg;
use crate::plan::run::Pull;

/// Run a job, or an image by its name
///
/// `jobctl run [FLAGS] JOB [ARGS…]` runs a job of jobs.yaml: its image is built first, unless nothing
/// changed. `jobctl run [FLAGS] --image IMAGE [COMMAND…]` runs an image, as docker does. Flags come
/// before JOB or COMMAND; all words behind it are arguments, a `--` between them is left out. ARGS
/// replace the job's `command`; the image's entry point stays. Without JOB, the only job is run.
/// Ends with the job's own code; 124 if it ran out of its time, 125 if it did not run, 126 if its
/// command can't be executed, 127 if it was not found.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(override_usage = "jobctl run [FLAGS] [JOB [ARGS…]]\n       \
                            jobctl run [FLAGS] --image IMAGE [COMMAND [ARGS…]]")]
pub(in crate::cli) struct RunArgs {
    /// The job of jobs.yaml
    #[arg(value_name = "JOB")]
    pub(super) job: Option<String>,
    /// What replaces the job's or the image's command
    #[arg(value_name = "ARGS", last = true)]
    pub(super) args: Vec<String>,
    /// Say what would be done, and as which docker command; do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Say more, for developers of jobctl; `-v` is a volume here
    #[arg(long, action = ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    pub(super) image: ImageArgs,
    #[command(flatten)]
    pub(super) variables: VariableArgs,
    #[command(flatten)]
    pub(super) container: ContainerArgs,
    #[command(flatten)]
    pub(super) confinement: ConfinementArgs,
    #[command(flatten)]
    pub(super) ending: EndingArgs,
    #[command(flatten)]
    pub(super) terminal: TerminalArgs,
}

/// Where the image comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Image")]
pub(super) struct ImageArgs {
    /// Run this image instead of a job
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: Option<String>,
    /// Build the job's image first; that is the default
    #[arg(long, overrides_with = "no_build")]
    pub(super) build: bool,
    /// Run the job's newest image as it is
    #[arg(long, overrides_with = "build")]
    pub(super) no_build: bool,
    /// When to pull the image, or those that a build begins with
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(super) pull: Option<PullWhen>,
    /// The platform of the image
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM")]
    pub(super) platform: Option<String>,
    #[command(flatten)]
    pub(super) trust: TrustArg,
}

/// Environment variables.
#[derive(Debug, Args)]
#[command(next_help_heading = "Variables")]
pub(super) struct VariableArgs {
    /// A variable: `NAME=VALUE`, or `NAME` for the caller's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// A file of variables, read as docker reads it
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Leave out variables that the caller should supply and did not
    #[arg(long)]
    pub(super) allow_unset: bool,
    /// Give the container these certificate authorities: `host` or a file
    #[arg(long, value_name = "host|FILE")]
    pub(super) ca_bundle: Option<PathBuf>,
}

/// The container, as docker's flags describe it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container")]
pub(super) struct ContainerArgs {
    /// GPUs: `all` (or no value), `none`, `optional`, a number, or `device=0,2`
    #[arg(long, value_name = "GPUS")]
    pub(super) gpus: Vec<String>,
    /// The program that runs the container: `runc`, `nvidia`
    #[arg(long)]
    pub(super) runtime: Option<String>,
    /// A device: `/dev/NAME[:TARGET[:rwm]]`, or a CDI name
    #[arg(long, value_name = "DEVICE")]
    pub(super) device: Vec<String>,
    /// A volume or directory: `[SOURCE:]TARGET[:OPTIONS]`
    #[arg(short, long, value_name = "VOLUME")]
    pub(super) volume: Vec<String>,
    /// A mount: `type=bind,source=…,target=…[,readonly]`
    #[arg(long, value_name = "MOUNT")]
    pub(super) mount: Vec<String>,
    /// Memory as a directory: `TARGET[:OPTIONS]`
    #[arg(long, value_name = "TMPFS")]
    pub(super) tmpfs: Vec<String>,
    /// A port: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, or `published=HOST,target=CONTAINER`
    #[arg(short, long, value_name = "PORT")]
    pub(super) publish: Vec<String>,
    /// A network: `bridge`, `none`, `host`, `container:NAME`, one's name, or `name=NAME,alias=…`
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(super) network: Vec<String>,
    /// A line for /etc/hosts: `NAME:ADDRESS` or `NAME=ADDRESS`
    #[arg(long, value_name = "HOST")]
    pub(super) add_host: Vec<String>,
    /// The host's name in the container
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub(super) shm_size: Option<String>,
    /// Whose System V IPC is used: `private`, `shareable`, `host`, `none`, `container:NAME`
    #[arg(long)]
    pub(super) ipc: Option<String>,
    /// A limit: `NAME=SOFT[:HARD]`
    #[arg(long, value_name = "LIMIT")]
    pub(super) ulimit: Vec<String>,
    /// The most memory that it may use: `8gb`, `512m`; 0 for no limit
    #[arg(short, long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// The most processor cores that it may use: `2`, `1.5`, `1/2`; 0 for no limit
    #[arg(long, value_name = "CORES")]
    pub(super) cpus: Option<String>,
    /// User and group: `NAME|UID[:GROUP|GID]`
    #[arg(short, long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// The working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// The program in place of the image's entry point; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
    /// The container's name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// A label of the container
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) label: Vec<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<OsString>,
}

/// What the container may do. Docker's flags, and the undoing of our defaults.
#[derive(Debug, Args)]
#[command(next_help_heading = "Confinement")]
pub(super) struct ConfinementArgs {
    /// Start an init process that passes signals on and reaps; on by default
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) init: Option<bool>,
    /// Let no process gain privileges (setuid programs don't); on by default
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) no_new_privileges: Option<bool>,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    pub(super) cap_drop: Vec<String>,
    /// An option of the engine's confinement
    #[arg(long, value_name = "OPTION")]
    pub(super) security_opt: Vec<String>,
    /// Allow everything
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) privileged: Option<bool>,
    /// Make the root file system read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) read_only: Option<bool>,
}

/// How long it may run, and what is done when it ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "Ending")]
pub(super) struct EndingArgs {
    /// Stop it after this time, and end with 124: `90s`, `1h30m`; `0s` for no limit
    #[arg(long, value_name = "TIME")]
    pub(super) timeout: Option<String>,
    /// Run it again so often when the engine or the machine fails it (or as `retry.on` says)
    #[arg(long, value_name = "N")]
    pub(super) retries: Option<String>,
    /// How long it may take to end before it is killed
    #[arg(long, value_name = "TIME", conflicts_with = "stop_timeout")]
    pub(super) grace: Option<String>,
    /// The same in seconds, as docker has it; -1 for as long as it takes
    #[arg(long, value_name = "SECONDS")]
    pub(super) stop_timeout: Option<String>,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub(super) stop_signal: Option<String>,
    /// Fail if a process was killed for its memory, even if the job ended with 0
    #[arg(long)]
    pub(super) fail_on_oom: bool,
    /// Run it even if the runs that it needs do not pass its gates
    #[arg(long)]
    pub(super) ignore_gates: bool,
    /// Remove the container when the run is over; that is the default
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) rm: Option<bool>,
    /// Leave the container when the run is over
    #[arg(long, conflicts_with = "rm")]
    pub(super) keep: bool,
    /// `no`, for jobs run once; a service takes what docker takes, with `-d` that of jobs.yaml if not given
    #[arg(long, value_name = "POLICY")]
    pub(super) restart: Option<String>,
}

/// The terminal and signals.
#[derive(Debug, Args)]
#[command(next_help_heading = "Terminal")]
pub(super) struct TerminalArgs {
    /// Pass standard input on
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) interactive: Option<bool>,
    /// Give it a terminal
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) tty: Option<bool>,
    /// Don't wait for it: print the run's id once it started
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) detach: Option<bool>,
    /// Pass signals on to it; on by default
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = switch)]
    pub(super) sig_proxy: Option<bool>,
    /// The keys that leave it: `ctrl-p,ctrl-q` if not given
    #[arg(long, value_name = "KEYS")]
    pub(super) detach_keys: Option<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PullWhen {
    /// Even if it is here
    Always,
    /// Where it is not here
    Missing,
    /// Not at all
    Never,
}

impl From<PullWhen> for Pull {
    fn from(when: PullWhen) -> Self {
        match when {
            PullWhen::Always => Self::Always,
            PullWhen::Missing => Self::Missing,
            PullWhen::Never => Self::Never,
        }
    }
}

/// A flag's value as docker's flags take it (Go's `strconv.ParseBool`).
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write `true` or `false`".to_owned()),
    }
}
