//! Repositories that somebody else made.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::{JOBS, Repository, version};
use crate::support::{is_root, run};

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
