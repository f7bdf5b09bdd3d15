//! Which container is a run's.
//!
//! The engine says so, by labels. Names and ids in a record are no more than what was once true: a record
//! may have come with a repository that was cloned, or with a folder that was copied. So every verb that
//! does something to a run's container asks here for it.

use std::path::Path;
use std::time::Duration;

use super::RunFailure;
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::run::{Container, RunError};
use crate::facts::host;
use crate::model::RunId;
use crate::plan::run::JOB_LABEL;
use crate::records::{RunFolder, Store};

/// How long a container may take to end whose record is gone, as docker has it.
pub const GRACE: Duration = Duration::from_secs(10);
/// The label of a container's run.
pub(super) const RUN_LABEL: &str = "dev.jobctl.run";
/// The label of a container's attempt, from 1.
pub(super) const ATTEMPT_LABEL: &str = "dev.jobctl.attempt";
/// The label of the state folder that has the run's record.
pub(super) const STATE_LABEL: &str = "dev.jobctl.state";
/// The label of the host that the state folder is on: other hosts that use the engine may have one of the same
/// path.
pub(super) const HOST_LABEL: &str = "dev.jobctl.host";
/// The label of services.
pub(super) const SERVICE_LABEL: &str = "dev.jobctl.service";

/// The container of a run's newest attempt, if the engine has it.
///
/// # Errors
///
/// The run is another state folder's, of which this is a copy; or the engine can't be used.
pub async fn container_of(
    engine: &DockerEngine,
    folder: &RunFolder,
) -> Result<Option<Container>, RunFailure> {
    let Some(newest) = all_of(engine, folder).await?.pop() else {
        return Ok(None);
    };
    // It tells more of one than of many.
    let found = engine.container(&newest.id).await?;
    Ok(found.filter(|container| run_of(container) == Some(folder.id())))
}

/// The container of a run's newest attempt, which is up.
///
/// # Errors
///
/// As [`container_of`], and where there is none.
pub async fn up_container_of(
    engine: &DockerEngine,
    folder: &RunFolder,
) -> Result<Container, RunFailure> {
    let found = container_of(engine, folder).await?;
    let up = found.filter(|container| container.status.is_up());
    let container = folder.id().short();
    up.ok_or_else(|| RunError::NoContainer { container }.into())
}

/// All containers of a run, the newest last.
pub(super) async fn all_of(
    engine: &DockerEngine,
    folder: &RunFolder,
) -> Result<Vec<Container>, RunFailure> {
    let id = folder.id();
    let mut found = engine
        .containers_labelled(RUN_LABEL, Some(&id.to_string()))
        .await?;
    let state = folder.state();
    for container in &found {
        let known = container.labels.get(STATE_LABEL).map(Path::new);
        if let Some(known) = known.filter(|known| is_elsewhere(known, &state, folder)) {
            let state = known.to_owned();
            return Err(RunFailure::Elsewhere { id, state });
        }
    }
    sort(&mut found);
    Ok(found)
}

/// Whether a state folder is another than ours and has the run. One that has it no more was moved: to ours,
/// unless a process works on the run in a third one.
fn is_elsewhere(known: &Path, ours: &Path, folder: &RunFolder) -> bool {
    let Ok(known) = known.canonicalize() else {
        return folder.is_copy();
    };
    known != ours && (Store::new(known).run(folder.id()).path().is_dir() || folder.is_copy())
}

/// Removes a container, if it is a run's.
pub(super) async fn remove(
    engine: &DockerEngine,
    run: RunId,
    container: &str,
) -> Result<(), RunError> {
    match engine.container(container).await? {
        Some(found) if run_of(&found) == Some(run) => engine.remove(&found.id).await,
        _ => Ok(()),
    }
}

/// The run of a container.
pub(in crate::ops) fn run_of(container: &Container) -> Option<RunId> {
    container.labels.get(RUN_LABEL)?.parse().ok()
}

/// The containers of all runs, the newest of each run last.
pub(in crate::ops) async fn all(engine: &DockerEngine) -> Result<Vec<Container>, EngineError> {
    let mut found = engine.containers_labelled(RUN_LABEL, None).await?;
    sort(&mut found);
    Ok(found)
}

/// Sorts by attempt; those of earlier versions of jobctl have no number.
fn sort(containers: &mut [Container]) {
    containers.sort_by_key(|container| {
        let attempt = container.labels.get(ATTEMPT_LABEL);
        let attempt = attempt.and_then(|attempt| attempt.parse::<u32>().ok());
        (attempt, container.created)
    });
}

/// A container of this state folder's whose record is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// Its run.
    pub run: RunId,
    /// The job.
    pub job: Option<String>,
    /// Whether it is a service.
    pub is_service: bool,
    /// The container.
    pub container: Container,
}

/// The containers whose records were in this state folder and are gone: somebody removed it, or a part of
/// it, while they were up.
///
/// # Errors
///
/// The engine or the folder can't be used.
pub async fn orphans(engine: &DockerEngine, store: &Store) -> Result<Vec<Orphan>, RunFailure> {
    let found = containers_here(engine, store).await?;
    let known = store.ids()?;
    let orphans = found.into_iter().filter_map(|container| {
        let run = run_of(&container).filter(|run| !known.contains(run))?;
        Some(Orphan {
            run,
            job: container.labels.get(JOB_LABEL).cloned(),
            is_service: container.labels.contains_key(SERVICE_LABEL),
            container,
        })
    });
    Ok(orphans.collect())
}

/// The containers of all runs of a state folder on this machine.
pub(super) async fn containers_here(
    engine: &DockerEngine,
    store: &Store,
) -> Result<Vec<Container>, RunFailure> {
    let state = store.place();
    let state = state.to_string_lossy();
    let mut found = engine
        .containers_labelled(STATE_LABEL, Some(&state))
        .await?;
    let host = host::name();
    found.retain(|container| container.labels.get(HOST_LABEL) == Some(&host));
    Ok(found)
}

/// The warning about a container whose record is gone.
#[must_use]
pub fn orphan_words(run: RunId, job: Option<&str>, store: &Store) -> String {
    let of_job = job.map_or_else(String::new, |job| format!(" of `{job}`"));
    let (run, state) = (run.short(), store.path().display());
    format!(
        "the run {run}{of_job} has a container, and its record and log are gone from `{state}`; \
         `jobctl stop {run}` ends it, `jobctl rm {run}` removes it"
    )
}

/// Removes a container whose record is gone; one that is up is ended first, if that is forced.
///
/// # Errors
///
/// It is up, or the engine can't be used.
pub async fn remove_orphan(
    engine: &DockerEngine,
    orphan: &Orphan,
    is_forced: bool,
) -> Result<(), RunFailure> {
    let id = &orphan.container.id;
    if orphan.container.status.is_up() {
        if !is_forced {
            return Err(RunFailure::GoesOn { id: orphan.run });
        }
        engine.stop(id, None, GRACE).await?;
    }
    Ok(remove(engine, orphan.run, id).await?)
}

/// The labels by which a container is found again.
pub(super) fn labels(
    folder: &RunFolder,
    attempt: usize,
    is_service: bool,
) -> impl Iterator<Item = (String, String)> {
    let state = folder.state().to_string_lossy().into_owned();
    let service = is_service.then(|| (SERVICE_LABEL.to_owned(), "true".to_owned()));
    [
        (RUN_LABEL.to_owned(), folder.id().to_string()),
        (ATTEMPT_LABEL.to_owned(), attempt.to_string()),
        (STATE_LABEL.to_owned(), state),
        (HOST_LABEL.to_owned(), host::name()),
    ]
    .into_iter()
    .chain(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_another_folders_only_while_that_has_it() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let [ours, other] = ["ours", "other"].map(|name| top.join(name));
        let run = RunId::new(jiff::Timestamp::UNIX_EPOCH);
        let folder = |state: &Path| Store::new(state.to_owned()).run(run).path().to_owned();
        for state in [&ours, &other] {
            std::fs::create_dir_all(folder(state)).unwrap();
        }
        let here = Store::new(ours.clone()).run(run);
        assert!(is_elsewhere(&other, &ours, &here));
        assert!(!is_elsewhere(&ours, &ours, &here));
        // The other one is moved, while a process works on the run in it.
        let lock = Store::new(other.clone()).run(run).try_lock().unwrap();
        assert!(lock.is_some());
        std::fs::rename(&other, top.join("gone")).unwrap();
        assert!(is_elsewhere(&other, &ours, &here));
        // Where it was moved to, it is at home.
        let gone = Store::new(top.join("gone")).run(run);
        assert!(!is_elsewhere(&other, &top.join("gone"), &gone));
        drop(lock);
        assert!(!is_elsewhere(&other, &ours, &here));
        // The old place leads to the new one.
        let link = top.join("link");
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        assert!(!is_elsewhere(&link, &ours, &here));
    }
}
