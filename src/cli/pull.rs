//! `jobctl pull`

use clap::Args;

use super::Ending;
use super::build::{cache_folder, interrupted};
use super::context::Context;
use super::push::subjects;
use crate::diagnostic::Diagnostic;
use crate::engine::docker::{DockerEngine, EngineError};
use crate::event::Events;
use crate::exit::Exit;
use crate::facts::git;
use crate::model::{ImageRef, ValueError};
use crate::ops::build::History;
use crate::ops::pull::{Pulled, pull_and_resolve};
use crate::ops::push::{Subject, with_tag};
use crate::plan::build::{BuildFlags, BuildSpec, VersionChoice};
use crate::report::{pull_human, pull_json};

/// Pull images from registries
///
/// Of a job that is built, the image that a registry has under its prefix, and its version or
/// `latest`; `jobctl run --no-build` takes it then. Credentials are those that `jobctl login` keeps.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Jobs of jobs.yaml, or images by their names
    #[arg(required = true, value_name = "JOB|IMAGE")]
    what: Vec<String>,
    /// Put before the names of jobs' images, as it is: `registry:5000/team-`
    #[arg(long, alias = "image_prefix", value_name = "PREFIX")]
    image_prefix: Option<String>,
    /// For this platform: `linux/arm64`
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

pub(super) fn exec(args: &PullArgs, context: &mut Context) -> Ending {
    let names = match names(args, context) {
        Ok(names) => names,
        Err(found) => {
            context.output.failure(&found);
            return Ok(Exit::Usage);
        }
    };
    let (names, of_jobs): (Vec<_>, Vec<_>) = names.into_iter().unzip();
    let outcome = context.watch(async |events| {
        let engine = context.connect().await?;
        let pulled = tokio::select! {
            pulled = pull_all(&engine, context, &names, args.platform.as_deref(), events) => pulled?,
            () = interrupted() => return Ok(None),
        };
        if let Ok(pulled) = &pulled {
            let (store, cache) = (context.store(), cache_folder(&context.environment));
            let mut jobs = pulled.iter().zip(&of_jobs).filter(|(_, is_job)| **is_job).peekable();
            if jobs.peek().is_some() {
                let history = History::new(&store, cache.as_deref());
                jobs.for_each(|(pulled, _)| history.keep_pulled(&pulled.image.id, events));
            }
        }
        Ok(Some(pulled))
    })?;
    match outcome {
        Ok(Some(Ok(pulled))) => {
            context
                .output
                .result(|| pull_human(&pulled), || pull_json(&pulled));
            Ok(Exit::Success)
        }
        Ok(Some(Err((name, reason)))) => {
            let mut why = Diagnostic::error(
                "pull",
                format!("can't pull `{}`: {reason}", name.familiar()),
            );
            let canonical = name.canonical();
            let registry = canonical.domain().unwrap_or("docker.io");
            why.help.push(format!(
                "check the name and the network, or log in: `jobctl login {registry}`"
            ));
            Ok(context.output.failed(&why))
        }
        Ok(None) => Ok(context.output.interrupted("the pull was cancelled")),
        Err(error) => Ok(context.output.engine(&error)),
    }
}

/// Pulls images in turn, up to the first that can't be.
async fn pull_all(
    engine: &DockerEngine,
    context: &Context,
    names: &[ImageRef],
    platform: Option<&str>,
    events: &Events,
) -> Result<Result<Vec<Pulled>, (ImageRef, EngineError)>, EngineError> {
    let mut all = Vec::new();
    for name in names {
        let environment = &context.environment;
        match pull_and_resolve(engine, environment, name, platform, events).await {
            Ok(pulled) => all.push(pulled),
            Err(error @ (EngineError::Failed { .. } | EngineError::Refused { .. })) => {
                return Ok(Err((name.clone(), error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(all))
}

/// What registries call these, and whether they are jobs' images.
fn names(args: &PullArgs, context: &Context) -> Result<Vec<(ImageRef, bool)>, Vec<Diagnostic>> {
    let flags = BuildFlags {
        prefix: args.image_prefix.clone(),
        ..BuildFlags::default()
    };
    let subjects = subjects(&args.what, &flags, context)?;
    let names = subjects.iter().map(|subject| match subject {
        Subject::Image(image) if image.digest().is_some() => Ok((image.clone(), false)),
        Subject::Image(image) => Ok((with_tag(image), false)),
        Subject::Job(spec) => {
            let name = of_job(spec);
            name.map(|name| (name, true))
                .map_err(|error| vec![Diagnostic::error("usage", error.to_string())])
        }
    });
    names.collect()
}

/// What a registry calls the image of a job: by its version, or `latest`. A commit without a version was not released.
fn of_job(spec: &BuildSpec) -> Result<ImageRef, ValueError> {
    let version = match &spec.version {
        VersionChoice::None => None,
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => Some(version.clone()),
        VersionChoice::Git => {
            let found = git(&spec.recipe.context, &[]);
            found.ok().and_then(|found| found.version)
        }
    };
    let tag = match version {
        Some(version) => version.image_tag()?.to_string(),
        None => "latest".to_owned(),
    };
    format!("{}{}:{tag}", spec.prefix, spec.name).parse()
}
