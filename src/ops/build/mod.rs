//! Builds images: what they require first, and only what is not there already.

mod base;
mod causes;
mod claims;
mod compare;
mod git;
mod history;
mod origins;
mod prepare;
mod provenance;
mod releases;
mod settle;
mod unneeded;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::context::ContextError;
use crate::engine::build::{BuildError, BuildRequest, Mask, Place, SecretSource};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::event::{Event, Events, Outcome};
use crate::facts::host;
use crate::model::labels::PLAN_LABEL;
use crate::model::{
    Digest, ImageRef, Platform, Secret, ValueError, Version, without_access, without_users,
};
use crate::ops::env_files::secret_in;
use crate::plan::build::{BaseSpec, BuildSpec, CA_BUNDLE_SECRET, Item};
use crate::plan::dockerfile::{Sources, lines_of};
use crate::records::durable;
use crate::records::mask::Masker;

use self::provenance::Course;
pub use base::BaseError;
pub use causes::Cause;
pub(in crate::ops) use claims::note_run;
pub use claims::{Kept, hold as hold_images, keep_pushed};
pub use compare::{Aspect, Change, Comparison, Difference, Times};
pub use history::History;
pub use prepare::{Prepared, prepare};
pub use settle::settle;
pub use unneeded::{Unneeded, UnneededError, forget_replaced, remove, unneeded};
pub use verify::{Unverified, Verdict, Verification, verify};

/// An image that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its job's or its own name.
    pub title: String,
    /// Its id on the engine.
    pub id: Digest,
    /// Its names.
    pub tags: Vec<ImageRef>,
    /// Its version.
    pub version: Option<Version>,
    /// The digest of what it was built from, if it was built.
    pub context: Option<Digest>,
    /// What it was built from: files of the context and the Dockerfile, each with a digest; nothing where
    /// they are too many.
    pub files: Vec<(String, [u8; 32])>,
    /// How it came to be there.
    pub state: State,
    /// The file that says what it was built from, if that was asked for.
    pub provenance: Option<PathBuf>,
}

/// How an image came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was built.
    Built,
    /// It was built before, from the same.
    UpToDate,
    /// It was there.
    Present,
    /// It was pulled.
    Pulled,
    /// It was made here, as it could not be pulled.
    Bootstrapped,
}

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// Its job's or its own name.
    pub title: String,
    /// Its Dockerfile.
    pub dockerfile: Option<PathBuf>,
    /// Why.
    #[source]
    pub reason: Reason,
}

impl Failure {
    fn of_base(spec: &BaseSpec, reason: Reason) -> Self {
        Self {
            title: spec.title.clone(),
            dockerfile: None,
            reason,
        }
    }

    fn of_build(spec: &BuildSpec, reason: Reason) -> Self {
        Self {
            title: spec.title.clone(),
            dockerfile: Some(spec.recipe.dockerfile.clone()),
            reason,
        }
    }
}

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at `{}`", .0.display())]
    NoDockerfile(PathBuf),
    /// It can't be named.
    #[error(transparent)]
    Name(ValueError),
    /// Its version is git's to say, which does not.
    #[error("{message}")]
    Git {
        /// What is wrong.
        message: String,
        /// How to fix it.
        help: String,
    },
    /// It can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A base image can't be had.
    #[error("{0}")]
    Base(Box<BaseError>),
    /// What it was built from can't be written down.
    #[error("can't write `{}`: {source}", path.display())]
    Provenance {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<BaseError> for Reason {
    fn from(error: BaseError) -> Self {
        Self::Base(Box::new(error))
    }
}

impl From<EngineError> for Reason {
    fn from(error: EngineError) -> Self {
        Self::Build(error.into())
    }
}

impl From<ContextError> for Reason {
    fn from(error: ContextError) -> Self {
        Self::Build(error.into())
    }
}

impl Reason {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Provenance { .. } => None,
            Self::NoDockerfile(_) => Some(
                "write one there, or say where it is: `build: { context: …, dockerfile: … }`"
                    .to_owned(),
            ),
            Self::Name(error) => error.help.clone(),
            Self::Git { help, .. } => Some(help.clone()),
            Self::Build(error) => error.help(),
            Self::Base(error) => error.help(),
        }
    }
}

/// What will be made, and from what, as far as the Dockerfiles tell.
///
/// # Errors
///
/// A Dockerfile can't be read.
pub fn foresee(items: &[Item]) -> Result<Vec<Option<Sources>>, Box<Failure>> {
    let foreseen = items.iter().map(|item| match item {
        Item::Base(_) => Ok(None),
        Item::Build(spec) => match prepare::foreseen(spec) {
            Ok(sources) => Ok(Some(sources)),
            Err(reason) => Err(Box::new(Failure::of_build(spec, reason))),
        },
    });
    foreseen.collect()
}

/// Builds, in order. Stops at the first that fails; those before it are there.
///
/// With a folder of statements, what each image was built from is written there; one that was built before
/// without that is built again.
///
/// Dropping the future cancels what the engine is doing.
///
/// # Errors
///
/// See [`Reason`].
pub async fn build(
    engine: &DockerEngine,
    items: &[Item],
    cache: Option<&PathBuf>,
    statements: Option<&Path>,
    events: &Events,
) -> Result<Vec<Image>, Failure> {
    let mut images = Vec::new();
    for item in items {
        images.push(match item {
            Item::Base(spec) => {
                let present = base::ensure(engine, spec, events).await;
                present.map_err(|reason| Failure::of_base(spec, reason))?
            }
            Item::Build(spec) => {
                let built = Box::pin(build_one(engine, spec, cache, statements, events)).await;
                built.map_err(|reason| Failure::of_build(spec, reason))?
            }
        });
    }
    Ok(images)
}

async fn build_one(
    engine: &DockerEngine,
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    statements: Option<&Path>,
    events: &Events,
) -> Result<Image, Reason> {
    let step = events.step(None, format!("build {}", spec.title));
    let mut prepared = match prepare(engine, spec, cache, events, step.id()).await {
        Ok(prepared) => prepared,
        Err(reason) => {
            step.finish(Outcome::Failed(String::new()));
            return Err(reason);
        }
    };
    let version = prepared.plan.version.as_ref();
    if version.is_some_and(|version| !version.is_prerelease()) {
        let releases = releases::on_engine(engine, spec).await?;
        spec.leave_newer(&mut prepared.plan, &releases);
    }
    for warning in &prepared.plan.warnings {
        events.send(Event::Warning(warning.clone()));
    }
    let started = host::now();
    let place = |id: &Digest| statements.map(|folder| provenance::place(folder, id));
    let image = |id, state, provenance| Image {
        title: spec.title.clone(),
        id,
        tags: prepared.plan.tags.clone(),
        version: prepared.plan.version.clone(),
        context: Some(prepared.context.clone()),
        files: prepared.files.clone(),
        state,
        provenance,
    };
    if prepared.may_be_there
        && let Some(id) = find(engine, spec, &prepared, cache).await?
        && let place = place(&id)
        && place.as_ref().is_none_or(|place| place.exists())
    {
        step.finish(Outcome::Cached);
        return Ok(image(id, State::UpToDate, place));
    }
    match Box::pin(origins::build(engine, spec, &prepared, events, step.id())).await {
        Ok(built) => {
            step.finish(Outcome::Done);
            let place = place(&built.id);
            if let Some(path) = &place {
                let course = Course {
                    started,
                    finished: host::now(),
                    engine: engine.server(),
                };
                let origins = &built.origins;
                let statement = provenance::statement(spec, &prepared, origins, &built.id, &course);
                write(path, &statement)?;
            }
            Ok(image(built.id, State::Built, place))
        }
        Err(reason) => {
            step.finish(Outcome::Failed(String::new()));
            Err(reason)
        }
    }
}

fn write(path: &Path, statement: &serde_json::Value) -> Result<(), Reason> {
    let folder = path.parent().unwrap_or(path);
    let text = format!("{statement:#}\n");
    durable::create_directory(folder)
        .and_then(|()| durable::write(path, text.as_bytes()))
        .map_err(|source| Reason::Provenance {
            path: path.to_owned(),
            source,
        })
}

/// Says where in the Dockerfile it is, where the engine did not.
fn placed(mut error: BuildError, dockerfile: &[u8], mask: &Mask) -> BuildError {
    let shown = |text: &str| {
        let lines = text
            .split('\n')
            .map(|line| without_access(&mask(line)).into_owned());
        lines.collect::<Vec<_>>().join("\n")
    };
    if let BuildError::Step(failed) = &mut error
        && failed.place.is_none()
    {
        // As the step's name is.
        let text = shown(&String::from_utf8_lossy(dockerfile));
        failed.place = lines_of(&text, failed.name.as_deref(), &failed.message)
            .map(|lines| Place { text, lines });
    }
    if let BuildError::Step(failed) = &mut error
        && let Some(place) = &mut failed.place
    {
        place.text = shown(&place.text);
    }
    error
}

/// Looks for an image that was built from the same, and gives it the names that it lacks. One that jobctl is not
/// known to have built here is built again, from the engine's cache where that has it.
async fn find(
    engine: &DockerEngine,
    spec: &BuildSpec,
    prepared: &Prepared,
    cache: Option<&PathBuf>,
) -> Result<Option<Digest>, Reason> {
    let digest = prepared.plan.digest.as_str();
    for found in engine.images_labelled(PLAN_LABEL, Some(digest)).await? {
        if !cache.is_some_and(|cache| claims::is_known(cache, &found.id))
            || !origins::are_current(engine, &found.labels).await?
            || !Box::pin(is_for_engine(engine, &found.id, &prepared.dockerfile)).await?
        {
            continue;
        }
        for tag in &spec.first_names(&prepared.plan) {
            if !found.tags.contains(&tag.familiar().to_string()) {
                engine.tag(&found.id, tag).await?;
            }
        }
        return Ok(Some(found.id));
    }
    Ok(None)
}

/// Whether an image is made for the engine's platform, or for one that the Dockerfile names.
async fn is_for_engine(
    engine: &DockerEngine,
    id: &Digest,
    dockerfile: &[u8],
) -> Result<bool, EngineError> {
    let (image, engine) = tokio::try_join!(engine.image_details(id.as_str()), engine.facts())?;
    let Some(image) = image else {
        return Ok(false);
    };
    let dockerfile = String::from_utf8_lossy(dockerfile);
    let named = dockerfile.split("--platform=").skip(1);
    let mut named = named.filter_map(|rest| rest.split_whitespace().next());
    // What can't be read as a platform, as a variable, names none.
    Ok(image.is_for(&engine.platform)
        || named.any(|name| name.parse::<Platform>().is_ok() && image.is_for(name)))
}

async fn request(
    engine: &DockerEngine,
    spec: &BuildSpec,
    prepared: &Prepared,
) -> Result<BuildRequest, EngineError> {
    let mut recipe = spec.recipe.clone();
    let mut rewrite_times_to = None;
    if let Some(epoch) = prepared.plan.epoch {
        recipe
            .args
            .entry("SOURCE_DATE_EPOCH".to_owned())
            .or_insert_with(|| Secret::new(epoch.to_string()));
        rewrite_times_to = engine.can_rewrite_times().await?.then_some(epoch);
    }
    Ok(BuildRequest {
        recipe,
        labels: prepared.plan.labels(None),
        tags: spec.first_names(&prepared.plan),
        rewrite_times_to,
        clock: prepared.clock.clone(),
        mask: mask(spec),
    })
}

/// Stars out every secret that a build is given, and users in addresses.
fn mask(spec: &BuildSpec) -> Arc<Mask> {
    let mut secrets = spec.secrets();
    let files = spec.recipe.secrets.iter();
    // Certificate authorities are given as a secret, and are none.
    let files = files.filter(|(id, _)| *id != CA_BUNDLE_SECRET);
    secrets.extend(files.filter_map(|(_, source)| match source {
        SecretSource::File(path) => secret_in(path),
        SecretSource::Value(_) => None,
    }));
    let masker = Masker::new(&secrets);
    Arc::new(move |text| without_users(&masker.masked(text)).into_owned())
}
