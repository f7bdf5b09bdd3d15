//! Images that were built and that nothing needs any more.
//!
//! An engine keeps every image that has a name, and each image is named after its context. Which images a
//! project has built, or found to be up to date, is written down for all projects of a user, beside the digests
//! of contexts: an image may be that of several checkouts, and the run records of each of them count.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Image, State};
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::facts::read_small;
use crate::model::{Digest, ImageRef, RunId};
use crate::plan::build::{BuildSpec, Item};
use crate::plan::run::JOB_LABEL;
use crate::plan::tags::{is_generated, is_of_context};
use crate::records::{Store, durable};

/// The directory with what is written down, beside the digests of contexts.
const CLAIMS: &str = "images";
/// No claim has more bytes.
const LARGEST: u64 = 64 << 10;

/// A project that has built an image.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    /// Its state directory.
    store: PathBuf,
    /// The process that has built it, and may be about to run it.
    process: u32,
}

/// An image that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unneeded {
    /// Its id.
    pub id: Digest,
    /// Names that are taken from it. It is removed with the last one.
    pub names: Vec<String>,
}

/// Takes the names of earlier contexts from the images that new ones replace: those of the same job that this
/// project has built, and that neither a run's record nor a container needs. What can't be found out is left as
/// it is.
pub async fn forget_replaced(
    engine: &DockerEngine,
    store: &Store,
    cache: Option<&PathBuf>,
    items: &[Item],
    images: &[Image],
) {
    let Some(cache) = cache else {
        return;
    };
    for (item, image) in items.iter().zip(images) {
        let Item::Build(spec) = item else {
            continue;
        };
        let forgetting = async {
            claim(cache, store, &image.id)?;
            if image.state == State::Built {
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
        if image.id != *current && !names.is_empty() && is_claimed(cache, store, &image.id)? {
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
    let mut needs = Needs::new(cache, BTreeSet::new(), true);
    for image in replaced {
        if !used.contains(&image.id) && !needs.includes(&image.id, store)? {
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
        if let Some(time) = claimed_at(cache, store, &image.id) {
            claimed.push((time, image));
        }
    }
    claimed.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let mut seen = BTreeSet::new();
    let mut needs = Needs::new(cache, removed, false);
    let mut found = Vec::new();
    for (time, image) in claimed {
        let is_newest = seen.insert(image.labels.get(JOB_LABEL).cloned());
        let names = names(&image, is_generated);
        let is_young = before.is_some_and(|before| time >= before);
        if is_newest
            || is_young
            || names.len() < image.tags.len()
            || used.contains(&image.id)
            || needs.includes(&image.id, store)?
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
        // What is left of the claims is in nobody's way.
        let _ = fs::remove_dir_all(claims(cache, &image.id));
    }
    Ok(true)
}

/// The names of an image that are like this.
fn names(image: &LocalImage, is_meant: impl Fn(&ImageRef) -> bool) -> Vec<String> {
    let names = image.tags.iter();
    let names = names.filter(|name| name.parse().is_ok_and(|name| is_meant(&name)));
    names.cloned().collect()
}

/// Writes down that a project has built an image, or found it to be up to date.
pub(super) fn claim(cache: &Path, store: &Store, image: &Digest) -> io::Result<()> {
    let path = place(cache, store, image);
    let claim = Claim {
        store: store.place(),
        process: std::process::id(),
    };
    durable::create_directory(path.parent().unwrap_or(cache))?;
    durable::write(&path, serde_json::to_string(&claim)?.as_bytes())
}

fn is_claimed(cache: &Path, store: &Store, image: &Digest) -> io::Result<bool> {
    place(cache, store, image).try_exists()
}

/// When a project has last built an image, or found it to be up to date.
pub(super) fn claimed_at(cache: &Path, store: &Store, image: &Digest) -> Option<Timestamp> {
    modified(&place(cache, store, image))
}

/// When any project has last built an image, or found it to be up to date.
pub(super) fn claimed_by_any(cache: &Path, image: &Digest) -> Option<Timestamp> {
    let claims = fs::read_dir(claims(cache, image)).ok()?;
    claims
        .filter_map(|entry| modified(&entry.ok()?.path()))
        .max()
}

fn modified(path: &Path) -> Option<Timestamp> {
    fs::metadata(path).ok()?.modified().ok()?.try_into().ok()
}

/// Where an image's claims are.
fn claims(cache: &Path, image: &Digest) -> PathBuf {
    cache.join(CLAIMS).join(image.as_str().replace(':', "-"))
}

fn place(cache: &Path, store: &Store, image: &Digest) -> PathBuf {
    let store = Digest::of(store.place().as_os_str().as_encoded_bytes());
    claims(cache, image).join(store.as_str().replace(':', "-"))
}

/// What run records need.
struct Needs<'a> {
    cache: &'a Path,
    /// Runs that need nothing.
    removed: BTreeSet<RunId>,
    /// Whether a project whose state directory is not there may come back.
    awaits_gone: bool,
    /// The projects whose records were read, and the images in them.
    read: BTreeSet<PathBuf>,
    images: BTreeSet<String>,
}

impl<'a> Needs<'a> {
    fn new(cache: &'a Path, removed: BTreeSet<RunId>, awaits_gone: bool) -> Self {
        Self {
            cache,
            removed,
            awaits_gone,
            read: BTreeSet::new(),
            images: BTreeSet::new(),
        }
    }

    /// Whether a record of any project that has built an image needs it, or a jobctl that has built it runs.
    fn includes(&mut self, image: &Digest, own: &Store) -> io::Result<bool> {
        for entry in fs::read_dir(claims(self.cache, image))? {
            let text = read_small(&entry?.path(), LARGEST)?;
            let claim: Claim = serde_json::from_slice(&text)?;
            let is_own = claim.process == std::process::id();
            if !is_own && Path::new("/proc").join(claim.process.to_string()).exists() {
                return Ok(true);
            }
            if !claim.store.exists() {
                if self.awaits_gone && claim.store != own.place() {
                    return Ok(true);
                }
                continue;
            }
            if self.read.insert(claim.store.clone()) {
                self.add(&Store::new(claim.store))?;
            }
        }
        Ok(self.images.contains(image.as_str()))
    }

    fn add(&mut self, store: &Store) -> io::Result<()> {
        for id in store.ids().map_err(io::Error::other)? {
            if !self.removed.contains(&id) {
                let record = store.read(id).map_err(io::Error::other)?;
                self.images.extend(record.image.id);
            }
        }
        Ok(())
    }
}
