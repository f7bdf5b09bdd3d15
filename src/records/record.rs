//! `run.json`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::image::ImageRecord;
use super::outputs::OutputRecord;
use super::source::SourceRecord;
use crate::model::{RunId, number};

/// The schema of what this version writes. What has a newer major is read, and not written.
pub const SCHEMA: &str = "jobctl.run/2";

/// All that is known of a run. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The schema's name and major version.
    pub schema: String,
    /// The run's id.
    pub id: RunId,
    /// The project, as jobs.yaml names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The job; nothing for an image that was run by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How far it is.
    pub state: State,
    /// Why it ended, once it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// The exit code that `jobctl run` has or would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When its last container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When its last container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Whether nobody waited for it at its terminal.
    #[serde(default)]
    pub is_detached: bool,
    /// The digest of all but the image that decides what comes of it: another run of the same image with
    /// the same key need not be made. Those of earlier versions of jobctl have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The command line, secrets masked.
    pub argv: Vec<String>,
    /// The image.
    pub image: ImageRecord,
    /// Where the job's source stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// The job as jobs.yaml has it, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    /// The container as it was asked for, without its variables.
    pub container: Value,
    /// The variables that it was given, in their order.
    #[serde(default)]
    pub environment: Vec<VariableRecord>,
    /// What it read.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputRecord>,
    /// The runs whose outputs it read, by their job.
    #[serde(default)]
    pub parents: BTreeMap<String, RunId>,
    /// Where their outputs appeared in the container, by job and output. Records of earlier versions do
    /// not have it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handed: BTreeMap<String, BTreeMap<String, String>>,
    /// What is done with it while it runs and when it ends.
    pub policy: Policy,
    /// Each container that was made for it, in order.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// What was collected of it.
    #[serde(default)]
    pub outputs: BTreeMap<String, OutputRecord>,
    /// Outputs that could not be collected, and why. Its container is kept as long as there are some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_outputs: BTreeMap<String, String>,
    /// The last value of each metric.
    #[serde(default, with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
    /// What should be looked at: an output that was not there, a gap in the log.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineRecord>,
    /// The machine that jobctl ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostRecord>,
    /// The version of jobctl.
    pub jobctl: String,
}

impl Record {
    /// The record of a run that nothing is known of but its id and when it was asked for.
    #[must_use]
    pub fn new(id: RunId, created: Timestamp) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            id,
            project: None,
            job: None,
            state: State::Created,
            ending: None,
            exit_code: None,
            created,
            started: None,
            finished: None,
            is_detached: false,
            key: None,
            argv: Vec::new(),
            image: ImageRecord::default(),
            source: None,
            manifest: None,
            container: Value::Null,
            environment: Vec::new(),
            inputs: BTreeMap::new(),
            parents: BTreeMap::new(),
            handed: BTreeMap::new(),
            policy: Policy::default(),
            attempts: Vec::new(),
            outputs: BTreeMap::new(),
            lost_outputs: BTreeMap::new(),
            metrics: BTreeMap::new(),
            warnings: Vec::new(),
            engine: None,
            host: None,
            jobctl: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Record {
    /// Where the outputs of other runs appeared, by job and output. An earlier jobctl kept it in the job
    /// alone.
    #[must_use]
    pub fn places(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        if !self.handed.is_empty() {
            return self.handed.clone();
        }
        let needs = self.manifest.as_ref().map(|job| &job["needs"]);
        let needs = needs.and_then(Value::as_object).into_iter().flatten();
        let places = needs.map(|(job, need)| {
            let outputs = need["outputs"].as_object().into_iter().flatten();
            let outputs = outputs
                .filter_map(|(output, target)| Some((output.clone(), target.as_str()?.to_owned())));
            (job.clone(), outputs.collect())
        });
        places.collect()
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is recorded, and the engine may have been asked for a container.
    Created,
    /// The engine has its container.
    Submitted,
    /// Its container was started.
    Running,
    /// It ended, and with success.
    Finished,
    /// It ended otherwise, or never started.
    Failed,
    /// Nobody can tell how it ended.
    Lost,
}

impl State {
    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Lost)
    }
}

/// Why a run or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its program ended with 0.
    Success,
    /// Its program ended with another code.
    Error,
    /// The kernel killed it: its memory was full.
    Oom,
    /// It ran out of the time that it was given, and was stopped.
    Timeout,
    /// The user stopped it.
    Stopped,
    /// The engine was shut down, and stopped it.
    EngineStopped,
    /// Its program could not be started: not found, not executable.
    NotStarted,
    /// The engine refused or failed before its program ran.
    Infra,
    /// Its container was removed by somebody else.
    Removed,
    /// Its machine went away under it.
    Lost,
    /// Its program ended, and an output of it could not be collected.
    OutputsLost,
}

/// A variable that a container was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableRecord {
    /// Its name.
    pub name: String,
    /// Who gave it: `jobs.yaml`, `--env`, `jobctl`, or an env file's path.
    pub origin: String,
    /// Its value: a parameter of the run. Nothing for a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Of a secret, a digest of its value under this project's own key: two runs can be compared, and
    /// nobody can guess it. Earlier versions of jobctl kept that of other values, and not the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether it is a secret, whose value is not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_secret: bool,
}

impl VariableRecord {
    /// What the variables are from that jobctl adds by itself.
    pub const JOBCTL: &str = "jobctl";
    /// What the proxies are from that docker's configuration names.
    pub const DOCKER: &str = "docker's config.json";

    /// Whether nobody chose it for the run.
    #[must_use]
    pub fn is_added(&self) -> bool {
        matches!(self.origin.as_str(), Self::JOBCTL | Self::DOCKER)
    }
}

/// What a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// The file or folder, as jobs.yaml names it.
    pub source: String,
    /// Where it was in the container.
    pub target: String,
    /// Where it was on this machine. Records of version 1 do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The digest of the file, or of the directory's names and contents, before the job began.
    pub sha256: String,
    /// Whether it is a file that can be executed; the digest of a directory has that of its files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_executable: bool,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether it was something else when the job had ended: which of the two the job read, nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_changed: bool,
    /// The digest that it had then; nothing where it could not be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_at_end: Option<String>,
}

/// What is done with a run while it runs and when it ends: whoever finishes it goes by this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// After how many milliseconds it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many milliseconds it has between being asked to end and being killed.
    pub grace_ms: u64,
    /// When it is run again.
    #[serde(default)]
    pub retry: RetryRecord,
    /// Folders in the container that are collected, by the output's name.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// How many bytes an output may have at most, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_output_bytes: BTreeMap<String, u64>,
    /// The outputs that need not be there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub optional_outputs: BTreeSet<String>,
    /// Files in the container that have metrics.
    #[serde(default)]
    pub metric_files: Vec<String>,
    /// Regular expressions that find metrics in the log, by the metric's name.
    #[serde(default)]
    pub metric_patterns: BTreeMap<String, String>,
    /// Metrics that are found in the log by their names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub metric_names: BTreeSet<String>,
    /// A regular expression that finds the step in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_step: Option<String>,
    /// Whether the container is left when the run is over.
    #[serde(default)]
    pub keep: bool,
    /// Whether the job stays up.
    #[serde(default)]
    pub is_service: bool,
    /// Whether a run of which a process was killed for its memory failed, though it ended with 0.
    #[serde(default)]
    pub fails_on_oom: bool,
}

impl Policy {
    /// Whether metrics are looked for.
    #[must_use]
    pub fn has_metrics(&self) -> bool {
        !(self.metric_files.is_empty()
            && self.metric_patterns.is_empty()
            && self.metric_names.is_empty())
    }
}

/// When a run is run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryRecord {
    /// How often it is run in all.
    pub attempts: u32,
    /// Which endings count.
    pub on: Vec<Ending>,
    /// Milliseconds before the second attempt; doubled before each further one.
    pub backoff_ms: u64,
}

impl Default for RetryRecord {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: Vec::new(),
            backoff_ms: 1000,
        }
    }
}

/// A container that was made for a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The container's name.
    pub container: String,
    /// Its id, once the engine has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// When it started, by the engine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended, by the engine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Its exit code, as the engine has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The signal that ended it, if its exit code says so: 9 for 137.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of it because its memory was full.
    #[serde(default)]
    pub is_oom_killed: bool,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// The engine's or jobctl's words about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often the engine has started the container again by itself.
    #[serde(default, skip_serializing_if = "is_none")]
    pub restarts: u32,
    /// The most memory that it was seen with, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Its limit of memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// How many bytes of stdout.log and of stderr.log were there before it.
    #[serde(default)]
    pub log_from: [u64; 2],
    /// Whether its container was removed.
    #[serde(default)]
    pub is_removed: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// The engine of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// Where it is: `unix:///var/run/docker.sock`.
    pub address: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its kernel's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Its operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// The machine that jobctl ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub name: String,
    /// The processor's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// How many of its processors jobctl may use.
    #[serde(default)]
    pub cpus: u32,
    /// What the processor can do: `avx2`, `avx512f`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_flags: Vec<String>,
    /// GPUs, as NVIDIA's driver names them, and the driver's version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// NVIDIA's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia_driver: Option<String>,
}
