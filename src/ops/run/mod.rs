//! Runs a job, and keeps all that happens, whatever dies on the way.
//!
//! The order of things is what makes that possible. The record is on disk before the engine is
//! asked for anything; the container carries the run's id as a label; its output is attached to and
//! its end waited for before it starts; and it is removed only when everything of it is on disk.
//! Whoever holds a run's lock is its supervisor. When that one is killed, the container goes on, and
//! the next jobctl that looks takes over: see [`adopt()`].

pub(in crate::ops) mod adopt;
mod again;
mod archive;
mod attach;
mod attempt;
mod attend;
mod cancel;
mod collect;
pub(in crate::ops) mod container;
mod control;
mod follow;
mod inputs;
mod metric_files;
mod needs;
mod orders;
mod outcome;
mod outputs;
mod prepare;
mod pump;
mod restarts;
mod settle;
mod source;
mod supervise;
mod unpack;

use std::path::PathBuf;

use super::build;
use crate::engine::docker::EngineError;
use crate::engine::run::RunError;
use crate::model::{Name, RunId, Secret};
use crate::plan::up::Judgement;
use crate::records::{OpenRun, ReadError, Record, StoreError};

pub use adopt::{Adopted, adopt, catch_up, reconcile};
pub use attach::{Attached, attach, watch};
pub use attend::attend;
pub(in crate::ops) use collect::files;
pub use container::{
    GRACE, Orphan, container_of, orphan_words, orphans, remove_orphan, up_container_of,
};
pub use control::{Control, Controls};
pub use orders::{Kept, check_ours, end, prune, remove, signal};
pub use outputs::collect_again;
pub(in crate::ops) use prepare::built_image;
pub use prepare::{Asked, Given, Ready, begin, last_built, prepare, ready};
pub use supervise::{Streams, supervise};

/// A run that is recorded, and not yet submitted.
#[derive(Debug)]
pub struct Prepared {
    /// Its record.
    pub record: Record,
    /// Where it is kept, and the right to finish it.
    pub run: OpenRun,
    /// The container that is to be made.
    pub spec: crate::engine::run::RunSpec,
    /// What is copied into it before it starts, where the engine doesn't see this machine's files:
    /// from here, to there.
    pub copied: Vec<(PathBuf, String)>,
    /// When the image is pulled.
    pub pull: crate::plan::run::Pull,
    /// The values that nobody may see.
    pub secrets: Vec<Secret>,
}

/// How a run ended for whoever watched.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It is over; the record says how.
    Over(Box<Record>),
    /// It goes on without us.
    Detached(RunId),
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// The engine can't be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine did not run it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its image could not be built.
    #[error(transparent)]
    Build(Box<build::Failure>),
    /// Its image could not be pulled.
    #[error("the image `{image}` can't be pulled: {reason}")]
    Pull {
        /// The image.
        image: String,
        /// Why.
        reason: EngineError,
    },
    /// Its image is not to be built, and was never built before.
    #[error("the image of `{job}` is not built{}", .platform.as_ref().map_or_else(String::new, |platform| format!(" for {platform}")))]
    NotBuilt {
        /// The job.
        job: String,
        /// The platform that was asked for.
        platform: Option<String>,
    },
    /// It is to run the very image of a job that was never run.
    #[error("`{job}` was never run here, so that it has no image to run again")]
    NeverRun {
        /// The other job.
        job: Name,
    },
    /// It reads an output that is not there.
    #[error("no run of `{job}` that succeeded has the output `{output}`")]
    NoOutput {
        /// The other job.
        job: Name,
        /// Its output.
        output: Name,
    },
    /// It needs a job that has no run which succeeded.
    #[error("no run of `{job}` succeeded")]
    NoSuccess {
        /// The other job.
        job: Name,
    },
    /// A run that it needs does not pass its gate.
    #[error("the run {} of `{judged}` did not pass the gate of {}: {}", .run.short(), quoted(.job.as_ref()), failed(.judgements))]
    Gate {
        /// The job that is not run.
        job: Option<Name>,
        /// The job whose metrics were judged.
        judged: Name,
        /// Its run.
        run: RunId,
        /// What became of each condition.
        judgements: Vec<Judgement>,
    },
    /// The run that a gate judges was made from other runs than those that are read.
    #[error("the run {} of `{judged}` judged the run {} of `{job}`, but the newest is {}", .run.short(), .of.short(), .read.short())]
    NotJudged {
        /// The job whose metrics a gate judges.
        judged: Name,
        /// Its run.
        run: RunId,
        /// A job that both read.
        job: String,
        /// The run of it that was judged.
        of: RunId,
        /// The run of it that would be read.
        read: RunId,
    },
    /// Something that it reads can't be read.
    #[error("the input `{name}` can't be read: {reason}")]
    Input {
        /// The input.
        name: Name,
        /// Why.
        reason: String,
    },
    /// What a run reads is not where it was kept.
    #[error("the output `{output}` of the run {} is gone: `{}` is no directory", .run.short(), path.display())]
    OutputGone {
        /// The run that made it.
        run: RunId,
        /// The output.
        output: Name,
        /// Where it should be.
        path: PathBuf,
    },
    /// A run whose outputs are asked for is not over.
    #[error("run {} is still running", .id.short())]
    NotOver {
        /// The run.
        id: RunId,
    },
    /// Outputs of a run are lost for good.
    #[error("the container of the run {} is gone, and with it {}", .id.short(), names(.outputs))]
    ContainerGone {
        /// The run.
        id: RunId,
        /// Its outputs that were not collected.
        outputs: Vec<String>,
    },
    /// A run that is to be removed has outputs that were not collected.
    #[error("the run {} has outputs that were not collected: {}", .id.short(), names(.outputs))]
    Uncollected {
        /// The run.
        id: RunId,
        /// The outputs.
        outputs: Vec<String>,
    },
    /// The project was moved while the run was under way, or its records were removed.
    #[error("the directory of the run {} is gone: `{}`", .id.short(), .path.display())]
    Moved {
        /// The run.
        id: RunId,
        /// Where it was.
        path: PathBuf,
    },
    /// It is to have a terminal, and there is none here. docker's words.
    #[error("the input device is not a TTY")]
    NoTerminal,
    /// A run was to end, and did not.
    #[error("the run {} is not stopped: {}", .id.short(), if *.has_ended {
        "its job has ended, and its supervisor does not finish its record"
    } else {
        "its supervisor does not answer"
    })]
    NotStopped {
        /// The run.
        id: RunId,
        /// Whether its container has ended.
        has_ended: bool,
    },
    /// A run is to be sent a signal, and has finished. As with docker, that is an error.
    #[error("run {} is not running: it has finished", .id.short())]
    Finished {
        /// The run.
        id: RunId,
    },
    /// A run that is to be removed goes on.
    #[error("run {} is still running", .id.short())]
    GoesOn {
        /// The run.
        id: RunId,
    },
    /// A run is on another machine or engine.
    #[error("the run {} is on the host `{host}`, with the engine {engine}", .id.short())]
    NotHere {
        /// The run.
        id: RunId,
        /// The host that jobctl ran on.
        host: String,
        /// The engine's address.
        engine: String,
    },
    /// A run's container belongs to the record in another state folder.
    #[error("the run {} is kept in `{}`, and this is a copy", .id.short(), .state.display())]
    Elsewhere {
        /// The run.
        id: RunId,
        /// The other state folder.
        state: PathBuf,
    },
    /// A run that is to be removed is read by another.
    #[error("the run {} reads what the run {} has made", .by.short(), .id.short())]
    InUse {
        /// The run.
        id: RunId,
        /// Who reads it.
        by: RunId,
    },
    /// It can't be run again: a secret is missing.
    #[error("its `{field}` has a secret, which its record has not, and jobs.yaml has another now")]
    SecretGone {
        /// The field of the container's description.
        field: String,
    },
    /// Its record can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file of a run can't be read or written.
    #[error("a file of the run: {0}")]
    File(#[from] std::io::Error),
}

fn quoted(job: Option<&Name>) -> String {
    job.map_or_else(|| "this run".to_owned(), |job| format!("`{job}`"))
}

/// The conditions that do not hold.
pub(in crate::ops) fn failed(judgements: &[Judgement]) -> String {
    let failed = judgements.iter().filter(|judgement| !judgement.holds);
    let said: Vec<_> = failed.map(ToString::to_string).collect();
    said.join("; ")
}

/// `model`, or `model` and `plots`
fn names(outputs: &[String]) -> String {
    let names: Vec<_> = outputs.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

impl RunFailure {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Engine(error) => Some(error.help()),
            Self::Run(error) => error.help(),
            Self::Build(failure) => failure.reason.help(),
            Self::Pull { .. } => Some(
                "check the image's name, `jobctl login`, and the network; `--pull never` takes what \
                 is there"
                    .to_owned(),
            ),
            Self::NotBuilt { job, platform } => {
                let flag = platform.as_ref();
                let flag = flag.map_or_else(String::new, |platform| format!(" --platform {platform}"));
                Some(format!("build it: `jobctl build{flag} {job}`; or leave `--no-build` out"))
            }
            Self::NeverRun { job } => Some(format!("run it first: `jobctl run {job}`")),
            Self::NoOutput { job, .. } => Some(format!(
                "run it first: `jobctl run {job}`; if it may succeed without this output \
                 (`optional`), nothing can need it"
            )),
            Self::SecretGone { .. } => Some(
                "give the secret as a variable: its name is kept, and its value asked for".to_owned(),
            ),
            Self::NoSuccess { job } => Some(format!("run it first: `jobctl run {job}`")),
            Self::Gate { run, .. } => Some(format!(
                "`jobctl show {}` has all of its metrics; `--ignore-gates` runs it all the same",
                run.short()
            )),
            Self::NotJudged { judged, .. } => Some(format!(
                "judge the newest first: `jobctl run {judged}`; `jobctl up` does both in order; \
                 `--ignore-gates` runs it all the same"
            )),
            Self::Input { .. } => Some("check its `source` in jobs.yaml".to_owned()),
            Self::OutputGone { .. } => Some("run that job again".to_owned()),
            Self::NotOver { id } => Some(format!("wait for it: `jobctl wait {}`", id.short())),
            Self::ContainerGone { .. } => Some("run the job again".to_owned()),
            Self::Uncollected { id, .. } => Some(format!(
                "try again: `jobctl collect {}`; or remove it with `--force`",
                id.short()
            )),
            Self::Moved { .. } => Some(
                "its container is kept: where the project was moved to, `jobctl ps` finishes the run".to_owned(),
            ),
            Self::NoTerminal => Some(
                "standard input is a file or a pipe: leave `-t` or `-i` out; `attach` has `--no-stdin`"
                    .to_owned(),
            ),
            Self::NotStopped { id, .. } => Some(format!(
                "look what its supervisor does: `ps ax | grep {id}`; `jobctl ps` takes over from one that is \
                 killed"
            )),
            Self::GoesOn { id } => Some(format!(
                "end it first: `jobctl stop {}`; or remove it with `--force`",
                id.short()
            )),
            Self::Finished { id } => Some(format!("`jobctl show {}` has how it ended", id.short())),
            Self::NotHere { .. } => Some(
                "call jobctl on that host, with that engine; `jobctl rm --force` removes the record here"
                    .to_owned(),
            ),
            Self::Elsewhere { state, .. } => Some(format!(
                "call jobctl there, or with `JOBCTL_STATE_DIR={}`",
                state.display()
            )),
            Self::InUse { by, .. } => Some(format!(
                "end that one first: `jobctl stop {}`; or remove it with `--force`",
                by.short()
            )),
            Self::Store(error) => Some(error.help().to_owned()),
            Self::Read(error) => error.help().map(str::to_owned),
            Self::File(_) => None,
        }
    }
}
