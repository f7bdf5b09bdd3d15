//! What an image is made from: expected before it is built, and the truth afterwards.
//!
//! What BuildKit names while it builds is the truth. It is kept in a label of the image, which is a part
//! of what is built: an image whose sources are not those that were expected, or of which nothing was
//! certain, is built once more, from the engine's cache, with the label that is right. Until then it has
//! none, so that whoever is killed in between leaves no image that looks up to date.

use std::collections::{BTreeMap, BTreeSet};

use super::{Prepared, Reason, mask, placed, request};
use crate::engine::build::{NamedSource, Reuse};
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::event::{Event, Events, Outcome, StepId};
use crate::facts::shown_address;
use crate::model::labels::SOURCES_LABEL;
use crate::model::{Digest, ImageRef};
use crate::plan::build::{BuildSpec, Origin, Origins};
use crate::plan::dockerfile::{Base, Sources};

/// How often an image is built until its label is right: base images may be replaced meanwhile.
const MOST_BUILDS: usize = 3;

/// An image that was built, and from what.
pub(super) struct Built {
    pub(super) id: Digest,
    pub(super) origins: Vec<Origin>,
}

/// What an image is expected to be made from.
pub(super) struct Expected {
    origins: Origins,
    /// Whether the image's label may say so before it is built.
    is_certain: bool,
    /// The images that were pulled, or could not be.
    tried: BTreeSet<String>,
}

/// An image of the engine's by its whole name. Podman has its own under the short one.
async fn local(engine: &DockerEngine, name: &str) -> Result<Option<LocalImage>, EngineError> {
    // A name in which a secret is masked is none.
    let Ok(image) = name.parse::<ImageRef>() else {
        return Ok(None);
    };
    if let Some(found) = engine.image(name).await? {
        return Ok(Some(found));
    }
    let short = image.familiar().to_string();
    if short == name {
        return Ok(None);
    }
    engine.image(&short).await
}

/// Whether all that an image was made from is still the same.
///
/// # Errors
///
/// The engine stopped answering.
pub(super) async fn are_current(
    engine: &DockerEngine,
    labels: &BTreeMap<String, String>,
) -> Result<bool, EngineError> {
    let label = labels.get(SOURCES_LABEL);
    let Some(origins) = label.and_then(|label| Origins::of_label(label)) else {
        return Ok(false);
    };
    for origin in origins {
        if origin.is_fixed() {
            continue;
        }
        let Some(digest) = origin.digest else {
            return Ok(false);
        };
        let local = local(engine, &origin.name).await?;
        if local.is_none_or(|local| local.id != digest) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an image will be made from, as its Dockerfile tells. Images that are missing are pulled, if they
/// are its sources for certain.
///
/// # Errors
///
/// An image was to be pulled and can't be, or the engine stopped answering.
pub(super) async fn expected(
    engine: &DockerEngine,
    spec: &BuildSpec,
    sources: &Sources,
    events: &Events,
    parent: StepId,
) -> Result<Expected, Reason> {
    let mut expected = Expected {
        origins: Origins::default(),
        is_certain: sources.is_certain,
        tried: BTreeSet::new(),
    };
    let mask = mask(spec);
    for name in &sources.images {
        let Ok(image) = name.parse::<ImageRef>() else {
            continue;
        };
        let name = image.tagged().to_string();
        let mut found = local(engine, &name).await?;
        let is_wanted = found.is_none() || spec.pulls;
        if is_wanted && sources.is_certain && spec.recipe.platform.is_none() {
            expected.pull(engine, spec, &name, events, parent).await?;
            found = local(engine, &name).await?;
        }
        expected.is_certain &= found.as_ref().is_some_and(|found| !found.has_triggers);
        if let Some(found) = &found {
            expected.origins.note_labels(&found.labels);
        }
        let pinned = image.digest().cloned();
        let digest = pinned.or_else(|| Some(found.as_ref()?.id.clone()));
        let shown = mask(&name);
        if is_base(&sources.base, &name) && shown == name {
            let known = found.and_then(|found| found.digest_in(&image));
            expected.origins.base = Some((image.canonical(), known));
        }
        expected.origins.list.push(Origin {
            name: shown,
            digest,
        });
    }
    let remotes = sources.remotes.iter().map(|name| Origin {
        name: mask(&shown_address(name)),
        digest: None,
    });
    expected.origins.list.extend(remotes);
    expected.origins.list.sort();
    expected.origins.list.dedup();
    Ok(expected)
}

/// Whether a base, as a Dockerfile names it, is an image of this whole name.
fn is_base(base: &Base, name: &str) -> bool {
    match base {
        Base::Image(base) => whole(base).as_deref() == Some(name),
        Base::Scratch | Base::Unknown => false,
    }
}

/// The whole name of an image.
fn whole(name: &str) -> Option<String> {
    let image: ImageRef = name.parse().ok()?;
    Some(image.tagged().to_string())
}

impl Expected {
    /// What the image's label may say before it is built.
    pub(super) fn origins(&self) -> Option<&Origins> {
        self.is_certain.then_some(&self.origins)
    }

    /// Pulls an image, once. One that can't be is left to the engine, unless the user wants it pulled.
    async fn pull(
        &mut self,
        engine: &DockerEngine,
        spec: &BuildSpec,
        name: &str,
        events: &Events,
        parent: StepId,
    ) -> Result<bool, Reason> {
        let Ok(image) = name.parse::<ImageRef>() else {
            return Ok(false);
        };
        if !self.tried.insert(name.to_owned()) {
            return Ok(false);
        }
        let step = events.step(Some(parent), format!("pull {}", image.familiar()));
        match engine.pull(&image, None, &step).await {
            Ok(_) => {
                step.finish(Outcome::Done);
                Ok(true)
            }
            Err(error) if spec.pulls => {
                step.finish(Outcome::Failed(error.to_string()));
                Err(error.into())
            }
            // BuildKit may have it all the same, and says so if it does not.
            Err(error) => {
                step.finish(Outcome::Skipped(error.to_string()));
                Ok(false)
            }
        }
    }
}

/// Builds an image, with a label of what it was made from.
///
/// # Errors
///
/// See [`Reason`].
pub(super) async fn build(
    engine: &DockerEngine,
    spec: &BuildSpec,
    prepared: &Prepared,
    events: &Events,
    parent: StepId,
) -> Result<Built, Reason> {
    let mut expected = expected(engine, spec, &prepared.sources, events, parent).await?;
    let mut request = request(engine, spec, prepared).await?;
    let mut replaced = Vec::new();
    let (nobody, _) = Events::channel();
    let mut events = events;
    loop {
        request.labels = prepared.plan.labels(expected.origins());
        let built = match engine.build(&request, events, Some(parent)).await {
            Ok(built) => built,
            Err(error) => {
                // The engine pulls without credentials of the user's.
                let missing = error.missing_image().map(str::to_owned);
                if let Some(missing) = missing
                    && spec.recipe.platform.is_none()
                    && expected
                        .pull(engine, spec, &missing, events, parent)
                        .await?
                {
                    continue;
                }
                return Err(placed(error, &prepared.dockerfile, &*request.mask).into());
            }
        };
        let truth = match &built.sources {
            Some(named) => {
                if spec.pulls && spec.recipe.platform.is_none() {
                    pull_named(engine, spec, &mut expected, named, (events, parent)).await?;
                }
                truth(engine, prepared, &built.id, named).await?
            }
            // The classic builder names nothing.
            None if prepared.sources.is_certain => expected.origins.clone(),
            None => {
                remove_unnamed(engine, &replaced, &built.id, events).await;
                return Ok(Built {
                    id: built.id,
                    origins: expected.origins.list,
                });
            }
        };
        if expected.origins() == Some(&truth) || replaced.len() + 1 == MOST_BUILDS {
            remove_unnamed(engine, &replaced, &built.id, events).await;
            return Ok(Built {
                id: built.id,
                origins: truth.list,
            });
        }
        replaced.push(built.id);
        expected.origins = truth;
        expected.is_certain = true;
        // All that it takes is in the engine's cache; there is nothing new to be shown.
        request.recipe.reuse = Reuse::Steps;
        if !spec.pulls {
            events = &nobody;
        }
    }
}

/// Pulls what the engine named and was not pulled yet.
async fn pull_named(
    engine: &DockerEngine,
    spec: &BuildSpec,
    expected: &mut Expected,
    named: &[NamedSource],
    (events, parent): (&Events, StepId),
) -> Result<(), Reason> {
    for source in named.iter().filter(|source| source.is_image) {
        expected
            .pull(engine, spec, &source.name, events, parent)
            .await?;
    }
    Ok(())
}

/// What the engine named, with the digests that images have now.
async fn truth(
    engine: &DockerEngine,
    prepared: &Prepared,
    built: &Digest,
    named: &[NamedSource],
) -> Result<Origins, EngineError> {
    let mut origins = Origins::default();
    for source in named {
        let mut digest = source.digest.clone();
        if source.is_image
            && let Some(found) = local(engine, &source.name).await?
        {
            origins.note_labels(&found.labels);
            digest = digest.or(Some(found.id));
        }
        origins.list.push(Origin {
            name: source.name.clone(),
            digest,
        });
    }
    origins.list.sort();
    origins.list.dedup();
    origins.base = match base(engine, prepared, built, named).await? {
        None => None,
        Some(name) => match name.parse::<ImageRef>() {
            Ok(image) => {
                let found = local(engine, &name).await?;
                let known = found.and_then(|found| found.digest_in(&image));
                let found = named.iter().find(|source| source.name == name);
                let digest = known.or_else(|| found?.digest.clone());
                // As it is written, the tag that is meant has no name.
                let image = prepared.written(&name).unwrap_or(image);
                Some((image.canonical(), digest))
            }
            Err(_) => None,
        },
    };
    Ok(origins)
}

impl Prepared {
    /// An image as the Dockerfile names it.
    fn written(&self, name: &str) -> Option<ImageRef> {
        let mut images = self.sources.images.iter();
        images.find_map(|image| {
            let image: ImageRef = image.parse().ok()?;
            (image.tagged().to_string() == name).then_some(image)
        })
    }
}

/// The image that a built one continues: what the Dockerfile says, if all that it says came true; else
/// the one image whose history the built one's begins with.
async fn base(
    engine: &DockerEngine,
    prepared: &Prepared,
    built: &Digest,
    named: &[NamedSource],
) -> Result<Option<String>, EngineError> {
    let images = || named.iter().filter(|source| source.is_image);
    let read = prepared.sources.images.iter();
    let read: BTreeSet<_> = read.filter_map(|name| whole(name)).collect();
    if read == images().map(|source| source.name.clone()).collect() {
        match &prepared.sources.base {
            Base::Scratch => return Ok(None),
            Base::Image(name) => return Ok(whole(name)),
            Base::Unknown => {}
        }
    }
    let history = engine.history(built.as_str()).await?;
    let mut found = Vec::new();
    for source in images().filter(|source| source.begins_stage) {
        if let Some(image) = local(engine, &source.name).await? {
            let begun = engine.history(image.id.as_str()).await?;
            if !begun.is_empty() && history.starts_with(&begun) {
                found.push(source.name.clone());
            }
        }
    }
    Ok(match <[String; 1]>::try_from(found) {
        Ok([only]) => Some(only),
        Err(_) => None,
    })
}

/// Removes images that were built with labels that turned out wrong, unless somebody has named them.
async fn remove_unnamed(engine: &DockerEngine, images: &[Digest], kept: &Digest, events: &Events) {
    for id in images.iter().filter(|id| *id != kept) {
        let removed = match engine.image(id.as_str()).await {
            Ok(Some(image)) if image.tags.is_empty() => engine.remove_image(id.as_str()).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            events.send(Event::Warning(format!("`{id}` is not removed: {error}")));
        }
    }
}
