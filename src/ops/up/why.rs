//! Why a step runs although its job was run before.

use crate::event::Event;
use crate::model::{Name, RunId};
use crate::ops::run::{Ready, RunFailure};
use crate::plan::run::{Difference, Known, differences};
use crate::records::{Ending, ImageRecord, Record, Store};

use super::{Launcher, Pipeline, reuse};

/// Why a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was never run.
    First,
    /// `--fresh`: every step runs.
    Fresh,
    /// None of its runs succeeded.
    Unsuccessful,
    /// An earlier run is alike, but its outputs changed since, or its inputs changed while it ran.
    Damaged(RunId),
    /// No run of the service is up.
    NotUp,
    /// The run of the service that is up was started by itself, and has the ports.
    Ports(RunId),
    /// Something differs from the newest run that succeeded, or that is up.
    Changed(RunId, Vec<Difference>),
}

impl Why {
    /// In some words; whole with what differs as it was and as it is.
    #[must_use]
    pub fn words(&self, is_whole: bool) -> String {
        match self {
            Self::First => "it was never run".to_owned(),
            Self::Fresh => "`--fresh`".to_owned(),
            Self::Unsuccessful => "no run of it succeeded".to_owned(),
            Self::Damaged(run) => format!(
                "what the run {} made changed since, or what it read changed while it ran",
                run.short()
            ),
            Self::NotUp => "no run of it is up".to_owned(),
            Self::Ports(run) => format!("the run {} has its ports itself", run.short()),
            Self::Changed(run, found) if is_whole => {
                let found: Vec<_> = found.iter().map(ToString::to_string).collect();
                format!("{} (since the run {})", found.join("; "), run.short())
            }
            Self::Changed(_, found) => {
                let found: Vec<_> = found.iter().map(Difference::subject).collect();
                found.join(", ")
            }
        }
    }
}

/// Why a job runs for which there is no earlier run that can be reused.
pub(super) fn of_job(store: &Store, job: &str, ready: &Ready) -> Result<Why, RunFailure> {
    let runs = store.summaries()?.runs;
    let mut of_job = runs.iter().filter(|run| run.job.as_deref() == Some(job));
    let mut why = Why::First;
    let newest = of_job.find_map(|run| {
        why = Why::Unsuccessful;
        let is_success = run.ending == Some(Ending::Success);
        is_success.then(|| store.read(run.id).ok()).flatten()
    });
    match newest {
        Some(record) if ready.is_alike(&record) => Ok(Why::Damaged(record.id)),
        Some(record) => since(store, &record, ready),
        None => Ok(why),
    }
}

/// Why a service is started anew beside a run of it that is up.
pub(super) fn of_service(store: &Store, up: &Record, ready: &Ready) -> Result<Why, RunFailure> {
    if ready.is_alike(up) {
        return Ok(Why::Ports(up.id));
    }
    since(store, up, ready)
}

/// What differs from an earlier run.
fn since(store: &Store, record: &Record, ready: &Ready) -> Result<Why, RunFailure> {
    let id = |image: &ImageRecord| image.id.clone().unwrap_or_default();
    let (then, now) = (id(&record.image), id(ready.image()));
    let known = Known {
        project: &store.key()?,
        parents: &|parent| store.read(parent).ok(),
        files: store.changed_context(&then, &now),
    };
    let found = differences(&ready.planned(), record, known);
    Ok(Why::Changed(record.id, found))
}

impl<L: Launcher> Pipeline<L> {
    /// Reports why a step runs, unless it is obvious.
    pub(super) fn explain(&self, job: &Name, why: &Why) {
        let is_whole = self.wishes.explains;
        let again = match why {
            Why::First | Why::NotUp | Why::Fresh if !is_whole => return,
            Why::First | Why::NotUp => "runs",
            _ => "runs again",
        };
        let words = why.words(is_whole);
        self.events
            .send(Event::Note(format!("{job} {again}: {words}")));
    }
}

/// Keeps in mind that a run's image and today's have the same content, whatever they were built from.
pub(super) fn note_alike(store: &Store, record: &Record, ready: &Ready) {
    let ids = (&record.image.id, &ready.image().id);
    if let (Some(then), Some(now)) = ids
        && then != now
        && let Err(error) = store.follow_context(then, now)
    {
        tracing::debug!("the list of an image's files is not kept: {error}");
    }
}

/// The earlier run that can be reused, or why there is none.
pub(super) fn find(
    store: &Store,
    job: &Name,
    ready: &Ready,
    is_fresh: bool,
) -> Result<Result<Record, Why>, RunFailure> {
    if is_fresh {
        return Ok(Err(Why::Fresh));
    }
    match reuse::find(store, job.as_str(), ready)? {
        Some(record) => {
            note_alike(store, &record, ready);
            Ok(Ok(record))
        }
        None => of_job(store, job.as_str(), ready).map(Err),
    }
}
