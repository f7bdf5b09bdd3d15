//! `jobctl collect`

use clap::Args;

use super::Ending;
use super::context::Context;
use super::run::ending::{fail, say};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::manifest;
use crate::model::Name;
use crate::ops::run::{RunFailure, collect_again};
use crate::plan::run as plan;
use crate::report::{outputs, record_json, run_ended};

/// Retry collecting the outputs of a run
///
/// The run's container was kept for it. Paths and sizes of the outputs are taken from jobs.yaml as it is
/// now, so that they can be corrected first. Once all outputs are there, the run ends as it would have, and
/// its container is removed.
#[derive(Debug, Args)]
pub(super) struct CollectArgs {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
}

pub(super) fn exec(args: &CollectArgs, context: &mut Context) -> Ending {
    let id = match context.resolve(&args.run) {
        Ok(id) => id,
        Err(diagnostic) => return Ok(context.output.failed(&diagnostic)),
    };
    let store = context.store();
    // What is wrong with jobs.yaml is no matter here: what the record says holds then.
    let known = store.read(id);
    let was_lost =
        known.is_ok_and(|record| !record.state.is_final() || !record.lost_outputs.is_empty());
    let today = store.read(id).ok().and_then(|record| {
        let (path, shown) = context.manifest().ok()?;
        let manifest = manifest::load(&path, &shown, &context.environment).ok()?;
        let job: Name = record.job?.parse().ok()?;
        Some(plan::outputs(&manifest.root.jobs.get(&job)?.value))
    });
    let collected = context.watch(async |events| {
        let engine = context.connect().await?;
        collect_again(&engine, &store, id, today.as_ref(), events).await
    })?;
    match collected {
        Ok(record) if record.lost_outputs.is_empty() => {
            if !was_lost {
                context
                    .output
                    .note("nothing to collect: all outputs are kept");
            }
            context.output.result(
                || format!("{}\n{}", run_ended(&record), outputs(&record)),
                || record_json(&record),
            );
            Ok(Exit::Success)
        }
        Ok(record) => Ok(say(context, &record)),
        Err(failure @ (RunFailure::ContainerGone { .. } | RunFailure::NotOver { .. })) => {
            let mut diagnostic = Diagnostic::error("collect", failure.to_string());
            diagnostic.help.extend(failure.help());
            Ok(context.output.failed(&diagnostic))
        }
        Err(failure) => Ok(fail(context, &failure)),
    }
}
