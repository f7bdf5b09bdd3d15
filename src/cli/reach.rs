//! Getting to runs: their engine, and the run that is meant.

use std::io;

use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::engine::docker::DockerEngine;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::model::RunId;
use crate::ops::run::{Orphan, orphans, reconcile};
use crate::records::{Record, Store};

/// The engine, after it was asked what became of runs without a supervisor. Nothing, with a
/// warning, if it can't be reached: records answer without it.
///
/// It is asked only if there are such runs.
pub(super) async fn reconciled(
    context: &Context,
    store: &Store,
    events: &Events,
) -> Option<DockerEngine> {
    if store.unfinished().is_ok_and(|runs| runs.is_empty()) {
        return None;
    }
    match context.connect().await {
        Ok(engine) => {
            reconcile(&engine, store, events).await;
            Some(engine)
        }
        Err(error) => {
            events.send(Event::Warning(format!(
                "{error}; what is shown is what was last known"
            )));
            None
        }
    }
}

/// Finishes runs that ended while nobody looked after them, so that no record says that they go on.
/// The engine is asked only if there are runs without a supervisor.
pub(super) fn settle(context: &Context) -> io::Result<()> {
    let store = context.store();
    let is_alone = |id: &RunId| store.run(*id).is_locked().is_ok_and(|is_locked| !is_locked);
    if !store
        .unfinished()
        .is_ok_and(|runs| runs.iter().any(is_alone))
    {
        return Ok(());
    }
    context.watch(async |events| {
        reconciled(context, &store, events).await;
    })
}

/// The run that is meant: a prefix of its id, `JOB`, or `JOB~N`.
pub(super) fn run(context: &Context, written: &str) -> Result<RunId, Exit> {
    context
        .resolve(written)
        .map_err(|error| unmeant(context, *error))
}

/// What a verb ends or removes.
pub(super) enum Target {
    Run(RunId),
    /// A container whose record is gone.
    Orphan(Box<Orphan>),
}

impl Target {
    pub(super) fn id(&self) -> RunId {
        match self {
            Self::Run(id) => *id,
            Self::Orphan(orphan) => orphan.run,
        }
    }
}

/// The selected runs, each once, and what it ends with if one is not found, which is reported.
pub(super) fn targets(context: &Context, written: &[String]) -> io::Result<(Vec<Target>, Exit)> {
    let mut targets: Vec<Target> = Vec::new();
    let mut exit = Exit::Success;
    for written in written {
        match target(context, written)? {
            Ok(target) if targets.iter().any(|known| known.id() == target.id()) => {}
            Ok(target) => targets.push(target),
            Err(failed) => exit = failed.of_other_verb(),
        }
    }
    Ok((targets, exit))
}

/// The run that is meant, whether or not its record is still there.
fn target(context: &Context, written: &str) -> io::Result<Result<Target, Exit>> {
    let error = match context.resolve(written) {
        Ok(id) => return Ok(Ok(Target::Run(id))),
        Err(error) => error,
    };
    let orphans = context.watch(async |_events| {
        let engine = context.connect().await.ok()?;
        orphans(&engine, &context.store()).await.ok()
    })?;
    let prefix = written.replace('-', "");
    let is_meant = |orphan: &Orphan| {
        orphan.run.to_string().starts_with(&prefix) || orphan.job.as_deref() == Some(written)
    };
    let mut meant = orphans.into_iter().flatten().filter(is_meant);
    Ok(match (meant.next(), meant.next()) {
        (Some(orphan), None) => Ok(Target::Orphan(Box::new(orphan))),
        _ => Err(unmeant(context, *error)),
    })
}

/// The record of the run that is meant.
pub(super) fn record(context: &Context, written: &str) -> Result<Record, Exit> {
    let found = context.find_run(written);
    found
        .map(|(_, record)| record)
        .map_err(|error| unmeant(context, *error))
}

fn unmeant(context: &Context, error: Diagnostic) -> Exit {
    // Whoever closed stdout does not want it.
    context.output.failure(&[error]);
    Exit::Engine
}
