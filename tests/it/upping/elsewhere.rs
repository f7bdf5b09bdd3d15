//! On an engine that does not see this machine's files: a socket that is forwarded from another one.

use std::process::Command;

use serde_json::Value;

use super::records_of;
use crate::support::engine::{self, PrivateEngine};
use crate::support::image::{DEBIAN, ensure_debian};
use crate::support::project::Project;
use crate::support::proxy::forward;
use crate::support::{is_root, run};

const JOBS: &str = r#"
data:
  image: IMAGE
  command: ["sh", "-c", "cat /seed > /out/words"]
  inputs: { seed: { source: seed.txt, target: /seed } }
  outputs: { words: /out }
  network: none
flaky:
  image: IMAGE
  command: ["sh", "-c", "cat /in/words; exit 3"]
  needs: { data: { outputs: { words: /in } } }
  retry: { attempts: 2, on: [error], backoff: 1ms }
  network: none
serve:
  image: IMAGE
  command: ["sh", "-c", "echo $$NAME; cat /in/words /config; exec sleep infinity"]
  environment: { NAME: "${NAME:-none}" }
  inputs: { config: { source: config.txt, target: /config } }
  needs: { data: { outputs: { words: /in } } }
  service: true
  network: none
"#;

/// A project, an engine that does not see it, and the socket that leads there.
struct Elsewhere {
    project: Project,
    engine: PrivateEngine,
    socket: tempfile::TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        ensure_debian();
        let project = Project::with_name(JOBS);
        project.bench.write("seed.txt", "word\n");
        project.bench.write("config.txt", "configured\n");
        let hidden = format!(
            "mount -t tmpfs tmpfs {}; mount -t tmpfs tmpfs /dev/shm",
            project.bench.path().display()
        );
        let engine = PrivateEngine::start(&hidden, &[]);
        engine::load(DEBIAN, &engine.socket());
        let socket = tempfile::tempdir().unwrap();
        forward(socket.path(), engine.socket());
        Self {
            project,
            engine,
            socket,
        }
    }

    fn jobctl(&self, args: &[&str]) -> Command {
        let host = self.socket.path().join("proxy.sock");
        let mut command = self.project.jobctl(args);
        command.env("DOCKER_HOST", format!("unix://{}", host.display()));
        command
    }

    /// Sees that the newest run of the service has this, and whether it is by mounts.
    fn assert_serves(&self, expected: &str, is_mounted: bool) {
        let record = &records_of(&self.project, "serve")[0];
        assert_eq!(record["state"], "running", "{record:#}");
        let mut logs = if is_mounted {
            self.project.jobctl(&["logs", "serve"])
        } else {
            self.jobctl(&["logs", "serve"])
        };
        assert_eq!(run(&mut logs).stdout, expected);
        let mounts = record["container"]["mounts"].as_array();
        let targets: Vec<_> = mounts
            .into_iter()
            .flatten()
            .map(|mount| &mount["target"])
            .collect();
        let expected: &[&str] = if is_mounted { &["/config", "/in"] } else { &[] };
        assert_eq!(targets, expected);
    }
}

#[test]
fn what_a_run_reads_is_copied_again_whenever_it_is_started_again() {
    if !is_root("what_a_run_reads_is_copied_again_whenever_it_is_started_again") {
        return;
    }
    let elsewhere = Elsewhere::new();
    let ended = run(&mut elsewhere.jobctl(&["up", "flaky"]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let flaky = &records_of(&elsewhere.project, "flaky")[0];
    assert_eq!(flaky["attempts"].as_array().unwrap().len(), 2);
    let said = run(&mut elsewhere.jobctl(&["logs", "flaky"])).stdout;
    assert_eq!(said, "word\nword\n");

    for name in ["a", "b"] {
        let ended = run(elsewhere.jobctl(&["up", "serve"]).env("NAME", name));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        elsewhere.assert_serves(&format!("{name}\nword\nconfigured\n"), false);
    }
    elsewhere.project.bench.write("config.txt", "changed\n");
    let ended = run(&mut elsewhere.jobctl(&["rollback", "serve"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warning = "the input `config` is not what it was then";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    elsewhere.assert_serves("a\nword\nchanged\n", false);
    let [again, _, first] = &records_of(&elsewhere.project, "serve")[..] else {
        panic!("there are three runs");
    };
    assert_eq!(again["handed"], first["handed"]);
    assert_ne!(again["key"], first["key"]);
    // `up` reuses it: its key is that of what jobs.yaml asks for today.
    let ended = run(elsewhere
        .jobctl(&["--format", "json", "up", "serve"])
        .env("NAME", "a"));
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["steps"][1]["how"], "up_to_date", "{ended:?}");
    drop(elsewhere.engine);
}

#[test]
fn what_was_mounted_is_copied_on_an_engine_that_sees_no_files_and_the_other_way_round() {
    if !is_root(
        "what_was_mounted_is_copied_on_an_engine_that_sees_no_files_and_the_other_way_round",
    ) {
        return;
    }
    let elsewhere = Elsewhere::new();
    let here = |args: &[&str], name: &str| {
        let ended = run(elsewhere.project.jobctl(args).env("NAME", name));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    for name in ["a", "b", "c"] {
        here(&["up", "serve"], name);
        elsewhere.assert_serves(&format!("{name}\nword\nconfigured\n"), true);
    }
    here(&["down", "serve"], "");
    let ended = run(&mut elsewhere.jobctl(&["rollback", "serve"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    elsewhere.assert_serves("b\nword\nconfigured\n", false);
    let ended = run(&mut elsewhere.jobctl(&["down", "serve"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    here(&["rollback", "serve"], "");
    elsewhere.assert_serves("a\nword\nconfigured\n", true);
    here(&["down", "serve"], "");
    elsewhere.project.assert_clean();
}
