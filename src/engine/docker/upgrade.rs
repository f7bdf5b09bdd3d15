//! Connections that become HTTP/2: the engine's `/session` and `/grpc`.

use std::time::Duration;

use hyper::StatusCode;
use hyper::upgrade::Upgraded;

use super::error::EngineError;
use super::request::{self, Request};
use super::transport::Connector;

/// Asks the engine to let a connection of its own become HTTP/2. `None` if it does not know how,
/// as Podman and engines without BuildKit.
pub(super) async fn to_http2(
    connector: &Connector,
    path: &str,
    headers: &[(&str, &str)],
    deadline: Duration,
) -> Result<Option<Upgraded>, EngineError> {
    let request = headers
        .iter()
        .fold(Request::post(path).upgrade("h2c"), |request, header| {
            request.header(header.0, header.1)
        });
    let answer = request::send(connector, request, deadline).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    answer.upgraded(connector.address()).await.map(Some)
}
