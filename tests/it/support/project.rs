//! A project whose jobs run on the real engine.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::image::{DEBIAN, docker, ensure_debian, remove_images};
use super::{Bench, Ended, run};

/// A project with a jobs.yaml. Whatever containers its runs have left are removed with it, and the
/// images of one with a name of its own.
pub(crate) struct Project {
    pub(crate) bench: Bench,
    label: String,
}

impl Project {
    /// A project with these jobs, which are YAML below `jobs:`; `IMAGE` is an image that is there.
    pub(crate) fn new(jobs: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        ensure_debian();
        let bench = Bench::new();
        let jobs = jobs.replace("IMAGE", DEBIAN);
        let jobs: String = jobs.lines().flat_map(|line| ["  ", line, "\n"]).collect();
        bench.write(
            "jobs.yaml",
            &format!("version: 1\nname: test\njobs:\n{jobs}"),
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let label = format!("dev.jobctl.test={}-{number}", std::process::id());
        Self { bench, label }
    }

    /// A project with a name of its own, by which what its pipelines leave is found.
    pub(crate) fn with_name(jobs: &str) -> Self {
        let mut project = Self::new(jobs);
        let name = project.label.replace(['=', '.'], "-");
        let name = name.replace("dev-jobctl-", "");
        let manifest = project.bench.path().join("jobs.yaml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let text = text.replacen("name: test", &format!("name: {name}"), 1);
        std::fs::write(&manifest, text).unwrap();
        project.label = format!("dev.jobctl.project={name}");
        project
    }

    /// A project in which images are run by their names.
    pub(crate) fn empty() -> Self {
        Self::new("none: { image: IMAGE }")
    }

    /// jobctl, in the project.
    pub(crate) fn jobctl(&self, args: &[&str]) -> Command {
        let mut command = self.bench.jobctl();
        command.args(args);
        command
    }

    /// `jobctl run`, with a label by which what is left is found.
    pub(crate) fn run(&self, args: &[&str]) -> Command {
        let mut command = self.bench.jobctl();
        command
            .args(["--progress", "quiet", "run", "--label", &self.label])
            .args(args);
        command
    }

    /// The same of an image, with a command.
    pub(crate) fn run_image(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut run = self.run(flags);
        run.args(["--image", DEBIAN]).args(command);
        run
    }

    /// Starts a run in the background of the test.
    pub(crate) fn start(command: &mut Command) -> Child {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Calls jobctl, which is to succeed; what it prints.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let Ended {
            code,
            stdout,
            stderr,
        } = run(&mut self.jobctl(args));
        assert_eq!(code, Some(0), "jobctl {args:?}: {stderr}");
        stdout
    }

    /// The records of all runs, newest first.
    pub(crate) fn records(&self) -> Vec<Value> {
        let mut folders: Vec<PathBuf> =
            match std::fs::read_dir(self.bench.path().join(".jobctl/runs")) {
                Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
                Err(_) => Vec::new(),
            };
        folders.sort();
        folders.reverse();
        let records = folders.into_iter().map(|folder| {
            let text = std::fs::read_to_string(folder.join("run.json")).unwrap();
            serde_json::from_str(&text).unwrap()
        });
        records.collect()
    }

    /// The record of the only run.
    pub(crate) fn record(&self) -> Value {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records.pop().unwrap()
    }

    /// A file of the only run.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        let record = self.record();
        let id = record["id"].as_str().unwrap();
        let path = self.bench.path().join(".jobctl/runs").join(id).join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Waits until the only run, which may not be there yet, has printed all of this, and nothing more.
    pub(crate) fn wait_for_output(&self, text: &str) {
        super::wait_for(|| {
            let [record] = &self.records()[..] else {
                return false;
            };
            let runs = self.bench.path().join(".jobctl/runs");
            let log = runs.join(record["id"].as_str().unwrap()).join("stdout.log");
            std::fs::read(log).is_ok_and(|log| log == text.as_bytes())
        });
    }

    /// Sees that no container is left. A record is final a moment before its container is removed.
    pub(crate) fn assert_clean(&self) {
        super::wait_for(|| self.containers().is_empty());
    }

    /// The containers that are there: names and states, sorted.
    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label={}", self.label);
        let listed = docker(&[
            "ps",
            "-a",
            "--filter",
            &filter,
            "--format",
            "{{.Names}} {{.State}}",
        ]);
        let mut containers: Vec<_> = listed.lines().map(str::to_owned).collect();
        containers.sort();
        containers
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let filter = format!("label={}", self.label);
        let listed = docker(&["ps", "-aq", "--filter", &filter]);
        for id in listed.lines() {
            let _ = Command::new("docker").args(["rm", "-fv", id]).output();
        }
        if let Some(name) = self.label.strip_prefix("dev.jobctl.project=") {
            remove_images(&format!("reference={name}-*"));
        }
    }
}
