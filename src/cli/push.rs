//! `jobctl push`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Ending;
use super::build::{cache_folder, interrupted};
use super::ci::Made;
use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::engine::docker::credentials::Keyring;
use crate::engine::docker::{DockerEngine, EngineError};
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::manifest::suggest::nearest;
use crate::manifest::{self, Manifest};
use crate::model::{ImageRef, Name, Version};
use crate::ops::build::{History, keep_pushed};
use crate::ops::push::{
    Asked, Fate, Names, PushFailure, Pushed, Subject, foresee, forget_relays, names, push, runs_of,
};
use crate::plan::build::{BuildFlags, Item, plan};
use crate::plan::push::{EngineName, Wanted, order, version};
use crate::plan::run;
use crate::report::{
    printable_text, push_human, push_json, push_plan_human, push_plan_json, push_summary,
};

/// Push images to registries, under all of their names
///
/// Of a job, its newest image is pushed under the names that it was built with. Layers travel once;
/// `latest` moves last, and like `1` and `1.2` never back to an older release. What the registry has already is
/// not sent again, and a release, such as 1.2.3, is not replaced. What fails for a while is tried again. The
/// digest that the registry has at the end is the last line of standard output.
#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// Jobs of jobs.yaml, or images by their names
    #[arg(required_unless_present = "name", value_name = "JOB|IMAGE")]
    what: Vec<String>,
    /// What `build --name NAME` has built, whatever jobs.yaml says
    #[arg(long, conflicts_with = "what")]
    name: Option<String>,
    /// The version that is pushed; the newest image, if not given
    #[arg(long)]
    version: Option<Version>,
    /// Put before the names of jobs' images, as it is: `registry:5000/team-`
    #[arg(long, alias = "image_prefix", value_name = "PREFIX")]
    image_prefix: Option<String>,
    /// Replace what was released under the same name, or may have been, and move names back to older releases
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
    /// Say what would be pushed, as far as the registry says; push nothing
    #[arg(long)]
    dry_run: bool,
}

/// What came of it.
enum Outcome {
    Foreseen(Vec<(Wanted, Fate)>),
    Pushed(Vec<Pushed>),
}

/// What keeps a push from its end.
pub(super) enum Unpushed {
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

pub(super) fn exec(args: &PushArgs, context: &mut Context) -> Ending {
    let flags = BuildFlags {
        name: args.name.clone(),
        version: args.version.clone(),
        prefix: args.image_prefix.clone(),
        ..BuildFlags::default()
    };
    let subjects = match subjects(&args.what, &flags, context) {
        Ok(subjects) => subjects,
        Err(found) => {
            context.output.failure(&found);
            return Ok(Exit::Usage);
        }
    };
    let by_digest = subjects.iter().find_map(|subject| match subject {
        Subject::Image(image) => image.digest().map(|_| image),
        Subject::Job(_) => None,
    });
    if let Some(image) = by_digest {
        let message = format!("`{image}` is a digest, and images are pushed under names");
        let help = "give it a name first: `jobctl tag IMAGE NAME`";
        return Ok(context.output.usage(&message, Some(help)));
    }
    let run = args.with_run.as_deref().filter(|run| !run.is_empty());
    let run = match run.map(|run| context.resolve(run)).transpose() {
        Ok(run) => run,
        Err(why) => {
            context.output.failure(&[*why]);
            return Ok(Exit::Engine);
        }
    };
    let outcome = context.watch(async |events| {
        let engine = context.connect().await?;
        let cache = cache_folder(&context.environment);
        let store = context.store();
        let history = History::new(&store, cache.as_deref());
        let Names { wanted, named } = names(&engine, &history, &subjects, events).await?;
        let wanted = order(wanted).map_err(|error| Unpushed::Usage(Box::new(error.into())))?;
        let runs = match args.with_run {
            Some(_) => runs_of(&wanted, run, &context.store())?,
            None => BTreeMap::new(),
        };
        for run in runs.values() {
            let (id, content) = (run.id, printable_text(&run.content()));
            events.send(Event::Note(format!("the record of run {id} has {content}")));
        }
        let asked = Asked {
            wanted: &wanted,
            named: &named,
            is_forced: args.force,
            runs: &runs,
        };
        if args.dry_run {
            let keyring = Keyring::open(&context.environment)?;
            return tokio::select! {
                foreseen = Box::pin(foresee(&engine, &keyring, &asked, events)) => {
                    Ok(Outcome::Foreseen(foreseen?))
                }
                () = interrupted() => Err(Unpushed::Interrupted),
            };
        }
        let pushed = push_all(&engine, &asked, context, events).await?;
        Ok(Outcome::Pushed(pushed))
    })?;
    match outcome {
        Ok(Outcome::Foreseen(foreseen)) => {
            context
                .output
                .result(|| push_plan_human(&foreseen), || push_plan_json(&foreseen));
            Ok(Exit::Success)
        }
        Ok(Outcome::Pushed(pushed)) => say(context, &pushed, args.digest_file.as_deref()),
        Err(unpushed) => Ok(fail(context, "push", unpushed)),
    }
}

/// Pushes what was just built, and gives it its names on the engine.
/// A name of the user's own that is refused is one that `push JOB` does not know.
pub(super) fn push_built(
    context: &Context,
    wanted: Vec<Wanted>,
    named: &[EngineName],
    own: &[ImageRef],
) -> Ending {
    let outcome = context.watch(async |events| {
        let wanted = order(wanted).map_err(|error| Unpushed::Usage(Box::new(error.into())))?;
        let engine = context.connect().await?;
        let asked = Asked {
            wanted: &wanted,
            named,
            is_forced: false,
            runs: &BTreeMap::new(),
        };
        push_all(&engine, &asked, context, events).await
    })?;
    match outcome {
        Ok(pushed) => say(context, &pushed, None),
        Err(Unpushed::Failure(failure)) if failure.is_of_release() => {
            let mut why = Diagnostic::error("push", failure.to_string());
            why.help.extend(failure.help());
            let own = named.iter().filter(|one| own.contains(&one.name));
            why.help.extend(own.map(|one| {
                let name = &one.name;
                format!(
                    "`jobctl push JOB` leaves out what `--tag` names: `jobctl tag {} {name}`, and then `jobctl push \
                     {name}`, with `--force` if it is to replace a release",
                    one.id
                )
            }));
            Ok(context.output.failed(&why))
        }
        Err(unpushed) => Ok(fail(context, "push", unpushed)),
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
    let (store, cache) = (context.store(), cache_folder(&context.environment));
    let images = asked.wanted.iter().map(|wanted| &wanted.id);
    let _kept = keep_pushed(&store, cache.as_deref(), images).await;
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
            id: Some(&last.id),
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
        .result(|| push_human(pushed), || push_json(pushed));
    Ok(Exit::Success)
}

/// Says why a verb failed.
pub(super) fn fail(context: &Context, verb: &'static str, unpushed: Unpushed) -> Exit {
    let failure = match unpushed {
        Unpushed::Interrupted => return context.output.interrupted("the push was cancelled"),
        Unpushed::Usage(found) => {
            context.output.failure(&[*found]);
            return Exit::Usage;
        }
        Unpushed::Failure(PushFailure::Engine(error)) => {
            let exit = context.output.engine(&error);
            // What the engine says no to, it was asked properly.
            return match error {
                EngineError::Failed { .. } | EngineError::Refused { .. } => Exit::Failed,
                _ => exit,
            };
        }
        Unpushed::Failure(failure) => failure,
    };
    let mut why = Diagnostic::error(verb, failure.to_string());
    why.help.extend(failure.help());
    context.output.failed(&why)
}

/// What these words mean: jobs first. Without any, what was built under a name without jobs.yaml.
pub(super) fn subjects(
    words: &[String],
    flags: &BuildFlags,
    context: &Context,
) -> Result<Vec<Subject>, Vec<Diagnostic>> {
    if flags.name.is_some() {
        let planned = plan(None, &[], flags, &context.environment).map(last);
        return match planned {
            Ok(Some(Item::Build(spec))) => Ok(vec![Subject::Job(spec)]),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(vec![error.into()]),
        };
    }
    // What can't be a job's name is an image's, whatever is wrong with jobs.yaml.
    let may_be_jobs = words.iter().any(|word| word.parse::<Name>().is_ok());
    let manifest = match context.manifest() {
        Ok((path, shown)) if may_be_jobs => {
            Some(manifest::load(&path, &shown, &context.environment)?)
        }
        _ => None,
    };
    let mut subjects = Vec::new();
    let mut found: Vec<Diagnostic> = Vec::new();
    for word in words {
        let mut jobs = manifest
            .iter()
            .flat_map(|manifest| manifest.root.jobs.keys());
        if jobs.any(|name| name.as_str() == word) {
            let names = [word.clone()];
            match plan(manifest.as_ref(), &names, flags, &context.environment).map(last) {
                Ok(Some(Item::Build(spec))) => subjects.push(Subject::Job(spec)),
                Ok(Some(Item::Base(spec))) => subjects.push(Subject::Image(spec.image)),
                Ok(None) => {}
                Err(error) => found.push(error.into()),
            }
            continue;
        }
        if flags.version.is_some() {
            let help = format!("write it as the tag: `{word}:VERSION`");
            found.push(
                Diagnostic::error(
                    "usage",
                    format!("`--version` is for jobs, and `{word}` is none"),
                )
                .help(help),
            );
            continue;
        }
        if let Some(error) = manifest
            .as_ref()
            .and_then(|manifest| mistaken(word, manifest))
        {
            found.push(error);
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

/// That a word is likely a slip in a job's name, and no image's.
fn mistaken(word: &str, manifest: &Manifest) -> Option<Diagnostic> {
    if word.contains([':', '/', '@'])
        || manifest
            .root
            .images
            .keys()
            .any(|name| name.as_str() == word)
    {
        return None;
    }
    nearest(word, manifest.root.jobs.keys().map(Name::as_str))?;
    let error = run::Subject::job(manifest, Some(word)).err()?;
    Some(Diagnostic::from(error).help(format!("an image of that name: `{word}:latest`")))
}

/// The job's own image: what it requires comes before it.
fn last(mut items: Vec<Item>) -> Option<Item> {
    items.pop()
}
