//! What makes a build context dirty.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use super::{JOBS, Repository};
use crate::support::run;

const ELSEWHERE: &str = "version: 1\nname: p\nimage: { version: git }\njobs:\n  app: { build: { context: \
                         app, dockerfile: ../docker/Dockerfile } }\n";

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

/// Gives a repository an index that was written in the second in which `app/a` got other content of the same
/// size: what it has of the file besides its content is as it is now.
fn within_a_second(repository: &Repository) -> File {
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let committed = repository.git(&["rev-parse", ":app/a"]);
    let file = repository.write("app/a", "b\n");
    File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .set_modified(second)
        .unwrap();
    let found = file.metadata().unwrap();
    // gitformat-index(5): ten numbers before the object's name.
    let number = |value: i64| u32::try_from(value & 0xffff_ffff).unwrap();
    let numbers = [
        number(found.ctime()),
        number(found.ctime_nsec()),
        number(found.mtime()),
        number(found.mtime_nsec()),
        number(found.dev().cast_signed()),
        number(found.ino().cast_signed()),
        0o100_644,
        found.uid(),
        found.gid(),
        number(found.size().cast_signed()),
    ];
    let path = repository.path().join(".git/index");
    let mut index = fs::read(&path).unwrap();
    let digits = committed.trim().as_bytes().chunks(2);
    let object: Vec<_> = digits
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 16).unwrap())
        .collect();
    let at = index
        .windows(object.len())
        .position(|part| part == object)
        .unwrap();
    let numbers = numbers.map(u32::to_be_bytes).concat();
    index[at - numbers.len()..at].copy_from_slice(&numbers);
    fs::write(&path, index).unwrap();
    let index = File::options().append(true).open(&path).unwrap();
    index.set_modified(second).unwrap();
    index
}

#[test]
fn a_change_of_the_same_size_in_the_second_of_the_index_is_dirty() {
    for flags in [[].as_slice(), &["--assume-unchanged"], &["--skip-worktree"]] {
        let repository = Repository::new();
        if !flags.is_empty() {
            repository.git(&[&["update-index"], flags, &["app/a"]].concat());
        }
        let index = within_a_second(&repository);
        assert!(repository.is_dirty(), "{flags:?}");
        // It is by the index's time alone that it is seen.
        let later = index.metadata().unwrap().modified().unwrap() + Duration::from_secs(2);
        index.set_modified(later).unwrap();
        assert!(!repository.is_dirty(), "{flags:?}");
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

#[test]
fn a_submodule_that_was_never_checked_out_is_warned_of() {
    let library = Repository::new();
    let inner = Repository::new();
    library.git(&[
        "submodule",
        "--quiet",
        "add",
        inner.path().to_str().unwrap(),
        "inner",
    ]);
    library.commit();
    let repository = Repository::new();
    let source = library.path();
    for name in ["app/library", "app/a b", "elsewhere"] {
        repository.git(&[
            "submodule",
            "--quiet",
            "add",
            source.to_str().unwrap(),
            name,
        ]);
    }
    repository.commit();
    // As a clone leaves them.
    repository.git(&["submodule", "--quiet", "deinit", "--all", "--force"]);
    repository.write("jobs.yaml", &JOBS.replace("git", "1.2.3"));
    let top = repository.path().canonicalize().unwrap();
    let top = top.display();
    let warnings = || {
        let ended = run(&mut repository.plan_as("human"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines = ended
            .stderr
            .lines()
            .filter(|line| line.contains("submodule"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let update = format!("git -C {top} submodule update --init --recursive --");
    assert_eq!(
        warnings(),
        [format!(
            "warning: `app/a b`, `app/library` are submodules that were never checked out, and empty directories \
             for the build: `{update} 'app/a b' app/library`"
        )]
    );
    let ignored = repository.write("app/.dockerignore", "a b\n");
    let one = "is a submodule that was never checked out, and an empty directory for the build";
    assert_eq!(
        warnings(),
        [format!(
            "warning: `app/library` {one}: `{update} app/library`"
        )]
    );
    // One in one.
    repository.git(&[
        "submodule",
        "--quiet",
        "update",
        "--init",
        "--",
        "app/library",
    ]);
    let fix = format!("git -C {top}/app/library submodule update --init --recursive -- inner");
    assert_eq!(warnings(), [format!("warning: `inner` {one}: `{fix}`")]);
    fs::remove_file(ignored).unwrap();
    repository.git(&["submodule", "--quiet", "update", "--init", "--recursive"]);
    assert_eq!(warnings(), [""; 0]);
    repository.write("jobs.yaml", JOBS);
    repository.git(&["tag", "--force", "v2.0.0"]);
    assert!(!repository.is_dirty());
    // As a build context it has no Dockerfile.
    repository.git(&["submodule", "--quiet", "deinit", "--all", "--force"]);
    repository.write(
        "jobs.yaml",
        &JOBS.replace("build: app", "build: app/library"),
    );
    let said = repository.refused(|_| {});
    let fix = "`app/library` is empty: if it is a submodule, `git submodule update --init app/library` fills it";
    assert!(said.contains(fix), "{said}");
}

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
