//! `jobctl rm` and `jobctl prune`

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Ending;
use super::context::Context;
use super::reach::{self, Target};
use super::run::{Unrun, say_undone};
use crate::exit::Exit;
use crate::facts::host::now;
use crate::model::{self, RunId};
use crate::ops::build::{
    History, Unneeded, UnneededError, hold_images, remove as remove_image, unneeded,
};
use crate::ops::run::{Kept, prune, remove, remove_orphan};
use crate::report::{counted, ids_json, prune_json};

/// Remove runs: their records, outputs, logs and containers
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Runs: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Also stop runs that are running, and discard outputs that were not collected
    #[arg(short, long)]
    force: bool,
    /// The manifest; `-f` is `--force` here
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Remove finished runs that are no longer needed
///
/// Keeps each job's newest runs and its newest runs that succeeded, promoted runs, runs whose outputs these
/// have read, and runs whose container is still there. With `--images`, also removes images that the project has
/// built and nothing needs: those of no run that stays, of no container, with no name but those that jobctl makes
/// from what is in them (`ctx-…`, `…-dirty.g…`). The newest of each job stays. Runs of other users, and records
/// in checkouts that were moved or copied, are not seen.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Keep N of each job's newest runs, and N of its newest that succeeded
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep: usize,
    /// Only those that are older: 30d, 12h
    #[arg(long, value_name = "AGE")]
    older: Option<model::Duration>,
    /// Also remove images that nothing needs any more
    #[arg(long)]
    images: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn exec(args: &RmArgs, context: &mut Context) -> Ending {
    context.globals.file.clone_from(&args.file);
    if let Err(message) = context.check_file() {
        return Ok(context.output.usage(&message, None));
    }
    let store = context.store();
    // All of them first: what `JOB~1` means changes with each that is removed.
    let (targets, mut exit) = reach::targets(context, &args.runs)?;
    let mut ids = Vec::new();
    for target in targets {
        let id = target.id();
        let done: Result<(), Unrun> = context.watch(async |events| {
            let connect = || context.connect();
            match &target {
                Target::Run(id) => {
                    Box::pin(remove(connect, &store, *id, args.force, events)).await?;
                }
                Target::Orphan(orphan) => {
                    remove_orphan(&connect().await?, orphan, args.force).await?;
                }
            }
            Ok(())
        })?;
        if let Err(unrun) = done {
            exit = say_undone(context, unrun);
            continue;
        }
        context.output.done(id);
        ids.push(id);
    }
    context.output.all_done(|| ids_json(&ids));
    Ok(exit)
}

pub(super) fn exec_prune(args: &PruneArgs, context: &mut Context) -> Ending {
    let store = context.store();
    let kept = Kept {
        newest: args.keep,
        since: args.older.and_then(|age| now().checked_sub(age.get()).ok()),
    };
    let done: Result<Vec<_>, Unrun> = context.watch(async |events| {
        super::reach::reconciled(context, &store, events).await;
        Ok(prune(&store, kept, args.dry_run)?)
    })?;
    let ids = match done {
        Ok(ids) => ids,
        Err(unrun) => return Ok(say_undone(context, unrun)),
    };
    for id in &ids {
        context.output.done(id);
    }
    let images = if args.images {
        match prune_images(context, &ids, kept.since, args.dry_run)? {
            Ok(images) => images,
            Err(exit) => {
                context
                    .output
                    .all_done(|| prune_json(&ids, &[], args.dry_run));
                return Ok(exit);
            }
        }
    } else {
        Vec::new()
    };
    for image in &images {
        context.output.done(image.name());
    }
    context
        .output
        .all_done(|| prune_json(&ids, &images, args.dry_run));
    let verb = if args.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    let mut said = counted(ids.len(), "run");
    if args.images {
        said = format!("{said} and {}", counted(images.len(), "image"));
    }
    context.output.note(&format!("{said} {verb}"));
    Ok(Exit::Success)
}

/// Removes the images that nothing needs; those that are gone, or would be.
fn prune_images(
    context: &Context,
    removed: &[RunId],
    before: Option<Timestamp>,
    is_dry: bool,
) -> std::io::Result<Result<Vec<Unneeded>, Exit>> {
    let Some(cache) = super::build::cache_folder(&context.environment) else {
        let store = context.store();
        if let Some(why) = History::new(&store, None).problem() {
            context.output.warning(why);
        }
        return Ok(Ok(Vec::new()));
    };
    let removed = removed.iter().copied().collect();
    let done: Result<_, UnneededError> = context.watch(async |_events| {
        let engine = context.connect().await?;
        let store = context.store();
        let _lock = hold_images(&cache).await?;
        let mut gone = Vec::new();
        for image in unneeded(&engine, &store, &cache, removed, before).await? {
            if is_dry || remove_image(&engine, &cache, &image).await? {
                gone.push(image);
            }
        }
        Ok(gone)
    })?;
    Ok(match done {
        Ok(gone) => Ok(gone),
        Err(UnneededError::Engine(error)) => Err(context.output.engine(&error)),
        Err(error) => Err(context.output.error(&error.to_string())),
    })
}
