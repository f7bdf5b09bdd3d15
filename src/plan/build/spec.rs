//! An image to be built: its names, its labels, and what tells one plan from another.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use super::{BuildFacts, BuildPlan, CA_BUNDLE_SECRET, CONTEXT_LABEL, is_proxy};
use crate::engine::build::{Recipe, SecretSource};
use crate::facts::GitFacts;
use crate::manifest::schema::Latest;
use crate::model::labels::STANDARD_LABELS;
use crate::model::{Digest, ImageRef, Secret, Sensitive, ValueError, Version, without_users};
use crate::plan::Discretion;
use crate::plan::dockerfile::{Dockerfile, Sources};
use crate::plan::run::HELD_BYTES;
use crate::plan::tags::{self, Naming};
use crate::records::mask::Masker;

/// An image to be built, before anything is known of its content.
#[derive(Debug, Clone)]
pub struct BuildSpec {
    /// Its job's or its own name, as shown.
    pub title: String,
    /// Its repository, without the prefix.
    pub name: String,
    /// Put before the name.
    pub prefix: String,
    /// Where its version comes from.
    pub version: VersionChoice,
    /// When `latest` moves.
    pub latest: Latest,
    /// Further names.
    pub extra_tags: Vec<ImageRef>,
    /// What it is built from, and how; proxies are among the arguments.
    pub recipe: Recipe,
    /// Labels of the user's.
    pub labels: BTreeMap<String, String>,
    /// Whether base images are pulled even if they are here.
    pub pulls: bool,
    /// Whether other images are made from it.
    pub is_base: bool,
    /// Whether it is pushed, and gets its names once it is known that nothing is refused.
    pub is_deployed: bool,
    /// The time that the image is given, if the user says so.
    pub epoch: Option<u64>,
    /// Secrets that may have been put into something, besides those of the recipe.
    pub secrets: Vec<Secret>,
}

/// Where an image's version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionChoice {
    /// There is none.
    None,
    /// The user says it, and means it.
    Exact(Version),
    /// The manifest says it; a tree that is not as committed gets a version of its own.
    Declared(Version),
    /// The commit's tag says it.
    Git,
}

impl BuildSpec {
    /// An image of which nothing is asked but that it is built.
    #[must_use]
    pub fn new(title: String, name: String, recipe: Recipe) -> Self {
        Self {
            title,
            name,
            prefix: String::new(),
            version: VersionChoice::None,
            latest: Latest::Release,
            extra_tags: Vec::new(),
            recipe,
            labels: BTreeMap::new(),
            pulls: false,
            is_base: false,
            is_deployed: false,
            epoch: None,
            secrets: Vec::new(),
        }
    }

    /// The values that nobody may see, as far as they are known: the files of secrets are not read.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let sensitive = Sensitive::default();
        let sources = self.recipe.secrets.values();
        let given = sources.filter_map(|source| match source {
            SecretSource::Value(value) => Some(value),
            SecretSource::File(_) => None,
        });
        let mut secrets: Vec<_> = self.secrets.iter().chain(given).cloned().collect();
        let args = self.recipe.args.iter();
        let args = args.filter(|(name, value)| sensitive.is_secret(name, value.expose()));
        secrets.extend(args.map(|(_, value)| value.clone()));
        let parts = |secret: &Secret| sensitive.parts(secret.expose());
        let parts: Vec<_> = secrets.iter().flat_map(parts).map(Secret::new).collect();
        secrets.extend(parts);
        secrets
    }

    /// What may be shown of it.
    #[must_use]
    pub fn discretion(&self) -> Discretion {
        Discretion::new(Sensitive::default(), &self.secrets())
    }

    /// The build arguments with those values that are no secrets.
    #[must_use]
    pub fn shown_args(&self) -> BTreeMap<&str, Option<&str>> {
        let sensitive = Sensitive::default();
        let known = Masker::new(&self.secrets());
        let args = self.recipe.args.iter().map(|(name, value)| {
            let value = value.expose();
            // A user may be a token.
            let is_secret = sensitive.is_secret(name, value)
                || known.finds(value, HELD_BYTES)
                || without_users(value) != value;
            (name.as_str(), Some(value).filter(|_| !is_secret))
        });
        args.collect()
    }

    /// What the image is made from, as far as its Dockerfile tells.
    #[must_use]
    pub fn sources(&self, dockerfile: &[u8]) -> Sources {
        let args = self.recipe.args.iter();
        let args = args.map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let target = self.recipe.target.as_deref();
        Dockerfile::read(&String::from_utf8_lossy(dockerfile)).sources(target, &args.collect())
    }

    /// Decides on names and labels.
    ///
    /// # Errors
    ///
    /// The name can't be an image's, or the version a tag.
    pub fn decide(&self, facts: &BuildFacts) -> Result<BuildPlan, ValueError> {
        let is_dirty = facts.git.as_ref().is_some_and(|git| git.is_dirty);
        let mut warnings = Vec::new();
        let version = self.version_of(facts.git.as_ref(), &facts.context);
        if let VersionChoice::Exact(version) = &self.version
            && is_dirty
        {
            warnings.push(format!(
                "`{}` is not as it was committed, and becomes version {version} all the same",
                self.recipe.context.display()
            ));
        }
        let shown = self.shown_args();
        warnings.extend(
            self.recipe
                .args
                .keys()
                .filter(|name| !is_proxy(name) && shown[name.as_str()].is_none())
                .map(|name| {
                    format!(
                        "the build argument `{name}` looks like a secret and stays visible in the \
                         image: use `--secret` and `RUN --mount=type=secret`"
                    )
                }),
        );
        let names = self.names(version.as_ref(), Some(&facts.context))?;
        let epoch = self
            .epoch
            .or_else(|| facts.committed().map(|git| git.committed));
        let labels = self.standard_labels(facts, version.as_ref(), epoch, is_dirty);
        let digest = self.digest(facts, &labels);
        Ok(BuildPlan {
            digest,
            version,
            tags: names,
            labels,
            given: self.labels.clone(),
            epoch,
            warnings,
        })
    }

    /// The version that it gets: one that the user says is taken at its word.
    #[must_use]
    pub fn version_of(&self, git: Option<&GitFacts>, context: &Digest) -> Option<Version> {
        let version = match &self.version {
            VersionChoice::None => return None,
            VersionChoice::Exact(version) => return Some(version.clone()),
            VersionChoice::Declared(version) => version.clone(),
            VersionChoice::Git => {
                let tagged = git.and_then(|git| git.version.clone());
                tagged.unwrap_or_else(|| Version::from(development()))
            }
        };
        let is_dirty = git.is_some_and(|git| git.is_dirty);
        Some(if is_dirty {
            tags::dirty(&version, context)
        } else {
            version
        })
    }

    /// The image's names, each once.
    ///
    /// # Errors
    ///
    /// The name can't be an image's, or the version a tag.
    pub fn names(
        &self,
        version: Option<&Version>,
        context: Option<&Digest>,
    ) -> Result<Vec<ImageRef>, ValueError> {
        let naming = Naming {
            name: &self.name,
            prefix: &self.prefix,
            version,
            latest: self.latest,
            context,
        };
        let mut names = naming.tags()?;
        names.extend(self.extra_tags.iter().cloned());
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    /// Whether a name on an engine is in a repository of the image's.
    #[must_use]
    pub fn owns(&self, name: &ImageRef) -> bool {
        self.repositories().contains(&repository(name))
    }

    /// Whether a name is pushed when the image is: one with the prefix, or one of the user's own.
    #[must_use]
    pub fn is_pushed(&self, name: &ImageRef) -> bool {
        let repository = format!("{}{}", self.prefix, self.name);
        self.is_deployed && (self.extra_tags.contains(name) || name.repository() == repository)
    }

    /// The name that is pushed with one of the image's: itself, or the same tag with the prefix.
    #[must_use]
    pub fn pushed_as(&self, name: &ImageRef) -> ImageRef {
        let with_prefix = || format!("{}{name}", self.prefix).parse().ok();
        let pushed = (!self.is_pushed(name)).then(with_prefix).flatten();
        pushed.unwrap_or_else(|| name.clone())
    }

    /// Whether the image gets a name only where there is no newer release: any that moves in a registry, those of a
    /// release that the user did not ask for on the engine.
    #[must_use]
    pub fn is_held_back(&self, name: &ImageRef, version: Option<&Version>) -> bool {
        let is_release = version.is_some_and(|version| !version.is_prerelease());
        let is_own = is_release && !self.extra_tags.contains(name);
        let moves = name.tag().is_some_and(|tag| tags::moves(tag.as_str()));
        version.is_some() && moves && (is_own || self.is_pushed(name))
    }

    /// The repositories that it is named in, as engines show them.
    #[must_use]
    pub fn repositories(&self) -> BTreeSet<String> {
        let names = [self.name.clone(), format!("{}{}", self.prefix, self.name)];
        let familiar = |name: String| match name.parse::<ImageRef>() {
            Ok(image) => image.familiar().repository(),
            Err(_) => name,
        };
        names.map(familiar).into()
    }

    /// Takes the names from a plan that belong to newer releases of the same repository on the engine, and says so.
    /// Of those that are pushed, their registry decides.
    pub fn leave_newer(&self, plan: &mut BuildPlan, releases: &[ImageRef]) {
        let Some(version) = &plan.version else {
            return;
        };
        let mut left: BTreeMap<Version, Vec<String>> = BTreeMap::new();
        plan.tags.retain(|name| {
            let own = releases
                .iter()
                .filter(|release| repository(release) == repository(name));
            let own: Vec<_> = own.filter_map(crate::plan::push::version).collect();
            let newer = name
                .tag()
                .filter(|_| !self.extra_tags.contains(name) && !self.is_pushed(name))
                .and_then(|tag| tags::newer(tag.as_str(), version, &own));
            if let Some(newer) = newer {
                left.entry(newer.clone())
                    .or_default()
                    .push(format!("`{name}`"));
            }
            newer.is_none()
        });
        let warnings = left.into_iter().map(|(newer, names)| {
            let names = names.join(", ");
            format!("version {version} does not get {names}: {newer} is newer")
        });
        plan.warnings.extend(warnings);
    }

    /// The names that an image gets when it is built. One that is pushed gets the others when it is known
    /// that nothing is refused.
    #[must_use]
    pub fn first_names(&self, plan: &BuildPlan) -> Vec<ImageRef> {
        let names = plan.tags.iter();
        let names = names.filter(|name| !self.is_deployed || tags::is_of_context(name));
        names.cloned().collect()
    }

    /// The labels of the OCI image specification ("Pre-Defined Annotation Keys"), and ours.
    fn standard_labels(
        &self,
        facts: &BuildFacts,
        version: Option<&Version>,
        epoch: Option<u64>,
        is_dirty: bool,
    ) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut oci = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                labels.insert(format!("{STANDARD_LABELS}{key}"), value);
            }
        };
        let created = epoch
            .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok())
            .map(|time| time.to_string());
        let git = facts.git.as_ref();
        let dirty = if is_dirty { "-dirty" } else { "" };
        oci("created", created);
        oci(
            "revision",
            facts
                .committed()
                .map(|git| format!("{}{dirty}", git.revision)),
        );
        oci("source", git.and_then(|git| git.origin.clone()));
        oci("version", version.map(ToString::to_string));
        oci("title", Some(self.name.clone()));
        labels.insert(crate::plan::run::JOB_LABEL.to_owned(), self.title.clone());
        labels.insert(CONTEXT_LABEL.to_owned(), facts.context.to_string());
        labels
    }

    /// All that decides the image's content, but for the images that it is made from: which those are,
    /// the engine says.
    ///
    /// Proxies and certificate authorities are ways to the same content, and left out, as the
    /// engine leaves them out.
    fn digest(&self, facts: &BuildFacts, labels: &BTreeMap<String, String>) -> Digest {
        let args: BTreeMap<_, _> = self
            .recipe
            .args
            .iter()
            .filter(|(name, _)| !is_proxy(name))
            .map(|(name, value)| (name, value.expose()))
            .collect();
        let secrets = self
            .recipe
            .secrets
            .keys()
            .filter(|id| *id != CA_BUNDLE_SECRET);
        let text = json!({
            "plan": 2,
            "context": facts.context.as_str(),
            "dockerfile": Digest::of(&facts.dockerfile).as_str(),
            "target": self.recipe.target,
            "platform": self.recipe.platform,
            "args": args,
            "secrets": secrets.collect::<Vec<_>>(),
            "agents": self.recipe.agents.keys().collect::<Vec<_>>(),
            "labels": labels,
            "given": self.labels,
            "epoch": self.epoch,
        });
        Digest::of(text.to_string().as_bytes())
    }
}

/// The repository of a name, as engines show it. Podman has names without a registry under `localhost/`.
fn repository(name: &ImageRef) -> String {
    let shown = name.familiar().repository();
    shown
        .strip_prefix("localhost/")
        .unwrap_or(&shown)
        .to_owned()
}

/// The version of what was never given one.
fn development() -> semver::Version {
    let mut version = semver::Version::new(0, 0, 0);
    version.pre = semver::Prerelease::new("dev").expect("a word is an identifier");
    version
}
