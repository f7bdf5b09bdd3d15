//! Repositories, work trees and clones of all kinds.

use std::fs;
use std::path::{Path, PathBuf};

use super::{JOBS, Repository, version};
use crate::support::run;

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
            let top = repository.path().canonicalize().unwrap();
            let fix = ["config", "core.worktree", top.to_str().unwrap()];
            let help = format!(
                "= help: if it was made for this work tree (`--separate-git-dir`): `git -C {} {}`",
                top.display(),
                fix.join(" ")
            );
            assert!(said.contains(&help), "{said}");
            repository.git(&fix);
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
fn a_git_directory_of_another_name_in_the_work_tree_is_its_own() {
    let repository = Repository::new();
    let top = repository.path();
    fs::rename(top.join(".git"), top.join(".repository")).unwrap();
    repository.write(".git", "gitdir: .repository\n");
    assert!(!repository.is_dirty());
    repository.write("app/a", "b\n");
    assert!(repository.is_dirty());
    // That of another work tree is not, even there.
    fs::create_dir(top.join("nested")).unwrap();
    fs::rename(top.join(".repository"), top.join("nested/.git")).unwrap();
    repository.write(".git", "gitdir: nested/.git\n");
    let said = repository.refused(|_| {});
    let nested = top.canonicalize().unwrap().join("nested");
    for words in [
        "nested/.git`, which does not lead back",
        &format!(
            "= help: build in `{}`, whose repository it is",
            nested.display()
        ),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

impl Repository {
    /// A clone of it beside it, made with these flags.
    fn clone_with(&self, flags: &[&str]) -> PathBuf {
        let origin = format!("file://{}", self.path().display());
        let name = format!("clone{}", flags.concat().replace(':', ""));
        let place = self.bench.path().join(name);
        let clone = [
            &["clone", "--quiet"],
            flags,
            &[&origin, place.to_str().unwrap()],
        ];
        self.git(&clone.concat());
        place
    }
}

#[test]
fn a_clone_that_may_lack_tags_is_reported_with_its_fix() {
    let repository = Repository::new();
    repository.write("app/a", "newer\n");
    repository.commit();
    repository.git(&["tag", "--annotate", "--message=x", "v2.1.0"]);
    for (flags, why, fixes) in [
        (
            ["--depth=1", "--no-tags"].as_slice(),
            "as this is a shallow clone: `git fetch --unshallow --tags`; in CI, set `fetch-depth: 0` for \
             actions/checkout, `GIT_DEPTH: 0` for GitLab",
            [["fetch", "--quiet", "--unshallow", "--tags"].as_slice()].as_slice(),
        ),
        (
            &["--no-tags", "--origin=upstream"],
            "as tags of `upstream` are not fetched: `git config --unset remote.upstream.tagOpt`, then `git fetch \
             --tags`",
            &[
                &["config", "--unset", "remote.upstream.tagOpt"],
                &["fetch", "--quiet", "--tags"],
            ],
        ),
    ] {
        let clone = repository.clone_with(flags);
        let ended = run(repository.plan_as("human").current_dir(&clone));
        let warning = format!(
            "warning: `{}` has the version 0.0.0-dev: the newest commit has no tag `vX.Y.Z` here, and one may be \
             missing, {why}\n",
            clone.join("app").display()
        );
        assert_eq!(ended.stderr, warning);
        // What is published has no version that is a guess.
        let said = repository.refused(|plan| {
            plan.current_dir(&clone)
                .args(["app", "--deploy", "--name", "r.example/p"]);
        });
        for words in [
            "is not known: the newest commit",
            "or set the version: `--version 1.2.3`",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let mut plan = repository.plan_as("human");
        plan.args([
            "app",
            "--deploy",
            "--name",
            "r.example/p",
            "--version",
            "1.2.3",
        ]);
        let ended = run(plan.current_dir(&clone));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        for fix in fixes {
            repository.git_in(&clone, fix);
        }
        let ended = run(repository.plan().current_dir(&clone));
        assert_eq!(
            (version(&ended).as_str(), ended.stderr.as_str()),
            ("2.1.0", "")
        );
        // A commit that has none is what it is.
        repository.git_in(
            &clone,
            &["commit", "--allow-empty", "--quiet", "--message", "x"],
        );
        let ended = run(repository.plan().current_dir(&clone));
        assert_eq!(
            (version(&ended).as_str(), ended.stderr.as_str()),
            ("0.0.0-dev", "")
        );
    }
}

#[test]
fn a_partial_clone_is_read_as_far_as_it_goes() {
    let repository = Repository::new();
    repository.write("other", "");
    repository.commit();
    repository.git(&["tag", "v2.1.0"]);
    repository.git(&["config", "uploadpack.allowFilter", "true"]);
    let clone = repository.clone_with(&["--filter=blob:none"]);
    let plan = |clone: &Path| run(repository.plan_as("json").current_dir(clone));
    assert_eq!(version(&plan(&clone)), "2.1.0");
    fs::write(clone.join("app/a"), "b\n").unwrap();
    assert!(version(&plan(&clone)).starts_with("2.1.0-dirty.g"));
    // Which commit changed the context last is in objects that this one does not have.
    let clone = repository.clone_with(&["--filter=tree:0"]);
    let said = repository.refused(|plan| {
        plan.current_dir(&clone);
    });
    for words in [
        "is not known: it is in a partial clone, which lacks objects that are needed: fatal: ",
        "= help: fetch them: `git fetch --refetch --no-filter`",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let jobs = clone.join("jobs.yaml");
    fs::write(&jobs, JOBS.replace("git", "1.2.3")).unwrap();
    let ended = plan(&clone);
    assert_eq!(version(&ended), "1.2.3");
    for words in [
        "is as it was committed is not known: it is in a partial clone",
        "`git fetch --refetch",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    fs::write(&jobs, JOBS).unwrap();
    repository.git_in(&clone, &["fetch", "--quiet", "--refetch", "--no-filter"]);
    let ended = plan(&clone);
    assert_eq!(
        (version(&ended).as_str(), ended.stderr.as_str()),
        ("2.1.0", "")
    );
}
