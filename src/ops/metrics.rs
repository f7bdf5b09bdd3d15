//! The metrics of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::manifest::suggest::nearest;
use crate::model::RunId;
use crate::records::metrics::{Point, series};
use crate::records::{Record, RunFolder};

/// The metrics of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetrics {
    /// The run.
    pub id: RunId,
    /// Its job, or its image.
    pub title: String,
    /// The last value of each.
    pub last: BTreeMap<String, f64>,
    /// All values in the order in which they came.
    pub history: Vec<Point>,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it finished, if it has.
    pub finished: Option<Timestamp>,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// There is none with that name.
    #[error("no run that was named has a metric `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is none at all.
    #[error("no run that was named has metrics")]
    None,
    /// They can't be read.
    #[error("can't read the metrics in `{}`: {source}", path.display())]
    Unreadable {
        /// The run's folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl MetricsError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { name, known } => {
                let meant = nearest(name, known.iter().map(String::as_str));
                Some(match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are {}", known.join(", ")),
                })
            }
            Self::None => {
                Some("name them in jobs.yaml: `metrics: { files: […], log: [loss] }`".to_owned())
            }
            Self::Unreadable { .. } => None,
        }
    }
}

/// Reads the metrics of runs: those with these names, or all.
///
/// # Errors
///
/// There is none, or they can't be read.
pub fn metrics(
    runs: &[(RunFolder, Record)],
    names: &[String],
) -> Result<Vec<RunMetrics>, MetricsError> {
    let mut read = Vec::new();
    for (folder, record) in runs {
        let history = series(folder.path(), None).map_err(|source| MetricsError::Unreadable {
            path: folder.path().to_owned(),
            source,
        })?;
        let mut last = BTreeMap::new();
        // While a run is under way, its record has none yet.
        last.extend(
            history
                .iter()
                .map(|point| (point.name.clone(), point.value)),
        );
        last.extend(record.metrics.clone());
        read.push(RunMetrics {
            id: record.id,
            title: record
                .job
                .clone()
                .unwrap_or_else(|| record.image.name.clone()),
            last,
            history,
            started: started(record),
            finished: record.finished,
        });
    }
    let known: BTreeSet<&String> = read.iter().flat_map(|run| run.last.keys()).collect();
    if known.is_empty() {
        return Err(MetricsError::None);
    }
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        return Err(MetricsError::Unknown {
            name: name.clone(),
            known: known.into_iter().cloned().collect(),
        });
    }
    if !names.is_empty() {
        for run in &mut read {
            run.last.retain(|name, _| names.contains(name));
            run.history.retain(|point| names.contains(&point.name));
        }
    }
    Ok(read)
}

/// When the first attempt of a run started.
fn started(record: &Record) -> Option<Timestamp> {
    let mut attempts = record.attempts.iter();
    attempts
        .find_map(|attempt| attempt.started)
        // The first is under way.
        .or(record.started)
}
