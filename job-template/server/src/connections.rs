//! Accepts connections, not too many and none for ever. `axum::serve` has neither a limit per client nor a time limit
//! for a request's head, and answers probes only while there is room.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::Peer;
use crate::config::{ServerConfig, Timeouts};
use crate::proxies::TrustedProxies;
use crate::slots::{ConnState, ConnectionSlots};
use crate::stream::TimedStream;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// How long to wait when no connection can be accepted: others have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, and serves each.
pub(crate) struct Acceptor {
    listener: TcpListener,
    router: Router,
    timeouts: Timeouts,
    proxies: Arc<TrustedProxies>,
    slots: ConnectionSlots,
    tasks: JoinSet<()>,
    graceful: GracefulShutdown,
    is_closing: bool,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, router: Router, config: &ServerConfig) -> Self {
        Self {
            listener,
            router,
            timeouts: config.timeouts,
            proxies: Arc::new(TrustedProxies::new(config.trusted_proxies.clone())),
            slots: ConnectionSlots::new(config.limits.connections),
            tasks: JoinSet::new(),
            graceful: GracefulShutdown::new(),
            is_closing: false,
        }
    }

    /// Accepts connections for as long as it's polled.
    pub(crate) async fn accept(&mut self) -> Infallible {
        loop {
            let wait = self.slots.wait_for_spare();
            tokio::select! {
                // Forgets those that ended.
                Some(_) = self.tasks.join_next() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                accepted = self.listener.accept(), if wait.is_none() => match accepted {
                    Ok((stream, address)) => self.serve(stream, address),
                    Err(error) if is_clients_own(&error) => {}
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        }
    }

    /// Ends the connections: at once where nothing is asked, else after the answer. Done when those
    /// are that are open now. Later ones get one answer each, for probes.
    pub(crate) fn close(&mut self) -> impl Future<Output = ()> + use<> {
        self.is_closing = true;
        std::mem::take(&mut self.graceful).shutdown()
    }

    fn serve(&mut self, stream: TcpStream, address: SocketAddr) {
        let address = address.ip().to_canonical();
        // A proxy has the connections of many clients.
        let client = (!self.proxies.trusts(address)).then_some(address);
        let shortage = self.slots.make_room(client).err();
        // Only answers that are sent in parts are slower without.
        let _ = stream.set_nodelay(true);
        let is_late = self.is_closing;
        let state = Arc::new(ConnState::default());
        let stream = TimedStream::new(
            stream,
            Arc::clone(&state),
            self.timeouts.write,
            self.timeouts.linger,
        );
        let (router, proxies) = (self.router.clone(), Arc::clone(&self.proxies));
        let asking = Arc::clone(&state);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            if request.body().is_end_stream() {
                asking.asked();
            } else {
                asking.sending();
            }
            let peer = Peer {
                address: proxies.client(address, request.headers()),
                is_late,
                shortage,
            };
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(Arc::clone(&asking));
            let answer = router.clone().oneshot(request.map(Body::new));
            let asking = Arc::clone(&asking);
            async move {
                let answer = answer.await;
                asking.answered();
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeouts.head)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(HEAD_BYTES)
            .keep_alive(!is_late && shortage.is_none())
            .serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection);
        let task = self.tasks.spawn(async move {
            // Whatever ends it, only this client is concerned.
            let _ = connection.await;
        });
        match shortage {
            None => self.slots.take(client, task, state),
            Some(_) => self.slots.take_spare(task),
        }
    }
}

/// Whether an error is of the connection that wasn't accepted, and says nothing of the next.
fn is_clients_own(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}
