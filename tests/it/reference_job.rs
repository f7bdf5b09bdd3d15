//! The reference job, from its sources to an answer: only in the full check, as it takes minutes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::image::docker;
use crate::support::{Bench, run, skipped};

/// A container that ends with its value.
struct Server(String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-fv", &self.0]).output();
    }
}

/// What a server answers to a request: status line and headers, and the body.
fn ask(address: &str, path: &str, body: Option<&str>) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let request = match body {
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nHost: job\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        None => format!("GET {path} HTTP/1.1\r\nHost: job\r\nConnection: close\r\n\r\n"),
    };
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

#[test]
fn the_reference_job_trains_on_reviews_and_answers() {
    if std::env::var_os("JOBCTL_TEST_FULL").is_none() {
        skipped(
            "the_reference_job_trains_on_reviews_and_answers",
            "only in the full check",
        );
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bench = Bench::new();
    let built = run(bench
        .jobctl()
        .arg("--directory")
        .arg(root)
        .args(["build", "train"]));
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let variables = root.join("job-template/test.env");
    let id = docker(&[
        "run",
        "-d",
        "--label",
        "dev.jobctl.test=reference",
        "-p",
        "127.0.0.1:0:8000",
        "--env-file",
        variables.to_str().unwrap(),
        "jobctl-train",
    ]);
    let server = Server(id.trim().to_owned());
    let address = docker(&["port", &server.0, "8000/tcp"]).trim().to_owned();
    let start = Instant::now();
    // It trains first, and says from the first second on that it lives.
    loop {
        match ask(&address, "/readyz", None) {
            Some((head, _)) if head.starts_with("HTTP/1.1 200") => break,
            _ => assert!(
                start.elapsed() < Duration::from_mins(10),
                "it is never ready"
            ),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let text = r#"{"text": "Moving, funny, and beautifully played. I loved every minute."}"#;
    let (head, body) = ask(&address, "/inference", Some(text)).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let share = |label: &str| answer[label].as_f64().unwrap();
    assert!(
        (share("positive") + share("negative") - 1.0).abs() < 1e-5,
        "{answer}"
    );
    assert!(share("positive") > 0.5, "{answer}");
    docker(&["stop", &server.0]);
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", &server.0]);
    assert_eq!(code, "0\n");
}
