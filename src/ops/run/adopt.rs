//! Runs whose jobctl is gone: what became of them, and going on with them.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::attempt::{Work, latest};
use super::cancel::{Cancel, StopCause, Undone};
use super::collect;
use super::container::{container_of, containers_here, remove, run_of};
use super::control::{Controls, Orders};
use super::follow::Followed;
use super::outcome::{note_removal, note_seen};
use super::pump::Pump;
use super::supervise::{COLLECTING, Streams, finish, warn_of_retries};
use super::{Ended, RunFailure};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::run::{Container, LogRequest, Status};
use crate::event::{Event, Events};
use crate::facts::host;
use crate::model::{RunId, STARS, Secret, Sensitive, starred_out};
use crate::records::mask::Masker;
use crate::records::{Ending, OpenRun, Record, RunFolder, State, Store};

/// How old a run is at least that has no container: an engine may still be making one for a jobctl that
/// was killed meanwhile.
const YOUNG: Duration = Duration::from_secs(10);

/// What became of a run whose jobctl is gone.
#[derive(Debug)]
pub enum Adopted {
    /// It has its supervisor, or is over.
    NotOurs,
    /// It goes on, and nobody supervises it.
    Unattended(Box<Record>),
    /// It was over, and now it stands in the record.
    Finished(Box<Record>),
}

/// Finds out what became of all runs that are not over and have no supervisor, finishes those that
/// ended, and removes the containers that killed supervisors left. What can't be found out of one run is
/// reported as a warning; the others don't suffer.
pub async fn reconcile(engine: &DockerEngine, store: &Store, events: &Events) {
    let ids = match store.unfinished() {
        Ok(ids) => ids,
        Err(error) => {
            events.send(Event::Warning(error.to_string()));
            return;
        }
    };
    for id in ids {
        if let Err(error) = look_after(engine, store, id, events).await {
            events.send(Event::Warning(format!(
                "the run {} can't be looked after: {error}",
                id.short()
            )));
        }
    }
    if let Err(error) = remove_left(engine, store, events).await {
        events.send(Event::Warning(format!(
            "containers of runs that are over may be left: {error}"
        )));
    }
}

/// Removes the containers of runs that are over: their supervisors were killed before they could, or
/// the engine refused.
async fn remove_left(
    engine: &DockerEngine,
    store: &Store,
    events: &Events,
) -> Result<(), RunFailure> {
    let found = containers_here(engine, store).await?;
    let known = store.ids()?;
    for container in found.iter().filter(|container| !container.status.is_up()) {
        let Some(run) = run_of(container).filter(|run| known.contains(run)) else {
            continue;
        };
        if let Err(error) = remove_of(engine, &store.run(run), container).await {
            events.send(Event::Warning(format!(
                "the container {} is not removed: {error}",
                container.name
            )));
        }
    }
    Ok(())
}

/// Removes a container of a run, unless the run isn't finished or its container is kept on purpose.
async fn remove_of(
    engine: &DockerEngine,
    folder: &RunFolder,
    container: &Container,
) -> Result<(), RunFailure> {
    let Some(_lock) = folder.try_lock()? else {
        return Ok(());
    };
    let mut record = folder.read()?;
    let is_kept = record.policy.keep || !record.lost_outputs.is_empty();
    if is_kept || !record.state.is_final() || !is_of(&record, engine) {
        return Ok(());
    }
    remove(engine, record.id, &container.id).await?;
    let mut attempts = record.attempts.iter_mut();
    let id = Some(&container.id);
    if let Some(attempt) = attempts.find(|attempt| attempt.container_id.as_ref() == id) {
        attempt.is_removed = true;
        folder.write(&record)?;
    }
    Ok(())
}

/// Finds out what became of a run, and finishes it if it ended.
pub(super) async fn look_after(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    events: &Events,
) -> Result<Adopted, RunFailure> {
    let folder = store.run(id);
    let Some(_lock) = folder.try_lock()? else {
        return Ok(Adopted::NotOurs);
    };
    let mut record = folder.read()?;
    if record.state.is_final() || !is_of(&record, engine) {
        return Ok(Adopted::NotOurs);
    }
    let found = find(engine, &folder, &mut record).await?;
    let secrets = secrets_of(engine, &record, found.as_ref()).await?;
    let work = Work {
        engine,
        folder: &folder,
        events,
        masker: Masker::new(&secrets),
    };
    let Some(container) = found else {
        return orphan(&work, record).await;
    };
    if container.status.is_up() {
        return Ok(Adopted::Unattended(Box::new(record)));
    }
    let mut stopped = None;
    if container.status == Status::Created {
        stopped = stop_cause(&folder);
        latest(&mut record).ending = Some(stopped.map_or(Ending::Infra, StopCause::ending));
        latest(&mut record).message =
            Some("jobctl ended before it started the container".to_owned());
    } else {
        take_log(&work, &mut record, secrets, &container).await?;
        work.settle(&mut record, Orders::default(), false).await?;
        collect::collect(&work, &mut record).await;
        warn_of_retries(&work, &mut record);
    }
    finish(&work, &mut record, stopped).await?;
    Ok(Adopted::Finished(Box::new(record)))
}

/// Why a run whose container never started has ended, where somebody wanted that.
fn stop_cause(folder: &RunFolder) -> Option<StopCause> {
    folder.is_stop_wanted().then_some(StopCause::Requested)
}

/// Refuses a run that is not one of this machine's, on this engine: nothing is known of it here.
pub(super) fn check_place(record: &Record, engine: &DockerEngine) -> Result<(), RunFailure> {
    if is_of(record, engine) {
        return Ok(());
    }
    let host = record.host.as_ref().map(|host| host.name.clone());
    let known = record.engine.as_ref().map(|engine| engine.address.clone());
    Err(RunFailure::NotHere {
        id: record.id,
        host: host.unwrap_or_default(),
        engine: known.unwrap_or_default(),
    })
}

/// Whether a run is one of this machine's, on this engine.
pub(in crate::ops) fn is_of(record: &Record, engine: &DockerEngine) -> bool {
    let is_engine = record
        .engine
        .as_ref()
        .is_none_or(|known| known.address == engine.endpoint().address.to_string());
    let is_host = record
        .host
        .as_ref()
        .is_none_or(|known| !engine.is_local() || known.name == host::name());
    is_engine && is_host
}

/// The container of the last attempt, which the record has from then on.
pub(super) async fn find(
    engine: &DockerEngine,
    folder: &RunFolder,
    record: &mut Record,
) -> Result<Option<Container>, RunFailure> {
    let found = container_of(engine, folder).await?;
    if let Some(container) = &found {
        latest(record).container_id = Some(container.id.clone());
    }
    Ok(found)
}

/// A run that has no container.
async fn orphan(work: &Work<'_>, mut record: Record) -> Result<Adopted, RunFailure> {
    let was_made = record
        .attempts
        .last()
        .is_some_and(|attempt| attempt.container_id.is_some());
    let age = host::now().duration_since(record.created);
    if !was_made && age.unsigned_abs() < YOUNG {
        return Ok(Adopted::NotOurs);
    }
    let mut stopped = None;
    let attempt = latest(&mut record);
    if attempt.is_removed && attempt.ending.is_some() {
        // It had ended, and the next attempt was to come.
        attempt
            .message
            .get_or_insert_with(|| "its jobctl was killed while it waited to try again".to_owned());
        stopped = stop_cause(work.folder);
    } else if was_made {
        note_removal(attempt);
    } else {
        stopped = stop_cause(work.folder);
        attempt.ending = Some(stopped.map_or(Ending::Infra, StopCause::ending));
        attempt.message = Some("jobctl ended before the engine was asked".to_owned());
    }
    finish(work, &mut record, stopped).await?;
    Ok(Adopted::Finished(Box::new(record)))
}

/// Takes what a container wrote since its supervisor died.
async fn take_log(
    work: &Work<'_>,
    record: &mut Record,
    secrets: Vec<Secret>,
    container: &Container,
) -> Result<(), RunFailure> {
    let mut pump = Pump::open(work, record, secrets, None)?;
    pump.rewind()?;
    let request = LogRequest {
        timestamps: !container.tty,
        ..LogRequest::default()
    };
    let output = work
        .engine
        .logs(&container.id, container.tty, &request)
        .await?;
    let (_never, has_ended) = watch::channel(false);
    if let Err(error) = pump.run(output, has_ended).await {
        work.warn(record, format!("the log may lack its end: {error}"));
    }
    if !container.status.is_up() {
        pump.finish().await;
    }
    record.warnings.append(&mut pump.warnings);
    Ok(())
}

/// The values that nobody may see: the container has them.
pub(super) async fn secrets(
    engine: &DockerEngine,
    record: &Record,
    container: &str,
) -> Result<Vec<Secret>, RunFailure> {
    let variables = record.environment.iter();
    let names = variables.filter(|variable| variable.is_secret);
    let names: Vec<_> = names.map(|variable| variable.name.as_str()).collect();
    let words = ["entrypoint", "command"].map(|field| words(&record.container[field]));
    let has_stars = words.iter().flatten().any(|word| word.contains(STARS));
    if !has_stars && names.is_empty() {
        return Ok(Vec::new());
    }
    let given = engine.given_to(container).await?;
    let environment = given.environment.into_iter();
    let environment = environment.filter(|(name, _)| names.contains(&name.as_str()));
    let mut secrets: Vec<_> = environment.map(|(_, value)| value).collect();
    for (shown, whole) in words.iter().zip([&given.entrypoint, &given.command]) {
        let words = shown.iter().zip(whole);
        let starred = words.filter_map(|(shown, word)| starred_out(shown, word.expose()));
        secrets.extend(starred.flatten().map(Secret::new));
    }
    let parts = |secret: &Secret| Sensitive::default().parts(secret.expose());
    let parts: Vec<_> = secrets.iter().flat_map(parts).map(Secret::new).collect();
    secrets.extend(parts);
    Ok(secrets)
}

/// The same of a container that may be gone.
pub(super) async fn secrets_of(
    engine: &DockerEngine,
    record: &Record,
    container: Option<&Container>,
) -> Result<Vec<Secret>, RunFailure> {
    match container {
        Some(container) => secrets(engine, record, &container.id).await,
        None => Ok(Vec::new()),
    }
}

fn words(list: &Value) -> Vec<&str> {
    let words = list.as_array().into_iter().flatten();
    words.filter_map(Value::as_str).collect()
}

/// Takes what a run wrote since its jobctl was killed. The engine is asked for only if there is such
/// a run.
///
/// # Errors
///
/// The engine can't be used, or the record can't be read.
pub async fn catch_up<C>(
    connect: impl Fn() -> C,
    store: &Store,
    id: RunId,
    events: &Events,
) -> Result<(), RunFailure>
where
    C: Future<Output = Result<DockerEngine, EngineError>>,
{
    let folder = store.run(id);
    if folder.read()?.state.is_final() || folder.is_locked()? {
        return Ok(());
    }
    let engine = connect().await?;
    if let Adopted::Unattended(_) = look_after(&engine, store, id, events).await?
        && let Some(_lock) = folder.try_lock()?
    {
        let mut record = folder.read()?;
        if let Some(container) = find(&engine, &folder, &mut record).await? {
            let secrets = secrets(&engine, &record, &container.id).await?;
            let work = Work {
                engine: &engine,
                folder: &folder,
                events,
                masker: Masker::new(&secrets),
            };
            take_log(&work, &mut record, secrets, &container).await?;
            work.keep(&mut record, "caught up")?;
        }
    }
    Ok(())
}

/// Goes on with a run that has no supervisor, to its end. `NotOurs` if it has one.
///
/// # Errors
///
/// See [`RunFailure`].
pub async fn adopt(
    engine: &DockerEngine,
    store: &Store,
    id: RunId,
    streams: Streams,
    controls: &mut Controls,
    events: &Events,
) -> Result<Option<Ended>, RunFailure> {
    match look_after(engine, store, id, events).await? {
        Adopted::NotOurs => return Ok(None),
        Adopted::Finished(record) => return Ok(Some(Ended::Over(record))),
        Adopted::Unattended(_) => {}
    }
    let folder = store.run(id);
    let Some(lock) = folder.try_lock()? else {
        return Ok(None);
    };
    let mut record = folder.read()?;
    let run = OpenRun { folder, lock };
    Box::pin(supervise_on(
        engine,
        &run,
        &mut record,
        streams,
        controls,
        events,
    ))
    .await
    .map(Some)
}

async fn supervise_on(
    engine: &DockerEngine,
    run: &OpenRun,
    record: &mut Record,
    streams: Streams,
    controls: &mut Controls,
    events: &Events,
) -> Result<Ended, RunFailure> {
    let container = find(engine, &run.folder, record).await?;
    let secrets = secrets_of(engine, record, container.as_ref()).await?;
    let work = Work {
        engine,
        folder: &run.folder,
        events,
        masker: Masker::new(&secrets),
    };
    let Some(container) = container else {
        note_removal(latest(record));
        finish(&work, record, None).await?;
        return Ok(Ended::Over(Box::new(record.clone())));
    };
    let mut pump = Pump::open(&work, record, secrets, streams.display)?;
    record.state = State::Running;
    note_seen(latest(record), &container, &mut None);
    work.keep(record, "adopted")?;
    if let Some(started) = streams.started {
        // Nobody waits for it any more.
        let _ = started.send(container.id.clone());
    }
    let deadline = match record.policy.timeout_ms {
        Some(timeout) => {
            let elapsed = elapsed(&container, record);
            Some(Instant::now() + Duration::from_millis(timeout).saturating_sub(elapsed))
        }
        None => None,
    };
    let mut cancel = Cancel::new(controls, &run.folder, events, deadline);
    let followed = work.follow(record, None, &mut pump, &mut cancel).await?;
    if followed == Followed::Detached {
        return Ok(Ended::Detached(record.id));
    }
    record.warnings.append(&mut pump.warnings);
    let collecting = collect::collect(&work, record);
    if let Err(Undone::Abandoned) = cancel.outlast(COLLECTING, collecting).await {
        return Ok(Ended::Detached(record.id));
    }
    warn_of_retries(&work, record);
    finish(&work, record, None).await?;
    Ok(Ended::Over(Box::new(record.clone())))
}

/// How long a run's container has been up. The engine knows when it started: what stands in the record
/// is by the clock of a process that is gone.
fn elapsed(container: &Container, record: &Record) -> Duration {
    let elapsed = (container.started)
        .or(record.started)
        .map(|started| host::now().duration_since(started));
    // A clock that was set back since makes a time that is to come.
    elapsed
        .and_then(|elapsed| elapsed.try_into().ok())
        .unwrap_or_default()
}
