//! `jobctl stop` and `jobctl kill`

use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::run::{Unrun, say_undone};
use super::{Ending, reach};
use crate::exit::Exit;
use crate::ops::run::{RunFailure, end, signal};
use crate::records::Store;

/// End runs: ask them to, then kill them
#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// Runs: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Seconds between asking and killing; 10, or what the run says
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The signal that asks: SIGTERM, or the image's
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

/// Send a signal to runs: SIGKILL, if none is named
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
    each(context, &args.runs, &async |engine, store, id, events| {
        let grace = args.timeout.map(Duration::from_secs);
        end(engine, store, id, args.signal.as_deref(), grace, events).await
    })
}

pub(super) fn exec_kill(args: &KillArgs, context: &mut Context) -> Ending {
    each(context, &args.runs, &async |engine, store, id, events| {
        signal(engine, store, id, &args.signal, events).await
    })
}

/// Does something to each run, and says which it was done to.
fn each(
    context: &Context,
    written: &[String],
    work: &impl AsyncFn(
        &crate::engine::docker::DockerEngine,
        &Store,
        crate::model::RunId,
        &crate::event::Events,
    ) -> Result<(), RunFailure>,
) -> Ending {
    let store = context.store();
    let mut ids = Vec::new();
    for written in written {
        match reach::run(context, written) {
            Ok(id) => ids.push(id),
            Err(exit) => return Ok(exit.of_other_verb()),
        }
    }
    for id in ids {
        let done: Result<(), Unrun> = context.watch(async |events| {
            let engine = context.connect().await?;
            Ok(work(&engine, &store, id, events).await?)
        })?;
        if let Err(unrun) = done {
            return Ok(say_undone(context, unrun));
        }
        context.output.text(&id.to_string())?;
    }
    Ok(Exit::Success)
}
