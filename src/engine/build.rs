//! What an engine is asked to build, what it answers, and why it does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::docker::EngineError;
use crate::context::{ContextError, Entry};
use crate::model::{Digest, ImageRef, Secret};

/// Says when a file was last changed, in nanoseconds since 1970, as the engine is told.
pub type FileClock = dyn Fn(&Entry) -> i64 + Send + Sync;

/// Stars secrets out of what an engine says.
pub type Mask = dyn Fn(&str) -> String + Send + Sync;

/// What an image is built from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The folder that the Dockerfile copies from; absolute.
    pub context: PathBuf,
    /// The Dockerfile; absolute, need not lie in the context.
    pub dockerfile: PathBuf,
    /// The stage to build; the last if none is named.
    pub target: Option<String>,
    /// Build arguments. Their values may be secrets of a sort (a proxy's password).
    pub args: BTreeMap<String, Secret>,
    /// What the Dockerfile may mount as a secret, by its id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of ssh agents that the Dockerfile may use, by their id.
    pub agents: BTreeMap<String, PathBuf>,
    /// For which platform; the engine's own if none is named.
    pub platform: Option<String>,
    /// What is taken from an earlier build.
    pub reuse: Reuse,
}

impl Recipe {
    /// A Dockerfile and its context, with nothing else said.
    #[must_use]
    pub fn new(context: PathBuf, dockerfile: PathBuf) -> Self {
        Self {
            context,
            dockerfile,
            target: None,
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            platform: None,
            reuse: Reuse::Steps,
        }
    }
}

/// An image to be built.
#[derive(Clone)]
pub struct BuildRequest {
    /// What it is built from, and how.
    pub recipe: Recipe,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is named.
    pub tags: Vec<ImageRef>,
    /// The time that files in layers get, where the engine can, in seconds since 1970.
    pub rewrite_times_to: Option<u64>,
    /// When files of the context were changed.
    pub clock: Arc<FileClock>,
    /// What is done to all that the engine says, before anybody sees it.
    pub mask: Arc<Mask>,
}

/// What is taken from an earlier build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Whatever is unchanged.
    Steps,
    /// Nothing.
    Nothing,
}

/// Where a secret is read when a step asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// It is known.
    Value(Secret),
    /// It is a file's content.
    File(PathBuf),
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its id on the engine: the configuration's digest, or with containerd's store the manifest's.
    pub id: Digest,
    /// What it was made from, if the engine named that.
    pub sources: Option<Vec<NamedSource>>,
}

/// Something that an image was made from, as the engine named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// The whole name of an image with its tag or digest, an address, or the step that fetched it.
    pub name: String,
    /// Whether it is an image.
    pub is_image: bool,
    /// Whether a stage may begin from it.
    pub begins_stage: bool,
    /// The digest that the engine found or that the Dockerfile asks for; nothing for an image that
    /// the engine has.
    pub digest: Option<Digest>,
}

/// How to mend a full disk.
const MAKE_ROOM: &str = "see what takes the room: `docker system df`; make some: `docker builder \
                         prune`, `docker image prune`";

/// Why no image was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The engine was not there, or went away.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The context can't be sent.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A step of the Dockerfile failed.
    #[error("{0}")]
    Step(Box<FailedStep>),
    /// The engine's disk is full.
    #[error("the engine's disk is full: {message}")]
    DiskFull {
        /// The engine's words.
        message: String,
    },
    /// A base image is there, but for another platform.
    #[error("a base image is for another platform: {message}")]
    ForeignBase {
        /// BuildKit's words.
        message: String,
    },
    /// The engine went away in mid-build.
    #[error("the build was interrupted: the engine went away")]
    Interrupted,
    /// The engine has no BuildKit, which is needed for this.
    #[error("{what} needs BuildKit, which the engine does not have")]
    NeedsBuildKit {
        /// What needs it.
        what: &'static str,
    },
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedStep {
    /// The step as the engine names it: `[2/4] RUN make`; nothing if it failed before any step.
    pub name: Option<String>,
    /// Why, in the engine's words.
    pub message: String,
    /// Its last lines.
    pub log: Vec<String>,
    /// Where it is in the Dockerfile.
    pub place: Option<Place>,
}

impl FailedStep {
    /// Whether its program says so; the engine then only knows that it failed.
    fn filled_the_disk(&self) -> bool {
        self.log
            .iter()
            .any(|line| line.contains("No space left on device"))
    }

    /// Whether a base image could not be had.
    pub(in crate::engine) fn is_about_a_base(&self) -> bool {
        let name = self.name.as_deref().unwrap_or_default();
        name.starts_with("[internal] load metadata")
    }

    /// The image that could not be had, if that is why it failed.
    fn missing_image(&self) -> Option<&str> {
        let name = self.name.as_deref()?;
        let (_, step) = name.split_once("] ").unwrap_or(("", name));
        let image = step.strip_prefix("load metadata for ");
        image.or_else(|| step.strip_prefix("FROM "))
    }
}

impl std::fmt::Display for FailedStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A place in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its whole text, as the engine read it.
    pub text: String,
    /// The lines, from 1.
    pub lines: std::ops::RangeInclusive<usize>,
}

impl BuildError {
    /// The image that could not be had, if that is why the build failed.
    #[must_use]
    pub fn missing_image(&self) -> Option<&str> {
        match self {
            Self::Step(failed) => failed.missing_image(),
            _ => None,
        }
    }

    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Engine(error) => Some(error.help()),
            Self::Context(error) => Some(error.help()),
            Self::Step(failed) if failed.missing_image().is_some() => Some(
                "check the image's name, `docker login`, and the network; or say in jobs.yaml how \
                 to make it: `images: { NAME: { pull: …, bootstrap: … } }`"
                    .to_owned(),
            ),
            Self::Step(failed) if failed.filled_the_disk() => Some(MAKE_ROOM.to_owned()),
            Self::Step(_) => None,
            Self::DiskFull { .. } => Some(MAKE_ROOM.to_owned()),
            Self::Interrupted => Some(
                "nothing was tagged, and what was done is kept: build again once it is back"
                    .to_owned(),
            ),
            Self::ForeignBase { .. } => Some(
                "pull it for the platform that is built for: `jobctl pull --platform …`; or leave \
                 `--platform` out"
                    .to_owned(),
            ),
            Self::NeedsBuildKit { .. } => {
                Some("use Docker Engine 20.10 or newer, with BuildKit on".to_owned())
            }
        }
    }
}
