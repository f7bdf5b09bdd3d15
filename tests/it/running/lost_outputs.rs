//! Outputs that can't be collected: the run fails, and its container is kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::killed::supervisor;
use crate::support::image::docker;
use crate::support::project::Project;
use crate::support::{Ended, is_root, run, wait_for};

/// A file system of its own for the state of a project; gone with it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing where this machine does not let one be mounted.
    fn mount(project: &Project, test: &str) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let path = project.bench.path().join("small");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=80m", "jobctl-test"]);
        let ended = run(mount.arg(&path));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Some(Self(path))
    }

    fn grow(&self) {
        let mut mount = Command::new("mount");
        let ended = run(mount.args(["-o", "remount,size=400m"]).arg(&self.0));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    fn on(&self, command: &mut Command) -> Ended {
        run(command.env("JOBCTL_STATE_DIR", &self.0))
    }

    fn record(&self) -> Value {
        let mut runs = fs::read_dir(self.0.join("runs")).unwrap();
        let run = runs.next().unwrap().unwrap().path();
        assert!(runs.next().is_none(), "it ran once");
        serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap()
    }

    /// All paths below the outputs of the run, but for lists of files.
    fn outputs(&self) -> Vec<String> {
        let script = "cd runs/*/outputs && find . -type f ! -name '*.jsonl' | sort";
        let mut find = Command::new("sh");
        let found = run(find.args(["-c", script]).current_dir(&self.0));
        found.stdout.lines().map(str::to_owned).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Counts its runs in a directory of this machine, and makes more than a small disk has room for.
const BIG: &str = "big:
  image: IMAGE
  command: [sh, -c, 'echo run >> /count/runs; head -c 120000000 /dev/urandom > /out/model.bin; exit 0']
  volumes: [\"./count:/count\"]
  outputs: { model: /out }
";

#[test]
fn an_output_that_does_not_fit_fails_the_run_and_its_container_is_kept() {
    let project = Project::with_name(BIG);
    project.bench.write("count/.keep", "");
    let test = "an_output_that_does_not_fit_fails_the_run_and_its_container_is_kept";
    let Some(disk) = SmallDisk::mount(&project, test) else {
        return;
    };
    let ended = disk.on(&mut project.jobctl(&["run", "big"]));
    let full = "the output `model` could not be collected: `model.bin`: No space left on device";
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), ""),
        "{ended:?}"
    );
    assert!(ended.stderr.contains(full), "{ended:?}");
    let record = disk.record();
    assert_eq!(record["ending"], "outputs_lost");
    assert_eq!(record["exit_code"], 1);
    assert_eq!(record["attempts"][0]["ending"], "success");
    assert_eq!(record["outputs"], json!({}));
    assert_eq!(disk.outputs(), Vec::<String>::new());
    assert_eq!(project.containers().len(), 1);

    // Nothing is given out, and nothing is thrown away.
    let id = record["id"].as_str().unwrap();
    for words in [
        &["get", id, "got"][..],
        &["rm", id],
        &["collect", id],
        &["up", "big"],
    ] {
        let ended = disk.on(&mut project.jobctl(words));
        assert_ne!(ended.code, Some(0), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains("collected"), "{words:?}: {ended:?}");
    }
    assert_eq!(project.containers().len(), 1);

    disk.grow();
    let ended = disk.on(&mut project.jobctl(&["up", "big"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = disk.record();
    assert_eq!(
        (&record["ending"], &record["exit_code"]),
        (&json!("success"), &json!(0))
    );
    assert_eq!(record["outputs"]["model"]["bytes"], 120_000_000);
    assert_eq!(record["lost_outputs"], Value::Null);
    assert_eq!(disk.outputs(), ["./model/model.bin"]);
    project.assert_clean();
    let runs = fs::read_to_string(project.bench.path().join("count/runs")).unwrap();
    assert_eq!(runs, "run\n", "it is not trained again");
    let ended = disk.on(&mut project.jobctl(&["up", "big"]));
    assert!(ended.stdout.contains("up to date"), "{ended:?}");
}

#[test]
fn what_is_lost_is_collected_by_hand_and_keeps_the_jobs_exit_code() {
    let project = Project::with_name(&BIG.replace("exit 0", "exit 7"));
    project.bench.write("count/.keep", "");
    let test = "what_is_lost_is_collected_by_hand_and_keeps_the_jobs_exit_code";
    let Some(disk) = SmallDisk::mount(&project, test) else {
        return;
    };
    // As a jobctl does it that comes later, as the first one was killed.
    let ended = disk.on(&mut project.jobctl(&["run", "-d", "big"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let id = ended.stdout.trim().to_owned();
    kill_process(supervisor(&id), Signal::KILL).unwrap();
    wait_for(|| {
        disk.on(&mut project.jobctl(&["ps"]));
        disk.record()["state"] == "failed"
    });
    let record = disk.record();
    assert_eq!(
        (&record["ending"], &record["exit_code"]),
        (&json!("outputs_lost"), &json!(7))
    );
    assert_eq!(project.containers().len(), 1);
    disk.grow();
    let ended = disk.on(&mut project.jobctl(&["collect", &id]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("outputs: model (1 file)"),
        "{ended:?}"
    );
    let record = disk.record();
    assert_eq!(
        (&record["ending"], &record["exit_code"]),
        (&json!("error"), &json!(7))
    );
    project.assert_clean();
    // There is nothing more to collect.
    let again = disk.on(&mut project.jobctl(&["collect", &id]));
    assert_eq!((again.code, again.stdout), (Some(0), ended.stdout));
}

#[test]
fn an_output_whose_container_is_gone_is_lost_and_made_again() {
    let project = Project::with_name(BIG);
    project.bench.write("count/.keep", "");
    let test = "an_output_whose_container_is_gone_is_lost_and_made_again";
    let Some(disk) = SmallDisk::mount(&project, test) else {
        return;
    };
    disk.on(&mut project.jobctl(&["run", "big"]));
    for container in project.containers() {
        docker(&["rm", "-f", container.split(' ').next().unwrap()]);
    }
    let record = disk.record();
    let id = record["id"].as_str().unwrap();
    let ended = disk.on(&mut project.jobctl(&["collect", id]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("is gone, and with it `model`"),
        "{ended:?}"
    );
    disk.grow();
    let ended = disk.on(&mut project.jobctl(&["up", "big"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let runs = fs::read_to_string(project.bench.path().join("count/runs")).unwrap();
    assert_eq!(runs, "run\nrun\n");
    let ended = disk.on(&mut project.jobctl(&["rm", id]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
