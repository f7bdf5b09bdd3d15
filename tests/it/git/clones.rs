//! Repositories, work trees and clones of all kinds.

use std::fs;

use super::{Repository, version};
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
