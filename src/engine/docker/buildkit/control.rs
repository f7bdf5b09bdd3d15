//! BuildKit's own interface, which the engine passes on under `/grpc`.

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use hyper::upgrade::Upgraded;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use super::super::error::EngineError;
use super::super::transport::Connector;
use super::super::upgrade;

/// Connects to BuildKit. `None` if the engine has none.
pub(super) async fn connect(
    connector: &Connector,
    deadline: Duration,
) -> Result<Option<ControlClient<Channel>>, EngineError> {
    let Some(io) = upgrade::to_http2(connector, "/grpc", &[], deadline).await? else {
        return Ok(None);
    };
    let channel = Endpoint::from_static("http://buildkit")
        .connect_with_connector(Once(Arc::new(Mutex::new(Some(io)))))
        .await
        .map_err(|error| EngineError::of_chain(&error, connector.address()))?;
    // A failed step's error carries the Dockerfile and more.
    Ok(Some(
        ControlClient::new(channel).max_decoding_message_size(64 << 20),
    ))
}

/// Gives the one connection that there is; BuildKit's can't be opened again in mid-build.
#[derive(Clone)]
struct Once(Arc<Mutex<Option<Upgraded>>>);

impl Service<hyper::Uri> for Once {
    type Response = Upgraded;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let io = self.0.lock().ok().and_then(|mut io| io.take());
        Box::pin(async move { io.ok_or_else(|| std::io::ErrorKind::ConnectionAborted.into()) })
    }
}
