//! `jobctl ps`

use std::collections::BTreeMap;

use clap::Args;

use super::Ending;
use super::context::Context;
use super::up::Processes;
use crate::exit::Exit;
use crate::ops::ps::list;
use crate::ops::run::{orphan_words, reconcile};
use crate::ops::up::restore;
use crate::report::{printable_text, ps_human, ps_json};

/// List the runs that have not finished
///
/// A run whose jobctl was killed is recovered: if it ended meanwhile, its output and its exit code
/// are taken from the engine; if it keeps running, it is `unattended` until somebody waits for it. A container
/// that it left behind is removed. Of a service, the processes that supervise it and listen on its ports are
/// started again where they were killed; one that can't be reached at its address all the same is
/// `not reachable`, with the reason as a warning.
#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// Finished ones too
    #[arg(short, long)]
    all: bool,
    /// Show at most so many
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Print the ids only
    #[arg(short = 'q', long = "quiet", visible_alias = "ids")]
    ids_only: bool,
}

pub(super) fn exec(args: &PsArgs, context: &mut Context) -> Ending {
    // Runs are listed where their engine does not answer, but not where nobody can say which one it is.
    if let Err(error) = context.place() {
        return Ok(context.output.engine(&error.into()));
    }
    let store = context.store();
    let launcher = Processes::new(context)?;
    let outcome = context.watch(async |events| {
        let mut engine = super::reach::reconciled(context, &store, events).await;
        if engine.is_none() && store.unfinished().is_ok_and(|runs| runs.is_empty()) {
            // There may be containers whose records are gone, or whose runs are over. Nobody asked
            // for an engine otherwise.
            engine = context.connect().await.ok();
            if let Some(engine) = &engine {
                reconcile(engine, &store, events).await;
            }
        }
        let mut unreachable = BTreeMap::new();
        if let Some(engine) = &engine {
            unreachable = restore(engine, &store, &launcher, None, events).await;
        }
        list(engine.as_ref(), &store, args.all, unreachable, events).await
    })?;
    let mut runs = match outcome {
        Ok(runs) => runs,
        Err(error) => return Ok(context.output.error(&error.to_string())),
    };
    for orphan in runs.iter().filter(|listed| listed.is_orphan) {
        let run = &orphan.run;
        let warning = orphan_words(run.id, run.job.as_deref(), &store);
        context.output.warning(&printable_text(&warning));
    }
    for listed in &runs {
        if let (Some(why), Some(job)) = (&listed.unreachable, &listed.run.job) {
            let warning = format!("the service `{job}` is not reachable: {why}");
            context.output.warning(&printable_text(&warning));
        }
    }
    runs.truncate(args.last.unwrap_or(usize::MAX));
    if args.ids_only {
        context.output.ids(runs.iter().map(|listed| listed.run.id));
        return Ok(Exit::Success);
    }
    context.output.result(
        || ps_human(&runs, crate::facts::host::now()),
        || ps_json(&runs),
    );
    Ok(Exit::Success)
}
