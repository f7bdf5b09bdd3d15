//! Which runs there are, and what of them is shown.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::suggest::nearest;
use crate::model::RunId;
use crate::records::{Promoted, ReadError, State, Store, StoreError, Summary};

/// So many parameters and so many metrics are columns by themselves.
const PARAMETERS: usize = 8;
const METRICS: usize = 4;

/// Which runs are asked for.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// At most so many.
    pub count: Option<usize>,
    /// Only this job's.
    pub job: Option<String>,
    /// Only those that are so far.
    pub state: Option<State>,
    /// What is shown of each; if nothing is named, what tells them apart.
    pub columns: Vec<String>,
}

/// Something that is shown of each run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// What every run has.
    Own(Own),
    /// A variable that it was given.
    Parameter(String),
    /// The last value of a metric.
    Metric(String),
}

/// What every run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Its id.
    Run,
    /// Its job, or its image.
    Job,
    /// Its image.
    Image,
    /// How far it is.
    State,
    /// Its exit code.
    ExitCode,
    /// When it was asked for.
    Created,
    /// How long it took.
    Took,
}

impl Own {
    /// All of them, with their names.
    pub const ALL: [(&str, Self); 7] = [
        ("run", Self::Run),
        ("job", Self::Job),
        ("image", Self::Image),
        ("state", Self::State),
        ("exit_code", Self::ExitCode),
        ("created", Self::Created),
        ("took", Self::Took),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, own)| *own == self);
        named.map_or("", |(name, _)| name)
    }
}

impl Column {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Own(own) => own.name(),
            Self::Parameter(name) | Self::Metric(name) => name,
        }
    }
}

/// Runs, newest first.
#[derive(Debug)]
pub struct Runs {
    /// Those that were asked for.
    pub runs: Vec<Summary>,
    /// What is shown of each.
    pub columns: Vec<Column>,
    /// What tells them apart as well, and is not shown.
    pub more_columns: Vec<String>,
    /// Those of them that are promoted: the last that was, of each job.
    pub promoted: BTreeSet<RunId>,
    /// Why it is not known which are promoted.
    pub warning: Option<String>,
    /// How many more there are of them.
    pub left_out: usize,
    /// Those whose records can't be read, and why.
    pub unread: Vec<(RunId, ReadError)>,
}

/// Why no runs are listed.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The state folder can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No run has what is to be shown.
    #[error("no run has a column `{name}`")]
    NoColumn {
        /// Its name.
        name: String,
        /// Which was meant, or which there are.
        help: String,
    },
}

/// Finds the runs that are asked for.
///
/// # Errors
///
/// The state folder can't be read, or no run has what is to be shown.
pub fn runs(store: &Store, question: &Question) -> Result<Runs, RunsError> {
    let listing = store.summaries()?;
    let is_asked = |run: &Summary| {
        let is_of_job = question.job.is_none() || run.job == question.job;
        is_of_job && question.state.is_none_or(|state| run.state == state)
    };
    let mut runs: Vec<_> = listing.runs.into_iter().filter(is_asked).collect();
    let chosen = chosen(&question.columns, &runs)?;
    let count = question.count.unwrap_or(runs.len()).min(runs.len());
    let left_out = runs.len() - count;
    runs.truncate(count);
    let (columns, more_columns) = if question.columns.is_empty() {
        telling(&runs)
    } else {
        (chosen, Vec::new())
    };
    // Runs are listed whatever is wrong with that.
    let (promoted, warning) = match store.promoted() {
        Ok(promoted) => (promoted, None),
        Err(error) => (Promoted::default(), Some(error.to_string())),
    };
    let is_promoted = |run: &&Summary| {
        let promotion = run.job.as_deref().and_then(|job| promoted.of(job));
        promotion.is_some_and(|promotion| promotion.run == run.id)
    };
    let promoted = runs.iter().filter(is_promoted).map(|run| run.id).collect();
    Ok(Runs {
        runs,
        columns,
        more_columns,
        promoted,
        left_out,
        warning,
        unread: listing.unread.into_iter().rev().collect(),
    })
}

/// The columns of those names. A name that is both a variable's and a metric's is the variable's.
fn chosen(names: &[String], runs: &[Summary]) -> Result<Vec<Column>, RunsError> {
    let column = |name: &String| {
        if let Some((_, own)) = Own::ALL.iter().find(|(known, _)| known == name) {
            return Ok(Column::Own(*own));
        }
        if runs.iter().any(|run| run.parameters.contains_key(name)) {
            return Ok(Column::Parameter(name.clone()));
        }
        if runs.is_empty() || runs.iter().any(|run| run.metrics.contains_key(name)) {
            return Ok(Column::Metric(name.clone()));
        }
        let own = Own::ALL.iter().map(|(name, _)| *name);
        let of_runs = runs
            .iter()
            .flat_map(|run| run.parameters.keys().chain(run.metrics.keys()));
        let known: BTreeSet<_> = own.chain(of_runs.map(String::as_str)).collect();
        let help = match nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", Vec::from_iter(known).join(", ")),
        };
        let name = name.clone();
        Err(RunsError::NoColumn { name, help })
    };
    names.iter().map(column).collect()
}

/// What tells runs apart: the parameters in which runs of the same job differ, and the metrics. The
/// names of those that are too many.
fn telling(runs: &[Summary]) -> (Vec<Column>, Vec<String>) {
    let mut jobs: BTreeMap<&str, Vec<&Summary>> = BTreeMap::new();
    for run in runs {
        jobs.entry(run.job.as_deref().unwrap_or(&run.image))
            .or_default()
            .push(run);
    }
    let mut parameters = BTreeSet::new();
    for alike in jobs.values() {
        let names: BTreeSet<_> = alike.iter().flat_map(|run| run.parameters.keys()).collect();
        let differs = |name: &&String| {
            let mut values = alike.iter().map(|run| run.parameters.get(*name));
            let first = values.next().flatten();
            values.any(|value| value != first)
        };
        parameters.extend(names.into_iter().filter(differs).cloned());
    }
    let metrics: BTreeSet<_> = runs
        .iter()
        .flat_map(|run| run.metrics.keys())
        .cloned()
        .collect();
    let more = parameters
        .iter()
        .skip(PARAMETERS)
        .chain(metrics.iter().skip(METRICS));
    let more = more.cloned().collect();
    let own = [Own::Run, Own::Job, Own::State, Own::Created, Own::Took];
    let columns = own.map(Column::Own).into_iter();
    let columns = columns.chain(
        parameters
            .into_iter()
            .take(PARAMETERS)
            .map(Column::Parameter),
    );
    let columns = columns.chain(metrics.into_iter().take(METRICS).map(Column::Metric));
    (columns.collect(), more)
}
