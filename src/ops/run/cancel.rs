//! What ends a run before its job ends by itself, from the moment it is recorded.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::RunFailure;
use super::control::{Control, Controls};
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::records::{Ending, RunFolder};

/// How often it is looked whether another process wants the run to end.
const LOOK: Duration = Duration::from_millis(100);

/// Why a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopCause {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The terminal was closed, or the machine is shut down: without a supervisor, what has not started never
    /// will.
    HungUp,
    /// `jobctl stop` or `jobctl kill` of another process.
    Requested,
    /// Its time limit.
    TimedOut,
}

impl StopCause {
    /// The ending of a run that was stopped where it had no container, or none any more.
    pub(super) fn ending(self) -> Ending {
        match self {
            Self::TimedOut => Ending::Timeout,
            _ => Ending::Stopped,
        }
    }

    /// The exit code of such a run: as shells number a child that got the signal.
    pub(super) fn exit_code(self) -> u8 {
        let exit = match self {
            Self::HungUp => Exit::HungUp,
            Self::Interrupted => Exit::Interrupted,
            Self::Terminated | Self::Requested => Exit::Terminated,
            Self::TimedOut => Exit::Timeout,
        };
        exit.code()
    }
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Undone {
    /// It failed.
    Failed(RunFailure),
    /// The run is to end.
    Stopped(StopCause),
    /// The user did not wait for the engine to finish what it was asked for. What became of it, the next
    /// jobctl finds out.
    Abandoned,
}

impl<E: Into<RunFailure>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One token for the life of a run: whoever works on it asks here whether it is to end.
pub(super) struct Cancel<'a> {
    controls: &'a mut Controls,
    folder: &'a RunFolder,
    events: &'a Events,
    /// When the run's time is up.
    pub(super) deadline: Option<Instant>,
    /// Why it is to end, once it is.
    cause: Option<StopCause>,
    /// Whether nobody is left who could ask for anything.
    is_alone: bool,
}

impl<'a> Cancel<'a> {
    pub(super) fn new(
        controls: &'a mut Controls,
        folder: &'a RunFolder,
        events: &'a Events,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            controls,
            folder,
            events,
            deadline,
            cause: None,
            is_alone: false,
        }
    }

    /// Why the run is to end, if it is. Whoever takes it handles it.
    pub(super) fn take_cause(&mut self) -> Option<StopCause> {
        self.cause.take()
    }

    /// Notes where it outlasts this process that the run is to end. Where that can't be, it is known as long
    /// as this process is.
    pub(super) fn note_stop(&self) {
        if let Err(error) = self.folder.want_stop() {
            tracing::debug!("that the run is to end is not kept: {error}");
        }
    }

    /// The next thing that is asked of the run by this process's user.
    pub(super) async fn control(&mut self) -> Control {
        while !self.is_alone {
            match self.controls.recv().await {
                Some(control) => return control,
                None => self.is_alone = true,
            }
        }
        std::future::pending().await
    }

    /// Waits until the user detaches from a run, or asks to end one that can't be reached.
    pub(super) async fn released(&mut self) {
        loop {
            if stop_cause(self.control().await).is_some() {
                return;
            }
        }
    }

    /// Waits until the run is to end.
    async fn wait(&mut self) -> StopCause {
        let deadline = self.deadline;
        let folder = self.folder;
        let mut timed_out = pin!(until(deadline));
        let mut requested = pin!(requested(folder));
        loop {
            tokio::select! {
                control = self.control() => {
                    if let Some(cause) = stop_cause(control) {
                        return cause;
                    }
                }
                () = &mut requested => return StopCause::Requested,
                () = &mut timed_out => return StopCause::TimedOut,
            }
        }
    }

    /// Whether the run is to end by now.
    ///
    /// # Errors
    ///
    /// It is.
    pub(super) async fn check(&mut self) -> Result<(), Undone> {
        self.race(async { Ok::<_, Undone>(()) }).await
    }

    /// Does something that can be dropped at any moment, unless the run is to end before it is done.
    ///
    /// # Errors
    ///
    /// It failed, or the run is to end.
    pub(super) async fn race<T, E: Into<Undone>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Undone> {
        if let Some(cause) = self.cause.take() {
            return Err(Undone::Stopped(cause));
        }
        tokio::select! {
            biased;
            cause = self.wait() => Err(Undone::Stopped(cause)),
            done = work => done.map_err(Into::into),
        }
    }

    /// Waits for something that the engine is doing, and that it would do all the same if nobody waited. That
    /// the run is to end is remembered meanwhile; who asks twice waits no longer.
    ///
    /// # Errors
    ///
    /// It failed, or was abandoned.
    pub(super) async fn insist<T, E: Into<Undone>>(
        &mut self,
        what: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Undone> {
        let mut work = pin!(work);
        if self.cause.is_none() {
            tokio::select! {
                done = &mut work => return done.map_err(Into::into),
                cause = self.wait() => self.cause = Some(cause),
            }
            // Its time may be given to it once more.
            if self.cause != Some(StopCause::TimedOut) {
                self.note_stop();
            }
            self.events.send(Event::Note(format!(
                "stopping, once the engine {what}; asked again, jobctl waits no longer"
            )));
        }
        tokio::select! {
            done = &mut work => done.map_err(Into::into),
            () = self.released() => Err(Undone::Abandoned),
        }
    }

    /// Waits for what is done after the job's end, whatever is asked for once; who asks twice, or closes the
    /// terminal, leaves the rest to the next jobctl.
    ///
    /// # Errors
    ///
    /// It was left.
    pub(super) async fn outlast<T>(
        &mut self,
        what: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Undone> {
        let mut work = pin!(work);
        let mut is_asked = false;
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                control = self.control() => match stop_cause(control) {
                    None => {}
                    Some(StopCause::Interrupted | StopCause::Terminated) if !is_asked => {
                        is_asked = true;
                        self.events.send(Event::Note(format!(
                            "the job has ended; {what}. Asked again, jobctl leaves that to the next \
                             `jobctl ps`"
                        )));
                    }
                    Some(_) => return Err(Undone::Abandoned),
                },
            }
        }
    }

    /// Pauses, unless the run is to end.
    ///
    /// # Errors
    ///
    /// It is.
    pub(super) async fn pause(&mut self, pause: Duration) -> Result<(), Undone> {
        let pausing = async {
            sleep(pause).await;
            Ok::<_, Undone>(())
        };
        self.race(pausing).await
    }
}

fn stop_cause(control: Control) -> Option<StopCause> {
    match control {
        Control::Interrupt => Some(StopCause::Interrupted),
        Control::Terminate => Some(StopCause::Terminated),
        Control::Detach => Some(StopCause::HungUp),
        Control::Signal(_) | Control::Resize(..) => None,
    }
}

async fn requested(folder: &RunFolder) {
    while !folder.is_stop_wanted() {
        sleep(LOOK).await;
    }
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
