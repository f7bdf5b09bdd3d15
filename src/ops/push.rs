//! Pushes images: what is there already is not sent again, what was released is not replaced, and what
//! fails for a while is tried again.

mod failure;
mod place;
mod record;
mod relay;

use std::collections::BTreeMap;

use self::place::Place;
use crate::engine::docker::DockerEngine;
use crate::engine::docker::credentials::Keyring;
use crate::engine::registry::Manifest;
use crate::event::{Events, Outcome};
use crate::model::{Digest, ImageRef, RunId};
use crate::plan::push::Wanted;
pub use failure::PushFailure;
pub use record::{AttachedRun, NoRecord, runs_of};
pub use relay::forget_relays;

/// A name that stands for its image in the registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name.
    pub name: ImageRef,
    /// The digest that the registry has it under.
    pub digest: Digest,
    /// Whether it stood for it before.
    pub was_there: bool,
    /// The run whose record is attached to it, and the digest of that.
    pub run: Option<(RunId, Digest)>,
}

/// What is pushed, and how.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The names, in their order.
    pub wanted: &'a [Wanted],
    /// Whether what was released is replaced.
    pub is_forced: bool,
    /// The runs whose records are attached, by the id of their image.
    pub runs: &'a BTreeMap<Digest, AttachedRun>,
}

/// Pushes names in their order. Those of one repository are pushed by the same credentials.
///
/// The registry is asked first what it has and whether it takes anything, where it can be reached from
/// here: an engine needs minutes to say no. Nothing is pushed if a release would be replaced, unless that
/// is forced.
///
/// # Errors
///
/// See [`PushFailure`]: the first thing that went wrong. What was pushed before it stays.
pub async fn push(
    engine: &DockerEngine,
    keyring: &Keyring<'_>,
    asked: &Asked<'_>,
    events: &Events,
) -> Result<Vec<Pushed>, PushFailure> {
    let insecure = if engine.is_local() {
        engine.insecure_registries().await?
    } else {
        Vec::new()
    };
    let mut places: Vec<Place> = Vec::new();
    // Nothing is pushed before all is known to be well.
    let mut looked = Vec::new();
    for wanted in asked.wanted {
        let repository = wanted.name.repository();
        let known = places
            .iter()
            .position(|place| place.repository == repository);
        let at = match known {
            Some(at) => at,
            None => {
                let is_local = engine.is_local();
                places.push(Place::of(&wanted.name, is_local, keyring, &insecure).await?);
                places.len() - 1
            }
        };
        let found = places[at].look(wanted, asked.is_forced, events).await?;
        looked.push((wanted, at, found));
    }
    for (wanted, at, found) in &looked {
        if !is_there(found.as_ref(), wanted) {
            places[*at].check(&wanted.name, events).await?;
        }
    }
    let mut pushed = Vec::new();
    for (wanted, at, found) in looked {
        let name = wanted.name.clone();
        let step = events.step(None, format!("push {name}"));
        let place = &mut places[at];
        let found = found.filter(|found| is_there(Some(found), wanted));
        let was_there = found.is_some();
        let digest = async {
            if let Some(found) = found {
                return Ok(found.digest);
            }
            place.send_layers(engine, wanted, &step, events).await?;
            place.push(engine, &name, &step, events).await
        };
        let digest = digest.await;
        step.finish(match &digest {
            Ok(_) if was_there => Outcome::Cached,
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed(String::new()),
        });
        let digest = digest?;
        let run = match asked.runs.get(&wanted.id) {
            Some(run) => Some((run.id, place.attach(&name, run, events).await?)),
            None => None,
        };
        pushed.push(Pushed {
            name,
            digest,
            was_there,
            run,
        });
    }
    Ok(pushed)
}

fn is_there(found: Option<&Manifest>, wanted: &Wanted) -> bool {
    found.is_some_and(|found| found.is(&wanted.id))
}
