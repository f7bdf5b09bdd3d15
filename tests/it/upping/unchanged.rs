//! Nothing changed means nothing runs; and what changed is named.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{records_of, up};
use crate::support::image::{DEBIAN, ImageName, ensure_debian};
use crate::support::project::Project;
use crate::support::{proxy, run};

/// A project in a repository, with a job whose image is built from it.
struct Built {
    project: Project,
    image: ImageName,
}

impl Built {
    /// What the Dockerfile copies, and further jobs.
    fn new(copied: &str, jobs: &str) -> Self {
        ensure_debian();
        let train = "train: { build: { context: . }, command: [sh, /src/train.sh], environment: { \
                     STEPS: \"${STEPS:-1}\" }, network: none }";
        let project = Project::with_name(&format!("{train}\n{jobs}"));
        let image = ImageName::new();
        let built = Self { project, image };
        built.git(&["init", "--quiet", "."]);
        let label = built.image.label();
        let dockerfile = format!("FROM {DEBIAN}\nLABEL {label}\nCOPY {copied} /src/\n");
        built.write("Dockerfile", &dockerfile);
        built.write("train.sh", "echo trained\n");
        // The bench has a home of its own in it.
        built.write(".git/info/exclude", "/home\n");
        built.write(".dockerignore", "home\n");
        built.commit();
        built
    }

    fn path(&self) -> &Path {
        self.project.bench.path()
    }

    fn write(&self, name: &str, text: &str) {
        self.project.bench.write(name, text);
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path().join(name)).unwrap();
        assert!(text.contains(from), "{text}");
        self.write(name, &text.replace(from, to));
    }

    fn git(&self, args: &[&str]) {
        let mut command = self.project.bench.command("git");
        command.args(["-c", "user.name=A", "-c", "user.email=a@example.com"]);
        let ended = run(command.args(args));
        assert_eq!(ended.code, Some(0), "git {args:?}: {}", ended.stderr);
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a"]);
    }

    /// What each step came to, and what was said of it.
    fn up(&self, args: &[&str]) -> (Vec<String>, String) {
        let (steps, ended) = up(&self.project, args, &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        (steps, ended.stderr)
    }
}

#[test]
fn what_the_image_does_not_take_runs_nothing_again() {
    let serve = "serve: { image: job:train, service: true, command: [sleep, infinity] }";
    let built = Built::new("train.sh", serve);
    let all = |how: &str| ["train", "serve"].map(|job| format!("{job} {how}"));
    assert_eq!(built.up(&["train", "serve"]).0, all("ran"));
    let serving = records_of(&built.project, "serve")[0]["id"].clone();
    let changes: [(&str, &dyn Fn()); 5] = [
        ("nothing", &|| {}),
        ("a note beside", &|| built.write("notes.txt", "a note\n")),
        ("a commit", &|| built.commit()),
        ("an index that is refreshed", &|| {
            built.write("train.sh", "echo trained\n");
            built.git(&["status"]);
        }),
        ("a timeout", &|| {
            built.edit("jobs.yaml", "command: [sh", "timeout: 2h, command: [sh");
        }),
    ];
    for (what, change) in changes {
        change();
        let (steps, said) = built.up(&["train", "serve"]);
        assert_eq!(steps, all("up_to_date"), "{what}: {said}");
    }
    assert_eq!(records_of(&built.project, "train").len(), 1);
    // The image's label is the user's own.
    built.edit("Dockerfile", "LABEL ", "LABEL team=a ");
    let (steps, said) = built.up(&["train", "serve"]);
    assert_eq!(steps, all("ran"), "{said}");
    built.write("train.sh", "echo trained more\n");
    let (steps, said) = built.up(&["train"]);
    assert_eq!(steps, ["train ran"]);
    assert!(
        said.contains("train runs again: image (train.sh)\n"),
        "{said}"
    );
    let records = records_of(&built.project, "serve");
    assert_eq!(records.last().unwrap()["id"], serving);
    built.project.output(&["down"]);
    built.project.assert_clean();
}

#[test]
fn what_made_a_step_run_again_is_named() {
    let built = Built::new(".", "");
    let (steps, said) = built.up(&["train"]);
    assert_eq!(steps, ["train ran"]);
    assert!(!said.contains("train runs"), "{said}");

    // `validate` says how to avoid it.
    let validate = || run(&mut built.project.jobctl(&["validate"]));
    let warned = validate();
    assert_eq!(warned.code, Some(0), "{warned:?}");
    for said in [
        "warning[whole-context]: the image of `train` has `.git` and `jobs.yaml` in it",
        "help: add to `.dockerignore`: `.git`, `jobs.yaml`\n",
    ] {
        assert!(warned.stderr.contains(said), "{}", warned.stderr);
    }

    built.git(&["tag", "mark"]);
    let (steps, said) = built.up(&["train"]);
    assert_eq!(steps, ["train ran"]);
    let expected = "train runs again: image (.git/refs/tags/mark)\n";
    assert!(said.contains(expected), "{said}");

    built.edit("jobs.yaml", "command: [sh", "timeout: 2h, command: [sh");
    let mut command = built.project.jobctl(&["--format", "json", "up", "train"]);
    let ended = run(command.args(["--why"]).env("STEPS", "2"));
    let first = records_of(&built.project, "train")[1]["id"].clone();
    let run_id = &first.as_str().unwrap()[..14];
    let lines: Vec<_> = ended.stderr.lines().collect();
    let line = lines.iter().find(|line| line.contains("runs again"));
    let line = line.unwrap_or_else(|| panic!("{ended:?}"));
    let expected = format!("; variable `STEPS`: 1 → 2 (since the run {run_id})");
    assert!(
        line.contains("train runs again: image (jobs.yaml): sha256:") && line.ends_with(&expected),
        "{line}"
    );
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    let why = &said["steps"][0]["why"];
    assert_eq!((&why["reason"], &why["run"]), (&json!("changed"), &first));
    assert_eq!(why["changes"][0]["files"], json!(["jobs.yaml"]));
    assert_eq!(
        why["changes"][1],
        json!({ "what": "variable", "name": "STEPS", "old": "1", "new": "2", "files": [] })
    );

    built.write(".dockerignore", ".git\njobs.yaml\nhome\n");
    assert_eq!(validate().stderr, "");
    assert_eq!(built.up(&["train"]).0, ["train ran"]);
    built.commit();
    built.edit("jobs.yaml", "timeout: 2h", "timeout: 3h");
    assert_eq!(built.up(&["train"]).0, ["train up_to_date"]);
    let ended = run(&mut built.project.jobctl(&["up", "--why", "--dry-run"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    built.project.assert_clean();
}

#[test]
fn a_first_run_and_a_damaged_one_say_so() {
    let built = Built::new("train.sh", "");
    let (_, said) = built.up(&["train", "--why"]);
    assert!(said.contains("train runs: it was never run\n"), "{said}");
    let (_, said) = built.up(&["train", "--why", "--fresh"]);
    assert!(said.contains("train runs again: `--fresh`\n"), "{said}");
}

/// All that is in a folder: its content, and when it was changed.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut next = vec![folder.to_owned()];
    while let Some(path) = next.pop() {
        let stat = path.symlink_metadata().unwrap();
        let content = if stat.is_dir() {
            next.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            Vec::new()
        } else {
            std::fs::read(&path).unwrap()
        };
        found.insert(path, (content, stat.ctime(), stat.ctime_nsec()));
    }
    found
}

#[test]
fn nothing_is_written_to_the_repository() {
    let built = Built::new("train.sh", "");
    // The index does not know any more that the file is as it was.
    built.write("train.sh", "echo trained\n");
    built.write(
        "Dockerfile",
        &std::fs::read_to_string(built.path().join("Dockerfile")).unwrap(),
    );
    let git = built.path().join(".git");
    let before = tree(&git);
    for args in [
        &["validate"][..],
        &["build", "train"],
        &["run", "train"],
        &["up", "train"],
        &["show", "train"],
        &["export", "--as", "compose"],
        &["images"],
    ] {
        let ended = run(&mut built.project.jobctl(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        assert!(tree(&git) == before, "{args:?} wrote to `.git`");
    }
    // git itself does.
    built.git(&["status"]);
    assert!(tree(&git) != before);
}

#[test]
fn the_classic_builder_makes_no_difference() {
    let built = Built::new("train.sh", "");
    built.edit("Dockerfile", "COPY", "RUN date > /built\nCOPY");
    let folder = tempfile::tempdir().unwrap();
    let socket = proxy::start(folder.path(), ("/session", "/nowhere"), ("", ""));
    let host = format!("unix://{}", socket.display());
    let up = || super::up(&built.project, &["train"], &[("DOCKER_HOST", &host)]);
    let (steps, ended) = up();
    assert_eq!(steps, ["train ran"], "{ended:?}");
    built.write("notes.txt", "a note\n");
    built.commit();
    let (steps, ended) = up();
    assert_eq!(steps, ["train up_to_date"], "{ended:?}");
    assert!(ended.stderr.contains("build train ok"), "{ended:?}");
}
