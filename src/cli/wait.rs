//! `jobctl wait`

use clap::Args;

use super::context::Context;
use super::reach;
use super::run::{Hold, Signals, ending, say};
use crate::exit::Exit;
use crate::ops::run::{Ended, Streams, attend};
use crate::records::Ending;
use crate::report::wait_json;

/// Wait for runs to finish, and exit with the last one's exit code
///
/// A run whose jobctl was killed has a new one in this: what it writes is kept, and its outputs are
/// collected when it ends. Ctrl-C ends the waiting, not the run.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Runs: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
}

pub(super) fn exec(args: &WaitArgs, context: &mut Context) -> super::Ending {
    let store = context.store();
    let mut exit = Exit::Success;
    let mut waited = Vec::new();
    for written in &args.runs {
        let id = match reach::run(context, written) {
            Ok(id) => id,
            Err(failed) => {
                exit = failed;
                break;
            }
        };
        let outcome = context.watch(async |events| {
            let mut hold = Hold::take(Signals::listen(false), false)?;
            let connect = || context.connect();
            let ended = attend(
                connect,
                &store,
                id,
                Streams::default(),
                &mut hold.controls,
                events,
            );
            Ok(ended.await?)
        })?;
        match outcome {
            Ok(Ended::Over(record)) => {
                if record.ending == Some(Ending::OutputsLost) {
                    ending::say_failed(context, &record);
                }
                exit = ending::exit(&record);
                context.output.done(exit.code());
                waited.push((record.id, exit));
            }
            other => {
                exit = say(context, other);
                break;
            }
        }
    }
    context.output.all_done(|| wait_json(&waited));
    Ok(exit)
}
