//! Runs on machines whose clocks are wrong, or are set while they go on.

use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::faults::{Site, ended};
use super::killed::supervisor;
use crate::support::image::docker;
use crate::support::project::Project;
use crate::support::{is_root, run, wait_for};

/// Gives a call a clock that is wrong by so much. `faketime` itself would wait for whatever the call
/// leaves in the background.
fn set_clock(command: &mut Command, offset: &str) {
    let shown = run(Command::new("faketime").args(["-f", offset, "env"]));
    for line in shown.stdout.lines() {
        if let Some((name @ ("LD_PRELOAD" | "FAKETIME"), value)) = line.split_once('=') {
            command.env(name, value);
        }
    }
}

#[test]
fn a_clock_that_is_set_meanwhile_costs_a_run_none_of_its_time() {
    for offset in ["+1h", "-1h"] {
        let project = Project::empty();
        project.bench.write("shared/.keep", "");
        let script = "until [ -e /shared/go ]; do sleep 0.05; done; exit 6";
        let flags = ["-d", "--timeout", "30m", "-v", "./shared:/shared"];
        let mut command = project.run_image(&flags, &["sh", "-c", script]);
        set_clock(&mut command, offset);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{offset}: {}", ended.stderr);
        let id = ended.stdout.trim().to_owned();
        kill_process(supervisor(&id), Signal::KILL).unwrap();
        wait_for(|| project.output(&["ps"]).contains("(unattended)"));
        let waiting = Project::start(&mut project.jobctl(&["wait", &id]));
        wait_for(|| {
            let events = project.file("events.jsonl");
            String::from_utf8(events).unwrap().contains("\"adopted\"")
        });
        let ended = run(&mut project.jobctl(&["exec", &id, "true"]));
        assert_eq!(ended.code, Some(0), "{offset}: {}", ended.stderr);
        project.bench.write("shared/go", "");
        let waited = waiting.wait_with_output().unwrap();
        let record = project.record();
        assert_eq!(waited.status.code(), Some(6), "{offset}: {record:#}");
        project.assert_clean();
    }
}

#[test]
fn a_metric_has_the_time_of_its_line_after_a_kill_too() {
    let project = Project::new(
        "train:\n  image: IMAGE\n  metrics: { log: { loss: 'loss=([0-9.]+)' } }\n  \
         command: [sh, -c, 'printf \"loss=9\\nloss=0.\"; until [ -e /shared/go ]; do sleep 0.05; \
         done; echo 5; echo loss=0.25; until [ -e /shared/end ]; do sleep 0.05; done; \
         echo loss=0.125']",
    );
    project.bench.write("shared/.keep", "");
    let started = run(&mut project.run(&["-d", "-v", "./shared:/shared", "train"]));
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    let id = started.stdout.trim().to_owned();
    project.wait_for_output("loss=9\nloss=0.");
    kill_process(supervisor(&id), Signal::KILL).unwrap();
    // As if it had been killed between the line and its metric.
    wait_for(|| project.output(&["ps"]).contains("(unattended)"));
    project
        .bench
        .write(&format!(".jobctl/runs/{id}/metrics.jsonl"), "");
    project.bench.write("shared/go", "");
    let container = project.record()["attempts"][0]["container_id"].clone();
    let container = container.as_str().unwrap();
    let logs = || docker(&["logs", "--timestamps", container]);
    wait_for(|| logs().lines().count() == 3);
    let times: Vec<_> = logs()
        .lines()
        .map(|line| {
            line.split(' ')
                .next()
                .unwrap()
                .parse::<Timestamp>()
                .unwrap()
        })
        .collect();
    // Whoever looks next does so later.
    wait_for(|| Timestamp::now().duration_since(times[2]).as_millis() > 300);
    project.output(&["logs", &id]);
    project.bench.write("shared/end", "");
    project.output(&["wait", &id]);
    let metrics = String::from_utf8(project.file("metrics.jsonl")).unwrap();
    let metrics = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kept: Vec<_> = metrics
        .map(|metric| {
            let time: Timestamp = metric["t"].as_str().unwrap().parse().unwrap();
            (metric["value"].as_f64().unwrap(), time)
        })
        .collect();
    let values: Vec<_> = kept.iter().map(|(value, _)| *value).collect();
    assert_eq!(values, [9.0, 0.5, 0.25, 0.125]);
    assert_eq!([kept[1].1, kept[2].1], [times[1], times[2]]);
    project.assert_clean();
}

#[test]
fn a_power_cut_is_told_by_a_clock_that_is_ahead() {
    if !is_root("a_power_cut_is_told_by_a_clock_that_is_ahead") {
        return;
    }
    let mut site = Site::new(&[]);
    let mut command = site.run(&[], "echo before; sleep 600");
    set_clock(&mut command, "+1h");
    let child = Project::start(&mut command);
    site.wait_for_log("before\n");
    site.engine.cut_power();
    site.engine.restart();
    let start = Instant::now();
    let ended = ended(child);
    let record = site.record();
    assert_eq!(record["ending"], "lost", "{record:#}\n{}", ended.stderr);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    // Longer than the longest break between two looks whether the engine is back.
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
}
