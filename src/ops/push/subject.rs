//! What is to be pushed: which image, under which names.

use super::PushFailure;
use crate::engine::docker::{DockerEngine, LocalImage};
use crate::model::labels::{STAMPED_LABEL, STANDARD_LABELS};
use crate::model::{ImageRef, Version};
use crate::ops::build::History;
use crate::plan::build::{BuildSpec, VersionChoice};
use crate::plan::push::{Built, Wanted, is_release, version};
use crate::plan::run::JOB_LABEL;

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
    pub named: Vec<Wanted>,
}

/// The names that are pushed, and the images that they mean on the engine.
///
/// # Errors
///
/// The engine has no such image, or can't be used.
pub async fn names(
    engine: &DockerEngine,
    history: History<'_>,
    subjects: &[Subject],
) -> Result<Names, PushFailure> {
    let mut names = Names::default();
    for subject in subjects {
        match subject {
            Subject::Image(image) => {
                let name = with_tag(image);
                let shown = name.familiar().to_string();
                let found = engine.image(&shown).await?;
                let found = found.ok_or(PushFailure::NotThere { name: shown })?;
                let version = version_of(&found, &name.repository());
                names.wanted.push(Wanted {
                    name,
                    id: found.id,
                    version,
                });
            }
            Subject::Job(spec) => add(engine, history, spec, &mut names).await?,
        }
    }
    Ok(names)
}

/// Adds all names that a job's image was built with. One that was built without the prefix gets its names with
/// it.
async fn add(
    engine: &DockerEngine,
    history: History<'_>,
    spec: &BuildSpec,
    names: &mut Names,
) -> Result<(), PushFailure> {
    let repository = format!("{}{}", spec.prefix, spec.name);
    let images = engine.images_labelled(JOB_LABEL, Some(&spec.title)).await?;
    for origin in [&repository, &spec.name] {
        let built = newest(engine, history, &images, origin, &spec.version).await?;
        let Some(Built {
            image,
            names: known,
            ..
        }) = built
        else {
            continue;
        };
        for name in &known {
            let tag = name.tag().map_or("latest", |tag| tag.as_str());
            let Ok(name) = format!("{repository}:{tag}").parse() else {
                continue;
            };
            let wanted = Wanted {
                name,
                id: image.id.clone(),
                version: version_of(image, origin),
            };
            if *origin != repository {
                names.named.push(wanted.clone());
            }
            names.wanted.push(wanted);
        }
        return Ok(());
    }
    let name = match exact(&spec.version) {
        Some(version) => format!("{repository}:{version}"),
        None => repository,
    };
    Err(PushFailure::NotThere { name })
}

/// The image with a name in a repository that was built last.
async fn newest<'a>(
    engine: &DockerEngine,
    history: History<'_>,
    images: &'a [LocalImage],
    repository: &str,
    choice: &VersionChoice,
) -> Result<Option<Built<'a>>, PushFailure> {
    let named = images.iter().map(|image| {
        let names = image.tags.iter().filter_map(|tag| tag.parse().ok());
        let names = names.filter(|name: &ImageRef| is_in(name, repository));
        (image, names.collect::<Vec<_>>())
    });
    let is_meant = |names: &[ImageRef]| match exact(choice) {
        Some(wanted) => names
            .iter()
            .any(|name| version(name).as_ref() == Some(wanted)),
        None => !names.is_empty(),
    };
    let named = named.filter(|(_, names)| is_meant(names));
    Ok(history.newest(engine, named).await?)
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

/// An image's version: its newest release in a repository, else what jobctl has it say itself.
fn version_of(image: &LocalImage, repository: &str) -> Option<Version> {
    let names = image.tags.iter().filter_map(|tag| tag.parse().ok());
    let names = names.filter(|name: &ImageRef| is_in(name, repository));
    let released = names
        .filter(is_release)
        .filter_map(|name| version(&name))
        .max();
    let own = || {
        let stamped = image.labels.get(STAMPED_LABEL)?;
        let label = image.labels.get(&format!("{STANDARD_LABELS}version"))?;
        let is_stamped = stamped.split(',').any(|key| key == "version");
        label.parse().ok().filter(|_| is_stamped)
    };
    released.or_else(own)
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
