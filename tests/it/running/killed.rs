//! jobctl is killed at any moment, and nothing of the run is lost.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::project::Project;
use crate::support::random::Random;
use crate::support::{run, wait_for};

/// How often; two hundred times in the full check.
fn count() -> usize {
    match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 200,
        None => 20,
    }
}

/// What the job writes.
const LINES: usize = 20;

#[test]
fn a_run_whose_jobctl_was_killed_is_finished_by_the_next() {
    let script = format!(
        "mkdir -p /out; i=0; while [ $i -lt {LINES} ]; do echo line $i; echo error $i >&2; \
         i=$((i+1)); sleep 0.03; done; echo done > /out/result; exit 9"
    );
    let project = Project::new(&format!(
        "job:\n  image: IMAGE\n  command: [sh, -c, '{}']\n  outputs: {{ out: /out }}\n",
        script.replace('$', "$$")
    ));
    // How long one takes when nobody disturbs it.
    let start = Instant::now();
    let ended = run(&mut project.run(&["job"]));
    assert_eq!(ended.code, Some(9), "{ended:?}");
    let whole = start.elapsed();
    let lines = |word: &str| -> String {
        let lines: Vec<_> = (0..LINES).map(|line| format!("{word} {line}\n")).collect();
        lines.concat()
    };
    let (out, err) = (lines("line"), lines("error"));
    let mut random = Random::new(11);
    let (mut unborn, mut finished) = (0, 0);
    for round in 0..count() {
        let known = project.records().len();
        let mut child = Project::start(&mut project.run(&["job"]));
        let moment = whole.mul_f64(f64::from(u32::try_from(random.below(1100)).unwrap()) / 1000.0);
        std::thread::sleep(moment);
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        let code = child.wait().unwrap().code();
        let records = project.records();
        if records.len() == known {
            // Killed before there was anything to keep.
            assert_eq!(code, None, "round {round}");
            project.assert_clean();
            unborn += 1;
            continue;
        }
        let id = records[0]["id"].as_str().unwrap().to_owned();
        let listed = project.output(&["--format", "json", "ps", "--all"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let status = listed["runs"][0]["status"].as_str().unwrap().to_owned();
        assert_eq!(listed["runs"][0]["id"], *id, "round {round}");
        let waited = run(&mut project.jobctl(&["wait", &id]));
        let record = &project.records()[0];
        let (code, ending) = (waited.code, &record["ending"]);
        let message = format!("round {round} after {moment:?}: {status}, {waited:?}, {record:#}");
        if record["attempts"][0]["started"].is_null() {
            assert_eq!((code, ending), (Some(125), &"infra".into()), "{message}");
            unborn += 1;
        } else {
            assert_eq!((code, ending), (Some(9), &"error".into()), "{message}");
            let read = |stream| {
                let folder = project.bench.path().join(".jobctl/runs").join(&id);
                std::fs::read_to_string(folder.join(stream)).unwrap()
            };
            assert_eq!(read("stdout.log"), out, "{message}");
            assert_eq!(read("stderr.log"), err, "{message}");
            assert_eq!(record["outputs"]["out"]["file_count"], 1, "{message}");
            assert_eq!(read("outputs/out/result"), "done\n", "{message}");
            finished += 1;
        }
        project.assert_clean();
    }
    assert!(
        finished > count() / 3,
        "{finished} finished, {unborn} never began"
    );
}

#[test]
fn a_supervisor_that_was_killed_is_replaced() {
    let project = Project::empty();
    let script = "echo one; while [ ! -e /shared/go ]; do sleep 0.05; done; echo two; exit 6";
    project.bench.write("shared/.keep", "");
    let flags = ["-d", "-v", "./shared:/shared"];
    let ended = run(&mut project.run_image(&flags, &["sh", "-c", script]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let id = ended.stdout.trim().to_owned();
    project.wait_for_output("one\n");
    let supervisor = supervisor(&id);
    kill_process(supervisor, Signal::KILL).unwrap();
    wait_for(|| project.output(&["ps"]).contains("(unattended)"));
    let waiting = Project::start(&mut project.jobctl(&["wait", &id]));
    wait_for(|| !project.output(&["ps"]).contains("(unattended)"));
    let ended = run(&mut project.jobctl(&["exec", &id, "true"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    project.bench.write("shared/go", "");
    let waited = waiting.wait_with_output().unwrap();
    assert_eq!(waited.status.code(), Some(6));
    assert_eq!(project.file("stdout.log"), b"one\ntwo\n");
}

#[test]
fn a_container_that_was_left_is_removed_and_a_kept_one_is_not() {
    let project = Project::empty();
    let count = || project.output(&["ps", "--all", "--ids"]).lines().count();
    for _ in 0..2 {
        let ended = run(&mut project.run_image(&["--keep"], &["true"]));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert_eq!(count(), 2);
    assert_eq!(project.containers().len(), 2);
    // As if its jobctl had been killed after it wrote that the run is over.
    let mut record = project.records()[0].clone();
    record["policy"]["keep"] = false.into();
    let id = record["id"].as_str().unwrap().to_owned();
    let path = format!(".jobctl/runs/{id}/run.json");
    project.bench.write(&path, &record.to_string());
    assert_eq!(count(), 2);
    assert_eq!(project.containers().len(), 1);
    assert_eq!(project.records()[0]["attempts"][0]["is_removed"], true);
    assert_ne!(project.records()[1]["attempts"][0]["is_removed"], true);
    project.output(&["rm", project.records()[1]["id"].as_str().unwrap()]);
    project.assert_clean();
}

/// The process that supervises a run.
pub(super) fn supervisor(id: &str) -> Pid {
    let start = Instant::now();
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = words.split(|byte| *byte == 0).collect();
            if words.contains(&b"supervise".as_slice()) && words.contains(&id.as_bytes()) {
                let pid = entry.file_name().to_str().unwrap().parse().unwrap();
                return Pid::from_raw(pid).unwrap();
            }
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no supervisor");
    }
}
