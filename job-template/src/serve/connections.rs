//! Lets connections in, not too many and none for ever.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::app::Peer;
use super::places::{Places, Turn};
use super::stream::TimedStream;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// How long to wait when no connection can be accepted: others have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection gets that is one too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 83\r\n\r\n\
    {\"error\":{\"code\":\"too_many_connections\",\"message\":\"too many connections are open\"}}";

/// How many connections there may be, and how patient the server is with each.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Time for a request's head, from the start or from the last answer. Ends idle connections, too.
    pub head_time: Duration,
    /// Time for a request's body.
    pub body_time: Duration,
    /// Time for the client to read an answer.
    pub write_time: Duration,
    /// Time that a closed connection's client has to stop sending.
    pub linger: Duration,
}

impl Default for ConnectionLimits {
    /// 1024 connections, but at most four fifths of the files that may be open.
    fn default() -> Self {
        let connections = most_files().map_or(1024, |files| (files / 5 * 4).clamp(1, 1024));
        Self {
            connections,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

/// How many files this process may have open, where Linux tells.
fn most_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Where connections come in.
pub(crate) struct Door {
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    places: Places,
    tasks: JoinSet<()>,
    graceful: GracefulShutdown,
    is_closing: bool,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, router: Router, limits: ConnectionLimits) -> Self {
        Self {
            listener,
            router,
            limits,
            places: Places::new(limits.connections),
            tasks: JoinSet::new(),
            graceful: GracefulShutdown::new(),
            is_closing: false,
        }
    }

    /// Lets connections in for as long as it's polled.
    pub(crate) async fn admit(&mut self) -> Infallible {
        loop {
            tokio::select! {
                // Forgets those that ended.
                Some(_) = self.tasks.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => self.serve(stream, address),
                    Err(error) if is_clients_own(&error) => {}
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        }
    }

    /// Ends the connections: at once where nothing is asked, else after the answer. Done when those
    /// are that are open now. Who comes later can ask once how the server is.
    pub(crate) fn close(&mut self) -> impl Future<Output = ()> + use<> {
        self.is_closing = true;
        std::mem::take(&mut self.graceful).shutdown()
    }

    fn serve(&mut self, stream: TcpStream, address: SocketAddr) {
        if !self.places.make_room() {
            // If it doesn't fit into the socket's buffer, the client has to do without.
            let _ = stream.try_write(FULL);
            return;
        }
        // Only answers that are sent in parts are slower without.
        let _ = stream.set_nodelay(true);
        let peer = Peer {
            address: address.ip().to_canonical(),
            is_late: self.is_closing,
        };
        let turn = Arc::new(Turn::default());
        let stream = TimedStream::new(
            stream,
            Arc::clone(&turn),
            self.limits.write_time,
            self.limits.linger,
        );
        let (router, asking) = (self.router.clone(), Arc::clone(&turn));
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            asking.asked();
            request.extensions_mut().insert(peer);
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
            .header_read_timeout(self.limits.head_time)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(HEAD_BYTES)
            .keep_alive(!self.is_closing)
            .serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection);
        let task = self.tasks.spawn(async move {
            // Whatever ends it, only this client is concerned.
            let _ = connection.await;
        });
        self.places.take(task, turn);
    }
}

/// Whether an error is of the connection that wasn't accepted, and says nothing of the next.
fn is_clients_own(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_one_too_many_has_its_length() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }

    #[test]
    fn fewer_connections_than_files() {
        assert!(most_files().unwrap() > ConnectionLimits::default().connections);
    }
}
