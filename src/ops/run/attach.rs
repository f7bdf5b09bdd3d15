//! Watching a run that another process supervises, or none.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::adopt::secrets;
use super::cancel::Cancel;
use super::container::up_container_of;
use super::control::{Controls, Orders, obey};
use super::pump::silence;
use super::{Ended, RunFailure, Streams, attend};
use crate::engine::docker::DockerEngine;
use crate::engine::docker::run::{Attachment, Output};
use crate::engine::run::{AttachRequest, Chunk};
use crate::event::{Events, Stream};
use crate::records::mask::Masker;
use crate::records::{Record, RunFolder, Store};

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
    let maskers = [Masker::new(&secrets), Masker::new(&secrets)];
    let (end, has_ended) = watch::channel(false);
    let showing = tokio::spawn(show(output, maskers, display, has_ended));
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

async fn show(
    mut output: Output,
    mut maskers: [Masker; 2],
    display: mpsc::Sender<Chunk>,
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
