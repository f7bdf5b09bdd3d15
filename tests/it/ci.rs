//! jobctl as a step of a CI pipeline: without a terminal, and with the variables that runners set.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::pushing::Pusher;
use crate::support::project::Project;
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::{Bench, run};

/// Sets the variables of a step of GitHub's.
fn as_github(command: &mut Command, folder: &Path) {
    command
        .env("CI", "true")
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", folder)
        .env("GITHUB_OUTPUT", folder.join("home/output"))
        .env("GITHUB_STEP_SUMMARY", folder.join("home/summary"));
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("home").join(name)).unwrap()
}

/// The script of the action's step that calls jobctl.
fn action() -> String {
    let text = std::fs::read_to_string(repository().join("ci/action.yml")).unwrap();
    let action: Value = serde_yaml::from_str(&text).unwrap();
    let steps = action["runs"]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == "jobctl").unwrap();
    step["run"].as_str().unwrap().to_owned()
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_commit_that_is_pushed_again_pushes_nothing() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |_, _, _| Deed::Pass);
    let pusher = Pusher::new(proxy.address);
    let folder = pusher.bench.path();
    let name = pusher.image.as_str();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}/\", version: 1.2.3 }}\njobs:\n  {name}: {{ build: \
         {{ context: . }} }}\n",
        proxy.address
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let script = action();
    let step = || {
        let mut command = pusher.bench.command("bash");
        let program = Path::new(env!("CARGO_BIN_EXE_jobctl")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        // As GitHub's runner calls it.
        command
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script])
            .env("PATH", path)
            .env(
                "JOBCTL_ARGS",
                format!("build --deploy --label '{}' {name}", pusher.image.label()),
            );
        as_github(&mut command, folder);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    };
    let first = step();
    let digest = registry.digest(&format!("test-{name}"), "1.2.3");
    let image = format!("{}/test-{name}:1.2.3", proxy.address);
    let outputs = format!("image={image}\ndigest={digest}\nversion=1.2.3\n");
    assert_eq!(read(folder, "output"), outputs);
    let summary = read(folder, "summary");
    assert!(
        summary.contains(&format!("`{digest}` | pushed |")),
        "{summary}"
    );
    let marks = |word: &str| {
        first
            .stderr
            .lines()
            .filter(|line| line.starts_with(word))
            .count()
    };
    assert!(marks("::group::") >= 2, "{}", first.stderr);
    assert_eq!(
        marks("::group::"),
        marks("::endgroup::"),
        "{}",
        first.stderr
    );
    assert!(!first.stderr.contains('\x1b'), "{}", first.stderr);

    let sent = proxy.count("PUT", "/") + proxy.count("POST", "/") + proxy.count("PATCH", "/");
    let second = step();
    let now = proxy.count("PUT", "/") + proxy.count("POST", "/") + proxy.count("PATCH", "/");
    assert_eq!(now, sent);
    assert!(
        second.stdout.ends_with(&format!("was there\n{digest}\n")),
        "{second:?}"
    );
    assert_eq!(read(folder, "output"), outputs.repeat(2));
}

#[test]
fn what_is_wrong_stands_at_its_line() {
    let bench = Bench::new();
    bench.write(
        "repo/jobs.yaml",
        "version: 1\nname: test\njobs:\n  a: { imagee: x }\n",
    );
    let mut command = bench.jobctl();
    command.args(["-C", "repo", "validate"]);
    as_github(&mut command, bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let mark =
        "::error title=jobctl unknown-key,file=repo/jobs.yaml,line=4,col=8::unknown key `imagee`";
    assert!(ended.stderr.contains(mark), "{}", ended.stderr);
    // JSON has its stdout for itself.
    let mut command = bench.jobctl();
    command.args(["-C", "repo", "--format", "json", "build"]);
    as_github(&mut command, bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    serde_json::from_str::<Value>(&ended.stdout).unwrap();
    assert!(ended.stderr.contains(mark), "{}", ended.stderr);
}

#[test]
fn a_run_is_told_with_its_curve() {
    let project = Project::new(
        "train:\n  image: IMAGE\n  metrics: { log: { loss: 'loss=([0-9.]+)' } }\n  command: [sh, -c, 'for i \
         in 3 2 1; do echo loss=$$i; done']",
    );
    let mut command = project.run(&["train"]);
    as_github(&mut command, project.bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = project.record();
    let id = record["id"].as_str().unwrap();
    let outputs = read(project.bench.path(), "output");
    assert!(outputs.contains(&format!("run-id={id}\n")), "{outputs}");
    let summary = read(project.bench.path(), "summary");
    assert!(summary.contains("| train | ok |"), "{summary}");
    assert!(summary.contains("loss=1 |"), "{summary}");
    assert!(
        summary.contains("<summary>Metrics of train</summary>"),
        "{summary}"
    );
    assert!(!summary.contains('\x1b'), "{summary}");
}

#[test]
fn gitlab_folds_steps_and_hears_of_what_was_made() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let mut command = pusher.image.build(&pusher.bench, &["--version", "1.0.0"]);
    command
        .env("CI", "true")
        .env("GITLAB_CI", "true")
        .env("JOBCTL_OUTPUT", "home/jobctl.env");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let begins = ended.stderr.matches("\x1b[0Ksection_start:").count();
    let ends = ended.stderr.matches("\x1b[0Ksection_end:").count();
    assert!(begins >= 1 && begins == ends, "{}", ended.stderr);
    let variables = read(pusher.bench.path(), "jobctl.env");
    let image = format!(
        "JOBCTL_IMAGE={}:1.0.0\nJOBCTL_DIGEST=sha256:",
        pusher.image.as_str()
    );
    assert!(variables.starts_with(&image), "{variables}");
    assert!(
        variables.ends_with("\nJOBCTL_VERSION=1.0.0\n"),
        "{variables}"
    );
}

#[test]
fn files_for_ci_are_written_and_not_replaced() {
    let bench = Bench::new();
    for (system, name, source) in [
        ("github", ".github/workflows/jobctl.yml", "ci/github.yml"),
        ("gitlab", ".gitlab-ci.yml", "ci/gitlab.yml"),
    ] {
        let init = |more: &[&str]| {
            let mut command = bench.jobctl();
            run(command.args(["init", "--ci", system]).args(more))
        };
        let ended = init(&[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr, format!("wrote {name}\n"));
        let path = bench.path().join(name);
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            written,
            std::fs::read_to_string(repository().join(source)).unwrap()
        );
        bench.write(name, "mine");
        let ended = init(&[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("is there already"),
            "{}",
            ended.stderr
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(init(&["--force"]).code, Some(0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    }
}
