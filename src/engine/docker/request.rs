//! Requests with a connection of their own: for answers that stay open for as long as a job runs,
//! and for connections that stop being HTTP.

use std::fmt::Write as _;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinHandle;

use super::bounded::refusal;
use super::endpoint::Address;
use super::error::EngineError;
use super::transport::Connector;

/// What is escaped in a part of a path or of a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What a short answer has at most, in bytes.
const SHORT: usize = 1 << 20;

/// A request, as it is put together.
pub(super) struct Request {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Request {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Adds to the query.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        let value = escaped(value);
        write!(self.path, "{mark}{name}={value}").expect("a String takes all text");
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks that the connection stop being HTTP.
    pub(super) fn upgrade(self, protocol: &str) -> Self {
        self.header("Connection", "Upgrade")
            .header("Upgrade", protocol)
    }

    /// What is sent with it.
    pub(super) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self.header("Content-Type", "application/json")
    }
}

/// A text as a part of a path or of a query.
pub(super) fn escaped(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, ESCAPED)
}

/// An answer of which only the head has come. Its connection ends with it.
pub(super) struct Answer {
    response: Response<Incoming>,
    connection: Serving,
}

/// The task that moves a connection's bytes.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request, and awaits the head of its answer for so long.
pub(super) async fn send(
    connector: &Connector,
    request: Request,
    deadline: Duration,
) -> Result<Answer, EngineError> {
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
        let connection = connection.with_upgrades();
        let connection = Serving(tokio::spawn(async move {
            // Whoever reads the answer is told.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of its own ended");
            }
        }));
        let mut head = hyper::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(header::HOST, "docker");
        for (name, value) in request.headers {
            head = head.header(name, value);
        }
        let request = head
            .body(Full::new(request.body))
            .expect("names and values are jobctl's own, and paths are escaped");
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Answer {
            response,
            connection,
        })
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(EngineError::Hung {
            address: address.to_string(),
            waited: deadline,
        }),
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The connection as it is after HTTP, if the engine went along.
    pub(super) async fn upgraded(self, address: &Address) -> Result<Upgraded, EngineError> {
        // The connection's task hands it over, and so must not be stopped before.
        let upgraded = hyper::upgrade::on(self.response).await;
        drop(self.connection);
        upgraded.map_err(|error| EngineError::gone(&error, address))
    }

    /// This answer, unless it says that the engine refuses.
    pub(super) async fn accepted(self, address: &Address) -> Result<Self, EngineError> {
        let status = self.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self);
        }
        // The connection stays open until all is read.
        let Self {
            response,
            connection: _connection,
        } = self;
        let message = refusal(response.into_body()).await;
        Err(EngineError::Refused {
            status: status.as_u16(),
            message: message.map_err(|error| EngineError::gone(&error, address))?,
        })
    }

    /// The next part of the body; `None` after the last.
    pub(super) async fn part(&mut self, address: &Address) -> Result<Option<Bytes>, EngineError> {
        while let Some(frame) = self.response.frame().await {
            let frame = frame.map_err(|error| EngineError::gone(&error, address))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The whole body, which is short.
    pub(super) async fn whole(mut self, address: &Address) -> Result<Vec<u8>, EngineError> {
        let mut whole = Vec::new();
        while let Some(part) = self.part(address).await? {
            if whole.len() + part.len() > SHORT {
                return Err(EngineError::endless(address));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }
}
