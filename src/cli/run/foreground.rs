//! Runs a job at this terminal.

use std::io;

use tokio::io::AsyncRead;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::display::Display;
use super::keys::Typed;
use super::terminal::{self, RawTerminal};
use super::{Wishes, signals};
use crate::cli::Ending;
use crate::cli::build::interrupted;
use crate::cli::context::Context;
use crate::engine::docker::DockerEngine;
use crate::engine::run::RunError;
use crate::event::Events;
use crate::exit::Exit;
use crate::ops::run::{
    Control, Controls, Ended, Prepared, RunFailure, Streams, prepare, supervise,
};
use crate::plan::run::RunPlan;
use crate::records::Store;

/// Why a run came to nothing.
pub(in crate::cli) enum Unrun {
    Failure(RunFailure),
    Interrupted,
}

impl<E: Into<RunFailure>> From<E> for Unrun {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// Runs a job, and waits for its end or until the user lets go of it.
pub(super) fn exec(context: &Context, plan: RunPlan, wishes: &Wishes) -> Ending {
    let store = context.store();
    let (display, shown) = Display::start()?;
    let (tty, stdin) = (plan.spec.tty, plan.spec.stdin);
    let outcome = context.watch(async |events| {
        let engine = context.connect().await?;
        let prepared = prepared(&engine, &store, plan, wishes, events).await?;
        let hold = Hold::take(tty, wishes.passes_signals)?;
        let input = stdin.then(|| hold.input(&wishes.detach_keys, tokio::io::stdin()));
        let streams = Streams {
            display: Some(shown),
            input,
            cidfile: wishes.cidfile.clone(),
            started: hold.when_started(tty),
        };
        let Hold {
            mut controls,
            terminal,
            ..
        } = hold;
        let ended = supervise(&engine, prepared, streams, &mut controls, events).await;
        drop(terminal);
        Ok(ended?)
    })?;
    let shown = display.finish();
    let exit = say(context, outcome);
    Ok(context.output.shown(shown, exit))
}

/// Prepares a run, unless the user does not want it any more.
pub(super) async fn prepared(
    engine: &DockerEngine,
    store: &Store,
    plan: RunPlan,
    wishes: &Wishes,
    events: &Events,
) -> Result<Prepared, Unrun> {
    tokio::select! {
        prepared = Box::pin(prepare(engine, store, plan, &wishes.asked, events)) => Ok(prepared?),
        () = interrupted() => Err(Unrun::Interrupted),
    }
}

/// This process's terminal and signals, while a job has them.
pub(in crate::cli) struct Hold {
    pub(in crate::cli) controls: Controls,
    pub(in crate::cli) sender: UnboundedSender<Control>,
    pub(in crate::cli) terminal: Option<RawTerminal>,
}

impl Hold {
    pub(in crate::cli) fn take(tty: bool, passes_signals: bool) -> io::Result<Self> {
        let (sender, controls) = unbounded_channel();
        signals::listen(&sender, passes_signals);
        let terminal = if tty { RawTerminal::enter()? } else { None };
        Ok(Self {
            controls,
            sender,
            terminal,
        })
    }

    /// What is typed, less the keys that let go.
    pub(in crate::cli) fn input<R>(
        &self,
        keys: &[u8],
        typed: R,
    ) -> Box<dyn AsyncRead + Send + Unpin>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        if self.terminal.is_none() {
            return Box::new(typed);
        }
        Box::new(Typed::new(typed, keys.to_vec(), self.sender.clone()))
    }

    /// Gives the job's terminal our size, once it has one.
    pub(in crate::cli) fn when_started(
        &self,
        tty: bool,
    ) -> Option<tokio::sync::oneshot::Sender<String>> {
        if !tty {
            return None;
        }
        let (sender, started) = tokio::sync::oneshot::channel::<String>();
        let controls = self.sender.clone();
        tokio::spawn(async move {
            if started.await.is_ok()
                && let Some((columns, rows)) = terminal::size()
            {
                // Whoever listens may be gone.
                let _ = controls.send(Control::Resize(columns, rows));
            }
        });
        Some(sender)
    }
}

/// Says how it ended, on standard error, and with the exit code.
pub(in crate::cli) fn say(context: &Context, outcome: Result<Ended, Unrun>) -> Exit {
    match outcome {
        Ok(Ended::Over(record)) => super::ending::say(context, &record),
        Ok(Ended::Detached(id)) => {
            context.output.note(&format!(
                "let go of the run {short}; it goes on: `jobctl logs -f {short}`, `jobctl stop {short}`",
                short = id.short()
            ));
            Exit::Success
        }
        Err(Unrun::Interrupted) => context.output.interrupted("the run was cancelled"),
        Err(Unrun::Failure(failure)) => super::ending::fail(context, &failure),
    }
}

/// Says why a verb that runs nothing came to nothing. Only an engine's doing has a number of its own.
pub(in crate::cli) fn say_undone(context: &Context, unrun: Unrun) -> Exit {
    let is_engines = matches!(
        &unrun,
        Unrun::Failure(RunFailure::Engine(_) | RunFailure::Run(RunError::Engine(_)))
    );
    let exit = say(context, Err(unrun));
    if is_engines {
        exit
    } else {
        exit.of_other_verb()
    }
}
