//! A client that sends exactly the bytes that a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::fake::Server;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Some(Self {
            status,
            headers,
            body: body.to_owned(),
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It is an error of this status and code.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.error().0.as_str()), (status, code));
    }

    /// The code and the field of an error.
    pub fn error(&self) -> (String, String) {
        let json = self.json();
        let error = json["error"].as_object().unwrap();
        assert!(error["message"].is_string() && json.as_object().unwrap().len() == 1);
        let word = |name| {
            error
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        (word("code"), word("field"))
    }
}

/// A request with a body.
pub fn with_body(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request with a body about texts.
pub fn with_texts(body: &[u8]) -> Vec<u8> {
    with_body("POST", "/inference", "", body)
}

/// All that the server sends until it closes.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Server {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection from another address of this machine.
    pub async fn connect_from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(address.parse().unwrap(), 0))
            .unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// The answer to these bytes.
    pub async fn send(&self, bytes: &[u8]) -> Answer {
        exchange(&mut self.connect().await, bytes).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&with_body("GET", path, "", b"")).await
    }

    pub async fn post(&self, body: &str) -> Answer {
        self.send(&with_texts(body.as_bytes())).await
    }

    /// What the model says to one text.
    pub async fn ask(&self, text: &str) -> Answer {
        self.post(&serde_json::json!({ "text": text }).to_string())
            .await
    }

    /// Starts to ask, and leaves it to the caller to read the answer.
    pub async fn begin(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let body = serde_json::json!({ "text": text }).to_string();
        let request = with_texts(body.as_bytes());
        stream.write_all(&request).await.unwrap();
        stream
    }

    /// Asks again and again until the path has this status.
    pub async fn until(&self, path: &str, status: u16) {
        let asking = async { while self.get(path).await.status != status {} };
        timeout(PATIENCE, asking).await.expect("the status comes");
    }

    /// Asks again and again until a count has this value.
    pub async fn until_counted(&self, name: &str, value: u64) {
        let asking = async { while self.count(name).await != Some(value) {} };
        timeout(PATIENCE, asking).await.expect("the count comes");
    }

    /// A count of /metrics.
    pub async fn count(&self, name: &str) -> Option<u64> {
        let metrics = self.get("/metrics").await.body;
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// Sends the bytes and reads until the server closes.
pub async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Answer {
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_answer(stream).await
}

/// Reads an answer until the server closes.
pub async fn read_answer(stream: &mut TcpStream) -> Answer {
    let text = read_all(stream).await;
    Answer::parse(&text).unwrap_or_else(|| panic!("not an answer: {text:?}"))
}
