//! `jobctl up` on the real engine: pipelines, gates, services.

mod elsewhere;
mod kept;
mod restarts;
mod rollbacks;
mod services;
mod unchanged;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::{Ended, run, wait_for};

/// A pipeline in which `train` makes a model of `data`, and says how good it is.
const PIPELINE: &str = r#"
data:
  image: IMAGE
  command: ["sh", "-c", "cat /seed > /out/words"]
  inputs: { seed: { source: seed.txt, target: /seed } }
  outputs: { words: /out }
train:
  image: IMAGE
  command: ["sh", "-c", "cat /in/words /in/words > /out/model; echo accuracy=$$ACCURACY"]
  environment: { ACCURACY: "${ACCURACY:-0.8}", STEPS: "${STEPS:-1}" }
  needs: { data: { outputs: { words: /in } } }
  outputs: { model: /out }
  metrics: { log: { accuracy: 'accuracy=([0-9.]+)' } }
check:
  image: job:train
  command: ["sh", "-c", "cat /model/model; touch /model/new 2>/dev/null || echo read-only"]
  needs: { train: { outputs: { model: /model }, gate: "accuracy >= 0.5" } }
"#;

fn pipeline() -> Project {
    let project = Project::with_name(PIPELINE);
    project.bench.write("seed.txt", "word\n");
    project
}

/// What each step of a pipeline came to.
fn up(project: &Project, args: &[&str], variables: &[(&str, &str)]) -> (Vec<String>, Ended) {
    let mut command = project.jobctl(&["--format", "json", "up"]);
    let ended = run(command.args(args).envs(variables.iter().copied()));
    let said: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let steps = said["steps"].as_array().cloned().unwrap_or_default();
    let steps = steps.iter().map(|step| {
        let [job, how] = ["job", "how"].map(|key| step[key].as_str().unwrap().to_owned());
        format!("{job} {how}")
    });
    (steps.collect(), ended)
}

fn records_of(project: &Project, job: &str) -> Vec<Value> {
    let mut records = project.records();
    records.retain(|record| record["job"] == job);
    records
}

#[test]
fn steps_run_in_order_and_are_handed_what_was_made_before() {
    let project = pipeline();
    let (steps, ended) = up(&project, &[], &[]);
    assert_eq!(steps, ["data ran", "train ran", "check ran"], "{ended:?}");
    let records = project.records();
    let [check, train, data] = records.as_slice() else {
        panic!("{records:#?}");
    };
    assert_eq!(check["parents"]["train"], train["id"]);
    assert_eq!(train["parents"]["data"], data["id"]);
    assert_eq!(train["metrics"], json!({ "accuracy": 0.8 }));
    let said = project.output(&["logs", "check"]);
    assert_eq!(said, "word\nword\nread-only\n");
    project.assert_clean();
}

#[test]
fn only_what_changed_is_run_again() {
    let project = pipeline();
    let all = |how: &str| ["data", "train", "check"].map(|job| format!("{job} {how}"));
    assert_eq!(up(&project, &[], &[]).0, all("ran"));
    assert_eq!(up(&project, &[], &[]).0, all("up_to_date"));

    // Another variable makes another run, of which the same comes.
    let (steps, _) = up(&project, &[], &[("STEPS", "2")]);
    assert_eq!(steps, ["data up_to_date", "train ran", "check up_to_date"]);
    // What was made before is still there.
    assert_eq!(up(&project, &[], &[]).0, all("up_to_date"));

    project.bench.write("seed.txt", "other\n");
    assert_eq!(up(&project, &[], &[]).0, all("ran"));

    let model = records_of(&project, "train")[0]["id"].clone();
    let model = format!(
        ".jobctl/runs/{}/outputs/model/model",
        model.as_str().unwrap()
    );
    project.bench.write(&model, "damaged\n");
    let (steps, _) = up(&project, &[], &[]);
    assert_eq!(steps, ["data up_to_date", "train ran", "check up_to_date"]);

    assert_eq!(up(&project, &["--fresh"], &[]).0, all("ran"));
    // A run that a pipeline takes up need not have been made by one.
    project.bench.write("seed.txt", "third\n");
    project.output(&["run", "data"]);
    let (steps, _) = up(&project, &["train"], &[]);
    assert_eq!(steps, ["data up_to_date", "train ran"]);
}

#[test]
fn steps_that_do_not_need_each_other_run_at_once() {
    let wait = "touch /meet/$$0; for i in $$(seq 600); do [ -e /meet/$$1 ] && exit; sleep 0.1; done; exit 9";
    let jobs = format!(
        r#"
left: {{ image: IMAGE, command: [sh, -c, "{wait}", left, right], volumes: ["./meet:/meet"] }}
right: {{ image: IMAGE, command: [sh, -c, "{wait}", right, left], volumes: ["./meet:/meet"] }}
both: {{ image: IMAGE, command: ["true"], needs: [left, right] }}
"#
    );
    let project = Project::with_name(&jobs);
    std::fs::create_dir(project.bench.path().join("meet")).unwrap();
    let (steps, ended) = up(&project, &[], &[]);
    assert_eq!(steps, ["left ran", "right ran", "both ran"], "{ended:?}");
    let tree = project.output(&["up", "--dry-run"]);
    assert_eq!(tree, "both\n├── left\n└── right\n");
}

#[test]
fn a_job_that_fails_ends_the_pipeline_with_its_code() {
    let project = Project::with_name(
        r#"
first: { image: IMAGE, command: [sh, -c, "echo so it goes >&2; exit 7"] }
second: { image: IMAGE, command: ["true"], needs: [first] }
"#,
    );
    let ended = run(&mut project.jobctl(&["up", "second"]));
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.contains("so it goes"), "{}", ended.stderr);
    assert!(ended.stderr.contains("of first: failed with exit code 7"));
    assert_eq!(project.records().len(), 1);
    // A failure is no result that is kept.
    assert_eq!(run(&mut project.jobctl(&["up", "second"])).code, Some(7));
    assert_eq!(project.records().len(), 2);
    project.assert_clean();
}

#[test]
fn what_is_not_good_enough_goes_no_further() {
    let project = pipeline();
    let mut command = project.jobctl(&["up"]);
    let ended = run(command.env("ACCURACY", "0.4999"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let id = records_of(&project, "train")[0]["id"].as_str().unwrap()[..14].to_owned();
    let expected = format!(
        "error[up]: the run {id} of `train` did not pass the gate of `check`: accuracy 0.4999 is not >= \
         0.5\n"
    );
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    assert!(records_of(&project, "check").is_empty());
}

#[test]
fn a_pipeline_that_was_killed_goes_on_where_it_was() {
    let script = "until [ -e /meet/go ]; do sleep 0.1; done; echo made > /out/it";
    let jobs = format!(
        r#"
slow: {{ image: IMAGE, command: [sh, -c, "{script}"], volumes: ["./meet:/meet"], outputs: {{ it: /out }} }}
last: {{ image: IMAGE, command: [cat, /in/it], needs: {{ slow: {{ outputs: {{ it: /in }} }} }} }}
"#
    );
    let project = Project::with_name(&jobs);
    std::fs::create_dir(project.bench.path().join("meet")).unwrap();
    let is_attended = || {
        let listed = project.output(&["--format", "json", "ps"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed["runs"][0]["is_attended"] == true
    };
    for (signal, code) in [(Signal::KILL, None), (Signal::HUP, Some(129))] {
        let mut first = Project::start(&mut project.jobctl(&["up", "last"]));
        wait_for(is_attended);
        let second = run(&mut project.jobctl(&["up", "last"]));
        assert_eq!(second.code, Some(125), "{second:?}");
        assert!(second.stderr.contains("is at work in this project"));
        kill_process(Pid::from_child(&first), signal).unwrap();
        assert_eq!(first.wait().unwrap().code(), code);
    }
    let third = Project::start(&mut project.jobctl(&["--format", "json", "up", "last"]));
    wait_for(is_attended);
    project.bench.write("meet/go", "");
    let ended: Ended = third.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["steps"][0]["how"], "resumed");
    assert_eq!(records_of(&project, "slow").len(), 1);
    assert_eq!(project.output(&["logs", "last"]), "made\n");
    project.assert_clean();
}

#[test]
fn ctrl_c_ends_what_runs_and_the_next_begins_there_anew() {
    let project = Project::with_name(
        r#"
first: { image: IMAGE, command: ["true"] }
slow: { image: IMAGE, command: [sh, -c, "trap 'exit 0' INT; echo ready; while :; do sleep 0.1; done"], needs: [first] }
"#,
    );
    for _ in 0..2 {
        let child = Project::start(&mut project.jobctl(&["up", "slow"]));
        wait_for(|| {
            let slow = records_of(&project, "slow");
            slow.first()
                .is_some_and(|record| record["state"] == "running")
        });
        let id = records_of(&project, "slow")[0]["id"].clone();
        wait_for(|| project.output(&["logs", id.as_str().unwrap()]) == "ready\n");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!(ended.code, Some(130), "{ended:?}");
    }
    // One that was stopped is no result, though it ended with 0.
    assert_eq!(records_of(&project, "slow").len(), 2);
    assert_eq!(records_of(&project, "first").len(), 1);
    project.assert_clean();
}

#[test]
fn ctrl_c_does_not_wait_while_a_large_output_is_read() {
    let project = Project::with_name(
        r#"
large: { image: IMAGE, command: [truncate, -s, 2G, /out/large], outputs: { out: /out } }
both: { image: IMAGE, command: ["true"], needs: [large] }
"#,
    );
    let ended = run(&mut project.jobctl(&["up", "large"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let id = project.record()["id"].as_str().unwrap().to_owned();
    let outputs = project
        .bench
        .path()
        .join(format!(".jobctl/runs/{id}/outputs"));
    let remembered = outputs.join(".out.stat");
    // As on a machine that has never read it.
    let _ = std::fs::remove_file(&remembered);
    let child = Project::start(&mut project.jobctl(&["up", "both"]));
    let files = format!("/proc/{}/fd", child.id());
    wait_for(|| {
        let files = std::fs::read_dir(&files).unwrap().flatten();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.any(|target| target.ends_with("out/large"))
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert!(!remembered.exists(), "it was read to its end first");
    assert_eq!(project.records().len(), 1);
    project.assert_clean();
}
