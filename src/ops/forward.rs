//! Passes connections to a service's ports on to the run that serves.
//!
//! An engine can't publish one port for two containers, so that a service which it publishes itself can't
//! be replaced without a time in which nobody answers. Therefore a small process of ours listens, and
//! asks the route for every connection.

mod pass;

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::event::{Event, Events};
use crate::model::RunId;
use crate::records::{FileLock, Route, ServiceFolder};

/// The time between two tries to accept a connection where there are too many open files.
const RETRY: Duration = Duration::from_millis(50);
/// How long connections may keep running when nothing listens any more.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a service may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The most connections at once, however many files may be open.
const MOST_CONNECTIONS: u64 = 4096;
/// Open files that are not those of connections.
const OTHER_FILES: u64 = 32;

/// How many connections there may be, and how long each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// So many at once; further ones wait until one of these is closed.
    pub count: usize,
    /// One on which nothing moves for so long is closed.
    pub idle: Duration,
    /// One of which a side has closed its half, and on which nothing moves for so long, is closed.
    pub half_open: Duration,
}

impl ConnectionLimits {
    /// The limits of a process that may have so many files open: each connection takes two.
    #[must_use]
    pub fn of_files(files: u64) -> Self {
        let count = (files.saturating_sub(OTHER_FILES) / 2).clamp(1, MOST_CONNECTIONS);
        Self {
            count: usize::try_from(count).unwrap_or(usize::MAX),
            idle: Duration::from_hours(1),
            half_open: Duration::from_mins(1),
        }
    }
}

/// A socket that listens there. Where this machine has no IPv6, all of its addresses are those of IPv4.
///
/// # Errors
///
/// Somebody else listens there, or the address is not this machine's, or not for this user.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match std::net::TcpListener::bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let other = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                _ => std::net::TcpListener::bind(other),
            }
        }
        bound => bound,
    }
}

/// Passes on what comes to these sockets, each with the address that the route knows it by, until it is
/// asked to stop; connections that there are then have some seconds to end.
///
/// A connection to a service that does not listen is reset at once. A client's address is not seen by the
/// service, as it is not with an engine's own proxy.
pub async fn forward(
    folder: ServiceFolder,
    listeners: Vec<(SocketAddr, TcpListener)>,
    limits: ConnectionLimits,
    events: Events,
    stop: impl Future<Output = ()>,
) {
    let service = Arc::new(Service {
        folder,
        limits,
        known: Mutex::default(),
        connections: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    let mut passing = JoinSet::new();
    let places = Arc::new(Semaphore::new(limits.count));
    let (sender, mut accepted) = tokio::sync::mpsc::channel(1);
    for (address, listener) in listeners {
        let (sender, events, places) = (sender.clone(), events.clone(), Arc::clone(&places));
        tasks.spawn(async move {
            let mut is_reported = [false; 2];
            let report = |is_reported: &mut bool, warning: String| {
                if !std::mem::replace(is_reported, true) {
                    events.send(Event::Warning(warning));
                }
            };
            loop {
                match listener.accept().await {
                    Ok((client, _)) => {
                        if places.available_permits() == 0 {
                            let warning = format!(
                                "{} connections are open, which is the limit: further ones wait",
                                limits.count
                            );
                            report(&mut is_reported[0], warning);
                        }
                        // Others wait in the kernel's queue meanwhile.
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                            return;
                        };
                        if sender.send((address, client, place)).await.is_err() {
                            return;
                        }
                    }
                    // Too many files are open: some will be closed.
                    Err(error) => {
                        let warning = format!("a connection is not accepted: {error}");
                        report(&mut is_reported[1], warning);
                        sleep(RETRY).await;
                    }
                }
            }
        });
    }
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            Some((address, client, place)) = accepted.recv() => {
                let service = Arc::clone(&service);
                passing.spawn(async move {
                    let passed = service.pass_on(address, client).await;
                    drop(place);
                    if let Err(error) = passed {
                        tracing::info!("a connection ended: {error}");
                    }
                });
            }
            Some(_) = passing.join_next() => {}
            () = &mut stop => break,
        }
    }
    tasks.shutdown().await;
    let ended = async { while passing.join_next().await.is_some() {} };
    // Who does not end is ended with the process.
    let _ = timeout(DRAIN, ended).await;
}

/// A service that is listened for.
struct Service {
    folder: ServiceFolder,
    limits: ConnectionLimits,
    /// The route as it was last read.
    known: Mutex<Option<(Stamp, Arc<Route>)>>,
    /// How many connections each run has, and the lock that says that it has some.
    connections: Mutex<HashMap<RunId, (usize, FileLock)>>,
}

/// What tells a file from the one that was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Service {
    async fn pass_on(self: &Arc<Self>, address: SocketAddr, client: TcpStream) -> io::Result<()> {
        let (_connection, server) = match self.connected(address).await {
            Ok(connected) => connected,
            Err(error) => {
                // What is closed without this would look as if it had been answered with nothing.
                let _ = client.set_zero_linger();
                return Err(error);
            }
        };
        pass::both_ways(client, server, self.limits.idle, self.limits.half_open).await
    }

    /// A connection to the run that serves.
    async fn connected(
        self: &Arc<Self>,
        address: SocketAddr,
    ) -> io::Result<(Connection, TcpStream)> {
        loop {
            let route = self.route()?;
            let connection = Connection::new(self, route.run)?;
            // Whoever sets another route looks for connections after that.
            if self.route()?.run != route.run {
                continue;
            }
            if route.is_down {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let to = route.ports.iter().find(|(from, _)| *from == address);
            let (_, to) = to.ok_or(io::ErrorKind::AddrNotAvailable)?;
            match timeout(CONNECT, TcpStream::connect(to)).await {
                Ok(Ok(server)) => return Ok((connection, server)),
                // It was replaced, or started again with another port, at this very moment.
                _ if self.route()? != route => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    fn route(&self) -> io::Result<Arc<Route>> {
        let stamp = std::fs::metadata(self.folder.route_file()).map(|file| Stamp::of(&file))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, route)) = &*known
            && *of == stamp
        {
            return Ok(Arc::clone(route));
        }
        let route = self.folder.route().map_err(io::Error::other)?;
        let route = Arc::new(route.ok_or(io::ErrorKind::NotFound)?);
        *known = Some((stamp, Arc::clone(&route)));
        Ok(route)
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// A connection to a run: as long as there is one, the run's lock is held.
struct Connection {
    service: Arc<Service>,
    run: RunId,
}

impl Connection {
    fn new(service: &Arc<Service>, run: RunId) -> io::Result<Self> {
        let mut connections = service.connections();
        if let Some((count, _)) = connections.get_mut(&run) {
            *count += 1;
        } else {
            let lock = FileLock::take(&service.folder.connections(run))?;
            let lock = lock.ok_or(io::ErrorKind::ResourceBusy)?;
            connections.insert(run, (1, lock));
        }
        drop(connections);
        Ok(Self {
            service: Arc::clone(service),
            run,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut connections = self.service.connections();
        if let Some((count, _)) = connections.get_mut(&self.run) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.run);
            }
        }
    }
}

impl Service {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, (usize, FileLock)>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
