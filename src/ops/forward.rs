//! Passes connections to a service's ports on to the run that serves.
//!
//! An engine can't publish one port for two containers, so that a service which it publishes itself can't
//! be replaced without a time in which nobody answers. Therefore a small process of ours listens, and
//! asks the route for every connection.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::event::{Event, Events};
use crate::model::RunId;
use crate::records::{FileLock, Route, ServiceFolder};

/// How long a service may be away until a connection to it is given up: an engine may restart it.
const AWAY: Duration = Duration::from_secs(10);
/// The time between two tries.
const RETRY: Duration = Duration::from_millis(50);
/// How long connections may go on when nothing listens any more.
const DRAIN: Duration = Duration::from_secs(10);

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
/// told to stop; connections that there are then have some seconds to end.
///
/// A client's address is not seen by the service, as it is not with an engine's own proxy.
pub async fn forward(
    folder: ServiceFolder,
    listeners: Vec<(SocketAddr, TcpListener)>,
    events: Events,
    stop: impl Future<Output = ()>,
) {
    let service = Arc::new(Service {
        folder,
        known: Mutex::default(),
        connections: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    let mut passing = JoinSet::new();
    let (sender, mut accepted) = tokio::sync::mpsc::channel(1);
    for (address, listener) in listeners {
        let (sender, events) = (sender.clone(), events.clone());
        tasks.spawn(async move {
            let mut is_reported = false;
            loop {
                match listener.accept().await {
                    Ok((client, _)) => {
                        is_reported = false;
                        if sender.send((address, client)).await.is_err() {
                            return;
                        }
                    }
                    // Too many files are open: some will be closed.
                    Err(error) => {
                        if !std::mem::replace(&mut is_reported, true) {
                            let warning = format!("a connection is not accepted: {error}");
                            events.send(Event::Warning(warning));
                        }
                        sleep(RETRY).await;
                    }
                }
            }
        });
    }
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            Some((address, client)) = accepted.recv() => {
                let service = Arc::clone(&service);
                passing.spawn(async move {
                    if let Err(error) = service.pass_on(address, client).await {
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
    async fn pass_on(
        self: &Arc<Self>,
        address: SocketAddr,
        mut client: TcpStream,
    ) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let route = self.route()?;
            let _connection = Connection::new(self, route.run)?;
            // Whoever sets another route looks for connections after that.
            if self.route()?.run != route.run {
                continue;
            }
            let to = route.ports.iter().find(|(from, _)| *from == address);
            let (_, to) = to.ok_or(io::ErrorKind::AddrNotAvailable)?;
            match TcpStream::connect(to).await {
                Ok(mut server) => {
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                    return Ok(());
                }
                Err(error) if start.elapsed() >= AWAY => return Err(error),
                Err(_) => sleep(RETRY).await,
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
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;
    use crate::records::Store;

    /// A server that says its name to whoever comes.
    async fn server(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    // Until the client has said something.
                    client.read_u8().await.unwrap();
                    client.write_all(name.as_bytes()).await.unwrap();
                });
            }
        });
        address
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_u8(0).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_new_route_counts_for_new_connections_and_old_ones_are_seen() {
        let state = tempfile::tempdir().unwrap();
        let service = Store::new(state.path().to_owned()).service(&"serve".parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let runs = [1, 2].map(|second| RunId::new(jiff::Timestamp::from_second(second).unwrap()));
        let route = |run, to| Route::new(run, vec![(address, to)]);
        service
            .set_route(&route(runs[0], server("old").await))
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap() };
        let forwarding = tokio::spawn(forward(
            service.clone(),
            vec![(address, listener)],
            Events::channel().0,
            stopped,
        ));
        let has_connections = |run| FileLock::is_held(&service.connections(run)).unwrap();
        assert_eq!(ask(address).await, "old");
        while has_connections(runs[0]) {
            tokio::task::yield_now().await;
        }

        let mut kept = TcpStream::connect(address).await.unwrap();
        while !has_connections(runs[0]) {
            tokio::task::yield_now().await;
        }
        service
            .set_route(&route(runs[1], server("new").await))
            .unwrap();
        assert_eq!(ask(address).await, "new");
        assert!(has_connections(runs[0]));
        kept.write_u8(0).await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "old");
        drop(kept);
        while has_connections(runs[0]) {
            tokio::task::yield_now().await;
        }
        stop.send(()).unwrap();
        forwarding.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
