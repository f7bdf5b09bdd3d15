//! Which images a command line means, and in which order they are built.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{BaseSpec, Bootstrap, BuildFlags, BuildSpec, CA_BUNDLE_SECRET, Item, VersionChoice};
use crate::engine::build::{Recipe, Reuse, SecretSource};
use crate::facts::{Environment, dockerfile};
use crate::manifest::Manifest;
use crate::manifest::schema::{self, Build, CaBundle, ImageSource, Latest, VersionSource};
use crate::manifest::suggest::nearest;
use crate::model::{
    EnvName, HostPath, ImageRef, Name, Secret, Sensitive, ValueError, check_prefix, clean,
};

/// Where most systems keep the certificate authorities that they trust.
const HOST_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Hosts that no proxy is asked for, besides the caller's own.
const NO_PROXY: &str = "localhost,127.0.0.1";

/// Why a command line can't be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

impl PlanError {
    pub(in crate::plan) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Plans what is to be built: the jobs and images that are named, or all; with what they require
/// first. Without a manifest, the folder with a Dockerfile that is worked in.
///
/// # Errors
///
/// A name is not known or can't be built, a flag does not fit, or a variable is not set.
pub fn plan(
    manifest: Option<&Manifest>,
    names: &[String],
    flags: &BuildFlags,
    environment: &Environment,
) -> Result<Vec<Item>, PlanError> {
    let Some(manifest) = manifest else {
        return folder(flags, environment).map(|spec| vec![Item::Build(Box::new(spec))]);
    };
    let mut planner = Planner {
        manifest,
        flags,
        environment,
        items: Vec::new(),
        planned: BTreeSet::new(),
    };
    let names = if names.is_empty() {
        planner.everything()
    } else {
        names.to_vec()
    };
    if flags.name.is_some() && names.len() != 1 {
        return Err(PlanError::new(
            "`--name` names one image, and several are to be built",
            "name the job: `jobctl build JOB --name NAME`",
        ));
    }
    for name in &names {
        planner.add(name)?;
    }
    Ok(planner.items)
}

/// What build.py did: the folder that is worked in, named on the command line.
fn folder(flags: &BuildFlags, environment: &Environment) -> Result<BuildSpec, PlanError> {
    let context = environment.current_dir().to_owned();
    let Some(name) = flags.name.clone() else {
        return Err(PlanError::new(
            "there is no `jobs.yaml`, and no `--name`",
            "name the image that is built from this directory: `jobctl build --name NAME`",
        ));
    };
    let version = match &flags.version {
        Some(version) => VersionChoice::Exact(version.clone()),
        None => VersionChoice::None,
    };
    if flags.bump.is_some() {
        return Err(PlanError::new(
            "`--bump` raises the version in `jobs.yaml`, and there is none",
            "say the version: `--version 1.2.3`",
        ));
    }
    let dockerfile = dockerfile(context.join("Dockerfile"));
    let mut spec = BuildSpec::new(name.clone(), name, Recipe::new(context, dockerfile));
    spec.version = version;
    apply(&mut spec, flags, environment)?;
    Ok(spec)
}

struct Planner<'a> {
    manifest: &'a Manifest,
    flags: &'a BuildFlags,
    environment: &'a Environment,
    items: Vec<Item>,
    planned: BTreeSet<String>,
}

impl Planner<'_> {
    /// All images, and all jobs that are built.
    fn everything(&self) -> Vec<String> {
        let root = &self.manifest.root;
        let images = root.images.keys();
        let jobs = root
            .jobs
            .iter()
            .filter(|(_, job)| job.value.build.is_some());
        images
            .chain(jobs.map(|(name, _)| name))
            .map(ToString::to_string)
            .collect()
    }

    fn add(&mut self, name: &str) -> Result<(), PlanError> {
        let root = &self.manifest.root;
        if let Some((name, job)) = root.jobs.iter().find(|(known, _)| known.as_str() == name) {
            return match (&job.value.build, job.value.image.as_deref()) {
                (Some(build), _) => self.job(name, build),
                (None, Some(ImageSource::Job(other))) => self.add(other.as_str()),
                (None, Some(ImageSource::Reference(image))) => Err(PlanError::new(
                    format!("job `{name}` is not built: its image is `{image}`"),
                    "build another job, or give this one a `build`",
                )),
                (None, None) => Ok(()),
            };
        }
        if let Some(name) = root.images.keys().find(|known| known.as_str() == name) {
            return self.image(name);
        }
        let known: Vec<_> = root.jobs.keys().chain(root.images.keys()).collect();
        let help = match nearest(name, known.iter().map(|name| name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "the manifest has none".to_owned(),
            None => {
                let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                format!("there are {}", names.join(", "))
            }
        };
        let shown = self.manifest.path.display();
        Err(PlanError::new(
            format!("`{name}` is neither a job nor an image of {shown}"),
            help,
        ))
    }

    fn job(&mut self, name: &Name, build: &Build) -> Result<(), PlanError> {
        if !self.planned.insert(format!("job {name}")) {
            return Ok(());
        }
        self.required(&build.requires)?;
        let root = &self.manifest.root;
        let image = root.image.as_ref();
        let prefix = image.and_then(|image| image.prefix.as_deref());
        let version = match image.and_then(|image| image.version.as_deref()) {
            None => VersionChoice::None,
            Some(VersionSource::Literal(version)) => VersionChoice::Declared(version.clone()),
            Some(VersionSource::Git) => VersionChoice::Git,
        };
        let version = match (&self.flags.version, self.flags.bump, version) {
            (Some(version), _, _) => VersionChoice::Exact(version.clone()),
            (None, Some(bump), VersionChoice::Declared(version)) => {
                VersionChoice::Exact(bump.of(&version))
            }
            (None, Some(_), _) => {
                return Err(PlanError::new(
                    format!(
                        "`--bump` raises `image.version`, and {} has none that is a number",
                        self.manifest.path.display()
                    ),
                    "write `image: { version: 0.1.0 }`",
                ));
            }
            (None, None, version) => version,
        };
        let mut spec = self.spec(name, build)?;
        spec.prefix = prefix.cloned().unwrap_or_default();
        spec.version = version;
        spec.latest = image
            .and_then(|image| image.latest.as_deref().copied())
            .unwrap_or(Latest::Release);
        apply(&mut spec, self.flags, self.environment)?;
        self.items.push(Item::Build(Box::new(spec)));
        Ok(())
    }

    fn image(&mut self, name: &Name) -> Result<(), PlanError> {
        if !self.planned.insert(format!("image {name}")) {
            return Ok(());
        }
        let Some(image) = self.manifest.root.images.get(name) else {
            return Ok(());
        };
        let image = &image.value;
        self.required(&image.requires)?;
        if let Some(build) = &image.build {
            self.required(&build.requires)?;
            let mut spec = self.spec(name, build)?;
            // What is said of the job's image (its name, version, stage) is not said of its bases.
            let flags = BuildFlags {
                proxy: self.flags.proxy.clone(),
                configured_proxies: self.flags.configured_proxies.clone(),
                ca_bundle: self.flags.ca_bundle.clone(),
                platform: self.flags.platform.clone(),
                is_uncached: self.flags.is_uncached,
                pulls: self.flags.pulls,
                epoch: self.flags.epoch,
                ..BuildFlags::default()
            };
            apply(&mut spec, &flags, self.environment)?;
            spec.is_base = true;
            self.items.push(Item::Build(Box::new(spec)));
        } else if let Some(pull) = image.pull.as_deref() {
            self.items.push(Item::Base(BaseSpec {
                title: name.to_string(),
                image: pull.clone(),
                bootstrap: image.bootstrap.as_deref().map(|program| {
                    Box::new(Bootstrap {
                        program: self.manifest.folder.join(program.as_path()),
                        manifest: self.manifest.file(),
                        args: vec![pull.to_string()],
                        search: self.environment.path("PATH").unwrap_or_default().into(),
                        trust: self.flags.trust.clone(),
                    })
                }),
                pulls: self.flags.pulls,
            }));
        }
        Ok(())
    }

    fn required(&mut self, names: &[crate::manifest::Located<Name>]) -> Result<(), PlanError> {
        names.iter().try_for_each(|name| self.image(name))
    }

    /// What the manifest says of a build.
    fn spec(&self, name: &Name, build: &Build) -> Result<BuildSpec, PlanError> {
        let within = |path: Option<&HostPath>| match path {
            Some(path) => self.manifest.folder.join(path.as_path()),
            None => self.manifest.folder.clone(),
        };
        let context = clean(&within(build.context.as_deref()));
        let dockerfile = match build.dockerfile.as_deref() {
            Some(path) => clean(&context.join(path.as_path())),
            None => context.join("Dockerfile"),
        };
        let mut recipe = Recipe::new(context, self::dockerfile(dockerfile));
        recipe.target = build.target.as_deref().cloned();
        for variable in &build.args.0 {
            let name = variable.name.as_str();
            let value = match variable.value.as_deref() {
                Some(value) => value.clone(),
                None => self.callers(name)?,
            };
            recipe.args.insert(name.to_owned(), Secret::new(value));
        }
        for id in &build.secrets {
            recipe.secrets.insert(id.to_string(), self.secret(id)?);
        }
        let bundle = build.ca_bundle.as_deref().map(|bundle| match bundle {
            CaBundle::Host => host_authorities(self.environment),
            CaBundle::File(path) => self.manifest.folder.join(path.as_path()),
        });
        if let Some(path) = bundle {
            let source = SecretSource::File(path);
            recipe.secrets.insert(CA_BUNDLE_SECRET.to_owned(), source);
        }
        let image = format!("{}-{name}", *self.manifest.root.name);
        let mut spec = BuildSpec::new(name.to_string(), image, recipe);
        spec.secrets = self.secrets();
        Ok(spec)
    }

    /// What the manifest calls secrets, and secrets that were put into its values.
    fn secrets(&self) -> Vec<Secret> {
        let sources = self.manifest.root.secrets.values();
        let names = sources.filter_map(|secret| secret.value.environment.as_deref());
        let names: Vec<_> = names.map(EnvName::as_str).collect();
        let sensitive = Sensitive::new(names.iter().copied());
        let declared = names.iter().filter_map(|name| self.environment.get(name));
        let declared = declared.map(Secret::new);
        let given = self.manifest.interpolated.iter();
        let given = given.filter_map(|(name, value)| Some((name, value.clone()?)));
        let given = given.filter(|(name, value)| sensitive.is_secret(name, value.expose()));
        declared.chain(given.map(|(_, value)| value)).collect()
    }

    fn callers(&self, name: &str) -> Result<String, PlanError> {
        let value = self.environment.get(name).map(str::to_owned);
        value.ok_or_else(|| {
            PlanError::new(
                format!("the build argument `{name}` has no value, and the variable is not set"),
                format!("set it: `{name}=… jobctl build`, or write a value"),
            )
        })
    }

    fn secret(&self, id: &Name) -> Result<SecretSource, PlanError> {
        let Some(secret) = self.manifest.root.secrets.get(id) else {
            return Err(PlanError::new(
                format!("the secret `{id}` is not defined"),
                "define it under `secrets`",
            ));
        };
        let schema::Secret { environment, file } = &secret.value;
        if let Some(file) = file {
            return Ok(SecretSource::File(
                self.manifest.folder.join(file.as_path()),
            ));
        }
        let variable = environment.as_deref().map_or("", |name| name.as_str());
        match self.environment.get(variable) {
            Some(value) => Ok(SecretSource::Value(Secret::new(value))),
            None => Err(PlanError::new(
                format!("the secret `{id}` comes from the variable `{variable}`, which is not set"),
                format!("set it: `{variable}=… jobctl build`"),
            )),
        }
    }
}

/// Puts what the command line says over what the manifest says.
fn apply(
    spec: &mut BuildSpec,
    flags: &BuildFlags,
    environment: &Environment,
) -> Result<(), PlanError> {
    if let Some(name) = &flags.name {
        check_name(name)?;
        spec.name.clone_from(name);
    }
    if let Some(prefix) = &flags.prefix {
        spec.prefix.clone_from(prefix);
    }
    for (name, value) in &flags.configured_proxies {
        let value = value.clone();
        spec.recipe.args.entry(name.clone()).or_insert(value);
    }
    if let Some(proxy) = &flags.proxy {
        let no_proxy = match environment.get_non_empty("NO_PROXY") {
            Some(own) => format!("{NO_PROXY},{own}"),
            None => match environment.get_non_empty("no_proxy") {
                Some(own) => format!("{NO_PROXY},{own}"),
                None => NO_PROXY.to_owned(),
            },
        };
        for name in ["http_proxy", "https_proxy"] {
            spec.recipe.args.insert(name.to_owned(), proxy.clone());
            spec.recipe.args.insert(name.to_uppercase(), proxy.clone());
        }
        for name in ["no_proxy", "NO_PROXY"] {
            spec.recipe
                .args
                .insert(name.to_owned(), Secret::new(&*no_proxy));
        }
    }
    for (name, value) in &flags.args {
        // As docker: one that the caller does not have is left to the Dockerfile's default.
        let value = value
            .clone()
            .or_else(|| environment.get(name).map(Secret::new));
        if let Some(value) = value {
            spec.recipe.args.insert(name.clone(), value);
        }
    }
    if let Some(path) = &flags.ca_bundle {
        spec.recipe.secrets.insert(
            CA_BUNDLE_SECRET.to_owned(),
            SecretSource::File(path.clone()),
        );
    }
    spec.recipe.secrets.extend(flags.secrets.clone());
    spec.recipe.agents.extend(flags.agents.clone());
    spec.labels.extend(flags.labels.clone());
    spec.extra_tags.extend(flags.tags.iter().cloned());
    if flags.target.is_some() {
        spec.recipe.target.clone_from(&flags.target);
    }
    spec.recipe.platform.clone_from(&flags.platform);
    if flags.is_uncached {
        spec.recipe.reuse = Reuse::Nothing;
    }
    spec.pulls = flags.pulls;
    spec.is_deployed = flags.deploys;
    spec.epoch = flags.epoch;
    check_names(spec, flags)?;
    for (id, source) in &spec.recipe.secrets {
        if let SecretSource::File(path) = source
            && !path.is_file()
        {
            let (what, flag) = match id.as_str() {
                CA_BUNDLE_SECRET => ("`ca_bundle`".to_owned(), "--ca-bundle"),
                id => (format!("the secret `{id}`"), "--secret"),
            };
            let why = if path.exists() {
                "is not a regular file"
            } else {
                "does not exist"
            };
            return Err(PlanError::new(
                format!("the file of {what} {why}: `{}`", path.display()),
                format!(
                    "create it, or fix the path: in jobs.yaml it is relative to that file's directory, with \
                     `{flag}` to the working directory"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether an image can have the names that are known by now.
fn check_names(spec: &BuildSpec, flags: &BuildFlags) -> Result<(), PlanError> {
    if !spec.prefix.is_empty()
        && let Err(error) = check_prefix(&spec.prefix, &spec.name)
    {
        let given = if flags.prefix.is_some() {
            "--image-prefix"
        } else {
            "image.prefix"
        };
        let help = error.help.clone().unwrap_or_default();
        return Err(PlanError::new(format!("`{given}`: {error}"), help));
    }
    let version = match &spec.version {
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => version,
        VersionChoice::None | VersionChoice::Git => return Ok(()),
    };
    version.image_tag().map(drop).map_err(|error| {
        let given = if flags.version.is_some() {
            "--version"
        } else {
            "image.version"
        };
        PlanError::new(
            format!("`{given}`: the version can't be an image's tag: {error}"),
            "write a shorter version: `1.2.3-rc.1`",
        )
    })
}

/// A name is a repository alone: what it is tagged with follows from the version.
fn check_name(name: &str) -> Result<(), PlanError> {
    let reference: ImageRef = name.parse().map_err(|error: ValueError| {
        let help = error.help.clone();
        PlanError::new(
            format!("`--name {name}`: {error}"),
            help.unwrap_or_else(|| "write a name such as `finetuning-job`".to_owned()),
        )
    })?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(PlanError::new(
            format!("`--name {name}`: a name has no tag"),
            format!(
                "write `--name {}` and `--version`, or `--tag {name}`",
                reference.repository()
            ),
        ));
    }
    Ok(())
}

/// Where this machine's certificate authorities are.
#[must_use]
pub fn host_authorities(environment: &Environment) -> PathBuf {
    environment
        .path("SSL_CERT_FILE")
        .unwrap_or_else(|| PathBuf::from(HOST_AUTHORITIES))
}
