//! What the user asks of a run.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cancel::{Cancel, StopCause, until};
use crate::engine::docker::DockerEngine;
use crate::engine::run::RunError;
use crate::event::{Event, Events};

/// Nobody waits so long: it is as long as it takes.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Something that is asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Ctrl-C: end it; once more: at once; a third time: detach from it.
    Interrupt,
    /// End it, as whoever started jobctl says.
    Terminate,
    /// Let it keep running without this process.
    Detach,
    /// Pass a signal on, by its name: `SIGUSR1`.
    Signal(&'static str),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
}

/// Where what is asked comes from.
pub type Controls = mpsc::UnboundedReceiver<Control>;

/// Who ended a container, as far as we did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// The user wanted it to end.
    pub(super) is_stopped: bool,
    /// It ran out of time.
    pub(super) is_timed_out: bool,
}

/// Does to a container what is asked, until the user detaches from it. Ends it at the deadline.
pub(super) async fn obey(
    engine: &DockerEngine,
    container: &str,
    cancel: &mut Cancel<'_>,
    grace: Duration,
    orders: &mut Orders,
    events: &Events,
) {
    let mut deadline = pin!(until(cancel.deadline));
    // When it is killed, once it was asked to end.
    let mut patience = pin!(until(None));
    let mut asked = 0;
    // What was asked while it started.
    let mut next = match cancel.take_cause() {
        Some(StopCause::Interrupted) => Some(Control::Interrupt),
        Some(StopCause::Terminated) => Some(Control::Terminate),
        Some(StopCause::HungUp) => Some(Control::Detach),
        // The deadline is passed; and whoever requests it from another process stops what is up.
        Some(StopCause::TimedOut | StopCause::Requested) | None => None,
    };
    loop {
        let control = async {
            match next.take() {
                Some(control) => control,
                None => cancel.control().await,
            }
        };
        tokio::select! {
            control = control => match control {
                Control::Detach => return,
                Control::Interrupt | Control::Terminate if asked >= 2 => return,
                Control::Interrupt | Control::Terminate => {
                    asked += 1;
                    orders.is_stopped = true;
                    // So that it is known even if this process is killed before the container ends.
                    cancel.note_stop();
                    let signal = match control {
                        _ if asked == 2 => "SIGKILL",
                        Control::Interrupt => "SIGINT",
                        _ => "SIGTERM",
                    };
                    events.send(Event::Note(match asked {
                        1 if grace > CENTURY => "stopping; it is killed when asked again".to_owned(),
                        1 => format!(
                            "stopping; it is killed in {} s, or when asked again",
                            grace.as_secs()
                        ),
                        _ => "killing; asked again, jobctl detaches from it".to_owned(),
                    }));
                    kill(engine, container, signal, events).await;
                    patience.set(until(Some(Instant::now() + grace)));
                }
                Control::Signal(signal) => kill(engine, container, signal, events).await,
                Control::Resize(columns, rows) => {
                    // One that is just ending has no terminal any more.
                    let _ = engine.resize(container, columns, rows).await;
                }
            },
            () = &mut deadline => {
                orders.is_timed_out = true;
                deadline.set(until(None));
                kill(engine, container, "SIGTERM", events).await;
                patience.set(until(Some(Instant::now() + grace)));
            }
            () = &mut patience => {
                patience.set(until(None));
                kill(engine, container, "SIGKILL", events).await;
            }
        }
    }
}

/// Sends a signal. A container that has just ended needs none, and of an engine that is gone the
/// one that waits hears as well.
async fn kill(engine: &DockerEngine, container: &str, signal: &str, events: &Events) {
    match engine.kill(container, signal).await {
        Ok(()) | Err(RunError::NoContainer { .. }) => {}
        Err(RunError::Engine(error)) if error.is_absence() => {}
        Err(error) => events.send(Event::Warning(format!(
            "{signal} did not reach the job: {error}"
        ))),
    }
}
