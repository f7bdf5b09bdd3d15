//! SIGTERM, whatever a training is doing: it ends soon, with 143, and continues when it is called again.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Project, sha256, stderr, stdout};

/// How soon it has to end; a machine that does much else may take longer than 2 seconds.
const SOON: Duration = Duration::from_secs(6);

/// A project with so many texts that each part of a training takes a while.
fn large() -> Project {
    let project = Project::new();
    let path = project.path("reviews.csv");
    let mut csv = fs::read_to_string(&path).unwrap();
    for row in 0..60_000 {
        let (word, label) = [("great", "positive"), ("awful", "negative")][row % 2];
        let words = "the plot and the music of a long story ".repeat(3);
        writeln!(csv, "\"{row} {word} {words}\",{label}").unwrap();
    }
    fs::write(path, csv).unwrap();
    project
}

/// Sends signals once a line that begins so was said. Gives the exit code, and all that was said.
fn interrupt(job: &mut Command, line: &str, signals: usize) -> (Option<i32>, String) {
    let mut child = job
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let mut next = || lines.next().map(|line| line.unwrap() + "\n");
    loop {
        let Some(next) = next() else {
            panic!("it ended before {line:?}: {said}");
        };
        said += &next;
        if next.starts_with(line) {
            break;
        }
    }
    let signalled = Instant::now();
    for _ in 0..signals {
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }
    while let Some(next) = next() {
        said += &next;
    }
    let code = child.wait().unwrap().code();
    assert!(
        signalled.elapsed() < SOON,
        "after {line:?} it took {:?}",
        signalled.elapsed()
    );
    (code, said)
}

#[test]
fn a_training_ends_soon_whatever_it_is_doing_and_goes_on() {
    let project = large();
    let job = |output: &str| {
        let mut job = project.job(output, &["train"]);
        job.env("N_EPOCHS", "1")
            .env("NUM_TRAIN", "60")
            .env("NUM_TEST", "11000");
        job
    };
    // Tokenizing, computing features, testing.
    for (output, train_body, line) in [
        ("tokenizing", "1", "reading training reviews"),
        ("features", "0", "reading test reviews 11000/11000"),
        ("testing", "1", "epoch 1: "),
    ] {
        let (code, said) = interrupt(job(output).env("TRAIN_BODY", train_body), line, 1);
        assert_eq!(code, Some(143), "{line}: {said}");
        assert_eq!(
            said.lines().last(),
            Some("stopped; run it again with the same OUTPUT_DIR to continue"),
            "{said}"
        );
        assert!(
            !project.path(output).join("model.safetensors").exists(),
            "{line}"
        );
    }
    let resumed = job("testing").output().unwrap();
    assert!(
        stderr(&resumed).contains("continuing after step"),
        "{}",
        stderr(&resumed)
    );
    stdout(&mut job("whole"));
    assert_eq!(
        sha256(&project.path("testing/model.safetensors")),
        sha256(&project.path("whole/model.safetensors"))
    );
}

/// It doesn't train on when it is called again.
#[test]
fn an_early_stop_lasts() {
    let project = large();
    let job = |output: &str| {
        let mut job = project.job(output, &["train"]);
        job.envs([
            ("NUM_TRAIN", "60"),
            ("NUM_TEST", "11000"),
            ("EVAL_STEPS", "2"),
            ("PATIENCE", "2"),
            ("BEST", "max accuracy"),
        ]);
        job
    };
    let (code, said) = interrupt(&mut job("out"), "stopped after step ", 1);
    assert_eq!(code, Some(143), "{said}");
    for output in ["out", "whole"] {
        stdout(&mut job(output));
    }
    for file in [
        "metadata.json",
        "metrics.json",
        "metrics.jsonl",
        "model.safetensors",
    ] {
        assert_eq!(
            sha256(&project.path(&format!("out/{file}"))),
            sha256(&project.path(&format!("whole/{file}"))),
            "{file}"
        );
    }
}

#[test]
fn a_second_signal_ends_a_step() {
    let project = Project::new();
    let mut job = project.job("out", &["train"]);
    job.env("N_EPOCHS", "1000").env("BATCH_SIZE", "1024");
    let (code, said) = interrupt(&mut job, "epoch 1: ", 2);
    assert_eq!(code, Some(143), "{said}");
}
