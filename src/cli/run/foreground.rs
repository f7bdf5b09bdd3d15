//! Runs a job at this terminal.

use std::io::{self, IsTerminal as _};

use tokio::io::AsyncRead;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::display::Display;
use super::keys::Typed;
use super::terminal::{self, RawTerminal};
use super::{Wishes, signals};
use crate::cli::Ending;
use crate::cli::context::Context;
use crate::engine::docker::DockerEngine;
use crate::engine::run::RunError;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::ops::run::{
    Control, Controls, Ended, Prepared, RunFailure, Streams, prepare, supervise,
};
use crate::plan::run::RunPlan;
use crate::records::Store;
use crate::report::run_started;

/// Why a run came to nothing.
pub(in crate::cli) enum Unrun {
    Failure(RunFailure),
    /// The user wanted no more of it; what that is as an exit code.
    Interrupted(Exit),
}

impl<E: Into<RunFailure>> From<E> for Unrun {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// Runs a job, and waits for its end or until the user detaches from it.
pub(super) fn exec(context: &Context, plan: RunPlan, wishes: &Wishes) -> Ending {
    let store = context.store();
    let (display, shown) = Display::start()?;
    let (tty, stdin) = (plan.spec.tty, plan.spec.stdin);
    let outcome = context.watch(async |events| {
        let mut signals = Signals::listen(wishes.passes_signals);
        let (engine, prepared) =
            prepared(context, &store, plan, wishes, &mut signals, events).await?;
        if !io::stderr().is_terminal() {
            // Whoever reads this later can find the run even if this process is killed.
            events.send(Event::Note(run_started(&prepared.record)));
        }
        let hold = Hold::take(signals, tty)?;
        let input = stdin.then(|| hold.input(&wishes.detach_keys, tokio::io::stdin()));
        let streams = Streams {
            display: Some(shown),
            input,
            cidfile: wishes.cidfile.clone(),
            started: hold.when_started(tty),
            ..Streams::default()
        };
        let Hold {
            mut controls,
            terminal,
            ..
        } = hold;
        let supervising = supervise(&engine, prepared, streams, &mut controls, events);
        let ended = Box::pin(supervising).await;
        drop(terminal);
        Ok(ended?)
    })?;
    let shown = display.finish();
    let exit = match outcome {
        Ok(Ended::Over(record)) => super::ending::say_own(context, &record),
        other => say(context, other),
    };
    Ok(context.output.shown(shown, exit))
}

/// Connects to the engine and prepares a run, unless the user does not want it any more.
pub(super) async fn prepared(
    context: &Context,
    store: &Store,
    plan: RunPlan,
    wishes: &Wishes,
    signals: &mut Signals,
    events: &Events,
) -> Result<(DockerEngine, Prepared), Unrun> {
    let preparing = async {
        let engine = context.connect().await?;
        let prepared = Box::pin(prepare(&engine, store, plan, &wishes.asked, events)).await?;
        Ok((engine, prepared))
    };
    tokio::select! {
        biased;
        exit = signals.interrupted() => Err(Unrun::Interrupted(exit)),
        prepared = preparing => prepared,
    }
}

/// This process's signals, heard from the first moment on: none is lost between two listeners.
pub(in crate::cli) struct Signals {
    sender: UnboundedSender<Control>,
    pub(in crate::cli) controls: Controls,
}

impl Signals {
    pub(in crate::cli) fn listen(passes_signals: bool) -> Self {
        let (sender, controls) = unbounded_channel();
        signals::listen(&sender, passes_signals);
        Self { sender, controls }
    }

    /// Waits until the user wants no more of what is under way; what that is as an exit code.
    pub(in crate::cli) async fn interrupted(&mut self) -> Exit {
        loop {
            match self.controls.recv().await {
                Some(Control::Interrupt) => return Exit::Interrupted,
                Some(Control::Terminate) => return Exit::Terminated,
                Some(Control::Detach) => return Exit::HungUp,
                Some(Control::Signal(_) | Control::Resize(..)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// This process's terminal and signals, while a job has them.
pub(in crate::cli) struct Hold {
    pub(in crate::cli) controls: Controls,
    pub(in crate::cli) sender: UnboundedSender<Control>,
    pub(in crate::cli) terminal: Option<RawTerminal>,
}

impl Hold {
    pub(in crate::cli) fn take(signals: Signals, tty: bool) -> io::Result<Self> {
        let terminal = if tty { RawTerminal::enter()? } else { None };
        let Signals { sender, controls } = signals;
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
                "detached from the run {short}, which keeps running: `jobctl logs -f {short}`, `jobctl stop {short}`",
                short = id.short()
            ));
            signals::parting()
        }
        Err(Unrun::Interrupted(exit)) => {
            context
                .output
                .interrupted("cancelled, before there was a run");
            exit
        }
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
