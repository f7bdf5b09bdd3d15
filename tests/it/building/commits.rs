//! What git says of a build context is in the image: revision, time and dirt.

use serde_json::Value;

use super::{built, state};
use crate::support::image::{ImageName, docker};
use crate::support::{Bench, run};

#[test]
fn git_says_revision_time_and_dirt() {
    let bench = Bench::new();
    let name = ImageName::new();
    let git = |args: &[&str]| {
        let ended = run(bench
            .command("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args)
            .env("GIT_COMMITTER_DATE", "2020-01-02T03:04:05Z"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.trim().to_owned()
    };
    bench.write(
        "jobs.yaml",
        &format!(
            "version: 1\nname: {}\nimage: {{ version: git }}\njobs:\n  app: {{ build: app }}\n",
            name.as_str()
        ),
    );
    bench.write(
        "app/Dockerfile",
        &format!("FROM scratch\nCOPY a /\nLABEL {}\n", name.label()),
    );
    bench.write("app/a", "");
    git(&["init", "--quiet"]);
    git(&[
        "remote",
        "add",
        "origin",
        "https://user:canary@example.com/r.git",
    ]);
    git(&["add", "app", "jobs.yaml"]);
    git(&["commit", "--quiet", "--message", "first"]);
    let revision = git(&["rev-parse", "HEAD"]);
    git(&["tag", "v1.4.0"]);
    let build = || built(bench.jobctl().args(["build"]));
    let label = |image: &Value, key: &str| {
        let format = format!("{{{{index .Config.Labels \"org.opencontainers.image.{key}\"}}}}");
        let id = image["id"].as_str().unwrap();
        docker(&["inspect", "--format", &format, id])
            .trim()
            .to_owned()
    };
    let clean = build();
    assert_eq!(clean["version"], "1.4.0");
    assert_eq!(label(&clean, "revision"), revision);
    assert_eq!(label(&clean, "created"), "2020-01-02T03:04:05Z");
    assert_eq!(label(&clean, "source"), "https://example.com/r.git");
    // A commit elsewhere is not another image.
    bench.write("other", "");
    git(&["add", "other"]);
    git(&["commit", "--quiet", "--message", "second"]);
    git(&["tag", "v1.4.0", "--force"]);
    assert_eq!(build()["state"], "up_to_date");
    // Nor is another history that the repository pretends to have (`gitrepository-layout(5)`).
    bench.write(".git/info/grafts", &git(&["rev-parse", "HEAD"]));
    assert_eq!(build()["state"], "up_to_date");
    bench.write("app/a", "edited");
    let dirty = build();
    let version = dirty["version"].as_str().unwrap().to_owned();
    assert!(version.starts_with("1.4.0-dirty.g"), "{version}");
    assert_eq!(label(&dirty, "revision"), format!("{revision}-dirty"));
    let latest = format!("{}-app:latest", name.as_str());
    assert_eq!(
        docker(&["inspect", "--format", "{{.Id}}", &latest]).trim(),
        clean["id"]
    );
}

#[test]
fn a_commit_elsewhere_makes_no_other_image_of_a_context_that_was_never_committed() {
    let bench = Bench::new();
    let name = ImageName::new();
    let git = |args: &[&str]| {
        let ended = run(bench
            .command("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    let jobs = format!(
        "version: 1\nname: {}\njobs: {{ app: {{ build: app }} }}\n",
        name.as_str()
    );
    bench.write("jobs.yaml", &jobs);
    let dockerfile = format!("FROM scratch\nCOPY a /\nLABEL {}\n", name.label());
    bench.write("app/Dockerfile", &dockerfile);
    bench.write("app/a", "");
    git(&["init", "--quiet"]);
    for expected in ["built", "up_to_date"] {
        git(&["commit", "--quiet", "--allow-empty", "--message", expected]);
        assert_eq!(state(bench.jobctl().arg("build")), expected);
    }
}
