//! The files that `jobctl init` writes, and what their scripts do in a repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::image::ImageName;
use crate::support::{Bench, Ended, jobctl, run};

/// A git repository in `repo` of a bench, which has jobctl as `tools/jobctl`.
struct Repository {
    bench: Bench,
}

impl Repository {
    /// One on a branch, with the jobs.yaml in a directory of it.
    fn new(branch: &str, jobs: &str) -> Self {
        let repository = Self {
            bench: Bench::new(),
        };
        repository.bench.write(jobs, "");
        let program = format!("#!/bin/sh\nexec '{}' \"$@\"\n", jobctl().display());
        let program = repository.bench.write("repo/tools/jobctl", &program);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        repository.git(&["init", "--quiet"]);
        repository.git(&["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")]);
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path().join("repo").join(name)
    }

    fn git(&self, args: &[&str]) -> String {
        let ended = run(self
            .bench
            .command("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(self.path("")));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "all"]);
    }

    /// `jobctl init` in a directory of the bench.
    fn init(&self, system: &str, directory: &str) -> Ended {
        let mut command = self.bench.jobctl();
        run(command
            .args([
                "init",
                "--force",
                "--ci",
                system,
                "--jobctl",
                "tools/jobctl",
            ])
            .arg(directory))
    }

    /// What it has written.
    fn read(&self, name: &str) -> (String, Value) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        let document = serde_yaml::from_str(&text).unwrap();
        (text, document)
    }
}

#[test]
fn a_second_command_of_a_gitlab_job_sees_a_clean_checkout() {
    let repository = Repository::new("main", "repo/jobs.yaml");
    let image = ImageName::new();
    let name = image.as_str();
    repository.bench.write(
        "repo/jobs.yaml",
        &format!(
            "version: 1\nname: test\nimage: {{ version: git }}\njobs:\n  {name}: {{ build: {{ context: . }} }}\n"
        ),
    );
    let label = image.label();
    let dockerfile = format!("FROM scratch\nLABEL {label}\nCOPY jobs.yaml /\n");
    repository.bench.write("repo/Dockerfile", &dockerfile);
    let ended = repository.init("gitlab", "repo");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    repository.commit();
    repository.git(&["tag", "v0.3.0"]);

    let (_, file) = repository.read(".gitlab-ci.yml");
    let job = &file[".jobctl"];
    let lines = |key: &str| {
        let lines = job[key].as_array().unwrap().iter();
        let lines: Vec<_> = lines.map(|line| line.as_str().unwrap()).collect();
        lines.join("\n")
    };
    let project = repository.path("").canonicalize().unwrap();
    let project = project.to_str().unwrap();
    let output = job["variables"]["JOBCTL_OUTPUT"].as_str().unwrap();
    let output = output.replace("$CI_PROJECT_DIR", project);
    let shell = |script: &str| {
        let mut command = repository.bench.command("bash");
        let ended = run(command
            .args(["-eo", "pipefail", "-c", script])
            .current_dir(project)
            .env("CI_PROJECT_DIR", project)
            .env("JOBCTL_OUTPUT", &output));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    };
    let build = format!("{}\njobctl build\njobctl build", lines("before_script"));
    // What an earlier job on the same runner has left is not this one's.
    fs::create_dir_all(repository.path("../repo.tmp")).unwrap();
    fs::write(&output, "JOBCTL_RUN_ID=stale\n").unwrap();
    shell(&build);
    assert_eq!(repository.git(&["status", "--short"]), "");
    shell(&lines("after_script"));
    let report = job["artifacts"]["reports"]["dotenv"].as_str().unwrap();
    let variables = fs::read_to_string(repository.path(report)).unwrap();
    let versions: Vec<_> = variables
        .lines()
        .filter(|line| line.starts_with("JOBCTL_VERSION="))
        .collect();
    assert_eq!(versions, ["JOBCTL_VERSION=0.3.0"; 2], "{variables}");
    assert!(!variables.contains("stale"), "{variables}");
    // A job that failed before jobctl wrote anything.
    fs::remove_file(&output).unwrap();
    shell(&lines("after_script"));
}
