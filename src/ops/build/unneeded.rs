//! Images that were built and that nothing needs any more.
//!
//! An engine keeps every image that has a name, and each image is named after its context. Which images a
//! project has built, or found to be up to date, is written down for all projects of a user, beside the digests
//! of contexts: an image may be that of several checkouts, and the run records of each of them count.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::claims::{self, Kind, built_at, claim, hold};
use super::{History, Image, State};
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::event::Events;
use crate::model::{Digest, ImageRef, RunId};
use crate::plan::build::{BuildSpec, Item};
use crate::plan::run::JOB_LABEL;
use crate::plan::tags::{is_generated, is_of_context};
use crate::records::Store;

/// An image that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unneeded {
    /// Its id.
    pub id: Digest,
    /// Names that are taken from it. It is removed with the last one.
    pub names: Vec<String>,
}

impl Unneeded {
    /// A name of it, or its id.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or(self.id.as_str(), String::as_str)
    }
}

/// Takes the names of earlier contexts from the images that new ones replace: those of the same job that this
/// project has built, that no project of this user has ever run, and that no container and no other process
/// needs. What can't be found out is left as it is; that an image was built here and can't be written down is warned of.
pub async fn forget_replaced(
    engine: &DockerEngine,
    history: &History<'_>,
    items: &[Item],
    images: &[Image],
    events: &Events,
) {
    let store = history.store;
    for (item, image) in items.iter().zip(images) {
        let Item::Build(spec) = item else {
            continue;
        };
        let Some(cache) = history.cache() else {
            history.warn(events, "");
            return;
        };
        let forgetting = async {
            let lock = hold(cache).await;
            if let Err(error) = claim(cache, store, &image.id, Kind::Built) {
                history.warn_unkept(events, &error);
                return Ok(());
            }
            if image.state == State::Built {
                let _lock = lock?;
                forget(engine, store, cache, spec, &image.id).await?;
            }
            io::Result::Ok(())
        };
        if let Err(error) = forgetting.await {
            tracing::info!("images before {}: {error}", image.id);
        }
    }
}

async fn forget(
    engine: &DockerEngine,
    store: &Store,
    cache: &Path,
    spec: &BuildSpec,
    current: &Digest,
) -> io::Result<()> {
    let listing = engine.images_labelled(JOB_LABEL, Some(&spec.title)).await;
    let mut replaced = Vec::new();
    for image in listing.map_err(io::Error::other)? {
        let names = names(&image, |name| is_of_context(name) && spec.owns(name));
        if image.id != *current
            && !names.is_empty()
            && built_at(cache, Some(store), &image.id)?.is_some()
        {
            replaced.push(Unneeded {
                id: image.id,
                names,
            });
        }
    }
    if replaced.is_empty() {
        return Ok(());
    }
    let used = engine.images_in_use().await.map_err(io::Error::other)?;
    let mut needs = Needs::new(cache, store, BTreeSet::new(), true);
    for image in replaced {
        if !used.contains(&image.id) && !needs.includes(&image.id)? {
            let removing = remove(engine, cache, &image).await;
            removing.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// The images that this project has built, that have no names but those that jobctl makes from what is in them,
/// and that no run's record, no container and no job needs: of each job, the newest stays. Runs that are to be
/// removed need none.
///
/// # Errors
///
/// The engine can't be used, or a record or a claim can't be read.
pub async fn unneeded(
    engine: &DockerEngine,
    store: &Store,
    cache: &Path,
    removed: BTreeSet<RunId>,
    before: Option<Timestamp>,
) -> Result<Vec<Unneeded>, UnneededError> {
    let used = engine.images_in_use().await?;
    let mut claimed = Vec::new();
    for image in engine.images_labelled(JOB_LABEL, None).await? {
        if let Some(time) = built_at(cache, Some(store), &image.id)? {
            claimed.push((time, image));
        }
    }
    claimed.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let mut seen = BTreeSet::new();
    let mut needs = Needs::new(cache, store, removed, false);
    let mut found = Vec::new();
    for (time, image) in claimed {
        let is_newest = seen.insert(image.labels.get(JOB_LABEL).cloned());
        let names = names(&image, is_generated);
        let is_young = before.is_some_and(|before| time >= before);
        if is_newest
            || is_young
            || names.len() < image.tags.len()
            || used.contains(&image.id)
            || needs.includes(&image.id)?
        {
            continue;
        }
        found.push(Unneeded {
            id: image.id,
            names,
        });
    }
    Ok(found)
}

/// Why images that nothing needs are not known.
#[derive(Debug, thiserror::Error)]
pub enum UnneededError {
    /// The engine can't be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What needs them can't be read.
    #[error("what needs the images can't be read: {0}")]
    Needs(#[from] io::Error),
}

/// Takes names from an image, and removes it with the last one. Whether it could be done: it can't if another
/// image is made from it, or a container uses it by now.
///
/// # Errors
///
/// The engine can't be used.
pub async fn remove(
    engine: &DockerEngine,
    cache: &Path,
    image: &Unneeded,
) -> Result<bool, EngineError> {
    let id = [image.id.to_string()];
    let names = match image.names.as_slice() {
        [] => &id[..],
        names => names,
    };
    for name in names {
        match engine.remove_image(name).await {
            Ok(()) => {}
            Err(EngineError::Refused { status: 409, .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    if engine.image(image.id.as_str()).await?.is_none() {
        claims::forget(cache, &image.id);
    }
    Ok(true)
}

/// The names of an image that are like this.
fn names(image: &LocalImage, is_meant: impl Fn(&ImageRef) -> bool) -> Vec<String> {
    let names = image.tags.iter();
    let names = names.filter(|name| name.parse().is_ok_and(|name| is_meant(&name)));
    names.cloned().collect()
}

/// What needs images.
struct Needs<'a> {
    cache: &'a Path,
    own: &'a Store,
    /// Runs that need nothing.
    removed: BTreeSet<RunId>,
    /// Whether what was run once is needed, whatever became of its record: the project may have been moved or
    /// copied, and its state directory may come back.
    is_careful: bool,
    /// The projects whose records were read, and the images in them.
    read: BTreeSet<PathBuf>,
    images: BTreeSet<String>,
}

impl<'a> Needs<'a> {
    fn new(cache: &'a Path, own: &'a Store, removed: BTreeSet<RunId>, is_careful: bool) -> Self {
        Self {
            cache,
            own,
            removed,
            is_careful,
            read: BTreeSet::new(),
            images: BTreeSet::new(),
        }
    }

    /// Whether a record needs an image, of this project or of any that has built or run it, or whether another
    /// process has just built it, begun to run it, or is pushing it.
    fn includes(&mut self, image: &Digest) -> io::Result<bool> {
        // This project may have been elsewhere when it ran the image.
        self.add(self.own.place())?;
        for (_, claim) in claims::read(self.cache, image)? {
            // What is left of a push that was killed.
            if claim.kind == Kind::Pushed && !claim.is_of_another_process() {
                continue;
            }
            if claim.is_of_another_process() || self.is_careful && claim.kind == Kind::Run {
                return Ok(true);
            }
            if !claim.store.try_exists()? {
                if self.is_careful && claim.store != self.own.place() {
                    return Ok(true);
                }
                continue;
            }
            self.add(claim.store)?;
        }
        Ok(self.images.contains(image.as_str()))
    }

    fn add(&mut self, store: PathBuf) -> io::Result<()> {
        if !self.read.insert(store.clone()) {
            return Ok(());
        }
        let store = Store::new(store);
        for id in store.ids().map_err(io::Error::other)? {
            if !self.removed.contains(&id) {
                let record = store.read(id).map_err(io::Error::other)?;
                self.images.extend(record.image.id);
            }
        }
        Ok(())
    }
}
