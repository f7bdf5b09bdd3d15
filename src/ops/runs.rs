//! Which runs there are.

use crate::model::RunId;
use crate::records::{ReadError, State, Store, StoreError, Summary};

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
    Ok(Runs {
        runs,
        left_out,
        unread: listing.unread.into_iter().rev().collect(),
    })
}
