//! A run in short.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{Ending, Record, State};
use crate::model::{RunId, number};

/// What lists of runs show of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent claims")]
pub struct Summary {
    /// The run's id.
    pub id: RunId,
    /// The project.
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
    /// The image, as the user named it.
    pub image: String,
    /// The name of its last container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The id of its last container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The digest of all but the image that decides what comes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The variables that it was given, but secrets and what jobctl and docker add by themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The last value of each metric.
    #[serde(
        default,
        with = "number::map",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub metrics: BTreeMap<String, f64>,
    /// Whether nobody waited for it at its terminal.
    #[serde(default)]
    pub is_detached: bool,
    /// Whether the job stays up.
    #[serde(default)]
    pub is_service: bool,
    /// Whether its container is left when the run is over.
    #[serde(default)]
    pub keep: bool,
    /// Whether its last container was removed.
    #[serde(default)]
    pub is_removed: bool,
    /// How often the engine has started its last container again by itself.
    #[serde(default)]
    pub restarts: u32,
}

impl From<&Record> for Summary {
    fn from(record: &Record) -> Self {
        let last = record.attempts.last();
        Self {
            id: record.id,
            project: record.project.clone(),
            job: record.job.clone(),
            state: record.state,
            ending: record.ending,
            exit_code: record.exit_code,
            created: record.created,
            started: record.started,
            finished: record.finished,
            image: record.image.name.clone(),
            container: last.map(|attempt| attempt.container.clone()),
            container_id: last.and_then(|attempt| attempt.container_id.clone()),
            key: record.key.clone(),
            parameters: parameters(record),
            metrics: record.metrics.clone(),
            is_detached: record.is_detached,
            is_service: record.policy.is_service,
            keep: record.policy.keep,
            is_removed: last.is_some_and(|attempt| attempt.is_removed),
            restarts: last.map_or(0, |attempt| attempt.restarts),
        }
    }
}

/// What the user chose, as far as its values are kept: variables, and as `args` the words that the job was
/// given in the place of its own.
fn parameters(record: &Record) -> BTreeMap<String, String> {
    let variables = record.environment.iter();
    let chosen = variables.filter(|variable| !variable.is_added());
    let chosen = chosen.filter_map(|variable| {
        let value = variable.value.clone().filter(|_| !variable.is_secret)?;
        Some((variable.name.clone(), value))
    });
    let mut parameters: BTreeMap<_, _> = chosen.collect();
    let of_job = record.manifest.as_ref().map(|job| &job["command"]);
    if let Some(words) = record.container["command"].as_array()
        && of_job.is_none_or(|own| own.as_array() != Some(words))
    {
        let words = words.iter().filter_map(Value::as_str);
        let args = shell_words::join(words);
        parameters.entry("args".to_owned()).or_insert(args);
    }
    parameters
}
