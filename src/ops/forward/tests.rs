use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::event::{EventReceiver, Received};
use crate::records::Store;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Limits that no test meets by accident.
const LIMITS: ConnectionLimits = ConnectionLimits {
    count: 100,
    idle: Duration::from_mins(10),
    half_open: Duration::from_mins(10),
};

/// A server that says its name to whoever comes and has said something.
async fn server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                if client.read_u8().await.is_ok() {
                    client.write_all(name.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// A server that takes connections, and neither answers nor closes them.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut clients = Vec::new();
        loop {
            clients.push(listener.accept().await.unwrap());
        }
    });
    address
}

async fn answer(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_u8(0).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn ask(address: SocketAddr) -> io::Result<String> {
    answer(&mut TcpStream::connect(address).await?).await
}

/// A service whose connections are passed on.
struct Forwarding {
    service: ServiceFolder,
    address: SocketAddr,
    received: EventReceiver,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _state: tempfile::TempDir,
}

impl Forwarding {
    /// To a run that is published there.
    async fn begin(to: SocketAddr, limits: ConnectionLimits) -> Self {
        let state = tempfile::tempdir().unwrap();
        let service = Store::new(state.path().to_owned()).service(&"serve".parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (events, received) = Events::channel();
        service
            .set_route(&Route::new(run(1), vec![(address, to)]))
            .unwrap();
        let task = tokio::spawn(forward(
            service.clone(),
            vec![(address, listener)],
            limits,
            events,
            async { stopped.await.unwrap() },
        ));
        Self {
            service,
            address,
            received,
            stop,
            task,
            _state: state,
        }
    }

    fn lead_to(&self, run: RunId, to: SocketAddr) {
        let route = Route::new(run, vec![(self.address, to)]);
        self.service.set_route(&route).unwrap();
    }

    fn has_connections(&self, run: RunId) -> bool {
        FileLock::is_held(&self.service.connections(run)).unwrap()
    }

    /// Waits until a run has connections, or has none.
    async fn until_connected(&self, run: RunId, is_wanted: bool) {
        while self.has_connections(run) != is_wanted {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn run(second: i64) -> RunId {
    RunId::new(jiff::Timestamp::from_second(second).unwrap())
}

#[tokio::test]
async fn a_new_route_counts_for_new_connections_and_old_ones_are_seen() {
    let forwarding = Forwarding::begin(server("old").await, LIMITS).await;
    let address = forwarding.address;
    let old = forwarding.service.route().unwrap().unwrap().run;
    assert_eq!(ask(address).await.unwrap(), "old");
    forwarding.until_connected(old, false).await;

    let mut kept = TcpStream::connect(address).await.unwrap();
    forwarding.until_connected(old, true).await;
    forwarding.lead_to(run(2), server("new").await);
    assert_eq!(ask(address).await.unwrap(), "new");
    assert!(forwarding.has_connections(old));
    assert_eq!(answer(&mut kept).await.unwrap(), "old");
    drop(kept);
    forwarding.until_connected(old, false).await;
    forwarding.end().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_service_that_does_not_listen_is_refused_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let forwarding = Forwarding::begin(nobody, LIMITS).await;
    let refused = ask(forwarding.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);

    // Its port is somebody else's by now.
    forwarding.lead_to(run(2), server("a stranger").await);
    assert!(ask(forwarding.address).await.is_ok());
    let current = forwarding.service.route().unwrap().unwrap().run;
    let down = |route: &mut Route| route.is_down = true;
    forwarding.service.change_route(current, down).unwrap();
    let refused = ask(forwarding.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
    forwarding.end().await;
}

#[tokio::test]
async fn a_connection_more_than_may_be_open_waits_for_another_to_close() {
    let limits = ConnectionLimits { count: 2, ..LIMITS };
    let forwarding = Forwarding::begin(server("it").await, limits).await;
    let address = forwarding.address;
    let mut open = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(ask(address))).collect();
    let warning =
        Event::Warning("2 connections are open, which is the limit: further ones wait".to_owned());
    let received = forwarding.received;
    let told = tokio::task::spawn_blocking(move || (received.receive(PATIENCE), received));
    let (told, received) = told.await.unwrap();
    assert_eq!(told, Received::Event(warning));
    assert!(waiting.iter().all(|client| !client.is_finished()));
    assert_eq!(answer(&mut open[0]).await.unwrap(), "it");
    drop(open);
    for client in waiting {
        assert_eq!(client.await.unwrap().unwrap(), "it");
    }
    forwarding.stop.send(()).unwrap();
    forwarding.task.await.unwrap();
    // It is said once.
    assert_eq!(received.receive(PATIENCE), Received::Closed);
}

#[tokio::test]
async fn idle_and_half_open_connections_are_closed() {
    let short = Duration::from_millis(100);
    for limits in [
        ConnectionLimits {
            idle: short,
            ..LIMITS
        },
        ConnectionLimits {
            half_open: short,
            ..LIMITS
        },
    ] {
        let forwarding = Forwarding::begin(silent().await, limits).await;
        let run = forwarding.service.route().unwrap().unwrap().run;
        let mut client = TcpStream::connect(forwarding.address).await.unwrap();
        forwarding.until_connected(run, true).await;
        if limits.idle != short {
            // The server has not answered, and waits.
            client.shutdown().await.unwrap();
        }
        forwarding.until_connected(run, false).await;
        let end = client.read_u8().await.unwrap_err();
        let ends = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
        assert!(ends.contains(&end.kind()), "{end}");
        forwarding.end().await;
    }
}

#[test]
fn connections_leave_room_for_other_files() {
    for (files, count) in [
        (0, 1),
        (64, 16),
        (1024, 496),
        (1 << 20, 4096),
        (u64::MAX, 4096),
    ] {
        let found = ConnectionLimits::of_files(files).count;
        assert_eq!(found, count, "{files}");
    }
}
