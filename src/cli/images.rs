//! `jobctl images`

use clap::Args;

use super::Ending;
use super::build::cache_folder;
use super::context::Context;
use crate::engine::docker::LocalImage;
use crate::exit::Exit;
use crate::manifest::load;
use crate::ops::build::History;
use crate::plan::build::is_named_after;
use crate::plan::run::JOB_LABEL;
use crate::report::{counted, images_human, images_json};

/// List the images that jobctl has built or pulled, newest first
///
/// Those of all of your projects that the engine has, built or pulled as a job's. An image that was made from one of
/// them has its labels, and is not listed. With JOB, where there is a jobs.yaml, those of its project alone, by their
/// names.
#[derive(Debug, Args)]
pub(super) struct ImagesArgs {
    /// Only those of this job
    #[arg(value_name = "JOB")]
    job: Option<String>,
    /// Print the ids only
    #[arg(short = 'q', long = "quiet", visible_alias = "ids")]
    ids_only: bool,
}

pub(super) fn exec(args: &ImagesArgs, context: &mut Context) -> Ending {
    // Another project's job may have the same name.
    let manifest = match (&args.job, context.manifest()) {
        (Some(_), Ok((path, shown))) => match load(&path, &shown, &context.environment) {
            Ok(manifest) => Some(manifest),
            Err(found) => {
                context.output.failure(&found);
                return Ok(Exit::Usage);
            }
        },
        _ => None,
    };
    let outcome = context.watch(async |_events| {
        let engine = context.connect().await?;
        engine.images_labelled(JOB_LABEL, args.job.as_deref()).await
    })?;
    let mut hidden = 0;
    let outcome = outcome.map(|mut images: Vec<LocalImage>| {
        if let (Some(job), Some(manifest)) = (&args.job, &manifest) {
            images.retain(|image| {
                let mut names = image.tags.iter().filter_map(|name| name.parse().ok());
                names.any(|name| is_named_after(&name, job, manifest))
            });
        }
        let cache = cache_folder(&context.environment);
        let store = context.store();
        let history = History::new(&store, cache.as_deref());
        if let Some(why) = history.problem().filter(|_| !images.is_empty()) {
            context.output.warning(why);
        }
        let found = images.len();
        images.retain(|image| history.knows(&image.id));
        hidden = found - images.len();
        history.sort(&mut images);
        images
    });
    // One that jobs.yaml has no more may still have images.
    let unknown = match (&outcome, &args.job) {
        (Ok(images), Some(job)) if images.is_empty() => context.unknown_job(job),
        _ => None,
    };
    if let Some(error) = unknown {
        context.output.failure(&[error]);
        return Ok(Exit::Usage);
    }
    if hidden > 0 && outcome.as_ref().is_ok_and(Vec::is_empty) {
        let images = counted(hidden, "image");
        context.output.note(&format!(
            "the engine has {images} with a job's labels that jobctl has neither built nor pulled here: `docker images \
             --filter label={JOB_LABEL}`"
        ));
    }
    match outcome {
        Ok(images) if args.ids_only => {
            context.output.ids(images.iter().map(|image| &image.id));
            Ok(Exit::Success)
        }
        Ok(images) => {
            context.output.result(
                || images_human(&images, crate::facts::host::now()),
                || images_json(&images),
            );
            Ok(Exit::Success)
        }
        Err(error) => Ok(context.output.engine(&error)),
    }
}
