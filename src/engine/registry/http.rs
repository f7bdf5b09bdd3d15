//! Requests to a registry.

use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Trust, Trusted};
use crate::engine::docker::endpoint::{Address, Authorities, Tls};
use crate::engine::docker::transport::Connector;
use crate::model::Secret;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take, once all is sent.
const ANSWER: Duration = Duration::from_secs(20);
/// In what pieces a body is handed to its connection, in bytes.
const PIECE: usize = 64 << 10;

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    patience: Duration,
}

impl Ask {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: ANSWER,
        }
    }

    /// How long nothing may be sent, and how long the answer may take then.
    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
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

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The same question, elsewhere.
    pub(super) fn at(mut self, path: String) -> Self {
        self.path = path;
        self
    }

    pub(super) fn without(mut self, name: &HeaderName) -> Self {
        self.headers.remove(name);
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
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

/// What is sent, in pieces: so one sees whether it moves.
struct Pieces {
    rest: Bytes,
    moved: watch::Sender<Instant>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.moved.send_replace(Instant::now());
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Where requests go: a host and port, and how. Its connections are kept for the next request.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// `https://host:port`
    origin: String,
    is_trusted: bool,
    client: Client<Connector, Pieces>,
}

impl Tls {
    fn of(trust: &Trust) -> Self {
        Self {
            authorities: Authorities::SystemAnd(trust.authorities.clone()),
            identity: trust.identity.clone(),
            is_verified: !trust.is_insecure,
        }
    }
}

impl Site {
    fn new(host: &str, port: u16, tls: Option<Tls>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let address = Address::Tcp {
            host: host.to_owned(),
            port,
            tls: tls.clone(),
        };
        let connector = Connector::new(address, CONNECT, None);
        Self {
            origin: format!("{scheme}://{shown}:{port}"),
            is_trusted: is_loopback(host) || tls.is_some_and(|tls| tls.is_verified),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// The ways to a registry, in the order in which docker tries them.
    pub(super) fn of(domain: &str, trust: &Trust) -> Vec<Self> {
        let (host, port) = split(domain);
        let mut sites = vec![Self::new(&host, port.unwrap_or(443), Some(Tls::of(trust)))];
        if trust.is_insecure {
            sites.push(Self::new(&host, port.unwrap_or(80), None));
        }
        sites
    }

    /// The place and path of a URL, trusted with what is its own.
    pub(super) fn of_url(url: &str, trusted: &Trusted) -> Result<(Self, String), String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let (scheme, authority) = uri
            .scheme_str()
            .zip(uri.authority())
            .ok_or("it is no URL")?;
        let (usual, is_plain) = match scheme {
            "https" => (443, false),
            "http" => (80, true),
            _ => return Err("it is no URL of http or https".to_owned()),
        };
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(usual);
        let domain = match authority.port_u16() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        let trust = trusted.of(&domain);
        let tls = (!is_plain).then(|| Tls::of(&trust));
        let mut site = Self::new(host, port, tls);
        site.is_trusted |= trust.is_insecure;
        Ok((site, path_and_query(url)))
    }

    /// `https://host:port`
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn has_tls(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// Whether what is sent is read by nobody else: its certificate is verified, it is on this machine, or
    /// the user's configuration trusts it without.
    pub(super) fn keeps_secrets(&self) -> bool {
        self.is_trusted
    }

    /// Asks; what is wrong with the way there, in words.
    pub(super) async fn send(&self, ask: Ask, most_bytes: usize) -> Result<Answer, String> {
        let (moved, movement) = watch::channel(Instant::now());
        let mut request = hyper::Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.origin, ask.path))
            .body(Pieces {
                rest: ask.body,
                moved,
            })
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = ask.headers;
        let agent = HeaderValue::from_static(concat!("jobctl/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let asking = async {
            let response = self.client.request(request).await;
            let (head, body) = response.map_err(|error| innermost(&error))?.into_parts();
            let body = Limited::new(body, most_bytes).collect().await;
            let body = body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    format!("its answer does not end within {most_bytes} bytes")
                } else {
                    innermost(&*error)
                }
            })?;
            let body = body.to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        tokio::pin!(asking);
        loop {
            let moved = *movement.borrow();
            match timeout_at(moved + ask.patience, &mut asking).await {
                Ok(answer) => return answer,
                Err(_) if *movement.borrow() > moved => {}
                Err(_) => return Err(format!("no answer within {} s", ask.patience.as_secs())),
            }
        }
    }
}

/// Whether a host is this machine: nobody else hears what is said to it.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What was wrong at first: those around it say little.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
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
            ..Trust::default()
        };
        let ways = |is_insecure| {
            let sites = Site::of("example.com", &trust(is_insecure));
            let ways = sites.into_iter();
            let ways = ways.map(|site| (site.origin, site.is_trusted));
            ways.collect::<Vec<_>>()
        };
        let tls = || "https://example.com:443".to_owned();
        let plain = "http://example.com:80".to_owned();
        assert_eq!(ways(false), [(tls(), true)]);
        assert_eq!(ways(true), [(tls(), false), (plain, false)]);
    }

    #[test]
    fn a_server_is_trusted_with_secrets_for_what_it_is_itself() {
        let trusted = Trusted {
            insecure: vec!["reg.example:5000".to_owned()],
            directory: "/nowhere".into(),
        };
        for (url, expected) in [
            ("https://auth.example/token", Ok(true)),
            ("https://auth.example:5001/token?a=b", Ok(true)),
            ("http://auth.example/token", Ok(false)),
            ("http://reg.example/token", Ok(false)),
            ("http://reg.example:5001/token", Ok(false)),
            ("http://reg.example:5000/token", Ok(true)),
            ("http://127.0.0.2:1/token", Ok(true)),
            ("http://[::1]:1/token", Ok(true)),
            ("http://localhost/token", Ok(true)),
            ("http://localhost.example/token", Ok(false)),
            ("http://127.0.0.1.example/token", Ok(false)),
            (
                "ftp://auth.example/token",
                Err("it is no URL of http or https"),
            ),
            ("/token", Err("it is no URL")),
            ("", Err("it is no URL")),
        ] {
            let found = Site::of_url(url, &trusted);
            let found = found.as_ref().map(|(site, _)| site.keeps_secrets());
            assert_eq!(found.map_err(String::as_str), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_taken() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (site, path) = Site::of_url(&url, &Trusted::default()).unwrap();
        for (head, said) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "does not end within 1000 bytes"),
            ("HTTP/1.1 500 No\r\n\r\n", "does not end within 1000 bytes"),
            ("HTTP/1.1 200 OK\r\nX-Long: ", "message head is too large"),
        ] {
            let endless = async {
                let (mut link, _) = listener.accept().await.unwrap();
                link.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
                link.write_all(head.as_bytes()).await.unwrap();
                // Until the other side has had enough.
                while link.write_all(&[b'x'; 4096]).await.is_ok() {}
            };
            let asking = site.send(Ask::new(Method::GET, path.clone()), 1000);
            let (answer, ()) = tokio::join!(asking, endless);
            let answer = answer.unwrap_err();
            assert!(answer.contains(said), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_slow_link_is_waited_for_and_a_stuck_one_is_not() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (site, path) = Site::of_url(&url, &Trusted::default()).unwrap();
        let length = 40 << 20;
        let ask = Ask::new(Method::PATCH, path)
            .body(vec![0; length])
            .patience(Duration::from_secs(1));
        let slow = async {
            let (mut link, _) = listener.accept().await.unwrap();
            let (mut part, mut read) = (vec![0; 1 << 20], 0);
            while read < length {
                read += link.read(&mut part).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
            link.write_all(answer).await.unwrap();
            link
        };
        let (answer, link) = tokio::join!(site.send(ask.clone(), 0), slow);
        assert_eq!(answer.unwrap().status, StatusCode::ACCEPTED);
        // The same link, which nobody reads from any more.
        let answer = site.send(ask, 0).await;
        assert_eq!(answer.unwrap_err(), "no answer within 1 s");
        drop(link);
    }
}
