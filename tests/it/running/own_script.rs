//! The example of docs/guide/own-script.md: somebody's own script, with not a line of it changed.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::image::{docker, ensure_debian};
use crate::support::{Bench, run, wait_for};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/own-script");

/// The example, of whose image and containers nothing is left.
struct Example(Bench);

impl Example {
    fn new() -> Self {
        ensure_debian();
        let bench = Bench::new();
        for entry in std::fs::read_dir(EXAMPLE).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), bench.path().join(entry.file_name())).unwrap();
            }
        }
        // A project of its own, so that its images and containers are nobody else's.
        let manifest = bench.path().join("jobs.yaml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let name = format!("name: own-script-{}", std::process::id());
        std::fs::write(&manifest, text.replace("name: own-script", &name)).unwrap();
        Self(bench)
    }

    fn jobctl(&self, args: &[&str]) -> Command {
        let mut command = self.0.jobctl();
        command.args(args);
        command
    }

    fn output(&self, args: &[&str]) -> String {
        let ended = run(&mut self.jobctl(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        ended.stdout
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let name = format!("own-script-{}", std::process::id());
        let listed = docker(&["ps", "-aq", "--filter", &format!("name={name}")]);
        for id in listed.lines() {
            let _ = Command::new("docker").args(["rm", "-fv", id]).output();
        }
        let image = format!("{name}-train");
        let listed = docker(&["images", "-q", "--filter", &format!("reference={image}")]);
        for id in listed.lines() {
            let _ = Command::new("docker").args(["rmi", "-f", id]).output();
        }
    }
}

#[test]
fn ones_own_script_has_curves_and_outputs_and_outlives_jobctl() {
    let example = Example::new();
    let mut command = example.jobctl(&["run", "train", "--epochs", "30", "--pause", "0.3"]);
    let mut running = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The curve is there while it trains.
    wait_for(|| {
        assert!(running.try_wait().unwrap().is_none(), "it ended early");
        let history = run(&mut example.jobctl(&["metrics", "train", "loss", "--history"]));
        history.stdout.lines().count() > 4
    });
    let plot = example.output(&["plot", "train", "--metric", "loss"]);
    assert!(plot.starts_with("loss\n"), "{plot}");
    kill_process(Pid::from_child(&running), Signal::KILL).unwrap();
    running.wait().unwrap();
    let listed = example.output(&["ps"]);
    assert!(listed.contains("running (unattended)"), "{listed}");
    assert_eq!(example.output(&["wait", "train"]), "0\n");
    let log = example.output(&["logs", "train"]);
    let epochs: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with("epoch "))
        .collect();
    assert_eq!(epochs.len(), 30, "{log}");
    assert!(epochs[29].starts_with("epoch 30/30  loss="), "{log}");
    let metrics = example.output(&["metrics", "train"]);
    assert!(
        metrics.contains("accuracy") && metrics.contains("loss"),
        "{metrics}"
    );
    let history = example.output(&["metrics", "train", "loss", "--history", "--csv"]);
    assert_eq!(history.lines().count(), 31, "{history}");
    let folder = example.0.path().join("got");
    example.output(&["get", "train:model", folder.to_str().unwrap()]);
    assert!(Path::new(&folder).join("weights.json").is_file());
    let name = format!("name=own-script-{}", std::process::id());
    assert_eq!(docker(&["ps", "-aq", "--filter", &name]), "");
}
