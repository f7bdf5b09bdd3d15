//! A proxy in front of the real engine that remembers what was asked of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::SOCKET;

/// What was asked of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query, without the version of the API.
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The body, without what means nothing: `null`, `false`, 0, and what is empty.
    pub(crate) fn meaning(&self) -> serde_json::Value {
        let mut body = serde_json::from_slice(&self.body).unwrap();
        prune(&mut body);
        body
    }
}

fn prune(value: &mut serde_json::Value) {
    use serde_json::Value;

    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    match value {
        // What is nothing in a list has its place in it.
        Value::Array(values) => values.iter_mut().for_each(prune),
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            // Paths and ports are sets: keys of nothing.
            fields.retain(|name, value| name.contains('/') || !is_nothing(value));
        }
        _ => {}
    }
}

/// The proxy; ends with the test's process.
pub(crate) struct Recorder {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let listener = UnixListener::bind(socket(folder.path())).unwrap();
        let all = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let all = Arc::clone(&all);
                let engine = UnixStream::connect(SOCKET).unwrap();
                let (from, to) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to));
                std::thread::spawn(move || record(client, engine, &all));
            }
        });
        Self { folder, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }

    /// As `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("recorder.sock")
}

fn pass(mut from: UnixStream, mut to: UnixStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Passes requests on until the client ends, or until one makes the connection something else.
fn record(client: UnixStream, mut engine: UnixStream, all: &Mutex<Vec<Asked>>) {
    let mut client = BufReader::new(client);
    while let Some(is_upgraded) = record_one(&mut client, &mut engine, all) {
        if is_upgraded {
            let _ = std::io::copy(&mut client, &mut engine);
            break;
        }
    }
    let _ = engine.shutdown(Shutdown::Write);
}

/// One request; whether its connection is then something else.
fn record_one(
    client: &mut BufReader<UnixStream>,
    engine: &mut UnixStream,
    all: &Mutex<Vec<Asked>>,
) -> Option<bool> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let mut words = head.split(' ');
    let method = words.next()?.to_owned();
    let path = words.next()?.to_owned();
    let mut raw = Vec::new();
    let mut body = Vec::new();
    if header("Transfer-Encoding").is_some() {
        loop {
            let mut size = String::new();
            client.read_line(&mut size).ok()?;
            let length = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            client.read_exact(&mut chunk).ok()?;
            raw.extend_from_slice(size.as_bytes());
            raw.extend_from_slice(&chunk);
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = header("Content-Length") {
        body.resize(length.parse().unwrap(), 0);
        client.read_exact(&mut body).ok()?;
        raw.clone_from(&body);
    }
    let version = path.strip_prefix("/v1.").and_then(|rest| rest.find('/'));
    let path = version.map_or(path.clone(), |at| path["/v1.".len() + at..].to_owned());
    // Before it is passed on: whoever has the answer finds it here.
    all.lock().unwrap().push(Asked { method, path, body });
    engine.write_all(head.as_bytes()).ok()?;
    engine.write_all(&raw).ok()?;
    Some(header("Upgrade").is_some())
}
