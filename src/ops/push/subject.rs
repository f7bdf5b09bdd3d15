//! What is to be pushed: which image, under which names.

use std::collections::BTreeSet;

use super::PushFailure;
use crate::engine::docker::{DockerEngine, LocalImage};
use crate::event::Events;
use crate::model::labels::{STANDARD_LABELS, is_stamped};
use crate::model::{ImageRef, Tag, Version};
use crate::ops::build::History;
use crate::plan::build::{BuildSpec, VersionChoice};
use crate::plan::push::{Built, EngineName, Wanted, is_release, version};
use crate::plan::run::JOB_LABEL;
use crate::plan::tags::is_of_context;

/// What is pushed or pulled.
pub enum Subject {
    /// An image, by its name.
    Image(ImageRef),
    /// The image of a job that is built, or of a directory that was built under a name; the newest, or that
    /// with an exact version.
    Job(Box<BuildSpec>),
}

/// Names that are pushed.
#[derive(Debug, Default)]
pub struct Names {
    /// The names.
    pub wanted: Vec<Wanted>,
    /// Those that the engine does not have yet.
    pub named: Vec<EngineName>,
}

/// The names that are pushed, and the images that they mean on the engine.
///
/// # Errors
///
/// The engine has no such image, or can't be used.
pub async fn names(
    engine: &DockerEngine,
    history: &History<'_>,
    subjects: &[Subject],
    events: &Events,
) -> Result<Names, PushFailure> {
    let mut names = Names::default();
    for subject in subjects {
        match subject {
            Subject::Image(image) => {
                let name = with_tag(image);
                let shown = name.familiar().to_string();
                let found = engine.image(&shown).await?;
                let found = found.ok_or(PushFailure::NotThere { name: shown })?;
                let version = version_of(&found, &[&name.repository()], history);
                names.wanted.push(Wanted {
                    name,
                    id: found.id,
                    version,
                    is_of_git: false,
                });
            }
            Subject::Job(spec) => add(engine, history, spec, &mut names, events).await?,
        }
    }
    Ok(names)
}

/// Adds all names that a job's newest image was built with, be it with the prefix or without. One that was built
/// without it gets its names with it. What jobctl is not known to have built or pulled here may be made from a
/// job's image, and is pushed by its name alone.
async fn add(
    engine: &DockerEngine,
    history: &History<'_>,
    spec: &BuildSpec,
    names: &mut Names,
    events: &Events,
) -> Result<(), PushFailure> {
    let repository = format!("{}{}", spec.prefix, spec.name);
    let images = engine.images_labelled(JOB_LABEL, Some(&spec.title)).await?;
    let named = images.iter().map(|image| {
        let names = names_in(image, &[&repository, &spec.name]);
        (image, names)
    });
    let exact = exact(&spec.version);
    let is_meant = |names: &[ImageRef]| match exact {
        Some(wanted) => (names.iter()).any(|name| version(name).as_ref() == Some(wanted)),
        None => !names.is_empty(),
    };
    let named: Vec<_> = named.filter(|(_, names)| is_meant(names)).collect();
    let is_any_known = named.iter().any(|(image, _)| history.knows(&image.id));
    if !is_any_known
        && let Some((_, names)) = named.first()
        && let Some(name) = names.iter().min_by_key(|name| is_of_context(name))
    {
        let name = name.clone();
        return Err(PushFailure::Unknown { name });
    }
    let Some(Built { image, .. }) = history.newest(engine, named, events).await? else {
        let name = match exact {
            Some(version) => format!("{repository}:{version}"),
            None => repository,
        };
        return Err(PushFailure::NotThere { name });
    };
    let own = names_in(image, &[&repository]);
    let version = version_of(image, &[&repository, &spec.name], history);
    // One that has only the name of its context there was built without the prefix, or not pushed after all. It gets
    // what a build with the prefix gives: which of it moves there, the registry's releases say.
    let is_known = own.iter().any(|name| !is_of_context(name));
    let known = if is_known {
        own.clone()
    } else {
        let mut known = names_in(image, &[&repository, &spec.name]);
        if version.is_some() {
            known.extend(spec.names(version.as_ref(), None).unwrap_or_default());
        }
        known
    };
    let tags = known
        .iter()
        .map(|name| name.tag().map_or("latest", Tag::as_str));
    for tag in tags.collect::<BTreeSet<_>>() {
        let Ok(name) = format!("{repository}:{tag}").parse() else {
            continue;
        };
        let is_there = own
            .iter()
            .any(|own| own.canonical() == ImageRef::canonical(&name));
        let wanted = Wanted {
            name,
            id: image.id.clone(),
            version: version.clone(),
            is_of_git: spec.version == VersionChoice::Git,
        };
        if !is_there {
            names.named.push(EngineName::pushed(&wanted));
        }
        names.wanted.push(wanted);
    }
    Ok(())
}

/// The names that an image has in these repositories.
fn names_in(image: &LocalImage, repositories: &[&str]) -> Vec<ImageRef> {
    let names = image.tags.iter().filter_map(|tag| tag.parse().ok());
    names
        .filter(|name| {
            repositories
                .iter()
                .any(|repository| is_in(name, repository))
        })
        .collect()
}

fn is_in(name: &ImageRef, repository: &str) -> bool {
    let repository = repository.parse::<ImageRef>();
    repository.is_ok_and(|repository| {
        name.canonical().repository() == repository.canonical().repository()
    })
}

fn exact(choice: &VersionChoice) -> Option<&Version> {
    match choice {
        VersionChoice::Exact(version) => Some(version),
        _ => None,
    }
}

/// An image's version: its newest release in these repositories, else what jobctl has it say itself, else the
/// newest pre-release. What jobctl has neither built nor pulled may have the label from the image that it is made from.
fn version_of(image: &LocalImage, repositories: &[&str], history: &History<'_>) -> Option<Version> {
    let names = names_in(image, repositories);
    let (released, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| is_release(name));
    let newest = |names: Vec<&ImageRef>| names.into_iter().filter_map(version).max();
    let own = || {
        let label = image.labels.get(&format!("{STANDARD_LABELS}version"))?;
        let is_own = is_stamped(&image.labels, "version") == Some(true) && history.knows(&image.id);
        label.parse().ok().filter(|_| is_own)
    };
    newest(released).or_else(own).or_else(|| newest(others))
}

/// The image, with the tag that is meant when there is none.
#[must_use]
pub fn with_tag(image: &ImageRef) -> ImageRef {
    match image.tag() {
        Some(_) => image.clone(),
        None => format!("{}:latest", image.repository())
            .parse()
            .unwrap_or_else(|_| image.clone()),
    }
}
