//! `jobctl build --verify`, against the real engine.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::building::is_running;
use crate::support::image::{DEBIAN, ImageName, docker, ensure_debian};
use crate::support::{Bench, Ended, run, wait_for};

const EPOCH: &str = "1700000000";

/// A bench whose home, with jobctl's cache, is no part of the context.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write(".dockerignore", "home\n");
    bench
}

/// Verifies the bench's folder, and asserts that nothing of it is left.
fn verify(bench: &Bench, name: &ImageName, flags: &[&str]) -> Ended {
    let before = name.tags();
    let mut command = name.build(bench, &["--verify"]);
    let ended = run(command.args(flags).env("SOURCE_DATE_EPOCH", EPOCH));
    assert_eq!(name.tags(), before, "{ended:?}");
    ended
}

/// The only image of the result.
fn image(ended: &Ended) -> Value {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["schema"], "jobctl.build-verify/1");
    assert_eq!(document["images"].as_array().unwrap().len(), 1);
    document["images"][0].clone()
}

/// Copies the example of an image whose files all have a time of the build's choice.
fn copy_example(bench: &Bench) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/build_verify");
    for name in ["Dockerfile", "words"] {
        fs::copy(example.join(name), bench.path().join(name)).unwrap();
    }
}

#[test]
fn an_image_whose_times_are_set_has_the_same_content() {
    ensure_debian();
    let bench = bench();
    let name = ImageName::new();
    copy_example(&bench);
    let ended = verify(&bench, &name, &["--format", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let image = image(&ended);
    assert_eq!(image["difference_count"], 0);
    assert_eq!(image["source_date_epoch"], 1_700_000_000);
    let verdict = image["verdict"].as_str().unwrap();
    assert!(matches!(verdict, "identical" | "same_content"), "{verdict}");
}

#[test]
fn what_depends_on_the_time_is_named() {
    ensure_debian();
    let bench = bench();
    let name = ImageName::new();
    bench.write(
        "Dockerfile",
        &format!("FROM {DEBIAN}\nRUN date +%N%N > /x && mkdir /y && date +%N > /y/z.pyc\n"),
    );
    let ended = verify(&bench, &name, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = &ended.stdout;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[0],
        format!("{}: differs: 2 differences", name.as_str())
    );
    assert!(
        lines[1].starts_with("  layer 2, RUN date +%N%N > /x && "),
        "{said}"
    );
    assert_eq!(lines[2..4], ["    x: content", "    y/z.pyc: content"]);
    for word in ["PYTHONDONTWRITEBYTECODE=1", "look for `date`"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn times_alone_are_told_apart() {
    ensure_debian();
    let bench = bench();
    let name = ImageName::new();
    bench.write("Dockerfile", &format!("FROM {DEBIAN}\nRUN echo 1 > /x\n"));
    let mut command = name.build(&bench, &["--verify", "--format", "json"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let image = image(&ended);
    assert_eq!(image["verdict"], "same_content");
    assert_eq!(image["times"]["of_image"], true);
    assert!(image["times"]["files"].as_u64() > Some(0), "{image:#}");
    let help = image["causes"][0]["help"].as_str().unwrap();
    assert!(help.starts_with("set SOURCE_DATE_EPOCH"), "{help}");
    assert!(name.tags().is_empty());
}

#[test]
fn the_images_own_names_do_not_move() {
    let bench = bench();
    let name = ImageName::new();
    bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let mut command = name.build(&bench, &["--version", "1.0.0"]);
    let built = run(command.env("SOURCE_DATE_EPOCH", EPOCH));
    assert_eq!(built.code, Some(0), "{built:?}");
    let latest = format!("{}:latest", name.as_str());
    let id = || docker(&["image", "inspect", "--format", "{{.Id}}", &latest]);
    let before = id();
    let ended = verify(&bench, &name, &["--version", "1.0.0"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(id(), before);
}

#[test]
fn a_build_that_fails_is_a_failure() {
    ensure_debian();
    let bench = bench();
    let name = ImageName::new();
    bench.write("Dockerfile", &format!("FROM {DEBIAN}\nRUN exit 3\n"));
    let ended = verify(&bench, &name, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("is not built: it failed at"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("Dockerfile:2:1"), "{}", ended.stderr);
}

#[test]
fn a_change_between_the_builds_can_not_be_told_from_a_difference() {
    ensure_debian();
    let bench = bench();
    let name = ImageName::new();
    let sleep = format!("sleep 2.{}", std::process::id());
    bench.write("words", "one");
    bench.write(
        "Dockerfile",
        &format!("FROM {DEBIAN}\nCOPY words /words\nRUN {sleep}\n"),
    );
    let jobctl = name
        .build(&bench, &["--verify", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| is_running(&sleep));
    bench.write("words", "two two");
    let ended = jobctl.wait_with_output().unwrap();
    let ended = Ended {
        code: ended.status.code(),
        stdout: String::from_utf8(ended.stdout).unwrap(),
        stderr: String::new(),
    };
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(image(&ended)["verdict"], "unknown");
    assert!(name.tags().is_empty());
}

#[test]
fn an_interrupted_verification_leaves_no_image() {
    use rustix::process::{Pid, Signal, kill_process};

    ensure_debian();
    let bench = bench();
    let name = ImageName::new();
    bench.write("Dockerfile", &format!("FROM {DEBIAN}\nRUN sleep 2\n"));
    let mut jobctl = name
        .build(&bench, &["--verify"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The first image is there, and the second is being built.
    wait_for(|| !name.tags().is_empty());
    let pid = Pid::from_raw(jobctl.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(jobctl.wait().unwrap().code(), Some(130));
    assert!(name.tags().is_empty());
}
