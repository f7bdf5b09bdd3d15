//! Pushes images: what is there already is not sent again, what was released is not replaced, and what
//! fails for a while is tried again.

mod failure;
mod place;
mod record;
mod relay;
mod subject;
mod survey;
mod tries;

use std::collections::BTreeMap;

use self::survey::{Put, Survey};
use crate::engine::docker::DockerEngine;
use crate::engine::docker::credentials::Keyring;
use crate::event::{Events, Outcome};
use crate::model::{Digest, ImageRef, RunId};
use crate::plan::push::{EngineName, Wanted};
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
    pub named: &'a [EngineName],
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
    let survey = Survey::of(engine, keyring, asked, true, events).await?;
    let fates = survey.looked.into_iter().map(|looked| {
        let wanted = looked.wanted;
        let fate = if survey.left.contains(&wanted) {
            Fate::Left
        } else if looked.found.has(wanted).is_some() {
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
/// would be replaced, unless that is forced. Names that belong to newer releases stay with them. All of this is asked
/// again right before each name is pushed: layers can take hours, others push as well, and a registry that could
/// not be asked may answer by then.
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
    let mut survey = Survey::of(engine, keyring, asked, false, events).await?;
    let left = std::mem::take(&mut survey.left);
    survey
        .looked
        .retain(|looked| !left.contains(&looked.wanted));
    for looked in &survey.looked {
        if looked.found.has(looked.wanted).is_none() {
            let place = &survey.places[looked.at];
            place.check(&looked.wanted.name, events).await?;
        }
    }
    let is_left = |one: &EngineName| {
        (left.iter()).any(|left| left.id == one.id && left.name == one.pushed_as)
    };
    for one in asked.named.iter().filter(|one| !is_left(one)) {
        engine.tag(&one.id, &one.name).await?;
    }
    let mut pushed = Vec::new();
    let mut last = None;
    for index in 0..survey.looked.len() {
        let (wanted, at) = (survey.looked[index].wanted, survey.looked[index].at);
        let name = wanted.name.clone();
        let step = events.step(None, format!("push {name}"));
        let put = survey.push(engine, index, &step, events).await;
        step.finish(match &put {
            Ok(Put::Pushed(_)) => Outcome::Done,
            Ok(Put::WasThere(_)) => Outcome::Cached,
            Ok(Put::Left(_)) => Outcome::Skipped(String::new()),
            Err(_) => Outcome::Failed(String::new()),
        });
        let (digest, was_there) = match put? {
            Put::Pushed(digest) => (digest, false),
            Put::WasThere(digest) => (digest, true),
            Put::Left(why) => {
                last = Some(why);
                continue;
            }
        };
        let run = match asked.runs.get(&wanted.id) {
            Some(run) => {
                let place = &mut survey.places[at];
                Some((run.id, place.attach(&name, run, events).await?))
            }
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
    survey.look_at_the_end(&pushed, events).await?;
    match last {
        Some(why) if pushed.is_empty() => Err(why),
        _ => Ok(pushed),
    }
}
