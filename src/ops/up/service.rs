//! Services: started, found to be healthy, and only then put in the place of the one before.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::down::stop_listener;
use super::why::{note_alike, of_service};
use super::{Done, How, Launched, Launcher, Pipeline, UpFailure, Why};
use crate::engine::run::{Container, RunSpec};
use crate::event::{self, Event, Stream};
use crate::facts::host::now;
use crate::model::{Name, Port, Protocol, RunId};
use crate::ops::forward::bind;
use crate::ops::run::{Control, Controls, Ready, RunFailure, begin, container_of, end};
use crate::plan::up::Step;
use crate::records::log::{LogReader, LogSelection};
use crate::records::{FileLock, Record, Route, Store, StoreError, spec};

/// How often it is looked how a service is.
const LOOK: Duration = Duration::from_millis(100);
/// How long a service without a health check must have been up.
const UP: Duration = Duration::from_secs(1);
/// How many lines are shown of what a service wrote that did not start.
const LINES: u64 = 10;

/// A port that a process of ours listens on: where, and which port of the container it leads to.
type Held = (SocketAddr, u16);

impl<L: Launcher> Pipeline<L> {
    /// Sees to it that ports can be had before anything is done for whom they are.
    pub(super) async fn see_to_ports(&self, steps: &[Step]) -> Result<(), UpFailure> {
        for step in steps.iter().filter(|step| step.is_service) {
            let service = self.store.service(&step.job);
            let is_up = FileLock::is_held(&service.lock()).unwrap_or(false)
                || !serving(&self.store, step.job.as_str())?.is_empty();
            if is_up {
                continue;
            }
            let Some(held) = self.held(&step.plan.spec).await else {
                continue;
            };
            for (address, _) in held {
                if let Err(error) = bind(address) {
                    return Err(UpFailure::Port {
                        job: step.job.clone(),
                        why: format!("{address}: {error}"),
                    });
                }
            }
        }
        Ok(())
    }

    /// The ports that a process of ours can listen on; nothing where the engine has to publish some.
    async fn held(&self, spec: &RunSpec) -> Option<Vec<Held>> {
        let is_host = spec.network.as_deref() == Some("host");
        if is_host || !self.engine.shares_our_network().await {
            return None;
        }
        held(&spec.ports)
    }

    /// Sees to it that a service is up, and puts it in the place of the one before.
    pub(super) async fn serve(
        &self,
        job: &Name,
        mut ready: Ready,
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<Done, UpFailure> {
        let ports = ready.spec().ports.clone();
        let image = ready.image().clone();
        let held = self.held(ready.spec()).await;
        let others = serving(&self.store, job.as_str())?;
        let is_alike = |record: &&Record| {
            !self.wishes.is_fresh
                && ready.is_alike(record)
                && held
                    .as_ref()
                    .is_none_or(|held| routes(record, held).is_some())
        };
        let (id, how, why) = match others.iter().find(is_alike) {
            Some(record) => {
                note_alike(&self.store, record, &ready);
                (record.id, How::UpToDate, None)
            }
            None => {
                let why = match others.first() {
                    _ if self.wishes.is_fresh => Why::Asked,
                    Some(other) => of_service(&self.store, other, &ready)?,
                    None => Why::NotUp,
                };
                self.explain(job, &why);
                if let Some(held) = &held {
                    ready.publish(elsewhere(held).map_err(RunFailure::from)?);
                } else if !ports.is_empty() {
                    self.give_way(job, &others).await?;
                }
                let id = Box::pin(self.start(job, ready, others.len(), controls)).await?;
                (id, How::Ran, Some(why))
            }
        };
        self.wait_until_healthy(job, id, others.len(), shown, controls)
            .await?;
        let record = self.store.read(id).map_err(RunFailure::from)?;
        let before = others.iter().filter(|other| other.id != id);
        let before: Vec<_> = before.cloned().collect();
        match &held {
            Some(held) if !held.is_empty() => {
                let routes = routes(&record, held).unwrap_or_default();
                self.switch(job, &Route::new(id, routes), &before).await?;
            }
            _ => self.end_all(&before).await?,
        }
        Ok(Done {
            job: job.clone(),
            record,
            image,
            how,
            why,
            ports,
        })
    }

    /// Where the engine publishes a port itself, the one that has it must go first.
    async fn give_way(&self, job: &Name, others: &[Record]) -> Result<(), UpFailure> {
        if others.is_empty() {
            return Ok(());
        }
        self.events.send(Event::Warning(format!(
            "`{job}` is away for a moment: its ports are such that two of it can't be up at once"
        )));
        self.end_all(others).await
    }

    async fn start(
        &self,
        job: &Name,
        ready: Ready,
        others: usize,
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
                old_goes_on: others > 0,
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

    /// Waits until a service is well. One that does not get well is ended, and so is one that the user
    /// does not want any more.
    async fn wait_until_healthy(
        &self,
        job: &Name,
        run: RunId,
        others: usize,
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<(), UpFailure> {
        let start = Instant::now();
        let mut is_told = false;
        let why = loop {
            let record = self.store.read(run).map_err(RunFailure::from)?;
            if record.state.is_final() {
                break match record.exit_code {
                    Some(code) => format!("it ended with {code}"),
                    None => "it ended".to_owned(),
                };
            }
            let container = container_of(&self.engine, &self.store.run(run)).await?;
            match container.as_ref().map(health) {
                Some(Health::Good) => return Ok(()),
                Some(Health::Bad) => break "its health check fails".to_owned(),
                _ => {}
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
                Some(control) = controls.recv() => self.give_up(run, control).await?,
            }
        };
        end(&self.engine, &self.store, run, None, None, &self.events).await?;
        Err(UpFailure::Unhealthy {
            job: job.clone(),
            run,
            why,
            log: last_lines(&self.store, run),
            old_goes_on: others > 0 && self.store.service(job).route()?.is_some(),
        })
    }

    /// Lets new connections go to a run, and ends those before once theirs are over.
    async fn switch(&self, job: &Name, route: &Route, before: &[Record]) -> Result<(), UpFailure> {
        let service = self.store.service(job);
        let known = service.route()?;
        if known.as_ref() != Some(route) {
            service.set_route(route)?;
        }
        let addresses =
            |route: &Route| -> Vec<_> { route.ports.iter().map(|port| port.0).collect() };
        if known.is_some_and(|known| addresses(&known) != addresses(route)) {
            stop_listener(job, &service).await?;
        }
        if !FileLock::is_held(&service.lock()).map_err(RunFailure::from)? {
            let listen = || {
                let listening = tokio::task::block_in_place(|| self.launcher.listener(job));
                listening.map_err(|why| {
                    let job = job.clone();
                    UpFailure::Port { job, why }
                })
            };
            match listen() {
                // One that was started by itself has its ports itself.
                Err(_) if !before.is_empty() => {
                    self.end_all(before).await?;
                    return listen();
                }
                listening => listening?,
            }
        }
        for record in before {
            let grace = Duration::from_millis(record.policy.grace_ms);
            let connections = service.connections(record.id);
            let start = Instant::now();
            while start.elapsed() < grace && FileLock::is_held(&connections).unwrap_or(false) {
                sleep(LOOK).await;
            }
            self.end_all(std::slice::from_ref(record)).await?;
            // It is empty; who has it open still has its lock.
            let _ = std::fs::remove_file(connections);
        }
        Ok(())
    }

    async fn end_all(&self, records: &[Record]) -> Result<(), UpFailure> {
        for record in records {
            end(
                &self.engine,
                &self.store,
                record.id,
                None,
                None,
                &self.events,
            )
            .await?;
        }
        Ok(())
    }
}

/// The runs of a service that are not over, newest first.
pub(super) fn serving(store: &Store, job: &str) -> Result<Vec<Record>, StoreError> {
    let runs = store.summaries()?.runs.into_iter();
    let up = runs.filter(|run| run.job.as_deref() == Some(job) && !run.state.is_final());
    // One that can't be read was removed.
    Ok(up.filter_map(|run| store.read(run.id).ok()).collect())
}

/// Ports that a process can listen on in the engine's place: single ones of TCP. One for which the engine
/// picks the port of this machine is left to it.
fn held(ports: &[Port]) -> Option<Vec<Held>> {
    let mut held = Vec::new();
    for port in ports {
        let container = *port.container().start();
        let is_single = port.container().end() == &container;
        let host = port.host().filter(|host| host.start() == host.end())?;
        if !is_single || port.protocol() != Protocol::Tcp {
            return None;
        }
        let ip = port.ip().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        held.push((SocketAddr::new(ip, *host.start()), container));
    }
    Some(held)
}

/// Ports of this machine that nobody has, for the ports of a container.
fn elsewhere(held: &[Held]) -> std::io::Result<Vec<Port>> {
    // All at once, so that none is given twice.
    let taken = held.iter().map(|_| TcpListener::bind("127.0.0.1:0"));
    let taken: Vec<_> = taken.collect::<Result<_, _>>()?;
    let ports = taken.iter().zip(held).map(|(listener, (_, container))| {
        let port = listener.local_addr()?.port();
        let written = format!("127.0.0.1:{port}:{container}");
        Ok(written.parse().expect("it is written as ports are"))
    });
    ports.collect()
}

/// Where the ports lead that we listen on, for a run that was started for it.
fn routes(record: &Record, held: &[Held]) -> Option<Vec<(SocketAddr, SocketAddr)>> {
    let published = spec::from_json(&record.container).ok()?.ports;
    let routes = held.iter().map(|(address, container)| {
        let found = published
            .iter()
            .find(|port| port.container().start() == container)?;
        let to = SocketAddr::new(found.ip()?, *found.host()?.start());
        (to != *address).then_some((*address, to))
    });
    routes.collect()
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
        Some("healthy") => Health::Good,
        Some("unhealthy") => Health::Bad,
        None if container.status.is_up() && is_old => Health::Good,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ports_of_tcp_are_listened_on() {
        for (written, expected) in [
            (&["127.0.0.1:8000:80"][..], Some("127.0.0.1:8000 80")),
            (&["8000:80"], Some("[::]:8000 80")),
            (
                &["8000:80", "[::1]:9000:90/tcp"],
                Some("[::]:8000 80, [::1]:9000 90"),
            ),
            (&[], Some("")),
            (&["80"], None),
            (&["8000-8001:80-81"], None),
            (&["8000-8001:80"], None),
            (&["8000:80/udp"], None),
        ] {
            let ports: Vec<Port> = written.iter().map(|text| text.parse().unwrap()).collect();
            let found = held(&ports).map(|held| {
                let held = held
                    .iter()
                    .map(|(address, port)| format!("{address} {port}"));
                held.collect::<Vec<_>>().join(", ")
            });
            assert_eq!(found.as_deref(), expected, "{written:?}");
        }
    }

    #[test]
    fn a_run_that_has_the_ports_itself_has_no_route() {
        let held = held(&["127.0.0.1:8000:80".parse().unwrap()]).unwrap();
        let mut record = Record::new(RunId::new(now()), now());
        for (ports, has_route) in [
            (r#"["127.0.0.1:8000:80"]"#, false),
            (r#"["127.0.0.1:43210:80"]"#, true),
            ("[]", false),
        ] {
            let container = format!(r#"{{"image":"a","ports":{ports}}}"#);
            record.container = serde_json::from_str(&container).unwrap();
            assert_eq!(routes(&record, &held).is_some(), has_route, "{ports}");
        }
    }
}
