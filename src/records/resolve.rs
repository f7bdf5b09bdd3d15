//! Which run is meant.

use std::collections::BTreeSet;

use super::error::StoreError;
use super::store::{Listing, Store};
use super::summary::Summary;
use crate::diagnostic::Diagnostic;
use crate::manifest::suggest::nearest;
use crate::model::RunId;

/// So many of the runs that could be meant are named.
const MOST_NAMED: usize = 8;

/// Why no run is meant.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// None is.
    #[error("there is no run `{written}`")]
    None {
        /// What was written.
        written: String,
        /// A job that has runs, with a name like it.
        nearest: Option<String>,
    },
    /// The job has fewer runs.
    #[error("job `{job}` has {count} run{}, not as many as `{written}` counts back", if *count == 1 { "" } else { "s" })]
    TooFew {
        /// What was written.
        written: String,
        /// The job.
        job: String,
        /// How many it has.
        count: usize,
    },
    /// The job is known, and was not run yet.
    #[error("job `{job}` has no run")]
    NotRun {
        /// The job.
        job: String,
    },
    /// Several are.
    #[error("`{written}` is the beginning of {} runs", ids.len())]
    Ambiguous {
        /// What was written.
        written: String,
        /// Those that begin so, newest first.
        ids: Vec<RunId>,
    },
    /// The records can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ResolveError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::None {
                nearest: Some(job), ..
            } => format!("did you mean `{job}`?"),
            Self::None { .. } | Self::TooFew { .. } => {
                "`jobctl runs` shows them: give the beginning of an id, a job for its latest run, \
                 or `JOB~1` for the one before"
                    .to_owned()
            }
            Self::NotRun { job } => format!("run it: `jobctl run {job}`"),
            Self::Ambiguous { ids, .. } => {
                let named: Vec<_> = ids.iter().take(MOST_NAMED).map(RunId::to_string).collect();
                let more = if ids.len() > MOST_NAMED { ", …" } else { "" };
                format!("write more of it: {}{more}", named.join(", "))
            }
            Self::Store(error) => error.help().to_owned(),
        }
    }
}

impl From<&ResolveError> for Diagnostic {
    fn from(error: &ResolveError) -> Self {
        let rule = match error {
            ResolveError::Store(error) => return error.into(),
            ResolveError::Ambiguous { .. } => "ambiguous-run",
            _ => "no-run",
        };
        Self::error(rule, error.to_string()).help(error.help())
    }
}

impl Store {
    /// The run that is meant by the beginning of an id (dashes may be in it), by a job (its latest
    /// run) or by `JOB~N` (the N-th before that). `jobs` are those of jobs.yaml. A job that has
    /// runs comes before an id that begins like its name.
    ///
    /// # Errors
    ///
    /// None is meant, or several are.
    pub fn resolve(&self, written: &str, jobs: &[String]) -> Result<RunId, ResolveError> {
        let digits = written.replace('-', "").to_lowercase();
        if digits.len() == 32
            && let Ok(id) = digits.parse()
            && self.run(id).path().is_dir()
        {
            return Ok(id);
        }
        let listing = self.summaries()?;
        if let Some(found) = of_job(&listing, written) {
            return found;
        }
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let all = listing.runs.iter().map(|run| run.id);
        let all: BTreeSet<RunId> = all.chain(listing.unread.keys().copied()).collect();
        let begins = |id: &RunId| is_hex && id.to_string().starts_with(&digits);
        let mut ids: Vec<RunId> = all.into_iter().rev().filter(begins).collect();
        match ids.len() {
            1 => return Ok(ids.remove(0)),
            0 => {}
            _ => {
                let written = written.to_owned();
                return Err(ResolveError::Ambiguous { written, ids });
            }
        }
        let name = written.split('~').next().unwrap_or_default();
        if jobs.iter().any(|job| job == name) {
            let job = name.to_owned();
            return Err(ResolveError::NotRun { job });
        }
        let known: BTreeSet<&str> = listing
            .runs
            .iter()
            .filter_map(|run| run.job.as_deref())
            .collect();
        Err(ResolveError::None {
            written: written.to_owned(),
            nearest: nearest(name, known).map(str::to_owned),
        })
    }
}

/// The run of a job; nothing where no job with that name has runs.
fn of_job(listing: &Listing, written: &str) -> Option<Result<RunId, ResolveError>> {
    let (job, back) = match written.split_once('~') {
        Some((job, back)) => (job, back.parse::<usize>().ok()?),
        None => (written, 0),
    };
    let is_of_job = |run: &&Summary| run.job.as_deref() == Some(job);
    let mut ids = listing.runs.iter().filter(is_of_job).map(|run| run.id);
    let count = ids.clone().count();
    if count == 0 {
        return None;
    }
    Some(ids.nth(back).ok_or_else(|| ResolveError::TooFew {
        written: written.to_owned(),
        job: job.to_owned(),
        count,
    }))
}
