//! `jobctl metrics`

use clap::Args;

use super::context::Context;
use super::globals::Format;
use super::{Ending, reach};
use crate::exit::Exit;
use crate::ops::metrics::metrics;
use crate::report::{
    history_csv, history_human, last_csv, last_human, metrics_failure, metrics_json,
};

/// Show a run's metrics: the last values, or all of them
///
/// The engine is asked only about runs without a supervisor.
#[derive(Debug, Args)]
pub(super) struct MetricsArgs {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// All values, in the order in which they came
    #[arg(long)]
    history: bool,
    /// As comma-separated values (RFC 4180)
    #[arg(long)]
    csv: bool,
}

pub(super) fn exec(args: &MetricsArgs, context: &mut Context) -> Ending {
    if args.csv && context.globals.format == Format::Json {
        let message = "`--csv` and `--format json` are both given";
        return Ok(context.output.usage(message, Some("keep one of the two")));
    }
    reach::settle(context)?;
    let found = match context.find_run(&args.run) {
        Ok(found) => found,
        Err(diagnostic) => return Ok(context.output.failed(&diagnostic)),
    };
    let runs = match metrics(&[found], &args.names) {
        Ok(runs) => runs,
        Err(error) => return Ok(context.output.failed(&metrics_failure(&error))),
    };
    for run in &runs {
        context.output.result(
            || match (args.history, args.csv) {
                (true, true) => history_csv(run),
                (true, false) => history_human(run),
                (false, true) => last_csv(run),
                (false, false) => last_human(run),
            },
            || metrics_json(run, args.history),
        );
    }
    Ok(Exit::Success)
}
