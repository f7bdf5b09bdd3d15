//! `jobctl attach`

use std::io::{self, IsTerminal as _};

use clap::Args;
use tokio::io::AsyncWriteExt as _;

use super::context::Context;
use super::run::display::Display;
use super::run::{Hold, Signals, keys, say};
use super::{Ending, reach};
use crate::ops::run::{Attached, RunFailure, attach};

/// Attach this terminal to a run
///
/// What it wrote before is in `jobctl logs`. Signals and what is typed go to the job; Ctrl-P Ctrl-Q lets
/// go of it. Ends with the job's exit code.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The run: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    run: String,
    /// Do not connect standard input
    #[arg(long)]
    no_stdin: bool,
    /// Whether signals go to the job
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Keys that let go of the job
    #[arg(long, value_name = "KEYS", default_value = keys::DEFAULT)]
    detach_keys: String,
}

pub(super) fn exec(args: &AttachArgs, context: &mut Context) -> Ending {
    let keys = match keys::parse(&args.detach_keys) {
        Ok(keys) => keys,
        Err(message) => {
            return Ok(context
                .output
                .unrun(&format!("--detach-keys: {message}"), None));
        }
    };
    let store = context.store();
    let record = match reach::record(context, &args.run) {
        Ok(record) => record,
        Err(exit) => return Ok(exit),
    };
    if record.state.is_final() {
        let id = record.id.short();
        let help = format!("`jobctl logs {id}` shows what it wrote");
        let message = format!("the run {id} is over");
        return Ok(context.output.unrun(&message, Some(&help)));
    }
    let (display, shown) = Display::start()?;
    let outcome = context.watch(async |events| {
        let Attached {
            engine,
            container,
            attachment,
            tty,
        } = attach(
            context.connect().await?,
            &store.run(record.id),
            !args.no_stdin,
        )
        .await?;
        if tty && !args.no_stdin && !io::stdin().is_terminal() {
            return Err(RunFailure::NoTerminal.into());
        }
        let mut hold = Hold::take(Signals::listen(args.sig_proxy), tty)?;
        if let Some(mut sink) = attachment.input {
            let mut input = hold.input(&keys, tokio::io::stdin());
            tokio::spawn(async move {
                // A job that reads no more ends the copying.
                let _ = tokio::io::copy(&mut input, &mut sink).await;
                let _ = sink.shutdown().await;
            });
        }
        if let Some(started) = hold.when_started(tty) {
            let _ = started.send(String::new());
        }
        let controls = &mut hold.controls;
        let ended = crate::ops::run::watch(
            &engine,
            &store,
            &record,
            (&container, attachment.output),
            shown,
            controls,
            events,
        );
        let ended = ended.await;
        drop(hold.terminal);
        Ok(ended?)
    })?;
    let shown = display.finish();
    let exit = say(context, outcome);
    Ok(context.output.shown(shown, exit))
}
