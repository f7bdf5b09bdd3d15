//! Starting a run of a service, and waiting until it is healthy.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::service::{Held, LOOK};
use super::{Launched, Launcher, Pipeline, UpFailure};
use crate::engine::run::{Container, Status};
use crate::event::{self, Event, Stream};
use crate::facts::host::now;
use crate::model::{Name, RunId};
use crate::ops::run::{Control, Controls, Ready, RunFailure, begin, container_of, end};
use crate::plan::run::RunPlan;
use crate::records::log::{LogReader, LogSelection};
use crate::records::{Record, Route, Store};

/// How long a service without a health check must have been up.
const UP: Duration = Duration::from_secs(1);
/// How often a service may end and be started again by the engine before it is healthy.
const MOST_RESTARTS: u32 = 3;
/// How often it is looked where the engine has published a run's ports.
const PUBLISHED_LOOKS: u32 = 50;
/// How many lines are shown of what a service wrote that did not start.
const LINES: u64 = 10;

impl<L: Launcher> Pipeline<L> {
    /// Starts a run again that had to be stopped for another one, of which nothing came; the failure of that
    /// one, which says whether it is back.
    pub(super) async fn put_back(
        &self,
        job: &Name,
        (stopped, route): (&Record, Option<&Route>),
        plan: RunPlan,
        failure: UpFailure,
    ) -> UpFailure {
        let (_sender, mut nobody) = tokio::sync::mpsc::unbounded_channel();
        let starting = async {
            let (ready, _) = Ready::again(&self.store, stopped, plan).await?;
            let run = Box::pin(self.launch(job, ready, &[], &mut nobody)).await?;
            match route {
                Some(route) => self.listen_again(job, run, route).await,
                None => Ok(()),
            }
        };
        let run = stopped.id.short();
        match Box::pin(starting).await {
            Ok(()) => self.events.send(Event::Warning(format!(
                "`{job}` is started again as in the run {run}"
            ))),
            Err(error) => {
                self.events.send(Event::Warning(format!(
                    "`{job}` can't be started again as in the run {run}: {error}"
                )));
                return failure;
            }
        }
        match failure {
            UpFailure::Unhealthy {
                job, run, why, log, ..
            } => UpFailure::Unhealthy {
                job,
                run,
                why,
                log,
                old_goes_on: true,
            },
            other => other,
        }
    }

    /// Listens again on the ports that a route had, for another run.
    async fn listen_again(&self, job: &Name, run: RunId, route: &Route) -> Result<(), UpFailure> {
        let held = route.held();
        let service = self.store.service(job);
        for _ in 0..PUBLISHED_LOOKS {
            let found = container_of(&self.engine, &self.store.run(run)).await?;
            let to = found.and_then(|container| Route::to_container(run, &held, &container));
            if let Some(to) = to {
                service.set_route(&to)?;
                return self.listen(job).map_err(|why| {
                    let job = job.clone();
                    UpFailure::Port { job, why }
                });
            }
            sleep(LOOK).await;
        }
        let (job, why) = (
            job.clone(),
            "the engine does not publish its ports".to_owned(),
        );
        Err(UpFailure::Port { job, why })
    }

    /// Starts a run of a service, and waits until it is healthy.
    pub(super) async fn start(
        &self,
        job: &Name,
        ready: Ready,
        (others, held): (&[Record], &[Held]),
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<RunId, UpFailure> {
        let run = Box::pin(self.launch(job, ready, others, controls)).await?;
        let waiting = self.wait_until_healthy(job, run, (others, held), shown, controls);
        waiting.await?;
        Ok(run)
    }

    async fn launch(
        &self,
        job: &Name,
        ready: Ready,
        others: &[Record],
        controls: &mut Controls,
    ) -> Result<RunId, UpFailure> {
        let mut asked = self.wishes.asked.clone();
        asked.is_detached = true;
        let prepared = begin(&self.engine, &self.store, ready, &asked).await?;
        let run = prepared.record.id;
        let waiting = self.launcher.supervisor(&prepared);
        let mut waiting = tokio::task::spawn_blocking(waiting.map_err(RunFailure::from)?);
        let launched = loop {
            tokio::select! {
                launched = &mut waiting => break launched.map_err(io::Error::other),
                Some(control) = controls.recv() => self.give_up(run, control).await?,
            }
        };
        match launched
            .and_then(|launched| launched)
            .map_err(RunFailure::from)?
        {
            Launched::Started => Ok(run),
            Launched::Over(code, message) => Err(UpFailure::Unhealthy {
                job: job.clone(),
                run,
                why: match message.as_str() {
                    "" => format!("it ended with {code}"),
                    message => message.to_owned(),
                },
                log: last_lines(&self.store, run),
                old_goes_on: self.is_any_up(others),
            }),
        }
    }

    /// Ends a service that the user does not want any more before it is healthy.
    async fn give_up(&self, run: RunId, control: Control) -> Result<(), UpFailure> {
        match control {
            Control::Interrupt | Control::Terminate => {
                end(&self.engine, &self.store, run, None, None, &self.events).await?;
                Err(UpFailure::Interrupted)
            }
            Control::Detach => Err(UpFailure::Detached),
            Control::Signal(_) | Control::Resize(..) => Ok(()),
        }
    }

    /// Waits until a service is healthy. A new one that does not become healthy is ended, and so is one that
    /// the user does not want any more; one that was up before stays as it is.
    pub(super) async fn wait_until_healthy(
        &self,
        job: &Name,
        run: RunId,
        (others, held): (&[Record], &[Held]),
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<Container, UpFailure> {
        let start = Instant::now();
        let mut is_told = false;
        let was_up = others.iter().any(|other| other.id == run);
        let mut restarts = (!was_up).then_some(0);
        let why = loop {
            let record = self.store.read(run).map_err(RunFailure::from)?;
            if record.state.is_final() {
                break match record.exit_code {
                    Some(code) => format!("it ended with {code}"),
                    None => "it ended".to_owned(),
                };
            }
            let container = container_of(&self.engine, &self.store.run(run)).await?;
            if let Some(container) = container {
                let is_published = |(_, inside): &Held| container.published(*inside).is_some();
                let before = *restarts.get_or_insert(container.restarts);
                let since = container.restarts.saturating_sub(before);
                match health(&container) {
                    Health::Good if held.iter().all(is_published) => return Ok(container),
                    Health::Bad => break "its health check fails".to_owned(),
                    _ if since > MOST_RESTARTS => {
                        break format!(
                            "it ended at once each time, and was restarted {since} times"
                        );
                    }
                    _ => {}
                }
            }
            if start.elapsed() >= self.wishes.patience {
                let patience = self.wishes.patience.as_secs();
                break format!("it is not healthy after {patience} s");
            }
            if !is_told {
                is_told = true;
                shown.log(Stream::Stderr, "waiting until it is healthy");
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                Some(control) = controls.recv() => match control {
                    Control::Signal(_) | Control::Resize(..) => {}
                    // It serves, whatever it is waited for.
                    _ if was_up => return Err(UpFailure::Interrupted),
                    _ => self.give_up(run, control).await?,
                },
            }
        };
        let is_over = (self.store.read(run)).is_ok_and(|record| record.state.is_final());
        if was_up && !is_over {
            let job = job.clone();
            return Err(UpFailure::Ailing { job, run, why });
        }
        end(&self.engine, &self.store, run, None, None, &self.events).await?;
        Err(UpFailure::Unhealthy {
            job: job.clone(),
            run,
            why,
            log: last_lines(&self.store, run),
            old_goes_on: self.is_any_up(others),
        })
    }

    /// Whether one of these runs keeps running.
    fn is_any_up(&self, runs: &[Record]) -> bool {
        let mut now = runs.iter().map(|run| self.store.read(run.id));
        now.any(|run| run.is_ok_and(|run| !run.state.is_final()))
    }
}

/// How a container is.
enum Health {
    Good,
    Bad,
    Unknown,
}

fn health(container: &Container) -> Health {
    let is_old = container
        .started
        .is_some_and(|started| now().duration_since(started).unsigned_abs() >= UP);
    match container.health.as_deref() {
        // The engine calls one unhealthy that it is starting again.
        _ if container.status != Status::Running => Health::Unknown,
        Some("healthy") => Health::Good,
        Some("unhealthy") => Health::Bad,
        None if is_old => Health::Good,
        _ => Health::Unknown,
    }
}

fn last_lines(store: &Store, run: RunId) -> Vec<String> {
    let selection = LogSelection {
        tail: Some(LINES),
        ..LogSelection::default()
    };
    let mut bytes = Vec::new();
    if let Ok(mut log) = LogReader::open(store.run(run).path(), selection) {
        while let Ok(Some(piece)) = log.read_more() {
            bytes.extend_from_slice(piece.bytes);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::to_owned).collect()
}
