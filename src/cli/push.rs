//! `jobctl push`, `jobctl login`, `jobctl logout`, `jobctl tag`

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Ending;
use super::build::interrupted;
use super::ci::Made;
use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::engine::docker::credentials::{CredentialsError, Keyring};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::registry::{Credentials, RegistryError};
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::manifest;
use crate::model::{Digest, ImageRef, Name, Secret};
use crate::ops::push::{Asked, PushFailure, Pushed, forget_relays, push, runs_of};
use crate::plan::build::{BuildFlags, BuildSpec, Item, plan};
use crate::plan::push::{Remedy, Wanted, order, remedy, version};
use crate::plan::run::JOB_LABEL;
use crate::report::{
    printable_text, push_human, push_json, push_plan_human, push_plan_json, push_summary,
};

/// What of standard input may be a password, in bytes.
const LONGEST_PASSWORD: u64 = 1 << 20;

/// Push images to registries, under all of their names
///
/// Of a job, its newest image is pushed under the names that it was built with. Layers travel once;
/// `latest` moves last. What the registry has already is not sent again, and a release, such as 1.2.3, is
/// not replaced. What fails for a while is tried again. The digest that the registry has at the end is the
/// last line of standard output.
#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// Jobs of jobs.yaml, or images by their names
    #[arg(required = true, value_name = "JOB|IMAGE")]
    what: Vec<String>,
    /// Put before the names of jobs' images, as it is: `registry:5000/team-`
    #[arg(long, alias = "image_prefix", value_name = "PREFIX")]
    image_prefix: Option<String>,
    /// Replace what was released under the same name
    #[arg(long)]
    force: bool,
    /// Write the digest into this file
    #[arg(long, value_name = "FILE")]
    digest_file: Option<PathBuf>,
    /// Attach the record of a run: the newest of the image's job that succeeded with it, or RUN
    ///
    /// The record, the metrics and the patch to the source are put beside the image in its registry, where
    /// whoever has the image finds them (an OCI referrer). The job's output and log are not.
    #[arg(
        long,
        value_name = "RUN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    with_run: Option<String>,
    /// Say what would be pushed; push nothing
    #[arg(long)]
    dry_run: bool,
}

/// Log in to a registry; credentials are stored where docker stores them
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The registry's host and port; Docker Hub, if not given
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// The user
    #[arg(short, long, value_name = "USER", required = true)]
    username: String,
    /// Read the password, or a token, from standard input
    #[arg(long, required = true)]
    password_stdin: bool,
}

/// Log out of a registry
#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// The registry's host and port; Docker Hub, if not given
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

/// Give an image another name
#[derive(Debug, Args)]
pub(super) struct TagArgs {
    /// An image: its name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The name that it gets; it moves from whatever had it
    #[arg(value_name = "NAME")]
    name: String,
}

/// What keeps a push from its end.
enum Unpushed {
    Failure(PushFailure),
    /// What is wrong with what was asked for.
    Usage(Box<Diagnostic>),
    Interrupted,
}

impl<E: Into<PushFailure>> From<E> for Unpushed {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// What is pushed or pulled: an image by its name, or that of a job that is built.
pub(super) enum Subject {
    Image(ImageRef),
    Job(Box<BuildSpec>),
}

pub(super) fn exec(args: &PushArgs, context: &mut Context) -> Ending {
    let subjects = match subjects(&args.what, args.image_prefix.as_ref(), context) {
        Ok(subjects) => subjects,
        Err(found) => {
            context.output.failure(&found)?;
            return Ok(Exit::Usage);
        }
    };
    let run = args.with_run.as_deref().filter(|run| !run.is_empty());
    let run = match run.map(|run| context.resolve(run)).transpose() {
        Ok(run) => run,
        Err(why) => {
            context.output.failure(&[*why])?;
            return Ok(Exit::Engine);
        }
    };
    let outcome = context.watch(async |events| {
        let engine = context.connect().await?;
        let wanted = wanted(&engine, &subjects).await?;
        let runs = match args.with_run {
            Some(_) => runs_of(&wanted, run, &context.store())?,
            None => BTreeMap::new(),
        };
        for run in runs.values() {
            let (id, content) = (run.id, printable_text(&run.content()));
            events.send(Event::Note(format!("the record of run {id} has {content}")));
        }
        if args.dry_run {
            return Ok((wanted, Vec::new()));
        }
        let asked = Asked {
            wanted: &wanted,
            is_forced: args.force,
            runs: &runs,
        };
        let pushed = push_all(&engine, &asked, context, events).await?;
        Ok((wanted, pushed))
    })?;
    match outcome {
        Ok((wanted, _)) if args.dry_run => {
            context
                .output
                .result(|| push_plan_human(&wanted), || push_plan_json(&wanted))?;
            Ok(Exit::Success)
        }
        Ok((_, pushed)) => say(context, &pushed, args.digest_file.as_deref()),
        Err(unpushed) => fail(context, unpushed),
    }
}

/// Pushes what was just built under these names.
pub(super) fn push_built(context: &Context, images: &[(Digest, Vec<ImageRef>)]) -> Ending {
    let wanted = images.iter().flat_map(|(id, names)| {
        let wanted = |name: &ImageRef| Wanted {
            name: name.clone(),
            id: id.clone(),
        };
        names.iter().map(wanted)
    });
    let wanted: Vec<_> = wanted.collect();
    let outcome = context.watch(async |events| {
        let wanted = order(wanted).map_err(|error| Unpushed::Usage(Box::new(error.into())))?;
        let engine = context.connect().await?;
        let asked = Asked {
            wanted: &wanted,
            is_forced: false,
            runs: &BTreeMap::new(),
        };
        push_all(&engine, &asked, context, events).await
    })?;
    match outcome {
        Ok(pushed) => say(context, &pushed, None),
        Err(unpushed) => fail(context, unpushed),
    }
}

/// Pushes with the credentials of this environment, unless the user does not want it any more.
async fn push_all(
    engine: &DockerEngine,
    asked: &Asked<'_>,
    context: &Context,
    events: &Events,
) -> Result<Vec<Pushed>, Unpushed> {
    let keyring = Keyring::open(&context.environment)?;
    tokio::select! {
        pushed = Box::pin(push(engine, &keyring, asked, events)) => Ok(pushed?),
        () = interrupted() => {
            if let Err(error) = forget_relays(engine).await {
                events.send(Event::Warning(format!(
                    "what is left of this push is removed by the next one: {error}"
                )));
            }
            Err(Unpushed::Interrupted)
        }
    }
}

fn say(context: &Context, pushed: &[Pushed], digest_file: Option<&Path>) -> Ending {
    if let (Some(path), Some(last)) = (digest_file, pushed.last()) {
        let path = context.environment.current_dir().join(path);
        if let Err(error) = std::fs::write(&path, last.digest.as_str()) {
            let message = format!("can't write `{}`: {error}", path.display());
            return Ok(context.output.error(&message));
        }
    }
    if let Some(last) = pushed.last() {
        // The most telling of its names.
        let first = pushed.iter().find(|one| one.digest == last.digest);
        let name = &first.unwrap_or(last).name;
        context.ci.made(&Made {
            image: Some(name.to_string()),
            digest: Some(&last.digest),
            version: version(name).as_ref(),
            ..Made::default()
        })?;
    }
    let mut runs: Vec<_> = pushed.iter().filter_map(|one| one.run.as_ref()).collect();
    runs.dedup();
    for (run, digest) in runs {
        let said = format!("the record of run {run} is attached as {digest}");
        context.output.note(&said);
    }
    context.summary(|| push_summary(pushed))?;
    context
        .output
        .result(|| push_human(pushed), || push_json(pushed))?;
    Ok(Exit::Success)
}

fn fail(context: &Context, unpushed: Unpushed) -> Ending {
    let failure = match unpushed {
        Unpushed::Interrupted => return Ok(context.output.interrupted("the push was cancelled")),
        Unpushed::Usage(found) => {
            context.output.failure(&[*found])?;
            return Ok(Exit::Usage);
        }
        Unpushed::Failure(PushFailure::Engine(error)) => {
            let exit = context.output.engine(&error);
            // What the engine says no to, it was asked properly.
            return Ok(match error {
                EngineError::Failed { .. } | EngineError::Refused { .. } => Exit::Failed,
                _ => exit,
            });
        }
        Unpushed::Failure(failure) => failure,
    };
    let mut why = Diagnostic::error("push", failure.to_string());
    why.help.extend(failure.help());
    context.output.failed(&why)
}

/// What these words mean: jobs first.
pub(super) fn subjects(
    words: &[String],
    prefix: Option<&String>,
    context: &Context,
) -> Result<Vec<Subject>, Vec<Diagnostic>> {
    // What can't be a job's name is an image's, whatever is wrong with jobs.yaml.
    let may_be_jobs = words.iter().any(|word| word.parse::<Name>().is_ok());
    let manifest = match context.manifest() {
        Ok((path, shown)) if may_be_jobs => {
            Some(manifest::load(&path, &shown, &context.environment)?)
        }
        _ => None,
    };
    let flags = BuildFlags {
        prefix: prefix.cloned(),
        ..BuildFlags::default()
    };
    let mut subjects = Vec::new();
    let mut found: Vec<Diagnostic> = Vec::new();
    for word in words {
        let mut jobs = manifest
            .iter()
            .flat_map(|manifest| manifest.root.jobs.keys());
        if jobs.any(|name| name.as_str() == word) {
            let names = [word.clone()];
            match plan(manifest.as_ref(), &names, &flags, &context.environment).map(last) {
                Ok(Some(Item::Build(spec))) => subjects.push(Subject::Job(spec)),
                Ok(Some(Item::Base(spec))) => subjects.push(Subject::Image(spec.image)),
                Ok(None) => {}
                Err(error) => found.push(error.into()),
            }
            continue;
        }
        match word.parse::<ImageRef>() {
            Ok(image) => subjects.push(Subject::Image(image)),
            Err(error) => found.push(Diagnostic::error("usage", format!("`{word}`: {error}"))),
        }
    }
    if found.is_empty() {
        Ok(subjects)
    } else {
        Err(found)
    }
}

/// The job's own image: what it requires comes before it.
fn last(mut items: Vec<Item>) -> Option<Item> {
    items.pop()
}

/// The names that are pushed, in their order, and what they stand for on the engine.
async fn wanted(engine: &DockerEngine, subjects: &[Subject]) -> Result<Vec<Wanted>, Unpushed> {
    let mut wanted = Vec::new();
    for subject in subjects {
        match subject {
            Subject::Image(image) => {
                let name = with_tag(image);
                let shown = name.familiar().to_string();
                let found = engine.image(&shown).await?;
                let found = found.ok_or(PushFailure::NotThere { name: shown })?;
                wanted.push(Wanted { name, id: found.id });
            }
            Subject::Job(spec) => {
                let repository = format!("{}{}", spec.prefix, spec.name);
                let images = engine.images_labelled(JOB_LABEL, Some(&spec.title)).await?;
                let names_of = |tags: &[String]| -> Vec<ImageRef> {
                    let names = tags.iter().filter_map(|tag| tag.parse().ok());
                    names
                        .filter(|name: &ImageRef| name.repository() == repository)
                        .collect()
                };
                let newest = images.into_iter().find_map(|image| {
                    let names = names_of(&image.tags);
                    (!names.is_empty()).then_some((image.id, names))
                });
                let (id, names) = newest.ok_or(PushFailure::NotThere { name: repository })?;
                let id = &id;
                wanted.extend(names.into_iter().map(|name| Wanted {
                    name,
                    id: id.clone(),
                }));
            }
        }
    }
    order(wanted).map_err(|error| Unpushed::Usage(Box::new(error.into())))
}

/// The image, with the tag that is meant when there is none.
pub(super) fn with_tag(image: &ImageRef) -> ImageRef {
    match image.tag() {
        Some(_) => image.clone(),
        None => format!("{}:latest", image.repository())
            .parse()
            .unwrap_or_else(|_| image.clone()),
    }
}

pub(super) fn exec_login(args: &LoginArgs, context: &mut Context) -> Ending {
    let mut password = String::new();
    if std::io::stdin().is_terminal() {
        context
            .output
            .note("type the password, and Ctrl-D on a line of its own; better: `… < FILE`");
    }
    if let Err(error) = std::io::stdin()
        .take(LONGEST_PASSWORD)
        .read_to_string(&mut password)
    {
        let message = format!("the password can't be read from standard input: {error}");
        return Ok(context.output.error(&message));
    }
    // As docker has it: one end of line is not the password's.
    let password = password
        .strip_suffix('\n')
        .map_or(password.as_str(), |rest| {
            rest.strip_suffix('\r').unwrap_or(rest)
        });
    if password.is_empty() {
        let help = "`jobctl login -u USER --password-stdin REGISTRY < FILE`";
        return Ok(context
            .output
            .usage("there is no password on standard input", Some(help)));
    }
    let mut credentials = Credentials {
        user: Some(args.username.clone()),
        secret: Secret::new(password),
        origin: "standard input".to_owned(),
    };
    let outcome: Result<String, Unpushed> = context.watch(async |_events| {
        let engine = context.connect().await?;
        let keyring = Keyring::open(&context.environment)?;
        let server = server(&args.registry);
        let logging_in = engine.log_in(&server, &credentials);
        let token = logging_in.await.map_err(|error| match remedy(&error) {
            Remedy::LogIn => PushFailure::Registry(RegistryError::Unauthorized {
                registry: args.registry.clone(),
                user: Some(format!("`{}`", args.username)),
            }),
            _ => error.into(),
        })?;
        if let Some(token) = token {
            credentials.user = None;
            credentials.secret = Secret::new(token);
        }
        Ok(keyring.keep(&args.registry, &credentials).await?)
    })?;
    match outcome {
        Ok(place) => {
            context.output.note(&format!(
                "logged in to {} as {}; kept in {place}",
                args.registry, args.username
            ));
            Ok(Exit::Success)
        }
        Err(unpushed) => fail(context, unpushed),
    }
}

/// A registry as the engine's API names it.
fn server(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn exec_logout(args: &LogoutArgs, context: &mut Context) -> Ending {
    let outcome: Result<bool, CredentialsError> = context.watch(async |_events| {
        Keyring::open(&context.environment)?
            .forget(&args.registry)
            .await
    })?;
    match outcome {
        Ok(had_some) => {
            let said = if had_some {
                format!("logged out of {}", args.registry)
            } else {
                format!("nothing was known for {}", args.registry)
            };
            context.output.note(&said);
            Ok(Exit::Success)
        }
        Err(error) => fail(context, error.into()),
    }
}

pub(super) fn exec_tag(args: &TagArgs, context: &mut Context) -> Ending {
    let name = match args.name.parse::<ImageRef>() {
        Ok(name) if name.digest().is_none() => with_tag(&name),
        Ok(_) => {
            let message = format!("`{}` has a digest, which no name can be given", args.name);
            return Ok(context.output.usage(&message, Some("write `NAME:TAG`")));
        }
        Err(error) => {
            let message = format!("`{}`: {error}", args.name);
            return Ok(context.output.usage(&message, error.help.as_deref()));
        }
    };
    let outcome: Result<(), Unpushed> = context.watch(async |_events| {
        let engine = context.connect().await?;
        let image = engine.image(&args.image).await?;
        let image = image.ok_or_else(|| PushFailure::NotThere {
            name: args.image.clone(),
        })?;
        Ok(engine.tag(&image.id, &name).await?)
    })?;
    match outcome {
        Ok(()) => Ok(Exit::Success),
        Err(unpushed) => fail(context, unpushed),
    }
}
