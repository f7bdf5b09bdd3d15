//! `jobctl run` on the real engine, and the verbs for what it started.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::{Ended, run, wait_for};

mod clock;
mod edges;
mod faults;
mod killed;
mod lost_outputs;
mod many;
mod outputs;
mod own_script;
mod scarce;
mod stopped;
mod terminal;
mod unreachable;
mod verbs;
mod words;

#[test]
fn a_runs_output_and_exit_code_are_its_own() {
    let project = Project::empty();
    let script = "echo out; echo err >&2; exit 7";
    let ended = run(&mut project.run_image(&[], &["sh", "-c", script]));
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(7), "out\n", "err\n")
    );
    let record = project.record();
    assert_eq!(record["state"], "failed");
    assert_eq!(record["ending"], "error");
    assert_eq!(record["exit_code"], 7);
    assert_eq!(project.file("stdout.log"), b"out\n");
    assert_eq!(project.file("stderr.log"), b"err\n");
    project.assert_clean();
}

#[test]
fn what_cannot_be_run_has_dockers_codes() {
    let project = Project::empty();
    for (flags, command, code, said) in [
        (
            &["--init=false"][..],
            &["no-such-program"][..],
            127,
            "not found",
        ),
        (&["--init=false"], &["/etc"], 126, "can't be executed"),
        // The init process is there, and says so itself.
        (&[], &["no-such-program"], 127, "No such file"),
        (&[], &["/etc"], 126, "Permission denied"),
        (
            &["--pull", "never", "--image", "no.such.host/image"],
            &[],
            125,
            "does not have the image",
        ),
        (&["--gpus", "all"], &["true"], 125, "nvidia-ctk"),
        (&["--memory", "lots"], &["true"], 125, "--memory"),
        (&["--no-such-flag"], &["true"], 125, "--no-such-flag"),
    ] {
        let has_image = flags.contains(&"--image");
        let mut command = if has_image {
            project.run(flags)
        } else {
            project.run_image(flags, command)
        };
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(code), "{flags:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{flags:?}: {}", ended.stderr);
    }
    project.assert_clean();
}

#[test]
fn standard_input_goes_through_byte_for_byte() {
    let project = Project::empty();
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut child = project
        .run_image(&["-i"], &["cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let mut received = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut received)
        .unwrap();
    sending.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(received == bytes, "{} bytes came back", received.len());
    assert!(project.file("stdout.log") == bytes);
}

#[test]
fn outputs_and_metrics_are_collected_after_failure_too() {
    let project = Project::new(
        "train:
  image: IMAGE
  command: [sh, -c, 'mkdir -p /out/deep; echo model > /out/deep/weights; echo loss=0.5; echo loss=0.25; printf \"{\\\"accuracy\\\": 0.9}\" > /out/metrics.json; exit 3']
  outputs: { model: /out, none: /nowhere }
  metrics: { files: [/out/metrics.json], log: { loss: 'loss=([0-9.]+)' } }
",
    );
    let ended = run(&mut project.run(&["train"]));
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let record = project.record();
    assert_eq!(record["metrics"], json!({ "accuracy": 0.9, "loss": 0.25 }));
    let list = String::from_utf8(project.file("outputs/model.files.jsonl")).unwrap();
    let files: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let files: Vec<_> = files.iter().map(|file| &file["path"]).collect();
    assert_eq!(files, ["deep/weights", "metrics.json"]);
    assert_eq!(record["outputs"]["model"]["file_count"], 2);
    assert_eq!(project.file("outputs/model/deep/weights"), b"model\n");
    let warnings = record["warnings"].to_string();
    assert!(
        warnings.contains("the output `none` is missing: the job wrote nothing to `/nowhere`"),
        "{warnings}"
    );
}

#[test]
fn inputs_are_read_only_and_in_the_record() {
    let project = Project::new(
        "count:
  image: IMAGE
  command: [sh, -c, 'cat /data/words; echo more >> /data/words']
  inputs: { words: { source: words.txt, target: /data/words } }
",
    );
    project.bench.write("words.txt", "a b c\n");
    let ended = run(&mut project.run(&["count"]));
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(2), "a b c\n"),
        "{}",
        ended.stderr
    );
    let input = &project.record()["inputs"]["words"];
    assert_eq!(input["bytes"], 6);
    // `printf 'a b c\n' | sha256sum`
    let sha256 = "1a25953465ab671d54b30108a9951b5500fa40994098ef9463853004da7933e1";
    assert_eq!(input["sha256"], sha256);
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    let project = Project::empty();
    let start = Instant::now();
    let flags = ["--timeout", "1s", "--stop-timeout", "1"];
    let ended = run(&mut project.run_image(&flags, &["sleep", "600"]));
    assert_eq!(ended.code, Some(124));
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(project.record()["ending"], "timeout");
    project.assert_clean();
}

#[test]
fn a_failed_job_is_tried_again_if_it_says_so() {
    let project = Project::new(
        "flaky:
  image: IMAGE
  command: [sh, -c, 'echo try; exit 3']
  retry: { attempts: 3, on: [error], backoff: 10ms }
once:
  image: IMAGE
  command: [sh, -c, 'exit 3']
  retry: { attempts: 3, on: [infra], backoff: 10ms }
",
    );
    let ended = run(&mut project.run(&["flaky"]));
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(3), "try\ntry\ntry\n")
    );
    let record = project.record();
    let attempts = record["attempts"].as_array().unwrap();
    let from: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt["log_from"][0].as_u64())
        .collect();
    assert_eq!(from, [Some(0), Some(4), Some(8)]);
    let ended = run(&mut project.run(&["once"]));
    assert_eq!(ended.code, Some(3));
    assert_eq!(
        project.records()[0]["attempts"].as_array().unwrap().len(),
        1
    );
}

/// Runs a script that takes more memory than it may, and that reads a line before it does: an engine
/// begins to look at memory a moment after the start.
fn start_with_little_memory(project: &Project, flags: &[&str], script: &str) -> Child {
    let words = [&["-i", "-m", "32m", "--init=false"], flags].concat();
    let mut child = project
        .run_image(&words, &["sh", "-c", &format!("read -r _; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let is_running = |record: &Value| record["state"] == "running";
    wait_for(|| project.records().first().is_some_and(is_running));
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(b"go\n").unwrap();
    child
}

/// Runs a job of which a child runs out of memory, and which ends with 0. It lives on for a while: what
/// an engine hears of memory after the end, it may never tell.
fn lose_a_child(project: &Project, flags: &[&str]) -> Ended {
    // The kernel is to take the child, and not the shell.
    let script = "(echo 1000 > /proc/self/oom_score_adj; exec perl -e '$a = \"x\" x 200_000_000'); \
                  sleep 2; exit 0";
    let child = start_with_little_memory(project, flags, script);
    child.wait_with_output().unwrap().into()
}

#[test]
fn memory_that_ran_out_is_told_from_a_kill() {
    let project = Project::empty();
    let ended = lose_a_child(&project, &[]);
    // The child was killed, and the shell went on.
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = project.record();
    assert_eq!(record["ending"], "success");
    assert_eq!(record["attempts"][0]["is_oom_killed"], true);
    assert!(record["warnings"].to_string().contains("memory was full"));
    let script = "exec perl -e '$a = \"x\" x 200_000_000; sleep 1'";
    let child = start_with_little_memory(&project, &[], script);
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(137), "{ended:?}");
    assert_eq!(project.records()[0]["ending"], "oom");
}

#[test]
fn a_run_in_the_background_is_listed_followed_entered_and_stopped() {
    let project = Project::empty();
    let script = "trap 'echo bye; exit 5' TERM; echo hello; while :; do sleep 0.1; done";
    let ended = run(&mut project.run_image(&["-d", "--init=false"], &["sh", "-c", script]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let id = ended.stdout.trim().to_owned();
    let listed = project.output(&["--format", "json", "ps"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["runs"][0]["id"], *id);
    assert_eq!(listed["runs"][0]["status"], "running");
    wait_for(|| project.output(&["logs", &id]) == "hello\n");
    let ended = run(&mut project.jobctl(&["exec", &id, "sh", "-c", "echo inside; exit 4"]));
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(4), "inside\n"),
        "{}",
        ended.stderr
    );
    let following = Project::start(&mut project.jobctl(&["logs", "-f", "--exit-code", &id]));
    assert_eq!(project.output(&["stop", &id]).trim(), id);
    let followed = following.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&followed.stdout), "hello\nbye\n");
    assert_eq!(followed.status.code(), Some(5));
    let ended = run(&mut project.jobctl(&["wait", &id[..20]]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(5), "5\n"));
    assert_eq!(project.record()["ending"], "stopped");
    assert_eq!(project.output(&["ps"]).lines().count(), 1);
    assert_eq!(project.output(&["rm", &id]).trim(), id);
    assert_eq!(project.records().len(), 0);
    project.assert_clean();
}

#[test]
fn ctrl_c_ends_the_job_a_second_one_kills_it_a_third_lets_go() {
    let project = Project::empty();
    let script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done";
    let mut command = project.run_image(
        &["--init=false", "--stop-timeout", "600"],
        &["sh", "-c", script],
    );
    let child = Project::start(&mut command);
    let pid = Pid::from_child(&child);
    project.wait_for_output("ready\n");
    kill_process(pid, Signal::INT).unwrap();
    project.wait_for_output("ready\ncaught\n");
    kill_process(pid, Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(137));
    let record = project.record();
    assert_eq!(
        (&record["ending"], &record["state"]),
        (&json!("stopped"), &json!("failed"))
    );
    project.assert_clean();
}

#[test]
fn a_terminal_that_is_closed_leaves_the_job_running() {
    let project = Project::empty();
    let child = Project::start(&mut project.run_image(&[], &["sh", "-c", "echo ready; sleep 600"]));
    let pid = Pid::from_child(&child);
    project.wait_for_output("ready\n");
    kill_process(pid, Signal::HUP).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(129));
    let listed = project.output(&["ps"]);
    assert!(listed.contains("running (unattended)"), "{listed}");
    let id = project.record()["id"].as_str().unwrap().to_owned();
    project.output(&["stop", "-t", "1", &id]);
    assert_eq!(project.record()["state"], "failed");
    project.assert_clean();
}

#[test]
fn secrets_are_starred_out_of_logs_and_records() {
    let project = Project::empty();
    let mut command = project.run_image(
        &["-e", "API_TOKEN"],
        &[
            "sh",
            "-c",
            "echo token is $API_TOKEN; printf %s $API_TOKEN | base64",
        ],
    );
    command.env("API_TOKEN", "hush-hush-42");
    let ended = run(&mut command);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "token is ***\n***\n"),
        "{}",
        ended.stderr
    );
    let folder = project.bench.path().join(".jobctl");
    let mut found = std::process::Command::new("grep");
    found.args(["-rl", "hush-hush-42"]).arg(folder);
    assert_eq!(run(&mut found).stdout, "");
}
