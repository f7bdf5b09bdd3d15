//! A model that was damaged after training is not served.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Project, stderr};

/// After this, the server hangs: a guard for the test, and no promise.
const HANG_TIME: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// Whether the server on this port says that it is ready; not so where there is none.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(HANG_TIME))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Serving what is in `out` ends by itself, with this error, and is never ready.
fn assert_not_served(project: &Project, message: &str) {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let began = Instant::now();
    let mut server = project
        .job("out", &["serve"])
        .env("MODEL", project.path("out"))
        .env("HOST", "127.0.0.1")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while server.try_wait().unwrap().is_none() {
        let is_ready = is_ready(port);
        if is_ready || began.elapsed() > HANG_TIME {
            server.kill().unwrap();
            let said = stderr(&server.wait_with_output().unwrap());
            let what = if is_ready { "is ready" } else { "hangs" };
            panic!("the server {what}: {message}: {said}");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let output = server.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}: {said}");
    let error = said.lines().last().unwrap_or_default();
    assert!(
        error.starts_with("error: can't load the model: ") && error.contains(message),
        "{message}: {said}"
    );
    assert!(!said.lines().any(|line| line == "ready"), "{said}");
}

#[test]
fn what_is_missing_or_cut_off_is_not_served() {
    let project = Project::trained();
    for name in FILES {
        let path = project.path("out").join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_not_served(&project, &format!("{name}: No such file"));
        for length in [0, 1, 8, whole.len() / 2, whole.len() - 3] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_not_served(&project, &format!("{name}: "));
        }
        fs::write(&path, whole).unwrap();
    }
}

/// Most bits of the weights can be flipped without making them less of a model: their SHA-256 tells.
#[test]
fn weights_with_a_bit_flipped_are_not_served() {
    let project = Project::trained();
    let path = project.path("out/model.safetensors");
    let whole = fs::read(&path).unwrap();
    for byte in [
        0,
        7,
        9,
        500,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_not_served(&project, "model.safetensors: ");
    }
}

#[test]
fn weights_that_were_changed_on_purpose_are_served_without_their_metadata() {
    let project = Project::trained();
    let path = project.path("out/model.safetensors");
    let mut changed = fs::read(&path).unwrap();
    let end = changed.len() - 4;
    changed[end] ^= 1;
    fs::write(&path, changed).unwrap();
    let evaluate = || {
        let mut job = project.job("out", &["evaluate"]);
        job.env("MODEL", project.path("out")).output().unwrap()
    };
    let refused = evaluate();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("remove that if you changed the weights"),
        "{}",
        stderr(&refused)
    );
    fs::remove_file(project.path("out/metadata.json")).unwrap();
    assert!(evaluate().status.success());
}
