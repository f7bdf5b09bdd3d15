//! Services: started, found to be healthy, and only then put in the place of the one before.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::down::stop_listener;
use super::why::{note_alike, of_service};
use super::{Done, How, Launcher, Pipeline, UpFailure, Why};
use crate::engine::run::{Container, RunSpec};
use crate::event::{self, Event};
use crate::model::{Name, Port, Protocol, RunId};
use crate::ops::forward::bind;
use crate::ops::run::{Controls, Ready, RunFailure, container_of, end};
use crate::plan::up::Step;
use crate::records::{FileLock, Record, Route, Store, StoreError, spec};

/// How often it is looked how a service is.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// A port that a process of ours listens on: where, and which port of the container it leads to.
pub(super) type Held = (SocketAddr, u16);

impl<L: Launcher> Pipeline<L> {
    /// Sees to it that ports can be had before anything is done for whom they are.
    pub(super) async fn see_to_ports(&self, steps: &[Step]) -> Result<(), UpFailure> {
        for step in steps.iter().filter(|step| step.is_service) {
            let service = self.store.service(&step.job);
            let route = service.route()?;
            let is_listened = FileLock::is_held(&service.lock()).unwrap_or(false);
            if !is_listened && !serving(&self.store, step.job.as_str())?.is_empty() {
                // One that was started by itself may have its ports itself.
                continue;
            }
            let Some(held) = self.held(&step.plan.spec).await else {
                continue;
            };
            // Its own process gives a port up before another one listens there, at whatever address.
            let is_ours = |address: &SocketAddr| {
                let mut ports = route.iter().flat_map(|route| &route.ports);
                is_listened && ports.any(|(ours, _)| ours.port() == address.port())
            };
            for (address, _) in held.into_iter().filter(|(address, _)| !is_ours(address)) {
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
                let id = record.id;
                let listened = held.as_deref().unwrap_or_default();
                let waiting =
                    self.wait_until_healthy(job, id, (&others, listened), shown, controls);
                match waiting.await {
                    // It was ending, and has ended.
                    Err(UpFailure::Unhealthy { .. }) => {
                        return Box::pin(self.serve(job, ready, shown, controls)).await;
                    }
                    waited => drop(waited?),
                }
                (id, How::UpToDate, None)
            }
            None => {
                let plan = ready.plan().clone();
                if let Some(held) = &held {
                    ready.publish(held.iter().map(chosen_by_engine).collect());
                }
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
                let before = self.store.service(job).route()?;
                if let Some(in_the_way) = &in_the_way {
                    self.give_way(job, &others, in_the_way).await?;
                }
                let listened = held.as_deref().unwrap_or_default();
                let starting = self.start(job, ready, (&others, listened), shown, controls);
                match Box::pin(starting).await {
                    Ok(id) => (id, How::Ran, Some(why)),
                    Err(failure) => {
                        let stopped = others.first().filter(|_| in_the_way.is_some());
                        return Err(match stopped {
                            Some(stopped) => {
                                let stopped = (stopped, before.as_ref());
                                self.put_back(job, stopped, plan, failure).await
                            }
                            None => failure,
                        });
                    }
                }
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
            ports: ports
                .iter()
                .map(|port| as_published(port, &container))
                .collect(),
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
        if (known.as_ref()).is_some_and(|known| addresses(known) != addresses(route)) {
            stop_listener(job, &service).await?;
        }
        if !FileLock::is_held(&service.lock()).map_err(RunFailure::from)?
            && let Err(why) = self.listen(job)
        {
            match known {
                // Nothing has changed for whoever is served.
                Some(known) if before.iter().any(|before| before.id == known.run) => {
                    service.set_route(&known)?;
                    if let Err(why) = self.listen(job) {
                        self.events.send(Event::Warning(format!(
                            "the process that listened on the ports of `{job}` is not started again: {why}"
                        )));
                    }
                    return self.unreachable(job, route.run, why).await;
                }
                // One that was started by itself has its ports itself.
                _ if !before.is_empty() => {
                    self.end_all(before).await?;
                    if let Err(why) = self.listen(job) {
                        return self.unreachable(job, route.run, why).await;
                    }
                }
                _ => {
                    service.remove()?;
                    return self.unreachable(job, route.run, why).await;
                }
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

    /// Starts the process that listens on a service's ports.
    pub(super) fn listen(&self, job: &Name) -> Result<(), String> {
        tokio::task::block_in_place(|| self.launcher.listener(job))
    }

    /// Ends a run that can't be reached.
    async fn unreachable(&self, job: &Name, run: RunId, why: String) -> Result<(), UpFailure> {
        end(&self.engine, &self.store, run, None, None, &self.events).await?;
        let job = job.clone();
        Err(UpFailure::Port { job, why })
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

/// A port with that of this machine which the engine has chosen for it.
fn as_published(port: &Port, container: &Container) -> Port {
    let inside = *port.container().start();
    let chosen = container
        .published(inside)
        .filter(|_| port.host().is_none());
    let written = chosen.map(|at| format!("{at}:{inside}"));
    written
        .and_then(|written| written.parse().ok())
        .unwrap_or_else(|| port.clone())
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
    match spec.networks.first()?.name.as_str() {
        "host" => Some("it uses the host's network".to_owned()),
        network => {
            let other = network.strip_prefix("container:")?;
            Some(format!("it uses the network of the container `{other}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::host::now;
    use crate::model::NetworkAttachment;

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
                networks: network.map(NetworkAttachment::of).into_iter().collect(),
                ..RunSpec::default()
            };
            assert_eq!(shared_network(&spec).as_deref(), expected, "{network:?}");
        }
    }
}
