//! What is built, from what, and what it is called.

mod origins;
mod select;
mod spec;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::tags::Bump;
use crate::diagnostic::Diagnostic;
use crate::engine::build::SecretSource;
use crate::facts::GitFacts;
use crate::manifest::Manifest;
use crate::model::labels::{
    PLAN_LABEL, SOURCES_LABEL, STAMPED_LABEL, STANDARD_KEYS, STANDARD_LABELS,
};
use crate::model::{Digest, ImageRef, Secret, Version};
use crate::records::{HostProgram, Trust, Untrusted};

pub use origins::{Origin, Origins};
pub use select::{PlanError, host_authorities, plan};
pub use spec::{BuildSpec, VersionChoice};

/// The label of the context's digest.
pub const CONTEXT_LABEL: &str = "dev.jobctl.context";
/// The secret under which a build is offered certificate authorities.
pub const CA_BUNDLE_SECRET: &str = "ca-bundle";
/// Build arguments that every engine knows, and leaves out of images and of what it compares.
const PROXY_ARGS: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
];

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub struct BuildFlags {
    /// The image's name, without the prefix.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<Version>,
    /// Which part of the manifest's version is raised.
    pub bump: Option<Bump>,
    /// Put before the name.
    pub prefix: Option<String>,
    /// Further names.
    pub tags: Vec<ImageRef>,
    /// The proxy for http and https.
    pub proxy: Option<Secret>,
    /// The proxies that docker's configuration names, as build arguments.
    pub configured_proxies: BTreeMap<String, Secret>,
    /// Build arguments; those without a value take the caller's.
    pub args: Vec<(String, Option<Secret>)>,
    /// Secrets by their id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of ssh agents by their id.
    pub agents: BTreeMap<String, PathBuf>,
    /// The stage.
    pub target: Option<String>,
    /// The platform.
    pub platform: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether nothing is taken from earlier builds.
    pub is_uncached: bool,
    /// Whether base images are pulled even if they are here.
    pub pulls: bool,
    /// Whether what is built is pushed.
    pub deploys: bool,
    /// A file of certificate authorities that the build is offered.
    pub ca_bundle: Option<PathBuf>,
    /// The time that the image is given, in seconds since 1970.
    pub epoch: Option<u64>,
    /// Which programs of the project may run on this machine.
    pub trust: Trust,
}

/// One thing to be done.
#[derive(Debug, Clone)]
pub enum Item {
    /// A base image that is pulled, or made here where it can't be.
    Base(BaseSpec),
    /// An image that is built.
    Build(Box<BuildSpec>),
}

/// What is wrong with the files that these are built from.
#[must_use]
pub fn file_errors(manifest: &Manifest, items: &[Item]) -> Vec<Diagnostic> {
    let files = items.iter().flat_map(|item| match item {
        Item::Base(base) => {
            let bootstrap = base.bootstrap.as_ref();
            bootstrap
                .map(|bootstrap| &bootstrap.program)
                .into_iter()
                .collect()
        }
        Item::Build(spec) => vec![&spec.recipe.context, &spec.recipe.dockerfile],
    });
    manifest.errors_of(files.map(PathBuf::as_path))
}

/// A base image that is pulled, or made here where it can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseSpec {
    /// Its name in the manifest.
    pub title: String,
    /// The image.
    pub image: ImageRef,
    /// What makes it where it can't be pulled.
    pub bootstrap: Option<Box<Bootstrap>>,
    /// Whether it is pulled even if it is here.
    pub pulls: bool,
}

/// A program of the project that makes a base image on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// It writes the image's root file system as a tar to standard output.
    pub program: PathBuf,
    /// The `jobs.yaml` that names it.
    pub manifest: PathBuf,
    /// What it is called with.
    pub args: Vec<String>,
    /// The PATH that it gets.
    pub search: OsString,
    /// Whether it may run.
    pub trust: Trust,
}

impl Bootstrap {
    /// The program as it is now.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn read(&self) -> io::Result<HostProgram> {
        HostProgram::read(
            &self.manifest,
            &self.program,
            self.args.clone(),
            &self.search,
        )
    }

    /// The program as it is now, unless it may run.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn untrusted(&self) -> io::Result<Option<Untrusted>> {
        if self.trust.is_given() {
            return Ok(None);
        }
        Ok(self.trust.refuses(self.read()?))
    }
}

/// Whether an image has a name that builds of a manifest's job give: `PROJECT-JOB`, with the manifest's prefix or
/// in any registry.
#[must_use]
pub fn is_named_after(name: &ImageRef, job: &str, manifest: &Manifest) -> bool {
    let root = &manifest.root;
    let image = format!("{}-{job}", *root.name);
    let prefix = root
        .image
        .as_ref()
        .and_then(|image| image.prefix.as_deref());
    let prefixed = format!("{}{image}", prefix.map_or("", String::as_str));
    let is_prefixed = prefixed
        .parse::<ImageRef>()
        .is_ok_and(|own| own.familiar().repository() == name.familiar().repository());
    is_prefixed || name.path().rsplit('/').next() == Some(&image)
}

/// What must be known to name an image and to tell whether it is there already.
#[derive(Debug, Clone)]
pub struct BuildFacts {
    /// The digest of the context, the Dockerfile's own ignore rules applied.
    pub context: Digest,
    /// The Dockerfile.
    pub dockerfile: Vec<u8>,
    /// What git says of the context.
    pub git: Option<GitFacts>,
}

impl BuildFacts {
    /// What git says, if something of the context was ever committed. The newest commit is not the context's
    /// otherwise: with its labels, each commit would make another image.
    fn committed(&self) -> Option<&GitFacts> {
        self.git.as_ref().filter(|git| !git.is_new)
    }
}

/// An image to be built, with its names and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlan {
    /// What decides its content, in one digest.
    pub digest: Digest,
    /// Its version, if it has one.
    pub version: Option<Version>,
    /// Its names.
    pub tags: Vec<ImageRef>,
    /// Its labels, but for those that say what it is made from.
    labels: BTreeMap<String, String>,
    /// Labels that the user gives.
    given: BTreeMap<String, String>,
    /// The time that it is given, in seconds since 1970.
    pub epoch: Option<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl BuildPlan {
    /// The image's labels, with what it is made from. Where that is not known, the label says nothing, and
    /// not what a base image's does.
    #[must_use]
    pub fn labels(&self, origins: Option<&Origins>) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        let mut oci = |key: &str, value: String| {
            labels.insert(format!("{STANDARD_LABELS}{key}"), value);
        };
        for key in origins.iter().flat_map(|origins| &origins.inherited) {
            oci(key, String::new());
        }
        if let Some((name, digest)) = origins.and_then(|origins| origins.base.as_ref()) {
            oci("base.name", name.to_string());
            if let Some(digest) = digest {
                oci("base.digest", digest.to_string());
            }
        }
        let is_stamped = |key: &&&str| {
            let label = format!("{STANDARD_LABELS}{key}");
            labels.contains_key(&label) && !self.given.contains_key(&label)
        };
        let stamped: Vec<_> = STANDARD_KEYS.iter().filter(is_stamped).copied().collect();
        let stamped = stamped.join(",");
        labels.extend(self.given.clone());
        let sources = origins.map_or_else(String::new, Origins::label);
        labels.insert(SOURCES_LABEL.to_owned(), sources);
        labels.insert(PLAN_LABEL.to_owned(), self.digest.to_string());
        labels.insert(STAMPED_LABEL.to_owned(), stamped);
        labels
    }
}

pub(in crate::plan) fn is_proxy(name: &str) -> bool {
    PROXY_ARGS.contains(&name.to_ascii_uppercase().as_str())
}
