//! `jobctl down`

use clap::Args;

use super::Ending;
use super::context::Context;
use super::up::fail;
use crate::exit::Exit;
use crate::ops::run::RunFailure;
use crate::ops::up::down;
use crate::report::{down_human, down_json};

/// Stop services: the named ones, or all of this project
///
/// Their records, and what they were made from, stay: the next `jobctl up` starts them again at once.
#[derive(Debug, Args)]
pub(super) struct DownArgs {
    /// Services of jobs.yaml
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
}

pub(super) fn exec(args: &DownArgs, context: &mut Context) -> Ending {
    let store = context.store();
    let outcome = context.watch(async |events| {
        let engine = context.connect().await.map_err(RunFailure::from)?;
        Box::pin(down(&engine, &store, &args.jobs, events)).await
    })?;
    let ended = match outcome {
        Ok(ended) => ended,
        Err(failure) => return fail(context, &failure),
    };
    let was_down = |job: &&String| ended.iter().all(|down| down.job.as_str() != *job);
    let mut exit = Exit::Success;
    for job in args.jobs.iter().filter(was_down) {
        exit = match context.unknown_job(job) {
            Some(error) => context.output.failed(&error),
            None => context.output.error(&format!("no service `{job}` is up")),
        };
    }
    if exit == Exit::Success || !ended.is_empty() {
        context
            .output
            .result(|| down_human(&ended), || down_json(&ended));
    }
    Ok(exit)
}
