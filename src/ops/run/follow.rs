//! Following a container that was started to its end, over whatever happens to its engine.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::RunFailure;
use super::attempt::{Work, latest};
use super::cancel::{Cancel, StopCause};
use super::control::{self, Orders};
use super::metric_files::MetricLooks;
use super::outcome::{note_removal, note_seen};
use super::pump::Pump;
use super::restarts::restarts;
use crate::engine::docker::EngineError;
use crate::engine::docker::run::{Output, Waiting};
use crate::engine::run::{Container, LogRequest, RunError, Status, Until};
use crate::event::Event;
use crate::records::Record;

/// The time between two tries to get back to an engine that is gone: the first, and the longest.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];
/// How long an engine may be gone.
pub(super) const GONE: Duration = Duration::from_mins(10);
/// How often a silent engine is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// The longest time between two looks at a container.
const LOOK: Duration = Duration::from_secs(5);

/// How following a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followed {
    /// The container has ended.
    Over,
    /// The run is to end, and its container never started.
    Stopped(StopCause),
    /// The user detached from it.
    Detached,
}

/// Output and end of a container.
pub(super) struct Followable {
    pub(super) output: Output,
    pub(super) waiting: Waiting,
}

impl Followable {
    /// Takes all output, until the container has ended.
    async fn watch(self, pump: &mut Pump) -> Result<(), RunError> {
        let (end, has_ended) = watch::channel(false);
        let mut ended = std::pin::pin!(self.waiting.exit());
        let mut pumped = std::pin::pin!(pump.run(self.output, has_ended));
        tokio::select! {
            ended = &mut ended => {
                // What was written before the end comes soon after it, or never.
                end.send_replace(true);
                let drained = pumped.await;
                ended?;
                drained
            }
            pumped = &mut pumped => {
                pumped?;
                ended.await.map(|_| ())
            }
        }
    }
}

impl Work<'_> {
    /// Follows a container that was started, over whatever happens to the engine, and notes its end.
    pub(super) async fn follow(
        &self,
        record: &mut Record,
        mut followable: Option<Followable>,
        pump: &mut Pump,
        cancel: &mut Cancel<'_>,
    ) -> Result<Followed, RunFailure> {
        let mut orders = Orders::default();
        // Whether the engine was gone meanwhile.
        let mut was_lost = false;
        let attempt = latest(record);
        let id = attempt.container_id.clone().unwrap_or_default();
        let grace = Duration::from_millis(record.policy.grace_ms);
        let mut peak = latest(record).peak_memory;
        let mut looks = MetricLooks::new(record);
        // How often the engine had started the container again when it was last looked at.
        let mut seen = followable.is_some().then_some(0);
        let is_attached = loop {
            let now = match followable.take() {
                Some(followable) => followable,
                None => {
                    let reconnected = tokio::select! {
                        reconnected = self.reconnect(&id) => reconnected,
                        () = cancel.released() => return Ok(Followed::Detached),
                    };
                    let reconnected = match reconnected {
                        Err(RunFailure::Engine(error))
                            if error.is_absence() && restarts(record) =>
                        {
                            return Ok(Followed::Detached);
                        }
                        reconnected => reconnected?,
                    };
                    let Some((container, followable)) = reconnected else {
                        note_removal(latest(record));
                        return Ok(Followed::Over);
                    };
                    let before = latest(record).restarts;
                    note_seen(latest(record), &container, &mut seen);
                    if latest(record).restarts > before {
                        self.keep(record, "restarted")?;
                    }
                    self.lead_to(record, &container);
                    pump.rewind()?;
                    if was_lost {
                        self.events
                            .send(Event::Note("the engine answers again".to_owned()));
                    }
                    followable
                }
            };
            let is_attached = now.output.is_attached();
            let obeyed = control::obey(self.engine, &id, cancel, grace, &mut orders, self.events);
            let watched = tokio::select! {
                watched = now.watch(pump) => watched,
                () = obeyed => return Ok(Followed::Detached),
                () = self.observe(&id, &mut looks, &mut peak) => unreachable!("it observes for ever"),
            };
            match watched {
                Ok(()) => {
                    let is_ended = orders.is_stopped || orders.is_timed_out;
                    let obeyed =
                        control::obey(self.engine, &id, cancel, grace, &mut orders, self.events);
                    let again = tokio::select! {
                        again = self.started_again(record, &mut seen, was_lost, pump) => again,
                        () = obeyed => return Ok(Followed::Detached),
                    };
                    if is_ended && restarts(record) {
                        // It was ended by a signal that the engine does not take for an end.
                        self.engine.stop(&id, None, grace).await?;
                    }
                    match again {
                        Ok(None) => break is_attached,
                        Ok(again) => (followable, was_lost) = (again, false),
                        // It may be started again when the engine is.
                        Err(RunFailure::Engine(error)) if error.is_absence() => {
                            return Ok(Followed::Detached);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => {
                    was_lost = true;
                    tracing::info!("following {id}: {error}");
                    self.events.send(Event::Warning(
                        "the engine is gone; the job may keep running, and jobctl tries to get back to it"
                            .to_owned(),
                    ));
                }
            }
        };
        if !is_attached {
            let caught_up = tokio::select! {
                caught_up = self.catch_up(&id, pump) => caught_up,
                () = cancel.released() => return Ok(Followed::Detached),
            };
            if let Err(error) = caught_up {
                self.events.send(Event::Warning(format!(
                    "the log may lack its last lines: {error}"
                )));
            }
        }
        pump.finish().await;
        latest(record).peak_memory = peak;
        tokio::select! {
            settled = self.settle(record, orders, was_lost) => settled,
            // The engine is gone once more; whoever looks next settles it.
            () = cancel.released() => Ok(Followed::Detached),
        }
    }

    /// Waits for an engine that is gone, and takes hold of the container again.
    async fn reconnect(&self, id: &str) -> Result<Option<(Container, Followable)>, RunFailure> {
        let container = loop {
            match self.patiently(|| self.engine.container(id)).await?.0 {
                // Until it is started again there is nothing to follow.
                Some(container) if container.status == Status::Restarting => sleep(RETRY[0]).await,
                Some(container) => break container,
                None => return Ok(None),
            }
        };
        let request = LogRequest {
            follow: true,
            timestamps: !container.tty,
            ..LogRequest::default()
        };
        let output = self.engine.logs(id, container.tty, &request).await?;
        let waiting = self.engine.wait(id, Until::Stopped).await?;
        Ok(Some((container, Followable { output, waiting })))
    }

    /// Takes what following the log of a container left out that has ended.
    async fn catch_up(&self, id: &str, pump: &mut Pump) -> Result<(), RunFailure> {
        let (container, _) = self.patiently(|| self.engine.container(id)).await?;
        let Some(container) = container else {
            return Ok(());
        };
        let since = pump.resume_within();
        if since.is_none() {
            pump.rewind()?;
        }
        let request = LogRequest {
            since,
            timestamps: !container.tty,
            ..LogRequest::default()
        };
        let output = self.engine.logs(id, container.tty, &request).await?;
        let (_never, has_ended) = watch::channel(false);
        Ok(pump.run(output, has_ended).await?)
    }

    /// Asks again and again, with growing breaks, while the engine is not there. Whether it was not
    /// there at first comes with its answer.
    pub(super) async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<(T, bool), RunFailure>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let [mut pause, longest] = RETRY;
        let start = Instant::now();
        let mut was_gone = false;
        loop {
            match ask().await {
                Err(error) if error.is_absence() && start.elapsed() < GONE => {
                    was_gone = true;
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                answer => return Ok((answer?, was_gone)),
            }
        }
    }

    /// Looks now and then how much memory the container has, whether its files have new metrics, and
    /// whether the engine is there.
    async fn observe(&self, id: &str, looks: &mut MetricLooks, peak: &mut Option<u64>) {
        let mut pause = Duration::from_millis(500);
        let mut silent: Option<Instant> = None;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK);
            match timeout(PING, self.engine.memory(id)).await {
                Ok(Ok(sample)) => {
                    if silent.take().is_some() {
                        self.events
                            .send(Event::Note("the engine answers again".to_owned()));
                    }
                    let seen = sample.map(|sample| sample.peak.unwrap_or(sample.used));
                    *peak = seen.max(*peak);
                    looks.look(self, id).await;
                }
                Ok(Err(_)) => {}
                Err(_) => {
                    if silent.is_none() {
                        silent = Some(Instant::now());
                        self.events.send(Event::Warning(
                            "the engine does not answer; jobctl waits for it".to_owned(),
                        ));
                    }
                }
            }
        }
    }
}
