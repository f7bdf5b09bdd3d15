//! `jobctl runs`

use clap::{Args, ValueEnum};

use super::context::Context;
use super::{Ending, reach};
use crate::exit::Exit;
use crate::facts;
use crate::ops::runs::{Question, RunsError, runs};
use crate::records::State;
use crate::report::{printable_name, runs_human, runs_json};

/// List runs, newest first
///
/// Those whose records are damaged are listed too, below the others. The engine is asked only about runs without a supervisor.
#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// All of them
    #[arg(short, long, conflicts_with = "count")]
    all: bool,
    /// Only this job's
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only those that are so far
    #[arg(long, value_enum, value_name = "STATE")]
    state: Option<StateName>,
    /// Print the ids only
    #[arg(
        short = 'q',
        long = "quiet",
        visible_alias = "ids",
        conflicts_with = "columns"
    )]
    ids_only: bool,
    /// What is shown of each, in this order: names of variables and metrics, and of `run`, `job`,
    /// `image`, `state`, `exit_code`, `created`, `took`. If not given, what tells the runs apart: the
    /// variables in which they differ, and their metrics
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    columns: Vec<String>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateName {
    /// Recorded
    Created,
    /// Its container is made
    Submitted,
    /// Its container runs
    Running,
    /// It ended well
    Finished,
    /// It ended otherwise
    Failed,
    /// Nobody can tell how it ended
    Lost,
}

pub(super) fn exec(args: &RunsArgs, context: &mut Context) -> Ending {
    reach::settle(context)?;
    let question = Question {
        count: (!args.all).then_some(args.count),
        job: args.job.clone(),
        state: args.state.map(|state| match state {
            StateName::Created => State::Created,
            StateName::Submitted => State::Submitted,
            StateName::Running => State::Running,
            StateName::Finished => State::Finished,
            StateName::Failed => State::Failed,
            StateName::Lost => State::Lost,
        }),
        columns: args.columns.clone(),
    };
    let runs = match runs(&context.store(), &question) {
        Ok(runs) => runs,
        Err(RunsError::Store(error)) => return Ok(context.output.failed(&(&error).into())),
        Err(RunsError::NoColumn { ref name, ref help }) => {
            let name = printable_name(name);
            let message = format!("--columns: no run has a column `{name}`");
            let help = printable_name(help);
            return Ok(context.output.usage(&message, Some(&help)));
        }
    };
    // One that jobs.yaml has no more may still have runs, in another state.
    if let (Some(job), true) = (&args.job, runs.runs.is_empty())
        && matches!(context.store().latest(job, |_| true), Ok(None))
        && let Some(error) = context.unknown_job(job)
    {
        context.output.failure(&[error]);
        return Ok(Exit::Usage);
    }
    if let Some(warning) = &runs.warning {
        context.output.warning(warning);
    }
    if args.ids_only {
        context.output.ids(runs.runs.iter().map(|run| run.id));
        return Ok(Exit::Success);
    }
    context.output.result(
        || runs_human(&runs, facts::host::now()),
        || runs_json(&runs),
    );
    Ok(Exit::Success)
}
