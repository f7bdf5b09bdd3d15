//! Pushes images: what is there already is not sent again, what was released is not replaced, and what
//! fails for a while is tried again.

mod failure;
mod place;
mod record;
mod relay;
mod subject;
mod tries;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use self::place::{Patience, Place, Standing};
use self::tries::Tries;
use crate::engine::docker::DockerEngine;
use crate::engine::docker::credentials::Keyring;
use crate::event::{Event, Events, Outcome, Step};
use crate::model::{Digest, ImageRef, RunId, Version};
use crate::plan::push::{EngineName, Wanted, is_release, version};
pub use failure::PushFailure;
use failure::UNLISTED;
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

/// What became of a name.
enum Put {
    /// It was pushed.
    Pushed(Digest),
    /// It is the image's already.
    WasThere(Digest),
    /// It stays with another image, and why.
    Left(PushFailure),
}

/// A name to be pushed, where it is pushed to, and what the registry has under it.
struct Looked<'a> {
    wanted: &'a Wanted,
    at: usize,
    found: Standing,
}

/// What registries have of what is to be pushed.
struct Survey<'a> {
    is_forced: bool,
    places: Vec<Place>,
    looked: Vec<Looked<'a>>,
    /// Names that stay with newer releases.
    left: Vec<&'a Wanted>,
}

impl<'a> Survey<'a> {
    /// Asks the registries what they have. One that does not let the user see is asked whether it takes anything,
    /// and again then, but for a dry run.
    async fn of(
        engine: &DockerEngine,
        keyring: &Keyring<'_>,
        asked: &Asked<'a>,
        is_dry: bool,
        events: &Events,
    ) -> Result<Self, PushFailure> {
        let is_local = engine.is_local();
        let insecure = if is_local {
            engine.insecure_registries().await?
        } else {
            Vec::new()
        };
        let mut survey = Self {
            is_forced: asked.is_forced,
            places: Vec::new(),
            looked: Vec::new(),
            left: Vec::new(),
        };
        let mut hiding = BTreeSet::new();
        for wanted in asked.wanted {
            let repository = wanted.name.repository();
            let mut places = survey.places.iter();
            let at = match places.position(|place| place.repository == repository) {
                Some(at) => at,
                None => {
                    let place = Place::of(&wanted.name, is_local, keyring, &insecure).await?;
                    survey.places.push(place);
                    survey.places.len() - 1
                }
            };
            let place = &mut survey.places[at];
            let mut found = place.look(&wanted.name, Patience::Short, events).await?;
            if matches!(found, Standing::Hidden(_)) && !is_dry && hiding.insert(at) {
                place.check(&wanted.name, events).await?;
                found = place.look(&wanted.name, Patience::Short, events).await?;
            }
            if let Some(why) = survey.keeps_released(wanted, &found) {
                return Err(why);
            }
            survey.looked.push(Looked { wanted, at, found });
        }
        survey.ask_slow_ones(events).await?;
        survey.look_at_unasked(events).await?;
        survey.warn_of_hidden(events);
        if !survey.is_forced {
            survey.leave_older(engine, events).await?;
        }
        Ok(survey)
    }

    /// Says once of each repository that it isn't known what its names mean.
    fn warn_of_hidden(&self, events: &Events) {
        let mut warned = BTreeSet::new();
        for looked in &self.looked {
            if let Standing::Hidden(error) = &looked.found
                && warned.insert(looked.at)
            {
                let repository = &self.places[looked.at].repository;
                events.send(Event::Warning(format!(
                    "what `{repository}` has already can't be read, and may be replaced: {error}"
                )));
            }
        }
    }

    /// Why nothing is pushed, if another image was released under the name, or may have been.
    fn keeps_released(&self, wanted: &Wanted, found: &Standing) -> Option<PushFailure> {
        if self.is_forced || !is_release(&wanted.name) || found.has(wanted).is_some() {
            return None;
        }
        let name = wanted.name.clone();
        match found {
            Standing::Is(found) => Some(PushFailure::Released {
                name,
                found: found.digest.clone(),
                is_of_git: wanted.is_of_git,
            }),
            Standing::Hidden(error) => {
                let error = error.clone();
                Some(PushFailure::Unreadable { name, error })
            }
            Standing::Absent | Standing::Unasked => None,
        }
    }

    /// Asks registries that were too slow to answer once more, if what they have may keep a name from moving.
    async fn ask_slow_ones(&mut self, events: &Events) -> Result<(), PushFailure> {
        let mut asked = BTreeSet::new();
        for index in 0..self.looked.len() {
            let Looked { wanted, at, .. } = self.looked[index];
            if self.patience(wanted) == Patience::Full
                && self.places[at].is_slow()
                && asked.insert(at)
            {
                self.look_again(index, events).await?;
            }
        }
        Ok(())
    }

    /// Looks at the names of registries that could not be asked at first, and can by now: a release among them is
    /// not replaced, and what is pushed before it does not move without it.
    async fn look_at_unasked(&mut self, events: &Events) -> Result<(), PushFailure> {
        for index in 0..self.looked.len() {
            let Looked { at, found, .. } = &self.looked[index];
            if matches!(found, Standing::Unasked) && self.places[*at].is_known() {
                self.look_again(index, events).await?;
            }
        }
        Ok(())
    }

    /// Looks at a name once more; fails if another image is released under it.
    async fn look_again(&mut self, index: usize, events: &Events) -> Result<(), PushFailure> {
        let Looked { wanted, at, .. } = self.looked[index];
        let patience = self.patience(wanted);
        let found = self.places[at].look(&wanted.name, patience, events).await?;
        let failure = self.keeps_released(wanted, &found);
        self.looked[index].found = found;
        failure.map_or(Ok(()), Err)
    }

    /// Looks once more at the names that existed already and whose turn came before others were pushed.
    async fn look_at_the_end(
        &mut self,
        pushed: &[Pushed],
        events: &Events,
    ) -> Result<(), PushFailure> {
        let last = pushed.iter().rposition(|one| !one.was_there).unwrap_or(0);
        for one in pushed[..last].iter().filter(|one| one.was_there) {
            let mut all = self.looked.iter();
            let index = all.position(|looked| looked.wanted.name == one.name);
            let Some(index) = index else { continue };
            self.look_again(index, events).await?;
            let looked = &self.looked[index];
            if looked.found.has(looked.wanted).is_none() {
                return Err(PushFailure::Moved {
                    name: one.name.clone(),
                    digest: one.digest.clone(),
                });
            }
        }
        Ok(())
    }

    /// How long is waited for what is under a name. It may be a release, or one that a newer release keeps.
    fn patience(&self, wanted: &Wanted) -> Patience {
        let moves = wanted.version.is_some() && wanted.moves();
        if !self.is_forced && (moves || is_release(&wanted.name)) {
            Patience::Full
        } else {
            Patience::Short
        }
    }

    /// Leaves the names that belong to newer releases of their registry, and says so.
    async fn leave_older(
        &mut self,
        engine: &DockerEngine,
        events: &Events,
    ) -> Result<(), PushFailure> {
        let mut known = BTreeMap::new();
        let mut last = None;
        for looked in &self.looked {
            if let Some(why) = self.stays(engine, looked, &mut known, events).await? {
                self.left.push(looked.wanted);
                last = Some(why);
            }
        }
        match last {
            Some(why) if self.left.len() == self.looked.len() => Err(why),
            _ => Ok(()),
        }
    }

    /// Why a name is not moved, if it is not, which is said. What the registry has decides; what the engine has
    /// where the registry can't be asked.
    async fn stays(
        &self,
        engine: &DockerEngine,
        looked: &Looked<'_>,
        known: &mut BTreeMap<usize, Option<BTreeSet<Version>>>,
        events: &Events,
    ) -> Result<Option<PushFailure>, PushFailure> {
        let Looked { wanted, at, found } = looked;
        let name = &wanted.name;
        let Some(version) = &wanted.version else {
            return Ok(None);
        };
        if !wanted.moves() || found.has(wanted).is_some() {
            return Ok(None);
        }
        if let Entry::Vacant(entry) = known.entry(*at) {
            let place = &self.places[*at];
            entry.insert(if place.is_known() {
                place.releases(name, events).await?
            } else {
                Some(releases_on(engine, name).await?)
            });
        }
        let (why, shown) = match known.get(at).and_then(Option::as_ref) {
            Some(releases) => match wanted.newer(releases) {
                Some(newer) => {
                    let shown = format!("{version} is older than {newer}");
                    let why = PushFailure::Older {
                        name: name.clone(),
                        version: version.clone(),
                        newer: newer.clone(),
                    };
                    (why, shown)
                }
                None => return Ok(None),
            },
            // Nothing moves backwards that is not there yet.
            None if matches!(found, Standing::Absent) => return Ok(None),
            None => {
                let why = PushFailure::Unlisted { name: name.clone() };
                (why, format!("{UNLISTED}; `--force` moves it"))
            }
        };
        events.send(Event::Warning(format!("`{name}` stays as it is: {shown}")));
        Ok(Some(why))
    }

    /// Pushes a name, again and again if need be, unless it is there by now or belongs to a newer release.
    async fn push(
        &mut self,
        engine: &DockerEngine,
        index: usize,
        step: &Step,
        events: &Events,
    ) -> Result<Put, PushFailure> {
        let Looked { wanted, at, .. } = self.looked[index];
        let name = &wanted.name;
        // Somebody may have moved it while others were pushed.
        if self.looked[index].found.has(wanted).is_some() {
            self.look_again(index, events).await?;
            if let Some(found) = self.looked[index].found.has(wanted) {
                return Ok(Put::WasThere(found.digest.clone()));
            }
        }
        self.places[at]
            .send_layers(engine, wanted, step, events)
            .await?;
        let mut tries = Tries::new();
        let pushed = loop {
            self.look_again(index, events).await?;
            self.look_at_unasked(events).await?;
            let looked = &self.looked[index];
            if let Some(found) = looked.found.has(wanted) {
                return Ok(Put::WasThere(found.digest.clone()));
            }
            if !self.is_forced
                && let Some(why) =
                    (self.stays(engine, looked, &mut BTreeMap::new(), events)).await?
            {
                return Ok(Put::Left(why));
            }
            // A build in the meantime may have taken the name.
            let current = engine.image(&name.to_string()).await?;
            if current.is_none_or(|image| image.id != wanted.id) {
                return Err(PushFailure::Renamed { name: name.clone() });
            }
            let place = &self.places[at];
            match place.push(engine, name, step).await {
                Ok(pushed) => break pushed,
                Err(error) => tries.wait(place, name, error, events).await?,
            }
        };
        let digest = self.places[at].read_back(name, pushed, events).await?;
        Ok(Put::Pushed(digest))
    }
}

/// The releases that an engine has in a name's repository.
async fn releases_on(
    engine: &DockerEngine,
    name: &ImageRef,
) -> Result<BTreeSet<Version>, PushFailure> {
    let repository = name.canonical().repository();
    let pattern = name.familiar().repository();
    let images = engine.images_named(vec![pattern]).await?;
    let names = images.iter().flat_map(|image| &image.tags);
    let names = names.filter_map(|name| name.parse::<ImageRef>().ok());
    let releases =
        names.filter(|name| is_release(name) && name.canonical().repository() == repository);
    Ok(releases.filter_map(|name| version(&name)).collect())
}
