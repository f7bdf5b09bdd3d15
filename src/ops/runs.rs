//! Which runs there are.

use std::collections::BTreeSet;

use crate::model::RunId;
use crate::records::{Promoted, ReadError, State, Store, StoreError, Summary};

/// Which runs are asked for.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// At most so many.
    pub count: Option<usize>,
    /// Only this job's.
    pub job: Option<String>,
    /// Only those that are so far.
    pub state: Option<State>,
}

/// Runs, newest first.
#[derive(Debug)]
pub struct Runs {
    /// Those that were asked for.
    pub runs: Vec<Summary>,
    /// Those of them that are promoted: the last that was, of each job.
    pub promoted: BTreeSet<RunId>,
    /// Why it is not known which are promoted.
    pub warning: Option<String>,
    /// How many more there are of them.
    pub left_out: usize,
    /// Those whose records can't be read, and why.
    pub unread: Vec<(RunId, ReadError)>,
}

/// Finds the runs that are asked for.
///
/// # Errors
///
/// The state folder can't be read.
pub fn runs(store: &Store, question: &Question) -> Result<Runs, StoreError> {
    let listing = store.summaries()?;
    let is_asked = |run: &Summary| {
        let is_of_job = question.job.is_none() || run.job == question.job;
        is_of_job && question.state.is_none_or(|state| run.state == state)
    };
    let mut runs: Vec<_> = listing.runs.into_iter().filter(is_asked).collect();
    let count = question.count.unwrap_or(runs.len()).min(runs.len());
    let left_out = runs.len() - count;
    runs.truncate(count);
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
        promoted,
        left_out,
        warning,
        unread: listing.unread.into_iter().rev().collect(),
    })
}
