//! Services: started, found to be healthy, and only then put in the place of the one before.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::down::stop_listener;
use super::why::{note_alike, of_service};
use super::{Done, How, Launched, Launcher, Pipeline, UpFailure, Why};
use crate::engine::run::{Container, RunSpec, Status};
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
/// How often a service may end and be started again by the engine before it is healthy.
const MOST_RESTARTS: u32 = 3;
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
        if shared_network(spec).is_some() || !self.engine.shares_our_network().await {
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
                && held.as_ref().is_none_or(|held| is_elsewhere(record, held))
        };
        let (id, how, why) = match others.iter().find(is_alike) {
            Some(record) => {
                note_alike(&self.store, record, &ready);
                (record.id, How::UpToDate, None)
            }
            None => {
                let why = match others.first() {
                    _ if self.wishes.is_fresh => Why::Fresh,
                    Some(other) => of_service(&self.store, other, &ready)?,
                    None => Why::NotUp,
                };
                self.explain(job, &why);
                let in_the_way = match (shared_network(ready.spec()), &held) {
                    (Some(why), _) => Some(why),
                    (None, None) if !ports.is_empty() => {
                        Some("the engine publishes its ports itself".to_owned())
                    }
                    _ => None,
                };
                if let Some(in_the_way) = in_the_way {
                    self.give_way(job, &others, &in_the_way).await?;
                }
                if let Some(held) = &held {
                    ready.publish(held.iter().map(chosen_by_engine).collect());
                }
                let id = Box::pin(self.start(job, ready, &others, controls)).await?;
                (id, How::Ran, Some(why))
            }
        };
        let held = held.unwrap_or_default();
        let container = self
            .wait_until_healthy(job, id, (&others, &held), shown, controls)
            .await?;
        let record = self.store.read(id).map_err(RunFailure::from)?;
        let before = others.iter().filter(|other| other.id != id);
        let before: Vec<_> = before.cloned().collect();
        match Route::to_container(id, &held, &container) {
            Some(route) if !held.is_empty() => self.switch(job, &route, &before).await?,
            _ => {
                self.stop_listening(job).await?;
                self.end_all(&before).await?;
            }
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

    /// Where two of a service can't be up at once, the one that is up must go first. Otherwise the new one
    /// would not get its ports, or be found healthy because the old one answers its health check.
    async fn give_way(&self, job: &Name, others: &[Record], why: &str) -> Result<(), UpFailure> {
        self.stop_listening(job).await?;
        let Some(newest) = others.first() else {
            return Ok(());
        };
        self.events.send(Event::Warning(format!(
            "`{job}` is briefly unavailable: {why}, so that two of it can't be up at once; the run {} is \
             stopped first",
            newest.id.short()
        )));
        self.end_all(others).await
    }

    /// Ends the process that listens for a service which has it no more.
    async fn stop_listening(&self, job: &Name) -> Result<(), UpFailure> {
        let service = self.store.service(job);
        if service.route()?.is_some() {
            stop_listener(job, &service).await?;
            service.remove()?;
        }
        Ok(())
    }

    async fn start(
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

    /// Waits until a service is well. One that does not get well is ended, and so is one that the user
    /// does not want any more.
    async fn wait_until_healthy(
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
                            "it ended, and again each of {since} times that it was restarted"
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
                Some(control) = controls.recv() => self.give_up(run, control).await?,
            }
        };
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

    /// Lets new connections go to a run, and ends those before once theirs are over.
    async fn switch(&self, job: &Name, route: &Route, before: &[Record]) -> Result<(), UpFailure> {
        let service = self.store.service(job);
        let known = service.route()?;
        if known.as_ref() != Some(route) {
            service.set_route(route)?;
        }
        // It may have been started again before there was a route to correct.
        let found = container_of(&self.engine, &self.store.run(route.run)).await?;
        if let Some(container) = found {
            service.change_route(route.run, |route| route.lead_to(&container))?;
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

/// A port of a container, published on one of this machine that the engine chooses.
fn chosen_by_engine((_, container): &Held) -> Port {
    let written = format!("127.0.0.1::{container}");
    written.parse().expect("it is written as ports are")
}

/// Whether a run was started to be listened for, and does not have the ports itself.
fn is_elsewhere(record: &Record, held: &[Held]) -> bool {
    let Ok(spec) = spec::from_json(&record.container) else {
        return false;
    };
    held.iter().all(|(address, container)| {
        let mut ports = spec.ports.iter();
        let published = ports.find(|port| port.container().start() == container);
        published.is_some_and(|port| {
            let of_host = port.ip().zip(port.host());
            of_host.map(|(ip, host)| SocketAddr::new(ip, *host.start())) != Some(*address)
        })
    })
}

/// Whose network a container uses, in which two servers can't have the same port, if it is not its own.
fn shared_network(spec: &RunSpec) -> Option<String> {
    match spec.network.as_deref()? {
        "host" => Some("it uses the host's network".to_owned()),
        network => {
            let other = network.strip_prefix("container:")?;
            Some(format!("it uses the network of the container `{other}`"))
        }
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
            (r#"["127.0.0.1::80"]"#, true),
            // As earlier versions of jobctl published them.
            (r#"["127.0.0.1:43210:80"]"#, true),
            ("[]", false),
        ] {
            let container = format!(r#"{{"image":"a","ports":{ports}}}"#);
            record.container = serde_json::from_str(&container).unwrap();
            assert_eq!(is_elsewhere(&record, &held), has_route, "{ports}");
        }
    }

    #[test]
    fn servers_in_one_network_are_seen() {
        for (network, expected) in [
            (None, None),
            (Some("bridge"), None),
            (Some("mine"), None),
            (Some("host"), Some("it uses the host's network")),
            (
                Some("container:db"),
                Some("it uses the network of the container `db`"),
            ),
        ] {
            let spec = RunSpec {
                network: network.map(str::to_owned),
                ..RunSpec::default()
            };
            assert_eq!(shared_network(&spec).as_deref(), expected, "{network:?}");
        }
    }
}
