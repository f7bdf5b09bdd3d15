//! Single requests to a registry, each with a connection of its own.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode, Uri};

use super::Trust;
use crate::engine::docker::endpoint::{Address, Tls};
use crate::engine::docker::transport::Connector;
use crate::model::Secret;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// A header that is in no trace. What no header can have is left out, and so refused.
    #[expect(clippy::needless_pass_by_value, reason = "it is used up")]
    pub(super) fn secret_header(mut self, name: HeaderName, value: Secret) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: String) -> Self {
        self.body = body.into();
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Where requests go: a host and port, and how.
#[derive(Debug, Clone)]
pub(super) struct Site {
    host: String,
    port: u16,
    tls: Option<Tls>,
}

impl Site {
    /// The ways to a registry, in the order in which docker tries them.
    pub(super) fn of(domain: &str, trust: &Trust) -> Vec<Self> {
        let (host, port) = split(domain);
        let site = |port: Option<u16>, usual, tls| Self {
            host: host.clone(),
            port: port.unwrap_or(usual),
            tls,
        };
        let tls = Tls {
            authority: trust.authorities.clone(),
            identity: None,
            is_verified: !trust.is_insecure,
        };
        let mut sites = vec![site(port, 443, Some(tls))];
        if trust.is_insecure {
            sites.push(site(port, 80, None));
        }
        sites
    }

    /// The place and path of a URL; trusted as the registry is that names it.
    pub(super) fn of_url(url: &str, registry: &[Self]) -> Result<(Self, String), String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let host = uri.host().ok_or("it is no URL")?.to_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        let is_plain = uri.scheme_str() == Some("http");
        let tls = registry.iter().find_map(|site| site.tls.clone());
        let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let site = Self {
            host,
            port,
            tls: tls.filter(|_| !is_plain),
        };
        Ok((site, path_and_query(url)))
    }

    /// Asks; what is wrong with the way there, in words.
    pub(super) async fn send(&self, ask: Ask, most_bytes: usize) -> Result<Answer, String> {
        let address = Address::Tcp {
            host: self.host.clone(),
            port: self.port,
            tls: self.tls.clone(),
        };
        let connector = Connector::new(address, CONNECT, None);
        let asking = async {
            let pipe = connector
                .connect()
                .await
                .map_err(|error| error.to_string())?;
            let said = |error: hyper::Error| error.to_string();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(pipe)
                .await
                .map_err(said)?;
            let serving = tokio::spawn(connection);
            let mut request = hyper::Request::builder()
                .method(ask.method)
                .uri(ask.path)
                .body(Full::new(ask.body))
                .map_err(|error| error.to_string())?;
            *request.headers_mut() = ask.headers;
            let host = HeaderValue::from_str(&self.shown()).map_err(|error| error.to_string())?;
            let headers = request.headers_mut();
            headers.insert(HOST, host);
            let agent = concat!("jobctl/", env!("CARGO_PKG_VERSION"));
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            let response = sender.send_request(request).await.map_err(said)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, most_bytes).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            serving.abort();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }

    /// The host as requests name it.
    fn shown(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let usual = if self.tls.is_some() { 443 } else { 80 };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// `host:port`, `[::1]:port`, or a host alone.
pub(super) fn split(domain: &str) -> (String, Option<u16>) {
    let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
    match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (bare(host), Some(port)),
            Err(_) => (bare(domain), None),
        },
        _ => (bare(domain), None),
    }
}

/// What of a URL stands in the head of a request.
pub(super) fn path_and_query(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    let path = uri.as_ref().and_then(Uri::path_and_query);
    path.map_or_else(|| "/".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (domain, host, port) in [
            ("ghcr.io", "ghcr.io", None),
            ("127.0.0.1:5000", "127.0.0.1", Some(5000)),
            ("[::1]:5000", "::1", Some(5000)),
            ("[::1]", "::1", None),
        ] {
            assert_eq!(split(domain), (host.to_owned(), port));
        }
    }

    #[test]
    fn only_insecure_registries_are_asked_without_tls() {
        let trust = |is_insecure| Trust {
            is_insecure,
            authorities: None,
        };
        let ways = |is_insecure| {
            let sites = Site::of("example.com", &trust(is_insecure));
            let ways = sites.iter().map(|site| {
                let is_verified = site.tls.as_ref().map(|tls| tls.is_verified);
                (site.port, is_verified)
            });
            ways.collect::<Vec<_>>()
        };
        assert_eq!(ways(false), [(443, Some(true))]);
        assert_eq!(ways(true), [(443, Some(false)), (80, None)]);
    }
}
