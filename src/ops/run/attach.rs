//! Watching a run that another process supervises, or none.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::adopt::secrets;
use super::cancel::Cancel;
use super::container::up_container_of;
use super::control::{Controls, Orders, obey};
use super::pump::silence;
use super::{Ended, RunFailure, Streams, attend};
use crate::engine::docker::DockerEngine;
use crate::engine::docker::run::{Attachment, Output};
use crate::engine::run::{AttachRequest, Chunk, LogRequest, Status};
use crate::event::{Events, Stream};
use crate::records::mask::Masker;
use crate::records::{Record, RunFolder, Store};

/// How often a container is looked at that may be started again.
const LOOK: Duration = Duration::from_millis(100);

/// A connection to a run's container.
pub struct Attached {
    /// The engine.
    pub engine: DockerEngine,
    /// The container.
    pub container: String,
    /// Its streams.
    pub attachment: Attachment,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// Connects to a run's container.
///
/// # Errors
///
/// It has none that is up, or the engine can't be used.
pub async fn attach(
    engine: DockerEngine,
    folder: &RunFolder,
    stdin: bool,
) -> Result<Attached, RunFailure> {
    let container = up_container_of(&engine, folder).await?;
    let request = AttachRequest {
        tty: container.tty,
        stdin,
        ..AttachRequest::default()
    };
    let attachment = engine.attach(&container.id, &request).await?;
    Ok(Attached {
        attachment,
        container: container.id,
        tty: container.tty,
        engine,
    })
}

/// Shows what a container writes until its run is over, and does to it what is asked.
///
/// # Errors
///
/// The record can't be read.
pub async fn watch(
    engine: &DockerEngine,
    store: &Store,
    record: &Record,
    (container, output): (&str, Output),
    display: mpsc::Sender<Chunk>,
    controls: &mut Controls,
    events: &Events,
) -> Result<Ended, RunFailure> {
    let secrets = secrets(engine, record, container).await?;
    let (end, has_ended) = watch::channel(false);
    let (again, id) = (engine.clone(), container.to_owned());
    let showing = tokio::spawn(async move {
        let mut output = Some(output);
        while let Some(now) = output {
            let maskers = [Masker::new(&secrets), Masker::new(&secrets)];
            show(now, maskers, &display, has_ended.clone()).await;
            output = started_again(&again, &id, has_ended.clone()).await;
        }
    });
    let (_sender, mut nobody) = mpsc::unbounded_channel();
    let connect = || async { Ok(engine.clone()) };
    let attending = attend(
        connect,
        store,
        record.id,
        Streams::default(),
        &mut nobody,
        events,
    );
    let mut orders = Orders::default();
    let grace = Duration::from_millis(record.policy.grace_ms);
    let folder = store.run(record.id);
    let mut cancel = Cancel::new(controls, &folder, events, None);
    let obeying = obey(engine, container, &mut cancel, grace, &mut orders, events);
    let ended = tokio::select! {
        ended = attending => ended?,
        () = obeying => {
            showing.abort();
            return Ok(Ended::Detached(record.id));
        }
    };
    end.send_replace(true);
    // What can't be shown is in the log.
    let _ = showing.await;
    Ok(ended)
}

/// What a container writes once the engine has started it again; nothing when its run is over.
async fn started_again(
    engine: &DockerEngine,
    container: &str,
    mut has_ended: watch::Receiver<bool>,
) -> Option<Output> {
    loop {
        // Whoever knew is gone; it has ended.
        let ended = timeout(LOOK, has_ended.wait_for(|has_ended| *has_ended));
        if ended.await.is_ok() {
            return None;
        }
        let Ok(Some(found)) = engine.container(container).await else {
            continue;
        };
        let Some(before) = found.finished.filter(|_| found.status == Status::Running) else {
            continue;
        };
        let request = LogRequest {
            follow: true,
            since: Some(before),
            ..LogRequest::default()
        };
        if let Ok(output) = engine.logs(container, found.tty, &request).await {
            return Some(output);
        }
    }
}

async fn show(
    mut output: Output,
    mut maskers: [Masker; 2],
    display: &mpsc::Sender<Chunk>,
    mut has_ended: watch::Receiver<bool>,
) {
    loop {
        let next = tokio::select! {
            next = output.next() => next,
            () = silence(&mut has_ended) => None,
        };
        let Some(Ok(chunk)) = next else { break };
        let masker = &mut maskers[usize::from(chunk.stream == Stream::Stderr)];
        let bytes = masker.feed(&chunk.bytes).into_owned().into();
        if display.send(Chunk { bytes, ..chunk }).await.is_err() {
            return;
        }
    }
    for (stream, mut masker) in [Stream::Stdout, Stream::Stderr].into_iter().zip(maskers) {
        let bytes = masker.finish().into();
        let time = None;
        // Nobody reads it any more.
        let _ = display
            .send(Chunk {
                stream,
                bytes,
                time,
            })
            .await;
    }
}
