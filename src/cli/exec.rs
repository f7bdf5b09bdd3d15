//! `jobctl exec`

use std::io::{self, IsTerminal as _};

use clap::Args;
use tokio::io::AsyncWriteExt as _;

use super::context::Context;
use super::run::display::Display;
use super::run::{Hold, Signals, Unrun, keys, signals};
use super::{Ending, reach};
use crate::engine::run::ExecSpec;
use crate::exit::Exit;
use crate::model::{EnvName, Secret};
use crate::ops::run::{Control, RunFailure, up_container_of};

/// Run a program in a run's container
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct ExecArgs {
    /// Connect standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Variables: NAME=VALUE, or NAME for the caller's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// User and group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Allow everything
    #[arg(long)]
    privileged: bool,
    /// The run: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    run: String,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

pub(super) fn exec(args: &ExecArgs, context: &mut Context) -> Ending {
    if args.tty && args.interactive && !io::stdin().is_terminal() {
        return Ok(super::run::ending::fail(context, &RunFailure::NoTerminal));
    }
    let environment = match variables(&args.env, context) {
        Ok(environment) => environment,
        Err(message) => return Ok(context.output.unrun(&message, None)),
    };
    let record = match reach::record(context, &args.run) {
        Ok(record) => record,
        Err(exit) => return Ok(exit),
    };
    if record.state.is_final() {
        let message = format!("the run {} has no container that is up", record.id.short());
        return Ok(context
            .output
            .unrun(&message, Some("`jobctl ps` shows those that have")));
    }
    let folder = context.store().run(record.id);
    let spec = ExecSpec {
        command: args.command.clone(),
        environment,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        tty: args.tty,
        stdin: args.interactive,
        is_privileged: args.privileged,
        detach_keys: None,
    };
    let (display, shown) = Display::start()?;
    let outcome: Result<i64, Unrun> = context.watch(async |_events| {
        let engine = context.connect().await?;
        let container = up_container_of(&engine, &folder).await?;
        let (id, attachment) = engine.exec(&container.id, &spec).await?;
        let mut hold = Hold::take(Signals::listen(true), args.tty && args.interactive)?;
        if let Some(mut sink) = attachment.input {
            let keys = keys::parse(keys::DEFAULT).expect("docker's keys are keys");
            let mut input = hold.input(&keys, tokio::io::stdin());
            tokio::spawn(async move {
                // A program that reads no more ends the copying.
                let _ = tokio::io::copy(&mut input, &mut sink).await;
                let _ = sink.shutdown().await;
            });
        }
        if let Some(started) = hold.when_started(args.tty) {
            let _ = started.send(String::new());
        }
        let mut output = attachment.output;
        loop {
            tokio::select! {
                chunk = output.next() => match chunk {
                    None => break,
                    Some(chunk) => {
                        // Nobody reads it any more; the program goes on.
                        let _ = shown.send(chunk?).await;
                    }
                },
                Some(control) = hold.controls.recv() => match control {
                    Control::Resize(columns, rows) => {
                        // One that is just ending has no terminal any more.
                        let _ = engine.exec_resize(&id, columns, rows).await;
                    }
                    // docker can't pass signals on to it, either.
                    Control::Interrupt | Control::Terminate | Control::Detach => {
                        return Ok(signals::parting().code().into());
                    }
                    Control::Signal(_) => {}
                },
            }
        }
        drop(shown);
        drop(hold.terminal);
        Ok(engine.exec_exit(&id).await?)
    })?;
    let shown = display.finish();
    let exit = match outcome {
        Ok(0) => Exit::Success,
        Ok(code) => Exit::Job(code.to_le_bytes()[0]),
        Err(Unrun::Failure(failure)) => super::run::ending::fail(context, &failure),
        Err(Unrun::Interrupted(exit)) => {
            context.output.interrupted("interrupted");
            exit
        }
    };
    Ok(context.output.shown(shown, exit))
}

fn variables(given: &[String], context: &Context) -> Result<Vec<(EnvName, Secret)>, String> {
    let mut variables = Vec::new();
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.as_str(), context.environment.get(text)),
        };
        let name: EnvName = name.parse().map_err(|error| format!("--env: {error}"))?;
        if let Some(value) = value {
            variables.push((name, Secret::new(value)));
        }
    }
    Ok(variables)
}
