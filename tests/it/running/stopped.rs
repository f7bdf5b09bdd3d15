//! Runs that are stopped, at every moment from the first to the last.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::faults::{Site, ended};
use super::killed::supervisor;
use crate::support::image::DEBIAN;
use crate::support::project::Project;
use crate::support::random::Random;
use crate::support::{Ended, is_root, run, wait_for};

/// An image in a registry that never hands it out.
fn stalled_image() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the tests.
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = [0];
            if !stream.peek(&mut first).is_ok_and(|count| count > 0) || first == [22] {
                // It tries TLS first, and is not kept waiting for that.
                continue;
            }
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {}
            if line.starts_with("GET /v2/ ") {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            } else {
                held.push(stream);
            }
        }
    });
    format!("{address}/never:1")
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the newest run is in a state, and gives its record.
fn wait_for_state(project: &Project, state: &str) -> Value {
    let newest = || project.records().into_iter().next();
    wait_for(|| newest().is_some_and(|record| record["state"] == state));
    newest().unwrap()
}

/// Sees that the newest run was stopped before anything started.
fn assert_never_started(project: &Project, ending: &str, code: u8) {
    let record = &project.records()[0];
    let facts = (&record["state"], &record["ending"], &record["exit_code"]);
    assert_eq!(
        facts,
        (&json!("failed"), &json!(ending), &json!(code)),
        "{record:#}"
    );
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1);
    assert!(record["attempts"][0]["started"].is_null(), "{record:#}");
    project.assert_clean();
}

#[test]
fn a_build_is_stopped_with_the_run_that_it_is_for() {
    let project = Project::with_name("slow: { build: ., command: [\"true\"] }");
    let dockerfile = format!("FROM {DEBIAN}\nRUN echo $$ && sleep 600\n");
    project.bench.write("Dockerfile", &dockerfile);
    for (flags, sent, code) in [
        (&["slow"][..], Signal::INT, 130),
        (&["slow"], Signal::TERM, 143),
        (&["slow"], Signal::HUP, 129),
        (&["-d", "slow"], Signal::INT, 130),
    ] {
        let words = [&["--progress", "plain", "run"], flags].concat();
        let mut child = Project::start(&mut project.jobctl(&words));
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_building = |line: String| line.contains("sleep 600");
        assert!(stderr.by_ref().any(|line| is_building(line.unwrap())));
        signal(&child, sent);
        let said: Vec<_> = stderr.map(Result::unwrap).collect();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(code), "{flags:?} {sent:?}: {said:?}");
        assert_eq!(project.records().len(), 0);
    }
    project.assert_clean();
}

#[test]
fn a_pull_is_stopped_by_whatever_stops_a_run() {
    let project = Project::empty();
    let image = stalled_image();
    let run_it = |flags: &[&str]| {
        let known = project.records().len();
        let words = [flags, &["--image", &image, "true"]].concat();
        let child = Project::start(&mut project.run(&words));
        wait_for(|| {
            let records = project.records();
            records.len() > known && records[0]["state"] == "created"
        });
        child
    };
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let child = run_it(&[]);
        signal(&child, sent);
        let ended = ended(child);
        assert_eq!(ended.code, Some(code), "{sent:?}: {ended:?}");
        assert_never_started(&project, "stopped", u8::try_from(code).unwrap());
    }
    // By another process, of one at a terminal and of one in the background.
    for (flags, verb) in [(&[][..], "stop"), (&["-d"], "stop"), (&["-d"], "kill")] {
        let child = run_it(flags);
        let id = project.records()[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(project.output(&[verb, &id]).trim(), id);
        assert_never_started(&project, "stopped", 143);
        assert_eq!(ended(child).code, Some(143), "{flags:?} {verb}");
    }
    // Ctrl-C at the one that waits for a run in the background.
    let child = run_it(&["-d"]);
    signal(&child, Signal::INT);
    let ended_so = ended(child);
    assert_eq!(ended_so.code, Some(143), "{ended_so:?}");
    assert_never_started(&project, "stopped", 143);
    let child = run_it(&["--timeout", "1s"]);
    assert_eq!(ended(child).code, Some(124));
    assert_never_started(&project, "timeout", 124);
}

#[test]
fn a_run_whose_supervisor_was_killed_after_the_stop_is_stopped() {
    let project = Project::empty();
    let image = stalled_image();
    let child = Project::start(&mut project.run(&["-d", "--image", &image, "true"]));
    let record = wait_for_state(&project, "created");
    let id = record["id"].as_str().unwrap();
    let supervisor = supervisor(id);
    kill_process(supervisor, Signal::STOP).unwrap();
    let stopping = Project::start(&mut project.jobctl(&["stop", id]));
    let marker = project
        .bench
        .path()
        .join(".jobctl/runs")
        .join(id)
        .join("stop");
    wait_for(|| marker.exists());
    kill_process(supervisor, Signal::KILL).unwrap();
    let stopped = ended(stopping);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(ended(child).code, Some(125));
    assert_never_started(&project, "stopped", 143);
}

#[test]
fn inputs_are_no_longer_copied_for_a_run_that_is_stopped() {
    if !is_root("inputs_are_no_longer_copied_for_a_run_that_is_stopped") {
        return;
    }
    let site = Site::blind();
    std::fs::File::create(site.bench.path().join("big"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    site.bench.write(
        "jobs.yaml",
        &format!(
            "version: 1\nname: test\njobs:\n  reads: {{ image: {DEBIAN}, command: [\"true\"], network: \
             none, inputs: {{ big: {{ source: big, target: /big }} }} }}\n"
        ),
    );
    let mut command = site.jobctl(&["run", "reads"]);
    let child = Project::start(&mut command);
    wait_for(|| {
        let newest = site.newest();
        newest.is_some_and(|(record, _)| record["state"] == "submitted")
    });
    // What it does takes as long as this.
    site.engine.freeze();
    signal(&child, Signal::INT);
    wait_for(|| site.record()["state"] == "failed");
    site.engine.thaw();
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let record = site.record();
    assert_eq!(record["ending"], "stopped");
    assert!(record["attempts"][0]["started"].is_null(), "{record:#}");
    assert_eq!(record["attempts"][0]["is_removed"], true);
}

#[test]
fn a_retry_is_not_waited_for_by_a_run_that_is_stopped() {
    let project = Project::new(
        "fails: { image: IMAGE, command: [sh, -c, exit 3], retry: { attempts: 3, on: [error], backoff: \
         600s } }\n",
    );
    let waiting = |flags: &[&str]| {
        let known = project.records().len();
        let child = Project::start(&mut project.run(&[flags, &["fails"]].concat()));
        wait_for(|| {
            let records = project.records();
            let is_waiting = |record: &Value| {
                record["state"] == "submitted" && record["attempts"][0]["is_removed"] == true
            };
            records.len() > known && is_waiting(&records[0])
        });
        child
    };
    let assert_stopped = |ending: &str, code: u8| {
        let record = &project.records()[0];
        let facts = (&record["state"], &record["ending"], &record["exit_code"]);
        assert_eq!(facts, (&json!("failed"), &json!(ending), &json!(code)));
        let attempts = record["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0]["exit_code"], 3, "{record:#}");
        project.assert_clean();
    };
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let child = waiting(&[]);
        signal(&child, sent);
        assert_eq!(ended(child).code, Some(code));
        assert_stopped("stopped", u8::try_from(code).unwrap());
    }
    let child = waiting(&[]);
    let id = project.records()[0]["id"].as_str().unwrap().to_owned();
    project.output(&["stop", &id]);
    assert_eq!(ended(child).code, Some(143));
    assert_stopped("stopped", 143);
    let child = waiting(&["--timeout", "5s"]);
    assert_eq!(ended(child).code, Some(124));
    assert_stopped("timeout", 124);
    // Whoever looks after a kill finds how the last attempt ended.
    let mut child = waiting(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    project.output(&["ps"]);
    assert_stopped("error", 3);
}

#[test]
fn outputs_are_collected_of_a_job_that_ended_before_it_was_stopped() {
    let script = "mkdir /out; truncate -s 1G /out/big; echo made > /out/small";
    let project = Project::new(&format!(
        "makes: {{ image: IMAGE, command: [sh, -c, '{script}'], outputs: {{ out: /out }} }}\n"
    ));
    let collecting = || {
        let known = project.records().len();
        let child = Project::start(&mut project.run(&["makes"]));
        wait_for(|| project.records().len() > known);
        let id = project.records()[0]["id"].as_str().unwrap().to_owned();
        let part = format!(".jobctl/runs/{id}/outputs/.out.part");
        wait_for(|| project.bench.path().join(&part).exists());
        (child, id)
    };
    let assert_whole = || {
        let record = &project.records()[0];
        let facts = (&record["state"], &record["ending"], &record["exit_code"]);
        let expected = (&json!("finished"), &json!("success"), &json!(0));
        assert_eq!(facts, expected, "{record:#}");
        assert_eq!(record["outputs"]["out"]["file_count"], 2);
        assert_eq!(record["outputs"]["out"]["bytes"], (1_u64 << 30) + 5);
        project.assert_clean();
    };
    let (child, _) = collecting();
    signal(&child, Signal::INT);
    assert_eq!(ended(child).code, Some(0));
    assert_whole();
    // Who asks twice leaves it to the next jobctl.
    let (child, id) = collecting();
    signal(&child, Signal::HUP);
    let left = ended(child);
    assert_eq!(left.code, Some(129), "{left:?}");
    project.output(&["wait", &id]);
    assert_whole();
}

#[test]
fn each_attempt_has_the_time_of_a_job_that_is_retried_for_it() {
    let project = Project::new(
        "slow: { image: IMAGE, command: [sleep, '600'], timeout: 1s, retry: { attempts: 2, on: [timeout], \
         backoff: 2s } }\n",
    );
    let ended = run(&mut project.run(&["slow"]));
    assert_eq!(ended.code, Some(124), "{ended:?}");
    let record = project.record();
    assert_eq!(record["ending"], "timeout");
    let attempts = record["attempts"].as_array().unwrap();
    let endings: Vec<_> = attempts.iter().map(|attempt| &attempt["ending"]).collect();
    assert_eq!(endings, ["timeout", "timeout"]);
    // Whether its container is there by then or not, and while it is being started.
    for timeout in ["1ms", "150ms", "300ms"] {
        let ended = run(&mut project.run(&["--timeout", timeout, "slow"]));
        assert_eq!(ended.code, Some(124), "{timeout}: {ended:?}");
        let record = &project.records()[0];
        assert_eq!(record["ending"], "timeout", "{timeout}: {record:#}");
        assert_eq!(record["attempts"].as_array().unwrap().len(), 2, "{timeout}");
    }
    project.assert_clean();
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_so() {
    let project = Project::with_name("slow: { build: ., command: [\"true\"] }");
    let dockerfile = format!("FROM {DEBIAN}\nRUN echo $$ && sleep 600\n");
    project.bench.write("Dockerfile", &dockerfile);
    let mut command = project.bench.command("env");
    command
        .arg("--ignore-signal=HUP")
        .arg(crate::support::jobctl())
        .args(["--progress", "plain", "run", "slow"]);
    let mut child = Project::start(&mut command);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(stderr.any(|line| line.unwrap().contains("sleep 600")));
    signal(&child, Signal::HUP);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_job_that_was_asked_to_end_is_stopped_whatever_it_ends_with() {
    let script = "trap \"exit 0\" TERM; echo ready; while :; do sleep 0.05; done";
    let project = Project::new(&format!(
        "polite: {{ image: IMAGE, command: [sh, -c, '{script}'] }}\nlast: {{ image: IMAGE, command: [\"true\"], \
         needs: [polite] }}\n"
    ));
    let started = run(&mut project.run(&["-d", "--init=false", "polite"]));
    let id = started.stdout.trim();
    project.wait_for_output("ready\n");
    project.output(&["kill", "-s", "TERM", id]);
    let waited = run(&mut project.jobctl(&["wait", id]));
    assert_eq!(waited.code, Some(0), "{waited:?}");
    assert_eq!(project.record()["ending"], "stopped");
    let listed = project.output(&["runs"]);
    assert!(
        listed.lines().nth(1).unwrap().contains("stopped"),
        "{listed}"
    );
    let ended = run(&mut project.run(&["last"]));
    assert!(
        ended.stderr.contains("no run of `polite` succeeded"),
        "{ended:?}"
    );
    project.assert_clean();
}

#[test]
fn a_run_whose_container_is_removed_with_its_outputs_says_so() {
    let project =
        Project::new("job: { image: IMAGE, command: [sleep, '600'], outputs: { out: /out } }\n");
    let started = run(&mut project.run(&["-d", "job"]));
    let id = started.stdout.trim();
    let container = project.record()["attempts"][0]["container_id"].clone();
    crate::support::image::docker(&["rm", "-f", container.as_str().unwrap()]);
    let waited = run(&mut project.jobctl(&["wait", id]));
    assert_eq!(waited.code, Some(125), "{waited:?}");
    assert_eq!(project.record()["ending"], "removed");
    assert!(
        !waited.stderr.contains("its container is kept"),
        "{waited:?}"
    );
}

#[test]
fn a_project_that_is_moved_under_a_run_loses_nothing_of_it() {
    let script = "echo up; until [ -e /shared/go ]; do sleep 0.05; done; echo made > /out/it";
    let mut project = Project::new(&format!(
        "job: {{ image: IMAGE, command: [sh, -c, '{script}'], outputs: {{ out: /out }} }}\n"
    ));
    let shared = tempfile::tempdir().unwrap();
    let volume = format!("{}:/shared", shared.path().display());
    let child = Project::start(&mut project.run(&["-v", &volume, "job"]));
    project.wait_for_output("up\n");
    project.bench.relocate();
    std::fs::write(shared.path().join("go"), "").unwrap();
    let left = ended(child);
    assert_eq!(left.code, Some(125), "{left:?}");
    assert!(
        left.stderr.contains("where the project was moved to"),
        "{left:?}"
    );
    project.output(&["ps"]);
    let record = project.record();
    assert_eq!(record["ending"], "success", "{record:#}");
    assert_eq!(project.file("outputs/out/it"), b"made\n");
    project.assert_clean();
}

/// How often a run is stopped at a moment that nobody has chosen; two hundred times in the full check.
fn count() -> usize {
    match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 200,
        None => 16,
    }
}

#[test]
fn a_run_that_is_stopped_at_any_moment_is_stopped_once() {
    let script = "mkdir -p /out; echo begun; sleep 0.5; echo made > /out/it; exit 3";
    let project = Project::with_name(&format!(
        "job:\n  build: .\n  command: [sh, -c, '{script}']\n  inputs: {{ in: {{ source: in, target: /in }} \
         }}\n  outputs: {{ out: /out }}\n  retry: {{ attempts: 3, on: [error], backoff: 1s }}\n"
    ));
    project.bench.write("in", "read");
    let mut random = Random::new(19);
    let (mut unborn, mut stopped) = (0, 0);
    for round in 0..count() {
        // Each is built anew.
        let dockerfile = format!("FROM {DEBIAN}\nRUN echo {round}\n");
        project.bench.write("Dockerfile", &dockerfile);
        let known = project.records().len();
        let is_detached = random.below(4) == 0;
        let words = if is_detached {
            &["-d", "job"][..]
        } else {
            &["job"]
        };
        let child = Project::start(project.jobctl(&["--progress", "quiet", "run"]).args(words));
        std::thread::sleep(Duration::from_millis(random.below(6000)));
        let sent = random.pick(&[Signal::INT, Signal::TERM]);
        let is_other = is_detached || random.below(2) == 0;
        let records = project.records();
        let what = match records
            .first()
            .filter(|_| is_other && records.len() > known)
        {
            Some(record) => {
                let verb = random.pick(&["stop", "kill"]);
                let id = record["id"].as_str().unwrap();
                let ended = run(&mut project.jobctl(&[verb, id]));
                // One that has just ended has no container that could be killed.
                assert!(
                    ended.code == Some(0) || verb == "kill",
                    "round {round}: {ended:?}"
                );
                verb.to_owned()
            }
            None => {
                // It may have ended by itself.
                let _ = kill_process(Pid::from_child(&child), sent);
                format!("{sent:?}")
            }
        };
        let Ended { code, stderr, .. } = ended(child);
        let records = project.records();
        let message = format!("round {round}, {what}: {code:?} {stderr}");
        if records.len() == known {
            // In its first moment it has no say in what a signal does.
            assert!(matches!(code, Some(130 | 143) | None), "{message}");
            unborn += 1;
            continue;
        }
        assert_eq!(records.len(), known + 1, "{message}");
        if is_detached {
            let id = records[0]["id"].as_str().unwrap();
            if what.starts_with("Signal") {
                run(&mut project.jobctl(&["stop", id]));
            }
            run(&mut project.jobctl(&["wait", id]));
        }
        let record = &project.records()[0];
        let message = format!("{message} {record:#}");
        let ending = record["ending"].as_str().unwrap();
        assert!(matches!(ending, "stopped" | "error"), "{message}");
        assert_eq!(record["state"], "failed", "{message}");
        if !is_detached {
            assert_eq!(record["exit_code"], code.unwrap(), "{message}");
        }
        // What ended by itself had all its attempts.
        let attempts = record["attempts"].as_array().unwrap().len();
        assert!(ending == "stopped" || attempts == 3, "{message}");
        stopped += usize::from(ending == "stopped");
        project.assert_clean();
    }
    let counts = format!("{stopped} stopped, {unborn} never began");
    assert!(stopped > count() / 3, "{counts}");
}
