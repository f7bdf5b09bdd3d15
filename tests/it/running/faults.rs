//! Runs on an engine that goes away, hangs, or loses its containers.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::engine::{self, PrivateEngine};
use crate::support::image::{DEBIAN, ensure_debian};
use crate::support::{Bench, Ended, is_root, run, wait_for};

/// What the jobs of these tests do: they wait until the test lets them go on.
const SCRIPT: &str =
    "echo before; until [ -e /shared/go ]; do sleep 0.05; done; echo after; exit 7";

/// An engine of a test's own, and a folder in which jobctl works with it.
pub(super) struct Site {
    pub(super) engine: PrivateEngine,
    pub(super) bench: Bench,
}

impl Site {
    pub(super) fn new(flags: &[&str]) -> Self {
        Self::with("", flags)
    }

    /// One whose engine does not see the bench: in its mount namespace, another file system is there.
    pub(super) fn blind() -> Self {
        let bench = Bench::new();
        let before = format!("mount -t tmpfs none {}", bench.path().display());
        Self::on(bench, &before, &[])
    }

    fn with(before: &str, flags: &[&str]) -> Self {
        Self::on(Bench::new(), before, flags)
    }

    fn on(bench: Bench, before: &str, flags: &[&str]) -> Self {
        ensure_debian();
        let engine = PrivateEngine::start(before, flags);
        engine::load(DEBIAN, &engine.socket());
        bench.write("shared/.keep", "");
        Self { engine, bench }
    }

    pub(super) fn jobctl(&self, args: &[&str]) -> Command {
        let mut command = self.bench.jobctl();
        command
            .env("DOCKER_HOST", self.engine.host())
            .env("JOBCTL_STATE_DIR", self.bench.path().join("state"))
            .args(args);
        command
    }

    pub(super) fn run(&self, flags: &[&str], script: &str) -> Command {
        let mut command = self.jobctl(&["run", "--network", "none"]);
        let shared = format!("{}:/shared", self.bench.path().join("shared").display());
        command
            .args(["--volume", &shared])
            .args(flags)
            .args(["--image", DEBIAN, "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts a run, and waits until its job runs.
    pub(super) fn start(&self, flags: &[&str]) -> Child {
        let child = self.run(flags, SCRIPT).spawn().unwrap();
        self.wait_for_log("before\n");
        child
    }

    pub(super) fn wait_for_log(&self, text: &str) {
        wait_for(|| {
            let record = self.newest();
            record.is_some_and(|(_, folder)| {
                std::fs::read_to_string(folder.join("stdout.log")).is_ok_and(|log| log == text)
            })
        });
    }

    pub(super) fn go_on(&self) {
        self.bench.write("shared/go", "");
    }

    pub(super) fn newest(&self) -> Option<(Value, std::path::PathBuf)> {
        let entries = std::fs::read_dir(self.bench.path().join("state/runs")).ok()?;
        let folder = entries.map(|entry| entry.unwrap().path()).max()?;
        let text = std::fs::read_to_string(folder.join("run.json")).ok()?;
        Some((serde_json::from_str(&text).unwrap(), folder))
    }

    pub(super) fn record(&self) -> Value {
        self.newest().unwrap().0
    }
}

pub(super) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_run_outlives_a_crash_of_its_engine() {
    if !is_root("a_run_outlives_a_crash_of_its_engine") {
        return;
    }
    let mut site = Site::new(&["--live-restore"]);
    let child = site.start(&[]);
    site.engine.kill();
    site.engine.restart();
    site.go_on();
    let ended = ended(child);
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert_eq!(ended.stdout, "before\nafter\n", "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the engine is gone"),
        "{}",
        ended.stderr
    );
    let record = site.record();
    assert_eq!(record["ending"], "error", "{record:#}");
    assert_eq!(
        record["warnings"].as_array().unwrap().len(),
        0,
        "{record:#}"
    );
}

#[test]
fn a_run_is_found_again_after_engine_and_jobctl_crashed() {
    if !is_root("a_run_is_found_again_after_engine_and_jobctl_crashed") {
        return;
    }
    let mut site = Site::new(&["--live-restore"]);
    let mut child = site.start(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    site.engine.kill();
    site.engine.restart();
    site.go_on();
    let id = site.record()["id"].as_str().unwrap().to_owned();
    let waited = run(&mut site.jobctl(&["wait", &id]));
    assert_eq!(
        (waited.code, waited.stdout.as_str()),
        (Some(7), "7\n"),
        "{}",
        waited.stderr
    );
    let log = run(&mut site.jobctl(&["logs", &id]));
    assert_eq!(log.stdout, "before\nafter\n", "{}", log.stderr);
}

#[test]
fn a_power_cut_loses_a_run_and_nobody_calls_it_a_result() {
    if !is_root("a_power_cut_loses_a_run_and_nobody_calls_it_a_result") {
        return;
    }
    let mut site = Site::new(&[]);
    let child = site.start(&[]);
    site.engine.cut_power();
    site.engine.restart();
    let ended = ended(child);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    let record = site.record();
    assert_eq!(
        (&record["state"], &record["ending"]),
        (&"lost".into(), &"lost".into()),
        "{record:#}"
    );
    assert!(
        ended.stderr.contains("nobody knows how it ended"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_engine_that_ends_what_it_finds_after_a_crash_is_told_from_the_job() {
    if !is_root("an_engine_that_ends_what_it_finds_after_a_crash_is_told_from_the_job") {
        return;
    }
    let mut site = Site::new(&[]);
    let child = site.start(&[]);
    site.engine.kill();
    site.engine.restart();
    let ended = ended(child);
    let record = site.record();
    assert_eq!(
        record["ending"], "engine_stopped",
        "{record:#}\n{}",
        ended.stderr
    );
}

#[test]
fn a_shutdown_of_the_engine_is_told_from_a_failure_of_the_job() {
    if !is_root("a_shutdown_of_the_engine_is_told_from_a_failure_of_the_job") {
        return;
    }
    let mut site = Site::new(&[]);
    let child = site.start(&["--retries", "0"]);
    site.engine.stop();
    site.engine.restart();
    let ended = ended(child);
    let record = site.record();
    assert_eq!(
        record["ending"], "engine_stopped",
        "{record:#}\n{}",
        ended.stderr
    );
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
}

#[test]
fn a_run_that_its_engine_stopped_is_run_again() {
    if !is_root("a_run_that_its_engine_stopped_is_run_again") {
        return;
    }
    let mut site = Site::new(&[]);
    let child = site.start(&["--retries", "1"]);
    site.engine.stop();
    site.engine.restart();
    site.go_on();
    let ended = ended(child);
    let record = site.record();
    assert_eq!(ended.code, Some(7), "{record:#}\n{}", ended.stderr);
    let endings = record["attempts"].as_array().unwrap().iter();
    let endings: Vec<_> = endings.map(|attempt| &attempt["ending"]).collect();
    assert_eq!(endings, ["engine_stopped", "error"], "{record:#}");
}

#[test]
fn outputs_of_a_job_that_its_engine_stopped_are_collected() {
    if !is_root("outputs_of_a_job_that_its_engine_stopped_are_collected") {
        return;
    }
    let mut site = Site::new(&[]);
    let jobs = format!(
        "version: 1\nname: test\njobs:\n  half:\n    image: {DEBIAN}\n    network: none\n    \
         command: [sh, -c, 'echo half > /out/it; echo before; sleep 600']\n    outputs: {{ it: /out }}\n"
    );
    site.bench.write("jobs.yaml", &jobs);
    let mut command = site.jobctl(&["run", "--retries", "0", "half"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap();
    site.wait_for_log("before\n");
    site.engine.stop();
    site.engine.restart();
    let ended = ended(child);
    let (record, folder) = site.newest().unwrap();
    assert_eq!(
        record["ending"], "engine_stopped",
        "{record:#}\n{}",
        ended.stderr
    );
    let kept = std::fs::read_to_string(folder.join("outputs/it/it"));
    assert_eq!(kept.unwrap(), "half\n", "{record:#}\n{}", ended.stderr);
}

#[test]
fn a_hung_engine_is_told_and_waited_for() {
    if !is_root("a_hung_engine_is_told_and_waited_for") {
        return;
    }
    let site = Site::new(&[]);
    let mut child = site.start(&[]);
    site.engine.freeze();
    let start = Instant::now();
    for verb in [
        &["ps"][..],
        &["run", "--image", DEBIAN, "true"],
        &["exec", "01", "true"],
    ] {
        let started = Instant::now();
        let ended = run(&mut site.jobctl(verb));
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{verb:?}: {ended:?}"
        );
        assert!(
            ended.stderr.contains("is hung"),
            "{verb:?}: {}",
            ended.stderr
        );
    }
    let mut stderr = child.stderr.take().unwrap();
    let mut said = String::new();
    while !said.contains("the engine does not answer") {
        let mut bytes = [0; 1024];
        let length = std::io::Read::read(&mut stderr, &mut bytes).unwrap();
        assert_ne!(length, 0, "it ended: {said}");
        said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    assert!(start.elapsed() < Duration::from_secs(45));
    site.engine.thaw();
    site.go_on();
    let ended = ended(child);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(7), "before\nafter\n")
    );
}

#[test]
fn a_job_that_fills_its_engines_disk_has_its_own_code_and_all_of_its_output() {
    if !is_root("a_job_that_fills_its_engines_disk_has_its_own_code_and_all_of_its_output") {
        return;
    }
    let disk = "truncate -s 500M \"$T/disk\"; mkfs.ext4 -q \"$T/disk\"; \
                mount -o loop \"$T/disk\" \"$T/data\"";
    let site = Site::with(disk, &[]);
    let script = "head -c 1G /dev/zero > /full; echo code $?; yes line | head -n 100000; exit 3";
    let output = site.run(&[], script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    let expected = format!("code 1\n{}", "line\n".repeat(100_000));
    assert!(
        output.stdout == expected.as_bytes(),
        "{} bytes",
        output.stdout.len()
    );
    let (record, folder) = site.newest().unwrap();
    assert_eq!(record["ending"], "error", "{record:#}");
    assert_eq!(
        std::fs::read(folder.join("stdout.log")).unwrap(),
        expected.as_bytes()
    );
}

#[test]
fn a_remote_engine_is_given_files_and_gives_outputs_back() {
    if !is_root("a_remote_engine_is_given_files_and_gives_outputs_back") {
        return;
    }
    let site = Site::new(&[]);
    let address = relay(site.engine.socket());
    site.bench.write("data/words.txt", "a b c\n");
    let manifest = format!(
        "version: 1\nname: remote\njobs:\n  count:\n    image: {DEBIAN}\n    network: none\n    \
         command: [sh, -c, 'mkdir -p /tmp/out && wc -w < /data/words.txt > /tmp/out/count; id -u']\n    \
         inputs: {{ data: {{ source: data, target: /data }} }}\n    outputs: {{ out: /tmp/out }}\n"
    );
    site.bench.write("jobs.yaml", &manifest);
    for flags in [
        &["run", "-u", "10001", "count"][..],
        &["run", "-d", "-u", "10001", "count"],
    ] {
        let mut command = site.jobctl(flags);
        let ended = run(command.env("DOCKER_HOST", &address));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let mut wait = site.jobctl(&["wait", "count"]);
        let waited = run(wait.env("DOCKER_HOST", &address));
        assert_eq!(waited.code, Some(0), "{}", waited.stderr);
        let (record, folder) = site.newest().unwrap();
        assert_eq!(record["outputs"]["out"]["file_count"], 1, "{record:#}");
        assert_eq!(
            std::fs::read_to_string(folder.join("outputs/out/count")).unwrap(),
            "3\n"
        );
        assert_eq!(
            std::fs::read_to_string(folder.join("stdout.log")).unwrap(),
            "10001\n"
        );
    }
}

/// An address on which the engine behind a socket answers, as if it were on another machine.
fn relay(socket: std::path::PathBuf) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(engine) = std::os::unix::net::UnixStream::connect(&socket) else {
                continue;
            };
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut from_engine, mut to_engine) = (engine.try_clone().unwrap(), engine);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_engine);
                let _ = to_engine.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_engine, &mut to_client);
                let _ = to_client.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}
