//! A container that the engine starts again by itself.
//!
//! What ends is one of its processes, not the run: the run keeps running until the engine gives up, or
//! somebody stops the container.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::RunFailure;
use super::attempt::{Work, latest};
use super::follow::Followable;
use super::outcome::note_restart;
use super::pump::Pump;
use crate::engine::run::{Container, LogRequest, RunError, Status, Until};
use crate::event::Event;
use crate::records::{Record, Route, spec};

/// How often a container is looked at that the engine is starting again.
const LOOK: Duration = Duration::from_millis(50);
/// How often a container is looked at that has ended, and how many times: it may be stopped and started
/// again by somebody, or by an engine that has just been started itself.
const LATE: Duration = Duration::from_millis(250);
const LATE_LOOKS: [u32; 2] = [1, 20];

impl Work<'_> {
    /// Waits until the engine has started a container again that has ended, and takes its output up where
    /// it was left. Nothing where the container stays as it is.
    pub(super) async fn started_again(
        &self,
        record: &mut Record,
        seen: &mut Option<u32>,
        mut was_lost: bool,
        pump: &mut Pump,
    ) -> Result<Option<Followable>, RunFailure> {
        let id = latest(record).container_id.clone().unwrap_or_default();
        self.mark_down(record, &id).await;
        if !restarts(record) {
            return Ok(None);
        }
        let mut looks = 0;
        loop {
            // Whoever stops it may have done so while it was being started again.
            if self.folder.is_stop_wanted() {
                return Ok(None);
            }
            let (container, was_gone) = self.patiently(|| self.engine.container(&id)).await?;
            was_lost |= was_gone;
            let Some(container) = container else {
                return Ok(None);
            };
            let is_running = matches!(container.status, Status::Running | Status::Paused);
            // It was started, and has ended once more, between two looks.
            let is_missed = seen.is_some_and(|seen| seen != container.restarts);
            match container.status {
                _ if is_running || is_missed => match self.take_up(record, &id, seen, pump).await {
                    Ok(Some(followable)) => return Ok(Some(followable)),
                    Ok(None) | Err(RunFailure::Run(RunError::NoContainer { .. })) => {}
                    Err(error) if is_absence(&error) => was_lost = true,
                    Err(error) => return Err(error),
                },
                Status::Restarting => {}
                // An engine that is shut down starts it again when it is started itself.
                _ if !self.engine.is_listening().await => was_lost = true,
                _ if looks >= LATE_LOOKS[usize::from(was_lost)] => return Ok(None),
                _ => {
                    looks += 1;
                    sleep(LATE).await;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Takes what a container has written that was started again, and what it is going to write, unless it
    /// has ended once more.
    async fn take_up(
        &self,
        record: &mut Record,
        id: &str,
        seen: &mut Option<u32>,
        pump: &mut Pump,
    ) -> Result<Option<Followable>, RunFailure> {
        // From here on no end is missed.
        let waiting = self.engine.wait(id, Until::NextExit).await?;
        let Some(container) = self.engine.container(id).await? else {
            return Ok(None);
        };
        let is_running = matches!(container.status, Status::Running | Status::Paused);
        if !is_running && seen.is_some_and(|seen| seen == container.restarts) {
            return Ok(None);
        }
        let mut noted = latest(record).clone();
        let before = noted.restarts;
        let mut now_seen = *seen;
        note_restart(&mut noted, &container, &mut now_seen);
        let count = noted.restarts;
        pump.finish().await;
        // The output of its last process is whole, and that of the next one comes after that.
        let is_next = is_running && count == before + 1;
        if let Some(ended) = container.finished.filter(|_| is_next && !container.tty) {
            pump.note_whole(ended);
        }
        let since = pump.resume();
        if since.is_none() {
            pump.rewind()?;
        }
        let request = LogRequest {
            follow: is_running,
            since,
            timestamps: !container.tty,
            ..LogRequest::default()
        };
        let output = self.engine.logs(id, container.tty, &request).await?;
        (*latest(record), *seen) = (noted, now_seen);
        self.events.send(Event::Warning(format!(
            "the container has ended, and the engine has started it again ({count})"
        )));
        self.keep(record, "restarted")?;
        if is_running {
            self.lead_to(record, &container);
            return Ok(Some(Followable { output, waiting }));
        }
        let (_never, has_ended) = watch::channel(false);
        pump.run(output, has_ended).await?;
        Ok(None)
    }

    /// Lets connections to a service go to where its container is published now.
    pub(super) fn lead_to(&self, record: &Record, container: &Container) {
        self.change_route(record, |route| route.lead_to(container));
    }

    /// Lets connections to a service be refused: its ports may be anybody's from now on.
    async fn mark_down(&self, record: &Record, id: &str) {
        let started = match self.engine.container(id).await {
            // It is started again already, and is led to.
            Ok(Some(container)) if container.status == Status::Running => return,
            Ok(Some(container)) => container.started,
            Ok(None) | Err(_) => None,
        };
        self.change_route(record, |route| route.take_down(started));
    }

    fn change_route(&self, record: &Record, change: impl FnOnce(&mut Route)) {
        let job = record.job.as_ref().filter(|_| record.policy.is_service);
        let Some(job) = job.and_then(|job| job.parse().ok()) else {
            return;
        };
        if let Err(error) = self.folder.service(&job).change_route(record.id, change) {
            self.events.send(Event::Warning(error.to_string()));
        }
    }
}

fn is_absence(failure: &RunFailure) -> bool {
    match failure {
        RunFailure::Engine(error) | RunFailure::Run(RunError::Engine(error)) => error.is_absence(),
        _ => false,
    }
}

/// Whether the engine starts the run's container again by itself.
pub(super) fn restarts(record: &Record) -> bool {
    spec::from_json(&record.container).is_ok_and(|spec| spec.restart.is_some())
}
