//! What a run takes from the runs of other jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Given, RunFailure};
use crate::model::{Name, RunId};
use crate::plan::run::{Handed, RunPlan};
use crate::plan::up::judge;
use crate::records::{Ending, Record, Store};

/// The runs that a run needs.
pub(super) struct Needs {
    /// By job.
    pub(super) parents: BTreeMap<String, RunId>,
    /// Their outputs that it reads.
    pub(super) handed: Handed,
}

/// Finds the runs that a run needs, and judges them; in `shared`, what of them it is given.
pub(super) fn needs(
    store: &Store,
    plan: &RunPlan,
    given: &Given,
    shared: &mut Vec<(PathBuf, String)>,
) -> Result<Needs, RunFailure> {
    let mut parents = BTreeMap::new();
    let mut handed = Handed::new();
    for (job, outputs) in &plan.needs {
        let parent = match given.runs.get(job) {
            Some(id) => Some(store.read(*id)?),
            None => parent(store, job, outputs.keys())?,
        };
        let Some(parent) = parent else {
            let job = job.clone();
            return Err(match outputs.keys().next().cloned() {
                Some(output) => RunFailure::NoOutput { job, output },
                None => RunFailure::NoSuccess { job },
            });
        };
        parents.insert(job.to_string(), parent.id);
        for (output, target) in outputs {
            let (path, sha256) = output_of(store, &parent, job, output)?;
            shared.push((path, target.as_str().to_owned()));
            let known = (sha256, target.as_str().to_owned());
            let of_job = handed.entry(job.to_string()).or_default();
            of_job.insert(output.to_string(), known);
        }
    }
    pass_gates(store, plan, given, &parents)?;
    Ok(Needs { parents, handed })
}

/// The newest run of a job that succeeded and has the outputs.
fn parent<'a>(
    store: &Store,
    job: &Name,
    outputs: impl Iterator<Item = &'a Name>,
) -> Result<Option<Record>, RunFailure> {
    let outputs: Vec<_> = outputs.map(Name::as_str).collect();
    let has_all = |record: &Record| {
        record.ending == Some(Ending::Success)
            && outputs
                .iter()
                .all(|output| record.outputs.contains_key(*output))
    };
    Ok(store.latest(job.as_str(), has_all)?)
}

/// Whether the runs that a run needs pass its gates. A pipeline has judged its own steps already.
fn pass_gates(
    store: &Store,
    plan: &RunPlan,
    given: &Given,
    parents: &BTreeMap<String, RunId>,
) -> Result<(), RunFailure> {
    for (judged, gate) in &plan.gates {
        let Some(run) = parents.get(judged.as_str()) else {
            continue;
        };
        if given.runs.contains_key(judged) {
            continue;
        }
        let record = store.read(*run)?;
        // What it judged must be what is read: an evaluation of another model says nothing of this one.
        for (job, of) in &record.parents {
            if let Some(read) = parents.get(job).filter(|read| *read != of) {
                return Err(RunFailure::NotJudged {
                    judged: judged.clone(),
                    run: *run,
                    job: job.clone(),
                    of: *of,
                    read: *read,
                });
            }
        }
        let promoted = store.promoted()?;
        let promoted = promoted.of(judged.as_str()).map(|run| &run.metrics);
        let judgements = judge(gate, &record.metrics, promoted);
        if judgements.iter().any(|judgement| !judgement.holds) {
            return Err(RunFailure::Gate {
                job: plan.job.clone(),
                judged: judged.clone(),
                run: *run,
                judgements,
            });
        }
    }
    Ok(())
}

/// Where an output of a run is kept, and its digest.
pub(super) fn output_of(
    store: &Store,
    parent: &Record,
    job: &Name,
    output: &Name,
) -> Result<(PathBuf, String), RunFailure> {
    let Some(found) = parent.outputs.get(output.as_str()) else {
        let (job, output) = (job.clone(), output.clone());
        return Err(RunFailure::NoOutput { job, output });
    };
    let folder = store.run(parent.id);
    let path = folder.output(output.as_str());
    let kept = folder.outputs(false);
    if kept.is_ok_and(|kept| is_directory(&kept.path().join(output.as_str()))) {
        return Ok((path, found.sha256.clone()));
    }
    Err(RunFailure::OutputGone {
        run: parent.id,
        output: output.clone(),
        path,
    })
}

/// Whether a path is that of a directory, and not of a link to one.
fn is_directory(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir())
}
