//! `services/JOB/`: where connections to a service's ports go.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::durable::{self, Directory};
use super::error::StoreError;
use super::file_lock::FileLock;
use super::store::Store;
use crate::engine::run::Container;
use crate::model::{Name, RunId};

/// The schema of what this version writes.
const SCHEMA: &str = "jobctl.route/1";

/// Where what comes to a service's ports is passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    schema: String,
    /// The run that serves.
    pub run: RunId,
    /// Addresses of this machine that are listened on, and where each leads.
    pub ports: Vec<(SocketAddr, SocketAddr)>,
    /// The port of the container that each leads to. Routes of earlier versions of jobctl have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inside: Vec<u16>,
    /// When the container started that is published there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    /// Whether the container's process has ended, so that the ports may be anybody's by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_down: bool,
}

impl Route {
    /// The route to a run.
    #[must_use]
    pub fn new(run: RunId, ports: Vec<(SocketAddr, SocketAddr)>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            run,
            ports,
            inside: Vec::new(),
            started: None,
            is_down: false,
        }
    }

    /// The route from addresses of this machine to ports of a run's container, wherever the engine has
    /// published them; nothing where it has not.
    #[must_use]
    pub fn to_container(
        run: RunId,
        held: &[(SocketAddr, u16)],
        container: &Container,
    ) -> Option<Self> {
        let ports = held
            .iter()
            .map(|(address, inside)| Some((*address, container.published(*inside)?)));
        Some(Self {
            inside: held.iter().map(|(_, inside)| *inside).collect(),
            started: container.started,
            ..Self::new(run, ports.collect::<Option<_>>()?)
        })
    }

    /// Leads nowhere, until the container is started again: the process that was started then has ended. What
    /// leads to a later start already stays, and so does what could not be corrected then.
    pub fn take_down(&mut self, started: Option<Timestamp>) {
        if started.is_none() || self.started <= started {
            self.is_down = !self.inside.is_empty();
        }
    }

    /// The addresses that are listened on, and the port of the container that each leads to.
    #[must_use]
    pub fn held(&self) -> Vec<(SocketAddr, u16)> {
        let addresses = self.ports.iter().map(|(address, _)| *address);
        addresses.zip(self.inside.iter().copied()).collect()
    }

    /// A port of the container that it leads to and that the engine has not published, if there is one.
    #[must_use]
    pub fn unpublished(&self, container: &Container) -> Option<u16> {
        let mut inside = self.inside.iter();
        inside
            .find(|inside| container.published(**inside).is_none())
            .copied()
    }

    /// Leads to where the run's container is published now: the engine picks other ports whenever it
    /// starts it. What was known of a start before the one that is known already changes nothing.
    pub fn lead_to(&mut self, container: &Container) {
        let is_newer = container.started > self.started;
        if self.inside.is_empty()
            || !(is_newer || (container.started == self.started && !self.is_down))
        {
            return;
        }
        let found: Option<Vec<_>> = (self.inside.iter())
            .map(|inside| container.published(*inside))
            .collect();
        let Some(found) = found else { return };
        for ((_, to), found) in self.ports.iter_mut().zip(found) {
            *to = found;
        }
        self.started = container.started;
        self.is_down = false;
    }
}

/// A service's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFolder(PathBuf);

/// What is sent to the process that listens, to end it, and to see whether it works; both are as long.
const STOP: &[u8] = b"stop\n";
const PING: &[u8] = b"ping\n";
/// How long a message may take.
const SAY: Duration = Duration::from_secs(2);

impl Store {
    /// A service's folder, whether it is there or not.
    #[must_use]
    pub fn service(&self, job: &Name) -> ServiceFolder {
        ServiceFolder(self.path().join("services").join(job.as_str()))
    }

    /// The services that have a folder. What has no job's name is none of them.
    ///
    /// # Errors
    ///
    /// The folder of them is there, and can't be read.
    pub fn services(&self) -> Result<Vec<Name>, StoreError> {
        let folder = self.path().join("services");
        let failed = |error| StoreError::read(&folder, error);
        if !self.has(&folder)? {
            return Ok(Vec::new());
        }
        let mut services = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A link would lead elsewhere.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                services.extend(
                    entry
                        .file_name()
                        .to_str()
                        .and_then(|name| name.parse().ok()),
                );
            }
        }
        services.sort();
        Ok(services)
    }

    /// The right to change what runs as a service; nothing where another process has it.
    ///
    /// # Errors
    ///
    /// The state folder can't be written to.
    pub fn take_up_lock(&self) -> Result<Option<FileLock>, StoreError> {
        self.prepare()?;
        let path = self.path().join("up.lock");
        FileLock::take(&path).map_err(|error| StoreError::write(path, error))
    }
}

impl ServiceFolder {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The same folder, wherever it is moved to, for as long as the file is open.
    ///
    /// # Errors
    ///
    /// It can't be opened.
    pub(crate) fn pinned(&self) -> io::Result<(Directory, Self)> {
        let directory = Directory::open(&self.0)?;
        let path = directory.path();
        Ok((directory, Self(path)))
    }

    /// Opens what the process that listens says.
    ///
    /// # Errors
    ///
    /// The file can't be opened.
    pub fn log(&self) -> io::Result<File> {
        durable::append(&self.0.join("listener.log"))
    }

    /// The socket on which the process that listens is talked to. Call it on a folder that is
    /// [pinned](Self::pinned): the path of a socket is short.
    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// Makes the socket of the process that listens, which has the lock.
    ///
    /// # Errors
    ///
    /// It can't be made.
    pub fn answer(&self) -> io::Result<UnixListener> {
        let path = self.socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    /// Waits until the process that listens is asked to end.
    pub async fn asked_to_stop(&self, socket: &UnixListener) {
        loop {
            let Ok((mut peer, _)) = socket.accept().await else {
                tokio::time::sleep(SAY).await;
                continue;
            };
            let mut said = [0; STOP.len()];
            let hearing = tokio::time::timeout(SAY, peer.read_exact(&mut said));
            if !matches!(hearing.await, Ok(Ok(_))) {
                continue;
            }
            if said == *STOP {
                return;
            }
            // Whoever asked may be gone.
            let _ = tokio::time::timeout(SAY, peer.write_all(&said)).await;
        }
    }

    /// Asks the process that listens to end.
    ///
    /// # Errors
    ///
    /// Nobody answers: there is none, or it is of an earlier version of jobctl.
    pub async fn ask_to_stop(&self) -> io::Result<()> {
        let asking = async { self.connect().await?.write_all(STOP).await };
        tokio::time::timeout(SAY, asking).await?
    }

    /// Whether the process that listens is there, and does not work: it is stopped, or hangs.
    pub async fn is_frozen(&self) -> bool {
        let asking = async {
            let mut socket = self.connect().await?;
            socket.write_all(PING).await?;
            // One of an earlier version closes it.
            socket.read_exact(&mut [0; PING.len()]).await
        };
        tokio::time::timeout(SAY, asking).await.is_err()
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let (_folder, pinned) = self.pinned()?;
        let path = pinned.socket();
        // A link may lead to that of another project.
        if !path.symlink_metadata()?.file_type().is_socket() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        UnixStream::connect(path).await
    }

    /// The lock of the process that listens.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The lock that is held while there are connections to a run.
    #[must_use]
    pub fn connections(&self, run: RunId) -> PathBuf {
        self.0.join(format!("{run}.connections"))
    }

    /// The file of the route.
    #[must_use]
    pub fn route_file(&self) -> PathBuf {
        self.0.join("route.json")
    }

    /// The route; nothing where the service is not up.
    ///
    /// # Errors
    ///
    /// It is there, and can't be read.
    pub fn route(&self) -> Result<Option<Route>, StoreError> {
        let path = self.route_file();
        let text = match durable::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::read(path, error)),
        };
        match serde_json::from_slice::<Route>(&text) {
            Ok(route) if route.schema == SCHEMA => Ok(Some(route)),
            Ok(_) => Err(StoreError::read(path, io::ErrorKind::InvalidData.into())),
            Err(error) => Err(StoreError::read(path, error.into())),
        }
    }

    /// Changes the route, if it leads to that run.
    ///
    /// # Errors
    ///
    /// It can't be read or written.
    pub fn change_route(
        &self,
        run: RunId,
        change: impl FnOnce(&mut Route),
    ) -> Result<(), StoreError> {
        if self.route()?.is_none_or(|route| route.run != run) {
            return Ok(());
        }
        let _changing = self.changing()?;
        // Another may have changed it just now.
        let Some(route) = self.route()?.filter(|route| route.run == run) else {
            return Ok(());
        };
        let mut changed = route.clone();
        change(&mut changed);
        if changed == route {
            return Ok(());
        }
        self.write_route(&changed)
    }

    /// Sets the route: whoever reads it finds the old one or the new one.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn set_route(&self, route: &Route) -> Result<(), StoreError> {
        let services = self.0.parent().unwrap_or(&self.0);
        for folder in [services, &self.0] {
            durable::create_directory(folder).map_err(|error| StoreError::write(folder, error))?;
        }
        let _changing = self.changing()?;
        self.write_route(route)
    }

    /// The right to change the route, for which one process at a time waits.
    fn changing(&self) -> Result<File, StoreError> {
        let path = self.0.join("route.lock");
        let failed = |error| StoreError::write(&path, error);
        let file = durable::change(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    fn write_route(&self, route: &Route) -> Result<(), StoreError> {
        let path = self.route_file();
        let mut text = serde_json::to_vec_pretty(route)
            .map_err(|error| StoreError::write(&path, error.into()))?;
        text.push(b'\n');
        durable::write(&path, &text).map_err(|error| StoreError::write(path, error))
    }

    /// Forgets the service.
    ///
    /// # Errors
    ///
    /// The folder can't be removed.
    pub fn remove(&self) -> Result<(), StoreError> {
        durable::remove_directory(&self.0).map_err(|error| StoreError::write(&self.0, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_it_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        assert_eq!(store.services().unwrap(), []);
        let service = store.service(&"serve".parse().unwrap());
        assert_eq!(service.route().unwrap(), None);
        let ports = ["127.0.0.1:8000", "[::1]:49152"].map(|text| text.parse().unwrap());
        let run = RunId::new(jiff::Timestamp::UNIX_EPOCH);
        let route = Route::new(run, vec![(ports[0], ports[1])]);
        service.set_route(&route).unwrap();
        assert_eq!(service.route().unwrap(), Some(route));
        fs::create_dir(folder.path().join("services/No name")).unwrap();
        assert_eq!(store.services().unwrap(), ["serve".parse().unwrap()]);
        service.remove().unwrap();
        service.remove().unwrap();
        assert_eq!(service.route().unwrap(), None);
    }

    #[test]
    fn a_route_follows_its_container() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let run = RunId::new(Timestamp::UNIX_EPOCH);
        let started = |second, port: u16| Container {
            started: Timestamp::from_second(second).ok(),
            ports: vec![(80, (std::net::Ipv4Addr::LOCALHOST, port).into())],
            ..Container::default()
        };
        let held = [(address("127.0.0.1:8000"), 80)];
        assert_eq!(Route::to_container(run, &held, &Container::default()), None);
        let mut route = Route::to_container(run, &held, &started(1, 1)).unwrap();
        let mut to = |change: &dyn Fn(&mut Route)| {
            change(&mut route);
            (!route.is_down).then(|| route.ports[0].1.port())
        };
        assert_eq!(to(&|_| {}), Some(1));
        assert_eq!(to(&|route| route.take_down(None)), None);
        // What was known before its end is no news.
        assert_eq!(to(&|route| route.lead_to(&started(1, 1))), None);
        // The engine has not published it yet.
        assert_eq!(to(&|route| route.lead_to(&Container::default())), None);
        assert_eq!(to(&|route| route.lead_to(&started(2, 2))), Some(2));
        assert_eq!(to(&|route| route.lead_to(&started(1, 1))), Some(2));
        // Its end is noticed when it has been started again.
        let at = |second| Timestamp::from_second(second).ok();
        assert_eq!(to(&|route| route.take_down(at(1))), Some(2));
        assert_eq!(to(&|route| route.take_down(at(2))), None);
        // One of an earlier version of jobctl is left alone.
        let mut old = Route::new(run, vec![(held[0].0, address("127.0.0.1:9"))]);
        old.take_down(None);
        old.lead_to(&started(3, 3));
        assert_eq!((old.is_down, old.ports[0].1.port()), (false, 9));
    }

    #[tokio::test]
    async fn who_listens_is_asked_to_end_wherever_its_folder_is() {
        let top = tempfile::tempdir().unwrap();
        // No socket has so long a path.
        let state = top.path().join("long".repeat(60));
        let service = Store::new(state.clone()).service(&"serve".parse().unwrap());
        let run = RunId::new(jiff::Timestamp::UNIX_EPOCH);
        service.set_route(&Route::new(run, Vec::new())).unwrap();
        assert!(service.ask_to_stop().await.is_err());
        let (_folder, pinned) = service.pinned().unwrap();
        let socket = pinned.answer().unwrap();
        let moved = top.path().join("moved");
        fs::rename(state, &moved).unwrap();
        assert!(pinned.route().unwrap().is_some());
        let service = Store::new(moved).service(&"serve".parse().unwrap());
        let asked = pinned.asked_to_stop(&socket);
        let (asked, ()) = tokio::join!(service.ask_to_stop(), asked);
        asked.unwrap();
    }

    #[test]
    fn one_process_at_a_time_has_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(FileLock::holder(&path).unwrap().is_none());
        let held = FileLock::take(&path).unwrap();
        assert!(held.is_some() && FileLock::take(&path).unwrap().is_none());
        assert!(FileLock::holder(&path).unwrap().is_some());
        // A number that a stranger has got.
        fs::write(&path, "1").unwrap();
        assert!(FileLock::holder(&path).unwrap().is_none());
        drop(held);
        assert!(!FileLock::is_held(&path).unwrap());
    }
}
