//! `jobctl get`

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::{Ending, reach};
use crate::exit::Exit;
use crate::ops::get::{Request, get};
use crate::report::{copied_human, copied_json, get_failure};

/// Copy a run's outputs into a directory
///
/// Each file is checked against the digest in the record while it is copied. One output goes into
/// the directory itself, all of them into a directory each. Nothing is overwritten without `--force`.
/// The engine is asked only about runs without a supervisor.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The run, or one output of it
    #[arg(value_name = "RUN[:OUTPUT]")]
    run: String,
    /// Where to; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

pub(super) fn exec(args: &GetArgs, context: &mut Context) -> Ending {
    reach::settle(context)?;
    let (run, output) = match args.run.split_once(':') {
        Some((run, output)) => (run, Some(output)),
        None => (args.run.as_str(), None),
    };
    let (folder, record) = match context.find_run(run) {
        Ok(found) => found,
        Err(diagnostic) => return Ok(context.output.failed(&diagnostic)),
    };
    let target = context.environment.current_dir().join(&args.folder);
    let request = Request {
        output,
        target: &target,
        is_forced: args.force,
    };
    match get(&folder, &record, &request) {
        Ok(copied) => {
            context.output.result(
                || copied_human(&copied, &args.folder),
                || copied_json(&record, &copied),
            );
            Ok(Exit::Success)
        }
        Err(error) => Ok(context.output.failed(&get_failure(&error))),
    }
}
