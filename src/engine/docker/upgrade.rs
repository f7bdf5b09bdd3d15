//! Connections that stop being HTTP: the engine's `/session` and `/grpc`.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode, header};

use super::error::EngineError;
use super::transport::Connector;

/// Asks the engine to let a connection of its own become HTTP/2. `None` if it does not know how,
/// as Podman and engines without BuildKit.
pub(super) async fn to_http2(
    connector: &Connector,
    path: &str,
    headers: &[(&str, &str)],
    deadline: Duration,
) -> Result<Option<Upgraded>, EngineError> {
    let address = connector.address();
    let asking = async {
        let pipe = connector
            .connect()
            .await
            .map_err(|error| EngineError::of_chain(&error, address))?;
        let broken = |error: hyper::Error| EngineError::of_chain(&error, address);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(pipe)
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(connection.with_upgrades());
        let mut request = Request::post(path)
            .header(header::HOST, "docker")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "h2c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .expect("names and values are jobctl's own");
        let answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            connection.abort();
            return Ok(None);
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(broken)?;
        Ok(Some(upgraded))
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(EngineError::Hung {
            address: address.to_string(),
            waited: deadline,
        }),
    }
}
