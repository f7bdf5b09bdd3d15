//! `jobctl show`

use clap::Args;

use super::context::Context;
use super::globals::Format;
use super::{Ending, reach};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ops::get::missing;
use crate::report::{files_human, files_json, record_human, record_json};

/// Show the record of a run
///
/// RUN is the beginning of an id, a job (its latest run), or `JOB~1` for the one before. Needs no
/// engine.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// List the files of its outputs instead
    #[arg(long)]
    files: bool,
    /// Print what is long, too: the CPU's flags
    #[arg(long, conflicts_with = "files")]
    all: bool,
}

pub(super) fn exec(args: &ShowArgs, context: &mut Context) -> Ending {
    reach::settle(context)?;
    let (folder, record) = match context.find_run(&args.run) {
        Ok(found) => found,
        Err(diagnostic) => return Ok(context.output.failed(&diagnostic)),
    };
    if args.files {
        // One of the two is asked for.
        let listed = match context.globals.format {
            Format::Human => files_human(&record, &folder),
            Format::Json => files_json(&record, &folder).map(|json| format!("{json:#}")),
        };
        return match listed {
            Ok(text) if text.is_empty() => {
                context.output.note("no files were collected");
                Ok(Exit::Success)
            }
            Ok(text) => {
                context.output.text(&text);
                Ok(Exit::Success)
            }
            Err(error) => {
                let why = format!("the files of the outputs can't be listed: {error}");
                Ok(context
                    .output
                    .failed(&Diagnostic::error("output-differs", why)))
            }
        };
    }
    context.output.result(
        || {
            let missing = missing(&folder, &record);
            record_human(&record, folder.path(), &missing, args.all)
        },
        || record_json(&record),
    );
    Ok(Exit::Success)
}
