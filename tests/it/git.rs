//! What git knows of a build context decides its version, whatever git is configured with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Bench, Ended, run};

mod changes;
mod clones;
mod hostile;

/// A repository in a folder of a bench, whose job has its version from git; its newest commit is `v2.0.0`.
struct Repository {
    bench: Bench,
}

const JOBS: &str = "version: 1\nname: p\nimage: { version: git }\njobs: { app: { build: app } }\n";

impl Repository {
    fn new() -> Self {
        let repository = Self::with(&[]);
        repository.git(&["tag", "v2.0.0"]);
        repository
    }

    /// One without a tag, made with these flags of `git init`.
    fn with(flags: &[&str]) -> Self {
        let repository = Self {
            bench: Bench::new(),
        };
        repository.write("jobs.yaml", JOBS);
        repository.write("app/Dockerfile", "FROM scratch\nCOPY . /\n");
        repository.write("app/a", "a\n");
        repository.git(&[&["init", "--quiet"], flags].concat());
        repository.commit();
        repository
    }

    fn path(&self) -> PathBuf {
        self.bench.path().join("repository")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        self.bench.write(&format!("repository/{name}"), text)
    }

    fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.path(), args)
    }

    fn git_in(&self, folder: &Path, args: &[&str]) -> String {
        let ended = run(self
            .bench
            .command("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(["-c", "protocol.file.allow=always"])
            .args(args)
            .current_dir(folder));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "more"]);
    }

    /// `jobctl build --dry-run`, which asks no engine.
    fn plan(&self) -> Command {
        self.plan_as("json")
    }

    fn plan_as(&self, format: &str) -> Command {
        let mut command = self.bench.jobctl();
        command
            .args(["build", "--dry-run", "--format", format])
            .args(["--host", "unix:///nowhere.sock"])
            .current_dir(self.path());
        command
    }

    /// What it says, for people, where it fails for what is wrong with what it was called with.
    fn refused(&self, adapt: impl FnOnce(&mut Command)) -> String {
        let mut command = self.plan_as("human");
        adapt(&mut command);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        ended.stderr
    }

    fn version(&self) -> String {
        version(&run(&mut self.plan()))
    }

    fn is_dirty(&self) -> bool {
        let version = self.version();
        if version == "2.0.0" {
            return false;
        }
        assert!(version.starts_with("2.0.0-dirty.g"), "{version}");
        true
    }
}

fn version(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    document["steps"][0]["version"].as_str().unwrap().to_owned()
}

#[test]
fn a_dry_run_shows_all_names_of_a_version_that_git_has() {
    let repository = Repository::new();
    let plan = run(&mut repository.plan());
    assert_eq!(version(&plan), "2.0.0");
    for name in ["p-app:2.0.0", "p-app:2.0", "p-app:2", "p-app:latest"] {
        assert!(plan.stdout.contains(&format!("--tag {name} ")), "{plan:?}");
    }
    repository.write("app/a", "other\n");
    let plan = run(&mut repository.plan());
    let name = format!("--tag p-app:{} ", version(&plan));
    assert!(name.contains("-dirty.g"), "{name}");
    assert!(plan.stdout.contains(&name), "{plan:?}");
    assert!(!plan.stdout.contains("p-app:latest"), "{plan:?}");
}

#[test]
fn a_dry_run_of_a_job_names_the_version_that_git_has() {
    let repository = Repository::new();
    let plan = |format: &str| {
        let mut command = repository.bench.jobctl();
        command
            .args(["--host", "unix:///nowhere.sock", "--format", format])
            .args(["run", "--dry-run", "app"])
            .current_dir(repository.path());
        run(&mut command)
    };
    let ended = plan("human");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for said in ["--tag p-app:2.0.0 ", "app: run p-app:2.0.0\n"] {
        assert!(ended.stdout.contains(said), "{said}: {}", ended.stdout);
    }
    let ended = plan("json");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["image"], "p-app:2.0.0");
    assert_eq!(document["build"][0]["version"], "2.0.0");
    // What the build would fail with is said beforehand.
    std::fs::write(repository.path().join(".git/HEAD"), "nothing\n").unwrap();
    let ended = plan("human");
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("`app` is not built: "), "{ended:?}");
}

#[test]
fn no_configuration_changes_what_git_has() {
    let repository = Repository::new();
    repository.git(&["tag", "-a", "-m", "x", "v2.0.1-rc.1"]);
    repository.git(&["tag", "-a", "-m", "x", "v1.0.0"]);
    for (key, value) in [
        ("column.ui", "always"),
        ("color.ui", "always"),
        ("log.showSignature", "true"),
        ("status.showUntrackedFiles", "no"),
        ("core.quotePath", "true"),
        ("core.worktree", "/nowhere"),
        ("core.excludesFile", "/dev/null"),
        ("tag.sort", "creatordate"),
        ("versionsort.suffix", "x"),
        ("diff.noprefix", "true"),
        ("diff.ignoreSubmodules", "all"),
        ("safe.bareRepository", "explicit"),
    ] {
        repository.git(&["config", "--global", key, value]);
        repository.git(&["config", "--file", ".git/config", key, value]);
    }
    assert_eq!(repository.version(), "2.0.1-rc.1");
    repository.write("app/new", "");
    let version = repository.version();
    assert!(version.starts_with("2.0.1-rc.1.dirty.g"), "{version}");
}

#[test]
fn a_hook_of_another_repository_does_not_change_what_git_has() {
    let repository = Repository::new();
    let other = Repository::new();
    other.git(&["tag", "v9.9.9"]);
    let elsewhere = other.path().join(".git");
    let mut plan = repository.plan();
    plan.env("GIT_DIR", &elsewhere)
        .env("GIT_WORK_TREE", other.path())
        .env("GIT_INDEX_FILE", elsewhere.join("index"))
        .env("GIT_OBJECT_DIRECTORY", elsewhere.join("objects"))
        .env("GIT_PREFIX", "app/")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.worktree")
        .env("GIT_CONFIG_VALUE_0", "/nowhere")
        .env_remove("HOME");
    assert_eq!(version(&run(&mut plan)), "2.0.0");
}

#[test]
fn what_git_does_not_know_is_said() {
    let warned = |repository: &Repository, words: &str| {
        let ended = run(&mut repository.plan());
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        version(&ended)
    };
    let none = Repository::with(&[]);
    fs::remove_dir_all(none.path().join(".git")).unwrap();
    let words = "has the version 0.0.0-dev: it is in no git repository";
    assert_eq!(warned(&none, words), "0.0.0-dev");

    none.git(&["init", "--quiet"]);
    let words = "has the version 0.0.0-dev: nothing was ever committed in its git repository";
    assert_eq!(warned(&none, words), "0.0.0-dev");

    let broken = Repository::new();
    fs::remove_dir_all(broken.path().join(".git/objects")).unwrap();
    fs::create_dir(broken.path().join(".git/objects")).unwrap();
    let said = broken.refused(|_| {});
    let words = "app` is not known: git can't be asked about it: fatal: bad object HEAD";
    assert!(said.contains(words), "{said}");
    broken.write("jobs.yaml", &JOBS.replace("git", "1.2.3"));
    let words = "app` is as it was committed is not known: git can't be asked about it: fatal: ";
    assert_eq!(warned(&broken, words), "1.2.3");

    let without = Repository::new();
    let said = without.refused(|plan| {
        plan.env("PATH", without.bench.path());
    });
    let words = "git can't be asked about it: git is not in PATH";
    assert!(said.contains(words), "{said}");
}
