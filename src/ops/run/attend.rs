//! Waiting for a run's end, whoever supervises it.

use std::time::Duration;

use tokio::time::sleep;

use super::adopt::check_place;
use super::control::{Control, Controls};
use super::{Ended, RunFailure, Streams, adopt};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::event::Events;
use crate::model::RunId;
use crate::records::{ReadError, Store};

/// How often it is looked whether a run that another process supervises is over.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until a run is over; supervises it if nobody does. The engine is asked for only then.
///
/// # Errors
///
/// The record can't be read, or the engine can't be reached while it is needed.
pub async fn attend<C>(
    connect: impl Fn() -> C,
    store: &Store,
    id: RunId,
    mut streams: Streams,
    controls: &mut Controls,
    events: &Events,
) -> Result<Ended, RunFailure>
where
    C: Future<Output = Result<DockerEngine, EngineError>>,
{
    loop {
        let record = read(store, id).await?;
        if record.state.is_final() {
            return Ok(Ended::Over(Box::new(record)));
        }
        if !store.run(id).is_locked()? {
            let engine = connect().await?;
            check_place(&record, &engine)?;
            let streams = std::mem::take(&mut streams);
            let adopting = adopt(&engine, store, id, streams, controls, events);
            if let Some(ended) = Box::pin(adopting).await? {
                return Ok(ended);
            }
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            Some(Control::Interrupt | Control::Terminate | Control::Detach) = controls.recv() => {
                return Ok(Ended::Detached(id));
            }
        }
    }
}

/// Reads a record; one that is being removed is gone.
async fn read(store: &Store, id: RunId) -> Result<crate::records::Record, ReadError> {
    let store = store.clone();
    let reading = tokio::task::spawn_blocking(move || store.read(id));
    reading.await.expect("reading a record does not panic")
}
