//! An engine that answers without end: jobctl's memory stays what it is, and it says what is wrong.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Bench, Ended, jobctl, run};

/// More than any jobctl needs, in bytes.
const MEMORY: u64 = 768 << 20;

/// What an engine answers that has no end.
#[derive(Debug, Clone, Copy)]
enum Endless {
    /// A body of this, again and again.
    Body(&'static str),
    /// The same, as the reason of a refusal.
    Refusal(&'static str),
    /// Headers.
    Headers,
    /// A header.
    Header,
    /// The reason of a refusal that is begun and never told.
    Silence,
}

/// An engine that is one for the first question, and then answers without end. It ends with the
/// test's process.
struct Engine {
    folder: tempfile::TempDir,
}

impl Engine {
    fn start(answer: Endless, healthy: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(&client, answer, healthy));
            }
        });
        Self { folder }
    }

    fn host(&self) -> String {
        let socket: PathBuf = self.folder.path().join("engine.sock");
        format!("unix://{}", socket.display())
    }
}

/// Answers until the client has gone.
fn serve(mut client: &UnixStream, answer: Endless, healthy: &[&str]) {
    let mut asked = BufReader::new(client.try_clone().unwrap());
    loop {
        let Some(path) = read_request(&mut asked) else {
            return;
        };
        let (status, body) = if path.ends_with("/_ping") {
            ("200 OK", "OK")
        } else if healthy.iter().any(|known| path.contains(known)) {
            ("201 Created", r#"{"Id":"0123456789abcdef","Warnings":[]}"#)
        } else {
            // The client ends it.
            let _ = answer_for_ever(client, answer);
            return;
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        if client.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request; its path.
fn read_request(asked: &mut BufReader<UnixStream>) -> Option<String> {
    let mut path = None;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if asked.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim();
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
        let target = line.split(' ').nth(1).map(str::to_owned);
        path = path.or(target);
    }
    std::io::copy(&mut asked.take(length), &mut std::io::sink()).ok()?;
    path.map(|path| path.split('?').next().unwrap_or_default().to_owned())
}

fn answer_for_ever(mut client: &UnixStream, answer: Endless) -> std::io::Result<()> {
    let (head, again) = match answer {
        Endless::Body(part) => (
            "HTTP/1.1 200 OK\r\n\r\n",
            part.repeat(1 + 65536 / part.len()),
        ),
        Endless::Refusal(part) => (
            "HTTP/1.1 500 Internal Server Error\r\n\r\n",
            part.repeat(1 + 65536 / part.len()),
        ),
        Endless::Headers => ("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n".repeat(4096)),
        Endless::Header => ("HTTP/1.1 200 OK\r\nX-Long: ", "x".repeat(65536)),
        Endless::Silence => ("HTTP/1.1 500 Internal Server Error\r\n\r\n", String::new()),
    };
    client.write_all(head.as_bytes())?;
    while !again.is_empty() {
        client.write_all(again.as_bytes())?;
    }
    // Until the client has had enough.
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    client.read(&mut [0]).map(drop)
}

/// jobctl, with no more memory than it may need.
fn limited(bench: &Bench, args: &[&str]) -> Command {
    let mut command = bench.command("prlimit");
    command.arg(format!("--data={MEMORY}")).arg(jobctl());
    command.args(args);
    command
}

fn assert_refused(ended: &Ended, said: &str, what: &str) {
    assert_eq!(ended.code, Some(125), "{what}: {ended:?}");
    let errors = ended.stderr.matches("error: ").count();
    assert_eq!(errors, 1, "{what}: {ended:?}");
    assert!(ended.stderr.contains(said), "{what}: {ended:?}");
    assert!(ended.stderr.len() < 4096, "{what}: {}", ended.stderr.len());
}

#[test]
fn an_answer_without_end_is_an_error() {
    let bench = Bench::new();
    for (answer, said) in [
        (Endless::Body(" "), "its answer does not end"),
        (Endless::Body(r#"{"Id":""#), "is not a Docker Engine"),
        (Endless::Body("[{},{}"), "is not a Docker Engine"),
        (Endless::Body("[["), "is not a Docker Engine"),
        (Endless::Refusal("no "), "no no no"),
        (Endless::Refusal("\n"), "refused (500)"),
        (Endless::Headers, "is not a Docker Engine"),
        (Endless::Header, "is not a Docker Engine"),
        (Endless::Silence, "refused (500)"),
    ] {
        let engine = Engine::start(answer, &[]);
        let args = ["--host", &engine.host(), "run", "--image", "debian", "true"];
        let ended = run(&mut limited(&bench, &args));
        assert_refused(&ended, said, &format!("{answer:?}"));
    }
}

/// Answers to what is asked once a container was made: to attach, to wait.
#[test]
fn a_connection_of_its_own_is_bounded_too() {
    let bench = Bench::new();
    for answer in [
        Endless::Body("x"),
        Endless::Refusal("no "),
        Endless::Headers,
    ] {
        let engine = Engine::start(answer, &["/containers/create", "/json"]);
        let args = ["--host", &engine.host(), "run", "--image", "debian", "true"];
        let ended = run(&mut limited(&bench, &args));
        assert_eq!(ended.code, Some(125), "{answer:?}: {ended:?}");
        assert!(ended.stderr.len() < 8192, "{answer:?}: {ended:?}");
    }
}
