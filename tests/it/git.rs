//! What git knows of a build context decides its version, whatever git is configured with.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Bench, Ended, is_root, run};

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
fn repositories_of_all_kinds_are_read() {
    for flags in [
        ["--object-format=sha256"].as_slice(),
        &["--ref-format=reftable"],
        &["--separate-git-dir=../elsewhere"],
    ] {
        let repository = Repository::with(flags);
        repository.git(&["tag", "v2.0.0"]);
        if flags[0].starts_with("--separate") {
            // Else it may be another work tree's.
            let said = repository.refused(|_| {});
            assert!(
                said.contains("elsewhere`, which does not lead back"),
                "{said}"
            );
            let top = repository.path();
            repository.git(&["config", "core.worktree", top.to_str().unwrap()]);
        }
        assert!(!repository.is_dirty(), "{flags:?}");
        repository.git(&["pack-refs", "--all"]);
        repository.git(&["gc", "--quiet"]);
        repository.git(&["update-index", "--split-index"]);
        assert!(!repository.is_dirty(), "{flags:?}");
        repository.write("app/a", "b\n");
        assert!(repository.is_dirty(), "{flags:?}");
    }
}

#[test]
fn linked_worktrees_and_shallow_clones_are_read() {
    let repository = Repository::new();
    repository.git(&["commit", "--allow-empty", "--quiet", "--message", "newer"]);
    let origin = format!("file://{}", repository.path().display());
    repository.git(&["worktree", "add", "--quiet", "../linked", "v2.0.0"]);
    let shallow = ["clone", "--quiet", "--depth=1", "--branch=v2.0.0", &origin];
    repository.git(&[&shallow[..], &["../shallow"]].concat());
    for name in ["linked", "shallow"] {
        let folder = repository.bench.path().join(name);
        let plan = || version(&run(repository.plan().current_dir(&folder)));
        assert_eq!(plan(), "2.0.0", "{name}");
        fs::write(folder.join("app/new"), "").unwrap();
        assert!(plan().starts_with("2.0.0-dirty.g"), "{name}");
    }
    assert_eq!(repository.version(), "0.0.0-dev");
    // A work tree without the repository that it is of, as in a container that was given it alone.
    fs::rename(
        repository.path().join(".git"),
        repository.path().join("git"),
    )
    .unwrap();
    let linked = repository.bench.path().join("linked");
    let said = repository.refused(|plan| {
        plan.current_dir(&linked);
    });
    assert!(said.contains("linked/.git` leads to `"), "{said}");
}

#[test]
fn what_is_kept_from_gits_eyes_is_dirty_all_the_same() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let repository = Repository::new();
        repository.git(&["update-index", flag, "app/a"]);
        assert!(!repository.is_dirty(), "{flag}");
        repository.write("app/a", "b\n");
        assert_eq!(repository.git(&["status", "--short"]), "", "{flag}");
        assert!(repository.is_dirty(), "{flag}");
        // The user's index is as it was.
        assert_eq!(repository.git(&["status", "--short"]), "", "{flag}");
    }
}

#[test]
fn a_context_that_was_never_committed_is_dirty_unless_git_ignores_it() {
    let repository = Repository::new();
    repository.write("jobs.yaml", &JOBS.replace("build: app", "build: new"));
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    repository.write("new/Dockerfile", "FROM scratch\n");
    assert!(repository.is_dirty());
    // As are files that are ignored among others that are not.
    repository.write(".git/info/exclude", "new\n");
    assert!(!repository.is_dirty());
}

#[test]
fn a_changed_submodule_is_dirty() {
    let library = Repository::new();
    let repository = Repository::new();
    let source = library.path();
    let source = source.to_str().unwrap();
    repository.git(&["submodule", "--quiet", "add", source, "app/library"]);
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    repository.git(&["config", "diff.ignoreSubmodules", "all"]);
    assert!(!repository.is_dirty());
    // It is the index that says what is a submodule.
    fs::remove_file(repository.path().join(".gitmodules")).unwrap();
    assert!(!repository.is_dirty());
    let file = repository.write("app/library/new", "");
    assert!(repository.is_dirty());
    fs::remove_file(file).unwrap();
    assert!(!repository.is_dirty());
    repository.write("app/library/app/a", "b\n");
    assert!(repository.is_dirty());
    // One that was never checked out is not what was committed.
    let folder = repository.path().join("app/library");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    assert!(repository.is_dirty());
}

const ELSEWHERE: &str = "version: 1\nname: p\nimage: { version: git }\njobs:\n  app: { build: { context: \
                         app, dockerfile: ../docker/Dockerfile } }\n";

#[test]
fn a_dockerfile_outside_the_context_is_asked_about_as_well() {
    let repository = Repository::new();
    repository.write("jobs.yaml", ELSEWHERE);
    let dockerfile = repository.write("docker/Dockerfile", "FROM scratch\nCOPY . /\n");
    let ignored = repository.write("docker/Dockerfile.dockerignore", "b\n");
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    repository.write("docker/other", "");
    assert!(!repository.is_dirty());
    for (file, text) in [(&dockerfile, "FROM scratch\nCOPY . /\n"), (&ignored, "b\n")] {
        fs::write(file, format!("{text}# more\n")).unwrap();
        assert!(repository.is_dirty(), "{file:?}");
        repository.git(&["update-index", "--assume-unchanged", file.to_str().unwrap()]);
        assert!(repository.is_dirty(), "{file:?}");
        repository.git(&[
            "update-index",
            "--no-assume-unchanged",
            file.to_str().unwrap(),
        ]);
        fs::write(file, text).unwrap();
        assert!(!repository.is_dirty(), "{file:?}");
    }
    fs::remove_file(&ignored).unwrap();
    assert!(repository.is_dirty());
    fs::write(&ignored, "b\n").unwrap();
    // A version of the user's own, and one that is new.
    repository.write("jobs.yaml", &ELSEWHERE.replace("git", "1.2.3"));
    assert_eq!(repository.version(), "1.2.3");
    repository.git(&["rm", "--quiet", "--cached", "docker/Dockerfile"]);
    repository.git(&["commit", "--quiet", "--message", "less"]);
    assert!(repository.version().starts_with("1.2.3-dirty.g"));
}

#[test]
fn a_dockerfile_of_another_repository_or_none_is_asked_about_there() {
    let repository = Repository::new();
    repository.write("jobs.yaml", &ELSEWHERE.replace("../docker", "../../docker"));
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    let write = |text: &str| repository.bench.write("docker/Dockerfile", text);
    let folder = write("FROM scratch\n").parent().unwrap().to_owned();
    assert!(repository.is_dirty());
    repository.git_in(&folder, &["init", "--quiet"]);
    assert!(repository.version().contains("dirty"));
    repository.git_in(&folder, &["add", "--all"]);
    repository.git_in(&folder, &["commit", "--quiet", "--message", "more"]);
    assert!(!repository.is_dirty());
    write("FROM scratch\nCOPY . /\n");
    assert!(repository.is_dirty());
    // One of a submodule.
    fs::rename(&folder, repository.path().join("docker")).unwrap();
    repository.write("jobs.yaml", ELSEWHERE);
    repository.git(&["-c", "advice.addEmbeddedRepo=false", "add", "--all"]);
    repository.git(&["commit", "--quiet", "--message", "more"]);
    repository.git(&["tag", "--force", "v2.0.0"]);
    assert!(repository.is_dirty());
    let docker = repository.path().join("docker");
    repository.git_in(
        &docker,
        &["commit", "--all", "--quiet", "--message", "more"],
    );
    assert!(repository.is_dirty());
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    assert!(!repository.is_dirty());
}

#[test]
fn a_link_to_the_repository_of_something_else_is_not_followed() {
    let private = Repository::new();
    let target = private.path().join(".git");
    private.git(&["worktree", "add", "--quiet", "../linked", "v2.0.0"]);
    let worktree = target.join("worktrees/linked");
    let shipped = Repository::new();
    let git = shipped.path().join(".git");
    let refused = |words: &str| {
        let said = shipped.refused(|_| {});
        assert!(said.contains(words), "{words}: {said}");
    };
    fs::remove_dir_all(&git).unwrap();
    for target in [&target, &worktree] {
        fs::write(&git, format!("gitdir: {}\n", target.display())).unwrap();
        refused("which does not lead back");
        fs::remove_file(&git).unwrap();
    }
    symlink(&target, &git).unwrap();
    refused("which does not lead back");
    fs::remove_file(&git).unwrap();
    // A git directory that was made for it.
    fs::create_dir(&git).unwrap();
    fs::copy(target.join("HEAD"), git.join("HEAD")).unwrap();
    fs::write(git.join("commondir"), target.to_str().unwrap()).unwrap();
    refused("which does not have it as a work tree");
    fs::remove_file(git.join("commondir")).unwrap();
    for name in ["objects", "refs"] {
        symlink(target.join(name), git.join(name)).unwrap();
    }
    refused("leads out of its repository");
}

#[test]
fn a_named_pipe_among_gits_rules_is_not_waited_for() {
    let repository = Repository::new();
    for name in ["app/.gitignore", ".gitattributes", ".git/config"] {
        let path = repository.path().join(name);
        let _ = fs::remove_file(&path);
        let made = run(Command::new("mkfifo").arg(&path));
        assert_eq!(made.code, Some(0), "{made:?}");
        let said = repository.refused(|_| {});
        assert!(
            said.contains("git can't be asked about it"),
            "{name}: {said}"
        );
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn large_files_of_git_lfs_are_clean_until_they_change() {
    let repository = Repository::new();
    // `sha256sum` of the content.
    let content = "large\n";
    let made = run(repository
        .bench
        .command("sha256sum")
        .arg(repository.write("app/large.bin", content)));
    let sha256 = made.stdout.split(' ').next().unwrap().to_owned();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n",
        content.len()
    );
    // What a checkout with git-lfs leaves: the pointer in the index, the content in the work tree.
    repository.write(".gitattributes", "*.bin filter=lfs diff=lfs -text\n");
    repository.write("app/large.bin", &pointer);
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    repository.write("app/large.bin", content);
    assert!(!repository.is_dirty());
    repository.write("app/large.bin", "Large\n");
    assert!(repository.is_dirty());
    repository.write("app/large.bin", &pointer);
    assert!(!repository.is_dirty());
}

#[test]
fn nothing_that_a_repository_names_is_run() {
    let repository = Repository::new();
    repository.write(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    repository.commit();
    repository.git(&["tag", "--force", "v2.0.0"]);
    let trace = repository.bench.path().join("trace");
    let script = repository.bench.path().join("evil");
    let text = format!("#!/bin/sh\necho $0 $* >>{}\ncat\n", trace.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let alias = format!("!{script}");
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.askPass",
        "core.gitProxy",
        "core.alternateRefsCommand",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.command",
        "diff.evil.textconv",
        "diff.external",
        "gpg.program",
        "gpg.ssh.program",
        "credential.helper",
        "uploadpack.packObjectsHook",
    ] {
        repository.git(&["config", "--file", ".git/config", key, script]);
    }
    for (key, value) in [
        ("alias.rev-list", &*alias),
        ("alias.ls-files", &alias),
        ("alias.rev-parse", &alias),
        ("log.showSignature", "true"),
        ("filter.evil.required", "true"),
        (
            "core.hooksPath",
            repository.bench.path().join("hooks").to_str().unwrap(),
        ),
    ] {
        repository.git(&["config", "--file", ".git/config", key, value]);
    }
    for folder in ["hooks", "repository/.git/hooks"] {
        for hook in [
            "post-index-change",
            "fsmonitor-watchman",
            "reference-transaction",
        ] {
            let hook = repository.bench.path().join(folder).join(hook);
            fs::create_dir_all(hook.parent().unwrap()).unwrap();
            symlink(script, hook).unwrap();
        }
    }
    let _ = fs::remove_file(&trace);
    repository.write("app/a", "b\n");
    assert!(repository.is_dirty());
    assert!(!trace.exists(), "{}", fs::read_to_string(trace).unwrap());
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

#[test]
fn a_version_is_not_taken_from_a_repository_of_somebody_else() {
    if !is_root("a_version_is_not_taken_from_a_repository_of_somebody_else") {
        return;
    }
    let repository = Repository::new();
    let chown = run(Command::new("chown")
        .args(["-R", "12345:12345"])
        .arg(repository.path()));
    assert_eq!(chown.code, Some(0), "{chown:?}");
    let said = repository.refused(|_| {});
    let path = repository.path();
    let path = path.to_str().unwrap();
    for words in [
        format!("the version is not known: detected dubious ownership in repository at '{path}'"),
        format!(
            "= help: if you trust its owner: `git config --global --add safe.directory {path}`"
        ),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
    // For all else, what git knows does not depend on the owner.
    repository.write("app/a", "b\n");
    let own = repository.write("own.yaml", &JOBS.replace("git", "1.2.3"));
    let ended = run(repository.plan().arg("--file").arg(own));
    assert!(version(&ended).starts_with("1.2.3-dirty.g"), "{ended:?}");
    // git's own fix fixes it.
    let fix = ["config", "--global", "--add", "safe.directory", path];
    repository.git_in(repository.bench.path(), &fix);
    assert!(repository.is_dirty());
}
