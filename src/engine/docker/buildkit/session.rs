//! A session: the engine calls back over it for files, secrets, credentials and agents.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tower_service::Service as _;

use super::super::error::EngineError;
use super::super::transport::Connector;
use super::super::upgrade;

/// How much of a stream may be under way at once: HTTP/2's default of 64 KiB would halve the speed.
const WINDOW_BYTES: u32 = 4 << 20;

/// An open session; it ends when dropped.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    serving: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Session {
    /// Opens a session that offers `methods`. `None` if the engine has no BuildKit. Sessions of the
    /// same `shared_key` share what was sent before.
    pub(super) async fn open(
        connector: &Connector,
        shared_key: &str,
        methods: &[String],
        routes: Routes,
        deadline: Duration,
    ) -> Result<Option<Self>, EngineError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut headers = vec![
            ("X-Docker-Expose-Session-Uuid", id.as_str()),
            ("X-Docker-Expose-Session-Name", "jobctl"),
            ("X-Docker-Expose-Session-Sharedkey", shared_key),
        ];
        for method in methods {
            headers.push(("X-Docker-Expose-Session-Grpc-Method", method));
        }
        let Some(io) = upgrade::to_http2(connector, "/session", &headers, deadline).await? else {
            return Ok(None);
        };
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut routes = routes.clone();
            async move { Ok::<_, Infallible>(answer(routes.call(request)).await) }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES)
            .serve_connection(io, service);
        let serving = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "the session ended");
            }
        });
        Ok(Some(Self { id, serving }))
    }
}

async fn answer<R>(answering: impl Future<Output = Result<R, Infallible>>) -> R {
    match answering.await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}
