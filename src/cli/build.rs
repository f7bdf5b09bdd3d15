//! `jobctl build`

mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::Ending;
use super::context::Context;
use crate::engine::build::SecretSource;
use crate::engine::docker::EngineError;
use crate::event::Events;
use crate::exit::Exit;
use crate::facts::Environment;
use crate::manifest::{self, Manifest, RaiseError, Raised};
use crate::model::{ImageRef, Scalar, Secret, ValueError, Version};
use crate::ops;
use crate::plan::build::{BuildFlags, Item, VersionChoice, host_authorities, plan};
use crate::plan::tags::Bump;
use crate::report::{
    self, build_failure, build_human, build_json, build_plan_human, build_plan_json,
};

/// Build images: what they require first, and only what is not there already
///
/// Builds the named jobs and images of jobs.yaml, or all of them. Without jobs.yaml, and always with
/// `--name` but no JOB, it builds the folder with a Dockerfile that you are in. Only files that
/// changed are sent. Ends with 0 if all images are there, 1 if a build failed, 2 if the command
/// line or jobs.yaml is wrong, 125 if the engine can't be reached. With `--verify`: 0 if what is
/// built twice is the same (times may differ where the engine can't help it), 1 if it differs or
/// can't be built, 2 if it could not be told.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of their own")]
pub(super) struct BuildArgs {
    /// Jobs and images of jobs.yaml
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// The image's name, without the prefix
    #[arg(long)]
    name: Option<String>,
    /// The image's version (SemVer)
    #[arg(long, conflicts_with = "bump", value_parser = scalar::<Version>)]
    version: Option<Version>,
    /// Raise the version in jobs.yaml, once the build has succeeded
    #[arg(long, value_enum, value_name = "PART")]
    bump: Option<BumpPart>,
    /// Put before the image's name as it is: `registry.example:5000/team-`
    #[arg(long, alias = "image_prefix", value_name = "PREFIX")]
    image_prefix: Option<String>,
    /// Another name for the image
    #[arg(short, long = "tag", value_name = "IMAGE", value_parser = scalar::<ImageRef>)]
    tags: Vec<ImageRef>,
    /// The proxy for http and https while building; never part of the image
    #[arg(long, value_name = "URL", value_parser = secret, hide_env_values = true)]
    proxy: Option<Secret>,
    /// A build argument: `NAME=VALUE`, or `NAME` for the variable's value
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = argument)]
    args: Vec<(String, Option<Secret>)>,
    /// A secret to mount: `id=ID[,src=FILE | ,env=NAME]`
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// An ssh agent to mount: `default` or `ID=SOCKET`
    #[arg(long = "ssh", value_name = "AGENT")]
    agents: Vec<String>,
    /// The stage of the Dockerfile to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The platform to build for
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM")]
    platform: Option<String>,
    /// A label of the image
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Take nothing from earlier builds
    #[arg(long)]
    no_cache: bool,
    /// Build each image twice from nothing, say whether they are the same, and keep neither
    #[arg(long, conflicts_with_all = ["bump", "iidfile", "metadata_file"])]
    verify: bool,
    /// Pull base images even if they are here
    #[arg(long)]
    pull: bool,
    /// Certificate authorities that RUN steps may mount as the secret `ca-bundle`: `host` or a file
    #[arg(long, value_name = "host|FILE", env = "JOBCTL_CA_BUNDLE")]
    ca_bundle: Option<PathBuf>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Say what would be done, and as which docker command; do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A part of a version.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum BumpPart {
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

pub(super) fn exec(args: &BuildArgs, context: &mut Context) -> Ending {
    let manifest = match find_manifest(args, context) {
        Ok(manifest) => manifest,
        Err(exit) => return Ok(exit),
    };
    let flags = match flags(args, context) {
        Ok(flags) => flags,
        Err(message) => return Ok(context.output.usage(&message, None)),
    };
    let items = match plan(manifest.as_ref(), &args.jobs, &flags, &context.environment) {
        Ok(items) => items,
        Err(error) => return Ok(context.output.usage(&error.message, Some(&error.help))),
    };
    if items.is_empty() {
        return Ok(context.output.usage(
            "there is nothing to build",
            Some("give a job a `build`, or define `images`"),
        ));
    }
    if args.iidfile.is_some() && items.iter().filter(|item| is_build(item)).count() != 1 {
        return Ok(context.output.usage(
            "`--iidfile` takes one image's id, and several are built",
            Some("name one JOB, or use `--metadata-file`"),
        ));
    }
    if args.dry_run {
        context
            .output
            .result(|| build_plan_human(&items), || build_plan_json(&items))?;
        return Ok(Exit::Success);
    }
    if args.verify {
        return verify::exec(context, &items);
    }
    let raised = match raised_manifest(manifest.as_ref(), &items, &flags) {
        Ok(raised) => raised,
        Err(error) => {
            let help = "write the version as it is: `image: { version: 0.1.0 }`";
            return Ok(context.output.usage(&error.to_string(), Some(help)));
        }
    };
    let images = match run(context, &items)? {
        Ok(images) => images,
        Err(exit) => return Ok(exit),
    };
    if let Some(raised) = &raised
        && let Err(error) = raised.write()
    {
        return Ok(context.output.error(&error.to_string()));
    }
    if let (Some(path), Some(image)) = (&args.iidfile, images.last()) {
        write(context, path, image.id.as_str())?;
    }
    if let Some(path) = &args.metadata_file {
        write(context, path, &format!("{:#}\n", build_json(&images)))?;
    }
    context
        .output
        .result(|| build_human(&images), || build_json(&images))?;
    Ok(Exit::Success)
}

/// The manifest as it is written once everything is built.
fn raised_manifest(
    manifest: Option<&Manifest>,
    items: &[Item],
    flags: &BuildFlags,
) -> Result<Option<Raised>, RaiseError> {
    let version = items.iter().find_map(|item| match item {
        Item::Build(spec) => match &spec.version {
            VersionChoice::Exact(version) => Some(version),
            _ => None,
        },
        Item::Base(_) => None,
    });
    match (manifest, flags.bump, version) {
        (Some(manifest), Some(_), Some(version)) => manifest.with_version(version).map(Some),
        _ => Ok(None),
    }
}

fn is_build(item: &Item) -> bool {
    matches!(item, Item::Build(_))
}

/// `--name` alone means the folder, as build.py did.
fn find_manifest(args: &BuildArgs, context: &Context) -> Result<Option<Manifest>, Exit> {
    let is_folder = args.name.is_some() && args.jobs.is_empty() && context.globals.file.is_none();
    if is_folder {
        return Ok(None);
    }
    let loaded = match context.manifest() {
        Ok((path, shown)) => manifest::load(&path, &shown, &context.environment),
        Err(diagnostic) => Err(vec![*diagnostic]),
    };
    match loaded {
        Ok(manifest) => {
            context.output.diagnostics(&manifest.warnings);
            Ok(Some(manifest))
        }
        Err(diagnostics) => {
            // Whoever closed stdout does not want it.
            let _ = context.output.failure(&diagnostics);
            Err(Exit::Usage)
        }
    }
}

fn run(
    context: &mut Context,
    items: &[Item],
) -> std::io::Result<Result<Vec<ops::build::Image>, Exit>> {
    let reporter = report::reporter(context.progress(), Box::new(std::io::stderr()));
    let (events, received) = Events::channel();
    let cache = cache_folder(&context.environment);
    let outcome = Context::block_on(async {
        let drawn = report::spawn(reporter, received);
        let building = async {
            let engine = context.connect().await.map_err(Unbuilt::Engine)?;
            let built = ops::build::build(&engine, items, cache.as_ref(), &events).await;
            built.map_err(Unbuilt::Failure)
        };
        let outcome = tokio::select! {
            outcome = Box::pin(building) => outcome,
            () = interrupted() => Err(Unbuilt::Interrupted),
        };
        drop(events);
        let _ = drawn.await;
        outcome
    })?;
    Ok(outcome.map_err(|unbuilt| unbuilt.say(context)))
}

enum Unbuilt {
    Engine(EngineError),
    Interrupted,
    Failure(ops::build::Failure),
}

impl Unbuilt {
    fn say(&self, context: &Context) -> Exit {
        match self {
            Self::Engine(error) => context.output.engine(error),
            Self::Interrupted => context.output.interrupted("the build was cancelled"),
            Self::Failure(failure) => {
                let (diagnostic, exit) = build_failure(failure);
                // Whoever closed stdout does not want it.
                let _ = context.output.failure(&[diagnostic]);
                exit
            }
        }
    }
}

/// Waits for Ctrl-C, or for being told to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Where what is remembered of contexts is kept.
fn cache_folder(environment: &Environment) -> Option<PathBuf> {
    let folder = environment
        .path("XDG_CACHE_HOME")
        .or_else(|| Some(environment.home()?.join(".cache")))?;
    Some(folder.join("jobctl"))
}

fn write(context: &Context, path: &Path, text: &str) -> std::io::Result<()> {
    let path = context.environment.current_dir().join(path);
    std::fs::write(&path, text).map_err(|error| {
        std::io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
    })
}

fn flags(args: &BuildArgs, context: &Context) -> Result<BuildFlags, String> {
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
        ca_bundle: ca_bundle.map(|path| match path.to_str() {
            Some("host") => host_authorities(environment),
            _ => here.join(path),
        }),
        epoch,
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
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return refuse("a field is not `KEY=VALUE`");
        };
        match key {
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

/// A value, with how to mend it in the error.
fn scalar<T: Scalar>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ValueError| match &error.help {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    })
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
