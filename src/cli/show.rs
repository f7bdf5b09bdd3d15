//! `jobctl show`

use clap::Args;

use super::context::Context;
use super::{Ending, reach};
use crate::exit::Exit;
use crate::report::{record_human, record_json};

/// Show what was run, with what, and what came of it
///
/// RUN is the beginning of an id, a job (its latest run), or `JOB~1` for the one before. Needs no
/// engine.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
}

pub(super) fn exec(args: &ShowArgs, context: &mut Context) -> Ending {
    reach::settle(context)?;
    let (folder, record) = match context.find_run(&args.run) {
        Ok(found) => found,
        Err(diagnostic) => return context.output.failed(&diagnostic),
    };
    context.output.result(
        || record_human(&record, folder.path()),
        || record_json(&record),
    )?;
    Ok(Exit::Success)
}
