//! What registries have of what is to be pushed, asked at first, right before each name and at the end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::failure::UNLISTED;
use super::place::{Patience, Place, Standing};
use super::tries::Tries;
use super::{Asked, PushFailure, Pushed};
use crate::engine::docker::DockerEngine;
use crate::engine::docker::credentials::Keyring;
use crate::event::{Event, Events, Step};
use crate::model::{Digest, ImageRef, Version};
use crate::plan::push::{Wanted, is_release, version};

/// What became of a name.
pub(super) enum Put {
    /// It was pushed.
    Pushed(Digest),
    /// It is the image's already.
    WasThere(Digest),
    /// It stays with another image, and why.
    Left(PushFailure),
}

/// A name to be pushed, where it is pushed to, and what the registry has under it.
pub(super) struct Looked<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) at: usize,
    pub(super) found: Standing,
}

/// What registries have of what is to be pushed.
pub(super) struct Survey<'a> {
    is_forced: bool,
    pub(super) places: Vec<Place>,
    pub(super) looked: Vec<Looked<'a>>,
    /// Names that stay with newer releases.
    pub(super) left: Vec<&'a Wanted>,
}

impl<'a> Survey<'a> {
    /// Asks the registries what they have. One that does not let the user see is asked whether it takes anything,
    /// and again then, but for a dry run.
    pub(super) async fn of(
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
    pub(super) async fn look_at_the_end(
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
    pub(super) async fn push(
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
