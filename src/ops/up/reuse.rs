//! Runs that need not be made again.

use crate::ops::run::{Ready, files};
use crate::records::{Ending, Record, Store, StoreError};

/// The newest run of a job that is like the one that is asked for and succeeded, with all that it made
/// still there; or that is under way; or whose outputs are still in its container.
pub(super) fn find(store: &Store, job: &str, ready: &Ready) -> Result<Option<Record>, StoreError> {
    let runs = store.summaries()?.runs;
    let alike = runs.iter().filter(|run| {
        run.job.as_deref() == Some(job)
            && run.key.as_deref() == Some(ready.key())
            // One that was stopped may have ended with 0.
            && (run.ending == Some(Ending::Success)
                || !run.state.is_final()
                || (run.ending == Some(Ending::OutputsLost) && !run.is_removed))
    });
    for run in alike {
        // One that is being removed is gone.
        let Ok(record) = store.read(run.id) else {
            continue;
        };
        if !ready.is_alike(&record) {
            continue;
        }
        // What such a run read, nobody knows.
        if record.inputs.values().any(|input| input.is_changed) {
            continue;
        }
        if !record.state.is_final()
            || !record.lost_outputs.is_empty()
            || (is_whole(&record) && is_intact(store, &record))
        {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Whether a run made all that it was to make.
fn is_whole(record: &Record) -> bool {
    let mut names = record.policy.outputs.keys();
    names.all(|name| {
        record.outputs.contains_key(name) || record.policy.optional_outputs.contains(name)
    })
}

/// Whether the outputs of a run are as they were collected.
fn is_intact(store: &Store, record: &Record) -> bool {
    let folder = store.run(record.id);
    record.outputs.iter().all(|(name, output)| {
        let (Ok(kept), Ok(found)) = (folder.files(name, output), files(&folder, name)) else {
            return false;
        };
        let mut found = found.into_iter();
        let mut kept = kept.map_while(Result::ok);
        kept.by_ref().all(|file| found.next() == Some(file)) && found.next().is_none()
    })
}
