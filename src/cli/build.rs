//! `jobctl build`

mod args;
mod verify;

use std::path::{Path, PathBuf};

use self::args::flags;
use super::Ending;
use super::ci::Made;
use super::context::{Context, resolved};
use super::run::signals::is_ignored;
use super::trust;
use crate::diagnostic::Diagnostic;
use crate::engine::build::BuildError;
use crate::engine::docker::EngineError;
use crate::exit::Exit;
use crate::facts::{Environment, dockerfile};
use crate::manifest::{self, Manifest, RaiseError, Raised};
use crate::model::Digest;
use crate::ops::build::{Failure, History, Image, Reason, build, foresee, forget_replaced, settle};
use crate::plan::build::{BuildFlags, Item, VersionChoice, file_errors, plan};
use crate::plan::push::{EngineName, Wanted, order};
use crate::report::{
    build_failure, build_human, build_json, build_plan_human, build_plan_json, build_summary,
};

pub(super) use self::args::BuildArgs;

pub(super) fn exec(args: &BuildArgs, context: &mut Context) -> Ending {
    if let Some((message, help)) = docker_context(args) {
        return Ok(context.output.usage(&message, Some(&help)));
    }
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
    let missing = manifest
        .as_ref()
        .map(|manifest| file_errors(manifest, &items));
    if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
        context.output.failure(&missing);
        return Ok(Exit::Usage);
    }
    if args.iidfile.is_some() && items.iter().filter(|item| is_build(item)).count() != 1 {
        return Ok(context.output.usage(
            "`--iidfile` takes one image's id, and several are built",
            Some("name one JOB, or use `--metadata-file`"),
        ));
    }
    if args.deploy
        && let Err(error) = order(pushed_names(&items))
    {
        return Ok(context.output.usage(&error.message, Some(&error.help)));
    }
    if args.dry_run {
        return dry_run(context, items);
    }
    trust::ask(context, &items)?;
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
    let statements = match args.provenance.then(|| context.store().images()) {
        None => None,
        Some(Ok(folder)) => Some(folder),
        Some(Err(error)) => return Ok(context.output.failed(&(&error).into())),
    };
    let images = match run(context, &items, statements.as_deref())? {
        Ok(images) => images,
        Err(exit) => return Ok(exit),
    };
    if let Some(raised) = &raised
        && let Err(error) = raised.write()
    {
        return Ok(context.output.error(&error.to_string()));
    }
    for image in &images {
        if let Some(path) = &image.provenance {
            let said = format!("provenance of {}: {}", image.title, path.display());
            context.output.note(&said);
        }
    }
    let built = images.iter().find(|image| image.context.is_some());
    if let (Some(path), Some(image)) = (&args.iidfile, built) {
        write(context, path, image.id.as_str())?;
    }
    if let Some(path) = &args.metadata_file {
        write(context, path, &format!("{:#}\n", build_json(&images)))?;
    }
    if args.deploy {
        // What is told of it is what the registry has.
        context.output.note(&build_human(&images));
        let (wanted, named) = deployed(&items, &images);
        return super::push::push_built(context, wanted, &named, &args.tags);
    }
    if let Some(last) = images.iter().rfind(|image| image.context.is_some()) {
        context.ci.made(&Made {
            image: last.tags.first().map(ToString::to_string),
            id: Some(&last.id),
            version: last.version.as_ref(),
            ..Made::default()
        })?;
    }
    context.summary(|| build_summary(&images))?;
    context
        .output
        .result(|| build_human(&images), || build_json(&images));
    Ok(Exit::Success)
}

/// One name of each image that is pushed: whether they can be is known before anything is built.
fn pushed_names(items: &[Item]) -> Vec<Wanted> {
    let pushed = items.iter().filter_map(|item| match item {
        Item::Build(spec) if spec.is_deployed => Some(Wanted {
            name: format!("{}{}", spec.prefix, spec.name).parse().ok()?,
            id: Digest::from([0; 32]),
            version: None,
            is_of_git: false,
        }),
        Item::Build(_) | Item::Base(_) => None,
    });
    pushed.collect()
}

/// The names that are pushed, and all names: images that others are made from stay here.
fn deployed(items: &[Item], images: &[Image]) -> (Vec<Wanted>, Vec<EngineName>) {
    let (mut wanted, mut named) = (Vec::new(), Vec::new());
    for (item, image) in items.iter().zip(images) {
        let Item::Build(spec) = item else {
            continue;
        };
        if !spec.is_deployed {
            continue;
        }
        for name in &image.tags {
            named.push(EngineName {
                name: name.clone(),
                id: image.id.clone(),
                pushed_as: spec.pushed_as(name),
            });
            if spec.is_pushed(name) {
                wanted.push(Wanted {
                    name: name.clone(),
                    id: image.id.clone(),
                    version: image.version.clone(),
                    is_of_git: spec.version == VersionChoice::Git,
                });
            }
        }
    }
    (wanted, named)
}

/// Says what would be built, under which names, and from what.
fn dry_run(context: &Context, items: Vec<Item>) -> Ending {
    let cache = cache_folder(&context.environment);
    let settled = context.watch(async |events| settle(items, cache.as_ref(), events).await)?;
    let items = match settled {
        Ok(items) => items,
        Err(failure) => return Ok(Unbuilt::Failure(failure).say(context)),
    };
    let sources = match foresee(&items) {
        Ok(sources) => sources,
        Err(failure) => return Ok(Unbuilt::Failure(*failure).say(context)),
    };
    context.output.result(
        || build_plan_human(&items, &sources),
        || build_plan_json(&items, &sources),
    );
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

/// What is wrong with a path as docker's last argument, and how to fix it.
fn docker_context(args: &BuildArgs) -> Option<(String, String)> {
    let is_path = |word: &&String| word.contains('/') || word.chars().all(|c| c == '.');
    let word = args.jobs.iter().find(is_path)?;
    let name = args.name.as_deref().unwrap_or("NAME");
    Some((
        format!("`{word}` is a path, where `jobctl build` takes jobs of jobs.yaml"),
        format!(
            "`jobctl build --name {name}` builds the directory that you are in, `jobctl --directory {word} build \
             --name {name}` another; a job's is `build: {{ context: … }}` in jobs.yaml"
        ),
    ))
}

/// `--name` alone means the directory, as build.py did.
fn find_manifest(args: &BuildArgs, context: &Context) -> Result<Option<Manifest>, Exit> {
    let is_folder = args.name.is_some() && args.jobs.is_empty() && context.globals.file.is_none();
    if is_folder {
        return Ok(None);
    }
    let loaded = match context.manifest() {
        Ok((path, shown)) => manifest::load(&path, &shown, &context.environment),
        Err(diagnostic) => Err(vec![unfound(*diagnostic, args, context)]),
    };
    match loaded {
        Ok(manifest) => {
            context.output.diagnostics(&manifest.warnings);
            Ok(Some(manifest))
        }
        Err(diagnostics) => {
            // Whoever closed stdout does not want it.
            context.output.failure(&diagnostics);
            Err(Exit::Usage)
        }
    }
}

/// Says that there is no manifest, and what to do where there is a Dockerfile.
fn unfound(diagnostic: Diagnostic, args: &BuildArgs, context: &Context) -> Diagnostic {
    let here = context.environment.current_dir();
    if !args.jobs.is_empty() || !dockerfile(here.join("Dockerfile")).is_file() {
        return diagnostic;
    }
    diagnostic.help("build the Dockerfile that is here: `jobctl build --name NAME`")
}

fn run(
    context: &Context,
    items: &[Item],
    statements: Option<&Path>,
) -> std::io::Result<Result<Vec<Image>, Exit>> {
    let cache = cache_folder(&context.environment);
    let outcome = context.watch(async |events| {
        let building = async {
            let engine = context.connect().await.map_err(Unbuilt::Engine)?;
            let built = build(&engine, items, cache.as_ref(), statements, events).await;
            let built = built.map_err(Unbuilt::Failure)?;
            let store = context.store();
            let history = History::new(&store, cache.as_deref());
            forget_replaced(&engine, &history, items, &built, events).await;
            Ok(built)
        };
        tokio::select! {
            outcome = Box::pin(building) => outcome,
            () = interrupted() => Err(Unbuilt::Interrupted),
        }
    })?;
    Ok(outcome.map_err(|unbuilt| unbuilt.say(context)))
}

enum Unbuilt {
    Engine(EngineError),
    Interrupted,
    Failure(Failure),
}

impl Unbuilt {
    fn say(&self, context: &Context) -> Exit {
        match self {
            Self::Engine(error) => context.output.engine(error),
            Self::Interrupted => context.output.interrupted("the build was cancelled"),
            Self::Failure(failure) => {
                // Whoever closed stdout does not want it.
                context.output.failure(&[build_failure(failure)]);
                exit(&failure.reason)
            }
        }
    }
}

fn exit(reason: &Reason) -> Exit {
    match reason {
        // What the engine says no to, it was asked properly.
        Reason::Build(BuildError::Engine(
            EngineError::Failed { .. } | EngineError::Refused { .. },
        )) => Exit::Failed,
        Reason::Build(BuildError::Engine(_) | BuildError::Interrupted) => Exit::Engine,
        Reason::Name(_) | Reason::Git { .. } | Reason::NoDockerfile(_) => Exit::Usage,
        Reason::Build(_) | Reason::Base(_) | Reason::Provenance { .. } => Exit::Failed,
    }
}

/// Waits for SIGINT, SIGTERM, or SIGHUP, unless they are ignored.
pub(super) async fn interrupted() {
    use futures_util::future::select_all;
    use tokio::signal::unix::{SignalKind, signal};

    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let heard = kinds.into_iter().filter(|kind| !is_ignored(*kind));
    let signals: Vec<_> = heard.filter_map(|kind| signal(kind).ok()).collect();
    if signals.is_empty() {
        return std::future::pending().await;
    }
    let received = signals
        .into_iter()
        .map(|mut signal| Box::pin(async move { signal.recv().await }));
    select_all(received).await;
}

/// Where what is remembered of contexts and images is kept, as the XDG Base Directory Specification has it: a path
/// that is not absolute is no path. The user's own links are followed.
pub(super) fn cache_folder(environment: &Environment) -> Option<PathBuf> {
    let absolute = |path: Option<PathBuf>| path.filter(|path| path.is_absolute());
    let folder = absolute(environment.path("XDG_CACHE_HOME"))
        .or_else(|| Some(absolute(environment.home())?.join(".cache")))?;
    Some(resolved(folder.join("jobctl")))
}

fn write(context: &Context, path: &Path, text: &str) -> std::io::Result<()> {
    let path = context.environment.current_dir().join(path);
    std::fs::write(&path, text).map_err(|error| {
        std::io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
    })
}
