//! Runs that need not be made again.

use crate::ops::run::{Ready, files};
use crate::records::{Ending, Record, Store, StoreError};

/// The newest run of a job that is like the one that is asked for and succeeded, with all that it made
/// still there; or that is under way.
pub(super) fn find(store: &Store, job: &str, ready: &Ready) -> Result<Option<Record>, StoreError> {
    let runs = store.summaries()?.runs;
    let alike = runs.iter().filter(|run| {
        run.job.as_deref() == Some(job)
            && run.key.as_deref() == Some(ready.key())
            // One that was stopped may have ended with 0.
            && (run.ending == Some(Ending::Success) || !run.state.is_final())
    });
    for run in alike {
        // One that is being removed is gone.
        let Ok(record) = store.read(run.id) else {
            continue;
        };
        if !ready.is_alike(&record) {
            continue;
        }
        if !record.state.is_final() || (is_whole(&record) && is_intact(store, &record)) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Whether a run made all that it was to make.
fn is_whole(record: &Record) -> bool {
    let mut names = record.policy.outputs.keys();
    names.all(|name| record.outputs.contains_key(name))
}

/// Whether the outputs of a run are as they were collected.
fn is_intact(store: &Store, record: &Record) -> bool {
    let folder = store.run(record.id);
    record.outputs.iter().all(|(name, output)| {
        let found = files(&folder.output(name));
        found.is_ok_and(|found| found == output.files)
    })
}
