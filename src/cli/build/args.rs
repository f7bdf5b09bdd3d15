//! What `jobctl build` is called with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::context::Context;
use crate::cli::trust::TrustArg;
use crate::engine::build::SecretSource;
use crate::facts::Environment;
use crate::model::{ImageRef, Secret, Version, csv};
use crate::plan::build::{BuildFlags, host_authorities};
use crate::plan::tags::Bump;

/// Build images, and what they require first
///
/// Builds the named jobs and images of jobs.yaml, or all of them. With `--name` but no JOB, it builds
/// the directory that you are in, which has a Dockerfile, with or without jobs.yaml. Only files that
/// changed are sent. Ends with 0 if all images are there, 1 if a build failed, 2 if the command
/// line or jobs.yaml is wrong, 125 if the engine can't be reached. With `--verify`: 0 if what is
/// built twice is the same (times may differ where the engine can't help it), 1 if it differs or
/// can't be built, 2 if it could not be told.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of their own")]
pub(in crate::cli) struct BuildArgs {
    /// Jobs and images of jobs.yaml
    #[arg(value_name = "JOB")]
    pub(super) jobs: Vec<String>,
    /// The image's name, without the prefix
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The image's version (SemVer)
    #[arg(long, conflicts_with = "bump")]
    pub(super) version: Option<Version>,
    /// Raise the version in jobs.yaml, once the build has succeeded
    #[arg(long, value_enum, value_name = "PART")]
    pub(super) bump: Option<BumpPart>,
    /// Put before the image's name as it is: `registry.example:5000/team-`
    #[arg(long, alias = "image_prefix", value_name = "PREFIX")]
    pub(super) image_prefix: Option<String>,
    /// Push what was built, under all of its names; with a prefix, under those that have it
    #[arg(long, visible_alias = "push", conflicts_with = "verify")]
    pub(super) deploy: bool,
    /// Another name for the image
    #[arg(short, long = "tag", value_name = "IMAGE")]
    pub(super) tags: Vec<ImageRef>,
    /// The proxy for http and https while building; never part of the image
    #[arg(long, value_name = "URL", value_parser = secret, hide_env_values = true)]
    pub(super) proxy: Option<Secret>,
    /// A build argument: `NAME=VALUE`, or `NAME` for the variable's value
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = argument)]
    pub(super) args: Vec<(String, Option<Secret>)>,
    /// A secret to mount: `id=ID[,src=FILE | ,env=NAME]`
    #[arg(long = "secret", value_name = "SECRET")]
    pub(super) secrets: Vec<String>,
    /// An ssh agent to mount: `default` or `ID=SOCKET`
    #[arg(long = "ssh", value_name = "AGENT")]
    pub(super) agents: Vec<String>,
    /// The stage of the Dockerfile to build
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// The platform to build for
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM")]
    pub(super) platform: Option<String>,
    /// A label of the image
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(super) labels: Vec<(String, String)>,
    /// Take nothing from earlier builds
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Build each image twice from nothing, say whether they are the same, and keep neither
    #[arg(long, conflicts_with_all = ["bump", "iidfile", "metadata_file"])]
    pub(super) verify: bool,
    /// Write down what each image was built from: SLSA provenance, in the project's state directory
    ///
    /// An in-toto statement (v1) with SLSA provenance (v1), level 1, under `images/` of the directory with the
    /// runs. An image that was built before without it is built again.
    #[arg(long, conflicts_with = "verify")]
    pub(super) provenance: bool,
    /// Pull base images even if they are here
    #[arg(long)]
    pub(super) pull: bool,
    /// Certificate authorities that RUN steps may mount as the secret `ca-bundle`: `host` or a file
    #[arg(long, value_name = "host|FILE", env = "JOBCTL_CA_BUNDLE")]
    pub(super) ca_bundle: Option<PathBuf>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) trust: TrustArg,
    /// Say what would be done, as which docker command, and from what; do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// A part of a version.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum BumpPart {
    /// 1.2.3 → 2.0.0
    Major,
    /// 1.2.3 → 1.3.0
    Minor,
    /// 1.2.3 → 1.2.4
    Patch,
    /// 1.2.3 → 1.2.4-rc.1 → 1.2.4-rc.2
    Pre,
}

impl From<BumpPart> for Bump {
    fn from(part: BumpPart) -> Self {
        match part {
            BumpPart::Major => Self::Major,
            BumpPart::Minor => Self::Minor,
            BumpPart::Patch => Self::Patch,
            BumpPart::Pre => Self::Pre,
        }
    }
}

/// What the command line asks for.
pub(super) fn flags(args: &BuildArgs, context: &Context) -> Result<BuildFlags, String> {
    let environment = &context.environment;
    let here = environment.current_dir();
    let mut secrets = BTreeMap::new();
    for text in &args.secrets {
        let (id, source) = build_secret(text, environment)?;
        secrets.insert(id, source);
    }
    let mut agents = BTreeMap::new();
    for text in &args.agents {
        let (id, socket) = agent(text, environment)?;
        agents.insert(id, socket);
    }
    let ca_bundle = args
        .ca_bundle
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty());
    let epoch =
        match environment.get_non_empty("SOURCE_DATE_EPOCH") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                "SOURCE_DATE_EPOCH is not a number of seconds since 1970".to_owned()
            })?),
        };
    Ok(BuildFlags {
        name: args.name.clone(),
        version: args.version.clone(),
        bump: args.bump.map(Bump::from),
        prefix: args.image_prefix.clone(),
        tags: args.tags.clone(),
        proxy: args.proxy.clone(),
        configured_proxies: context.proxy_args(),
        args: args.args.clone(),
        secrets,
        agents,
        target: args.target.clone(),
        platform: args
            .platform
            .clone()
            .filter(|platform| !platform.is_empty()),
        labels: args.labels.iter().cloned().collect(),
        is_uncached: args.no_cache,
        pulls: args.pull,
        deploys: args.deploy,
        ca_bundle: ca_bundle.map(|path| match path.to_str() {
            Some("host") => host_authorities(environment),
            _ => here.join(path),
        }),
        epoch,
        trust: args.trust.get(context),
    })
}

/// A secret as docker's `--secret` takes it.
fn build_secret(text: &str, environment: &Environment) -> Result<(String, SecretSource), String> {
    let refuse = |why: &str| {
        Err(format!(
            "--secret: {why}; write `id=ID`, `id=ID,src=FILE` or `id=ID,env=NAME`"
        ))
    };
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    let fields = match csv::fields(text) {
        Ok(fields) => fields,
        Err(error) => return refuse(&error.message),
    };
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return refuse("a field is not `KEY=VALUE`");
        };
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" => kind = Some(value),
            _ => return refuse(&format!("`{key}` is not known")),
        }
    }
    let Some(id) = id else {
        return refuse("there is no `id`");
    };
    // As docker: a source of type `env` is a variable, and without any source the id names one.
    if kind == Some("env") {
        variable = variable.or(file.take());
    }
    if file.is_none() && variable.is_none() && environment.get(id).is_some() {
        variable = Some(id);
    }
    let source = match (file, variable) {
        (Some(file), _) => SecretSource::File(environment.current_dir().join(file)),
        (None, Some(variable)) => match environment.get(variable) {
            Some(value) => SecretSource::Value(Secret::new(value)),
            None => return refuse(&format!("the variable `{variable}` is not set")),
        },
        (None, None) => SecretSource::File(environment.current_dir().join(id)),
    };
    Ok((id.to_owned(), source))
}

/// An agent as docker's `--ssh` takes it.
fn agent(text: &str, environment: &Environment) -> Result<(String, PathBuf), String> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, environment.current_dir().join(socket)),
        None => match environment.path("SSH_AUTH_SOCK") {
            Some(socket) => (text, socket),
            None => {
                return Err(
                    "--ssh: no agent is running (SSH_AUTH_SOCK is not set); start one: \
                     `eval \"$(ssh-agent)\"; ssh-add`"
                        .to_owned(),
                );
            }
        },
    };
    Ok((id.to_owned(), socket))
}

#[expect(clippy::unnecessary_wraps, reason = "clap's parsers can fail")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

fn argument(text: &str) -> Result<(String, Option<Secret>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(Secret::new(value))),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("a build argument has a name".to_owned());
    }
    Ok((name.to_owned(), value))
}

#[expect(clippy::unnecessary_wraps, reason = "clap's parsers can fail")]
fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((name.to_owned(), value.to_owned()))
}
