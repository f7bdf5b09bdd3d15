//! Pushes images: what is there already is not sent again, what was released is not replaced, and what
//! fails for a while is tried again.

mod failure;
mod place;
mod record;
mod relay;
mod subject;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use self::place::Place;
use crate::engine::docker::DockerEngine;
use crate::engine::docker::credentials::Keyring;
use crate::engine::registry::Manifest;
use crate::event::{Event, Events, Outcome};
use crate::model::{Digest, ImageRef, RunId, Version};
use crate::plan::push::Wanted;
pub use failure::PushFailure;
pub use record::{AttachedRun, NoRecord, runs_of};
pub use relay::forget_relays;
pub use subject::{Names, Subject, names, with_tag};

/// A name that stands for its image in the registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name.
    pub name: ImageRef,
    /// The digest that the registry has it under.
    pub digest: Digest,
    /// The image's id on the engine.
    pub id: Digest,
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
    /// Names that images get on the engine once nothing is refused.
    pub named: &'a [Wanted],
    /// Whether what was released is replaced.
    pub is_forced: bool,
    /// The runs whose records are attached, by the id of their image.
    pub runs: &'a BTreeMap<Digest, AttachedRun>,
}

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is pushed.
    Pushed,
    /// It is the image's already.
    WasThere,
    /// It stays with a newer release.
    Left,
}

/// What would become of names, in their order, by the same rules as [`push`]. Nothing is sent.
///
/// # Errors
///
/// See [`PushFailure`]: what the push would be refused for, as far as a registry says it unasked to take
/// anything.
pub async fn foresee(
    engine: &DockerEngine,
    keyring: &Keyring<'_>,
    asked: &Asked<'_>,
    events: &Events,
) -> Result<Vec<(Wanted, Fate)>, PushFailure> {
    let Survey { looked, left, .. } = survey(engine, keyring, asked, events).await?;
    let fates = looked.into_iter().map(|(wanted, _, found)| {
        let fate = if left.contains(&wanted) {
            Fate::Left
        } else if is_there(found.as_ref(), wanted) {
            Fate::WasThere
        } else {
            Fate::Pushed
        };
        (wanted.clone(), fate)
    });
    Ok(fates.collect())
}

/// Pushes names in their order. Those of one repository are pushed by the same credentials.
///
/// The registry is asked first what it has and whether it takes anything, where it can be reached from
/// here: an engine needs minutes to say no. Nothing is pushed, and no name moves on the engine, if a release
/// would be replaced, unless that is forced. Names that belong to newer releases stay with them.
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
    let Survey {
        mut places,
        mut looked,
        left,
    } = survey(engine, keyring, asked, events).await?;
    looked.retain(|(wanted, ..)| !left.contains(wanted));
    for (wanted, at, found) in &looked {
        if !is_there(found.as_ref(), wanted) {
            places[*at].check(&wanted.name, events).await?;
        }
    }
    // A name without a registry is left if the same is left in one.
    let is_left = |one: &Wanted| {
        left.contains(&one)
            || !asked.wanted.contains(one)
                && (left.iter()).any(|left| left.id == one.id && left.name.tag() == one.name.tag())
    };
    for one in asked.named.iter().filter(|one| !is_left(one)) {
        engine.tag(&one.id, &one.name).await?;
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
            // Layers can take hours, and a build in the meantime may have taken the name.
            let current = engine.image(&name.to_string()).await?;
            if current.is_none_or(|image| image.id != wanted.id) {
                return Err(PushFailure::Renamed { name: name.clone() });
            }
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
            id: wanted.id.clone(),
            was_there,
            run,
        });
    }
    Ok(pushed)
}

/// What registries have of what is to be pushed.
struct Survey<'a> {
    places: Vec<Place>,
    looked: Vec<Looked<'a>>,
    /// Names that stay with newer releases.
    left: Vec<&'a Wanted>,
}

/// Asks the registries what they have, which changes nothing there.
async fn survey<'a>(
    engine: &DockerEngine,
    keyring: &Keyring<'_>,
    asked: &Asked<'a>,
    events: &Events,
) -> Result<Survey<'a>, PushFailure> {
    let insecure = if engine.is_local() {
        engine.insecure_registries().await?
    } else {
        Vec::new()
    };
    let mut places: Vec<Place> = Vec::new();
    // Nothing is pushed before all is known to be well.
    let mut looked: Vec<Looked<'_>> = Vec::new();
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
    let left = if asked.is_forced {
        Vec::new()
    } else {
        older(&places, &looked, events).await?
    };
    Ok(Survey {
        places,
        looked,
        left,
    })
}

/// A name to be pushed, where it is pushed to, and what the registry has under it.
type Looked<'a> = (&'a Wanted, usize, Option<Manifest>);

/// The names that belong to newer releases of their registry, and says so.
async fn older<'a>(
    places: &[Place],
    looked: &[Looked<'a>],
    events: &Events,
) -> Result<Vec<&'a Wanted>, PushFailure> {
    let mut releases: BTreeMap<usize, Option<BTreeSet<Version>>> = BTreeMap::new();
    let mut left = Vec::new();
    let mut last = None;
    for (wanted, at, found) in looked {
        let name = &wanted.name;
        let Some(version) = (wanted.version.as_ref())
            .filter(|_| wanted.moves() && !is_there(found.as_ref(), wanted))
            .filter(|_| places[*at].is_known())
        else {
            continue;
        };
        if let Entry::Vacant(entry) = releases.entry(*at) {
            entry.insert(places[*at].releases(name, events).await?);
        }
        let why = match releases.get(at).and_then(Option::as_ref) {
            Some(releases) => match wanted.newer(releases) {
                Some(newer) => {
                    last = Some(PushFailure::Older {
                        name: name.clone(),
                        version: version.clone(),
                        newer: newer.clone(),
                    });
                    format!("{version} is older than {newer}")
                }
                None => continue,
            },
            // Nothing moves backwards that is not there yet.
            None if found.is_none() => continue,
            None => {
                "its registry does not list its tags, and may have a newer release; `--force` moves it"
                    .to_owned()
            }
        };
        events.send(Event::Warning(format!("`{name}` stays as it is: {why}")));
        left.push(*wanted);
    }
    match last {
        Some(failure) if left.len() == looked.len() => Err(failure),
        _ => Ok(left),
    }
}

fn is_there(found: Option<&Manifest>, wanted: &Wanted) -> bool {
    found.is_some_and(|found| found.is(&wanted.id))
}
