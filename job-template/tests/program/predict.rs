//! `predict`, for a text and for lines of texts.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Project, stderr, stdout};

fn predict(project: &Project, arguments: &[&str], lines: &str) -> Output {
    let mut child = project
        .job("out", arguments)
        .env("MODEL", project.path("out"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn answers(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_text_is_told_good_or_bad() {
    let project = Project::trained();
    let mut job = project.job("out", &["predict", "a great and lovely film"]);
    let answer: Value =
        serde_json::from_str(&stdout(job.env("MODEL", project.path("out")))).unwrap();
    let share = |label: &str| answer[label].as_f64().unwrap();
    assert!(share("positive") > 0.8, "{answer}");
    assert!(
        (share("positive") + share("negative") - 1.0).abs() < 1e-6,
        "{answer}"
    );
}

/// A batch and a half, of all lengths: computed together, and each answered as if it were alone.
#[test]
fn logits_of_lines_are_those_of_each_text_alone() {
    let project = Project::trained();
    let lines: Vec<String> = (1..=12)
        .map(|words| json!({"text": "a great plot was dull ".repeat(words % 5 + 1)}).to_string())
        .collect();
    let together = answers(&predict(
        &project,
        &["predict", "--logits"],
        &lines.join("\n"),
    ));
    assert_eq!(together.len(), lines.len());
    for (line, together) in lines.iter().zip(&together) {
        let alone = &answers(&predict(&project, &["predict", "--logits"], line))[0];
        for label in 0..2 {
            let of = |answer: &Value| answer["logits"][label].as_f64().unwrap();
            assert!(
                (of(alone) - of(together)).abs() < 1e-5,
                "{line}: {alone} and {together}"
            );
        }
    }
}

#[test]
fn what_is_wrong_with_a_line_is_told_after_the_answers_before_it() {
    let project = Project::trained();
    let good = r#"{"text": "a film"}"#;
    for (bad, message) in [
        (
            "a film",
            "error: line 3: not a JSON object, one a line: expected value at column 1",
        ),
        (
            r#"{"texts": []}"#,
            "error: line 3: not a JSON object, one a line: missing field `text`",
        ),
    ] {
        let output = predict(&project, &["predict"], &format!("{good}\n{good}\n{bad}\n"));
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
        assert_eq!(answers(&output).len(), 2);
    }
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let project = Project::trained();
    for arguments in [&["variables"][..], &["predict", "good"]] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let output = project
            .job("out", arguments)
            .env("MODEL", project.path("out"))
            .stdout(OwnedFd::from(theirs))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}
