//! The server as a program: its threads, its health, its end.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Project, stderr, stdout};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A project with a model that was trained a little.
fn trained() -> Project {
    let project = Project::new();
    stdout(project.job("out", &["train"]).env("N_EPOCHS", "1"));
    project
}

/// The server's command, on a port that is free.
fn command(project: &Project, host: &str, arguments: &[&str]) -> (Command, SocketAddr) {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let free = TcpListener::bind((bare, 0)).unwrap().local_addr().unwrap();
    let mut command = project.job("out", arguments);
    command
        .env("HOST", host)
        .env("PORT", free.port().to_string())
        .stderr(Stdio::piped());
    if arguments == ["serve"] {
        command.env("MODEL", project.path("out"));
    }
    (command, free)
}

/// A server that runs; killed where a test fails.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        let child = command.spawn().unwrap();
        Self { child, address }
    }

    fn until_ready(&mut self) {
        let began = Instant::now();
        while !self
            .ask("GET", "/readyz", "")
            .is_ok_and(|answer| answer.contains(" 200 "))
        {
            assert_eq!(self.child.try_wait().unwrap(), None, "the server runs");
            assert!(began.elapsed() < PATIENCE, "the server gets ready");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn signal(&self) {
        let pid = Pid::from_child(&self.child);
        // It may have ended.
        let _ = kill_process(pid, Signal::TERM);
    }

    /// Its exit code, and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        let lines = lines.collect::<Result<_, _>>().unwrap();
        (self.child.wait().unwrap().code(), lines)
    }

    fn threads(&self) -> usize {
        let directory = format!("/proc/{}/task", self.child.id());
        fs::read_dir(directory).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A control group with a limit on threads; removed at the end. None where this user can't make one.
struct PidsLimit(PathBuf);

impl PidsLimit {
    fn new(name: &str, limit: usize) -> Option<Self> {
        // Version 1, then version 2.
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let directory = PathBuf::from(root).join(format!("job-{name}-{}", std::process::id()));
            if fs::create_dir(&directory).is_err() {
                continue;
            }
            let group = Self(directory);
            if fs::write(group.0.join("pids.max"), limit.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }

    /// The same command inside of the group.
    fn limit(&self, command: &Command) -> Command {
        let script = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        let mut limited = Command::new("/bin/sh");
        limited
            .args(["-c", script, "sh"])
            .arg(&self.0)
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        limited
    }
}

impl Drop for PidsLimit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Has a server answer alone and beside others, and gives its number of threads then.
fn threads_under_load(server: &Server) -> usize {
    for _ in 0..3 {
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let texts =
                        r#"{"texts": ["a great film", "a dull film", "the plot was long"]}"#;
                    let answer = server.ask("POST", "/inference", texts).unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                });
            }
        });
        let answer = server
            .ask("POST", "/inference", r#"{"text": "a great film"}"#)
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    server.threads()
}

#[test]
fn as_many_threads_compute_as_are_asked_for_and_no_more() {
    const THREADS: usize = 12;
    // The first, one that sleeps, and three each that answer and that cut texts to tokens.
    const OTHERS: usize = 2 + 2 * 3;
    let project = trained();
    let (mut command, address) = command(&project, "127.0.0.1", &["serve"]);
    command.env("OMP_NUM_THREADS", THREADS.to_string());
    let limit = PidsLimit::new("serve", THREADS + OTHERS);
    if let Some(limit) = &limit {
        command = limit.limit(&command);
    }
    let mut server = Server::start(&mut command, address);
    server.until_ready();
    assert_eq!(threads_under_load(&server), THREADS + OTHERS);
    server.signal();
    let (code, lines) = server.end();
    assert_eq!((code, lines.len()), (Some(0), 2), "{lines:?}");
}

#[test]
fn threads_that_trained_are_gone_when_it_serves() {
    const THREADS: usize = 4;
    // The first, one that sleeps, the one that waits for a signal in training, and two each that answer and that
    // cut texts to tokens.
    const OTHERS: usize = 3 + 2 * 2;
    let project = Project::new();
    let (mut command, address) = command(&project, "127.0.0.1", &[]);
    command
        .env("OMP_NUM_THREADS", THREADS.to_string())
        .env("NUM_TRAIN", "32")
        .env("NUM_TEST", "16")
        .env("N_EPOCHS", "1")
        .stdout(Stdio::null());
    let mut server = Server::start(&mut command, address);
    server.until_ready();
    assert!(threads_under_load(&server) <= THREADS + OTHERS);
}

#[test]
fn too_few_threads_are_told_before_anything_is_computed() {
    let Some(limit) = PidsLimit::new("few", 6) else {
        return;
    };
    let project = Project::new();
    for (threads, message) in [
        (
            "12",
            "error: computing on 12 threads: only 6 can be started here\n\
             help: set OMP_NUM_THREADS to at most 6, or raise the limit \
             (docker's --pids-limit, ulimit -u)\n",
        ),
        (
            "4",
            "error: serving with 4 threads that compute takes 8 threads more, and only 4 can be started\n\
             help: lower OMP_NUM_THREADS, or raise the limit \
             (docker's --pids-limit, ulimit -u)\n",
        ),
    ] {
        let (mut command, _) = command(&project, "127.0.0.1", &["serve"]);
        command.env("OMP_NUM_THREADS", threads);
        let output = limit.limit(&command).output().unwrap();
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(1), message.to_owned())
        );
    }
}

#[test]
fn a_port_that_is_taken_is_reported_before_the_model_is_loaded() {
    let project = Project::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (mut command, _) = command(&project, "127.0.0.1", &["serve"]);
    command.env("PORT", port.to_string());
    command.env("MODEL", project.path("nothing"));
    let output = command.output().unwrap();
    let message = format!(
        "error: can't listen on 127.0.0.1:{port}: Address already in use (os error 98)\n\
         help: set HOST or PORT to what is free here\n"
    );
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), message));
}

#[test]
fn it_serves_whether_or_not_its_lines_are_read() {
    let project = trained();
    for format in ["text", "json"] {
        let (mut command, address) = command(&project, "127.0.0.1", &["serve"]);
        command.env("LOG_FORMAT", format);
        let mut server = Server::start(&mut command, address);
        drop(server.child.stderr.take());
        server.until_ready();
        // It is logged, or would be.
        let answer = server.ask("GET", "/nothing", "").unwrap();
        assert!(answer.contains(" 404 "), "{format}: {answer}");
        server.signal();
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{format}");
    }
}

#[test]
fn a_training_whose_lines_cannot_be_written_ends_well() {
    for format in ["text", "json"] {
        let project = Project::new();
        let mut job = project.job("out", &["train"]);
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let status = job.env("LOG_FORMAT", format).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(0), "{format}");
    }
}

/// From before it listens until after it's ready.
#[test]
fn whenever_it_is_told_to_end_it_is_quiet_and_has_its_code() {
    let project = trained();
    for milliseconds in (0..400).step_by(40) {
        for (grace, signals) in [("0", 1), ("30", 2)] {
            let (mut command, address) = command(&project, "127.0.0.1", &["serve"]);
            let server = Server::start(command.env("GRACE_SECONDS", grace), address);
            thread::sleep(Duration::from_millis(milliseconds));
            for _ in 0..signals {
                server.signal();
            }
            let (code, lines) = server.end();
            let is_known = |line: &String| {
                line.starts_with("serving on http://127.0.0.1:")
                    || line == "ready"
                    || line.starts_with("stopped at once: ")
            };
            // None: by the signal itself, before anything began.
            assert!(matches!(code, None | Some(0 | 143)), "{code:?} {lines:?}");
            assert!(lines.iter().all(is_known), "{lines:?}");
            let is_forced = lines
                .iter()
                .any(|line| line.starts_with("stopped at once: "));
            assert_eq!(code == Some(143), is_forced, "{code:?} {lines:?}");
        }
    }
}

#[test]
fn health_asks_where_the_server_listens() {
    let project = trained();
    for host in ["127.0.0.2", "0.0.0.0", "[::1]", "::", "localhost"] {
        let (mut serve, address) = command(&project, host, &["serve"]);
        let mut server = Server::start(&mut serve, address);
        server.until_ready();
        let health = |port: u16| {
            let mut health = project.job("out", &["health"]);
            health.env("HOST", host).env("PORT", port.to_string());
            health.output().unwrap()
        };
        let output = health(address.port());
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(0), String::new()),
            "{host}"
        );
        server.signal();
        let (code, _) = server.end();
        assert_eq!(code, Some(0));
        let output = health(address.port());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).starts_with(&format!("no answer on HOST={host} PORT=")));
    }
}

#[test]
fn with_json_every_line_is_an_object_and_requests_have_ids() {
    let project = trained();
    let (mut command, address) = command(&project, "127.0.0.1", &["serve"]);
    let mut server = Server::start(command.env("LOG_FORMAT", "json"), address);
    server.until_ready();
    let answer = server
        .ask("POST", "/inference", r#"{"text": "a great film"}"#)
        .unwrap();
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap();
    server
        .ask("GET", "/predict?sentence=secret&sentence=words", "")
        .unwrap();
    server.signal();
    let (code, lines) = server.end();
    assert_eq!(code, Some(0));
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["timestamp"].is_string() && line["level"].is_string())
    );
    assert!(lines.iter().any(|line| line["message"] == "ready"));
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "request")
        .collect();
    let answered = requests
        .iter()
        .find(|line| line["request_id"] == id)
        .unwrap();
    assert_eq!(answered["path"], "/inference");
    assert_eq!(
        (&answered["status"], &answered["client"]),
        (&json!(200), &json!("127.0.0.1"))
    );
    assert!(answered["milliseconds"].as_f64().unwrap() > 0.0);
    assert!(
        requests
            .iter()
            .any(|line| line["path"] == "/predict" && line["status"] == 422)
    );
    assert!(!format!("{lines:?}").contains("secret"));

    let mut wrong = project.job("out", &["serve"]);
    let output = wrong
        .env("LOG_FORMAT", "json")
        .env("PORT", "high")
        .output()
        .unwrap();
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), &line["level"]),
        (Some(1), &json!("ERROR"))
    );
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .starts_with("PORT=\"high\": ")
    );
}
