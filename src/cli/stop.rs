//! `jobctl stop` and `jobctl kill`

use std::time::Duration;

use clap::Args;

use super::Ending;
use super::context::Context;
use super::reach::{self, Target};
use super::run::{Unrun, say_undone};
use crate::ops::run::{GRACE, RunFailure, end, signal};
use crate::records::Store;
use crate::report::ids_json;

/// Stop runs: send SIGTERM, then kill them after a timeout
#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// Runs: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Seconds between asking and killing; 10, or what the run says; -1 for as long as it takes
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// The signal that asks: SIGTERM, or the image's
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

/// Send a signal to runs (SIGKILL by default)
#[derive(Debug, Args)]
pub(super) struct KillArgs {
    /// Runs: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    signal: String,
}

pub(super) fn exec(args: &StopArgs, context: &mut Context) -> Ending {
    each(
        context,
        &args.runs,
        &async |engine, store, target, events| {
            // For engines, whatever is below 0 is without end.
            let grace = args.timeout.map(|seconds| {
                let seconds = u64::try_from(seconds);
                seconds.map_or(Duration::MAX, Duration::from_secs)
            });
            let signal = args.signal.as_deref();
            match target {
                Target::Run(id) => end(engine, store, *id, signal, grace, events).await,
                Target::Orphan(orphan) => {
                    let grace = grace.unwrap_or(GRACE);
                    Ok(engine.stop(&orphan.container.id, signal, grace).await?)
                }
            }
        },
    )
}

pub(super) fn exec_kill(args: &KillArgs, context: &mut Context) -> Ending {
    each(
        context,
        &args.runs,
        &async |engine, store, target, events| match target {
            Target::Run(id) => signal(engine, store, *id, &args.signal, events).await,
            Target::Orphan(orphan) => Ok(engine.kill(&orphan.container.id, &args.signal).await?),
        },
    )
}

/// Does something to each run, and says which it was done to.
fn each(
    context: &Context,
    written: &[String],
    work: &impl AsyncFn(
        &crate::engine::docker::DockerEngine,
        &Store,
        &Target,
        &crate::event::Events,
    ) -> Result<(), RunFailure>,
) -> Ending {
    let store = context.store();
    let (targets, mut exit) = reach::targets(context, written)?;
    let mut ids = Vec::new();
    for target in targets {
        let done: Result<(), Unrun> = context.watch(async |events| {
            let engine = context.connect().await?;
            Ok(work(&engine, &store, &target, events).await?)
        })?;
        if let Err(unrun) = done {
            exit = say_undone(context, unrun);
            continue;
        }
        context.output.done(target.id());
        ids.push(target.id());
    }
    context.output.all_done(|| ids_json(&ids));
    Ok(exit)
}
