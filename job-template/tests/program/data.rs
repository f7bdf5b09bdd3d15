//! Data as people have it, through the program: labels, warnings, and a text that is read in serving as it
//! was in training.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;

use serde_json::{Value, json};

use crate::support::{Project, stderr, stdout};

fn logits(project: &Project, text: &str) -> Value {
    let mut job = project.job("unused", &["predict", "--logits", text]);
    let job = job.env("MODEL", project.path("out"));
    serde_json::from_str(&stdout(job.env_remove("NUM_MAX_POSITIONS"))).unwrap()
}

#[test]
fn a_text_is_read_in_serving_as_it_was_in_training() {
    let project = Project::new();
    let mut job = project.job("out", &["train"]);
    let said = stdout(job.env("NUM_MAX_POSITIONS", "10").env("N_EPOCHS", "1"));
    assert_eq!(
        logits(&project, "a great<br /><br />plot\u{85}and\u{2003}music"),
        logits(&project, "a great plot and music")
    );
    let metadata = project.json("out/metadata.json");
    assert!(metadata["cleaning"].as_str().unwrap().contains("<br />"));

    // The longest that it was trained on, not the default.
    let long = "a great plot and a lovely scene of a story";
    assert_eq!(
        logits(&project, &format!("{long} dull dull dull")),
        logits(&project, long)
    );
    let evaluate = |positions: Option<&str>| {
        let mut job = project.job("eval", &["evaluate"]);
        job.env("MODEL", project.path("out"))
            .env_remove("NUM_MAX_POSITIONS");
        if let Some(positions) = positions {
            job.env("NUM_MAX_POSITIONS", positions);
        }
        job.output().unwrap()
    };
    let same = evaluate(None);
    assert_eq!(
        String::from_utf8_lossy(&same.stdout),
        said,
        "{}",
        stderr(&same)
    );
    assert!(!stderr(&same).contains("warning"), "{}", stderr(&same));
    let other = evaluate(Some("20"));
    let warning = "warning: NUM_MAX_POSITIONS=20: the model was trained with 10";
    assert!(stderr(&other).contains(warning), "{}", stderr(&other));
    // A checkpoint has no metadata, but its tokenizer's settings.
    let checkpoint = project.json("out/checkpoints/epoch-1/tokenizer_config.json");
    assert_eq!(checkpoint["model_max_length"], 10);
    fs::remove_file(project.path("out/metadata.json")).unwrap();
    assert_eq!(String::from_utf8_lossy(&evaluate(None).stdout), said);
}

#[test]
fn a_small_model_is_read_to_its_end_if_nothing_else_is_said() {
    let project = Project::new();
    let mut job = project.job("out", &["train"]);
    stdout(job.env_remove("NUM_MAX_POSITIONS").env("N_EPOCHS", "1"));
    let metadata = project.json("out/metadata.json");
    assert_eq!(metadata["given"]["NUM_MAX_POSITIONS"], 64);
}

#[test]
fn what_looks_wrong_is_said_and_metrics_tell_what_accuracy_is_worth() {
    let project = Project::new();
    let data = project.path("reviews.csv");
    let mut csv = fs::read_to_string(&data).unwrap();
    csv.push_str("unknown,NaN\n\"a great scene\",Positive\n\"a great scene\",negative\n");
    fs::write(&data, csv).unwrap();
    let output = project.job("out", &["train"]).output().unwrap();
    let said = stderr(&output);
    for warning in [
        "warning: the labels `Positive` (1), `positive` (300) differ in their case or in",
        "warning: 1 row without a label (empty or NaN) is left out; the first is on line 602",
        "warning: 1 row has a text that another row labels otherwise, as on lines 603 and 604",
    ] {
        assert!(said.contains(warning), "{said}");
    }
    let metrics = project.json("out/metrics.json");
    let test = &metrics["test"];
    let matrix = test["confusion_matrix"].as_array().unwrap();
    let count = |row: usize, column: usize| matrix[row][column].as_f64().unwrap();
    let examples = test["examples"].as_f64().unwrap();
    let right = count(0, 0) + count(1, 1);
    assert!((metrics["accuracy"].as_f64().unwrap() - right / examples).abs() < 1e-12);
    let most = (count(0, 0) + count(0, 1)).max(count(1, 0) + count(1, 1));
    assert!((metrics["majority_baseline"].as_f64().unwrap() - most / examples).abs() < 1e-12);
    let f1 = |label: usize| test["classes"][label]["f1"].as_f64().unwrap();
    let macro_f1 = f64::midpoint(f1(0), f1(1));
    assert!((metrics["macro_f1"].as_f64().unwrap() - macro_f1).abs() < 1e-12);
    let examples = project.json("out/metadata.json")["examples"].clone();
    assert_eq!(examples["contradictions"], 1);
    assert_eq!(examples["unlabelled"], 1);
}

#[test]
fn stars_stay_stars_and_a_model_is_tested_on_some_of_its_labels() {
    let project = Project::new();
    let data = project.path("reviews.csv");
    let csv = fs::read_to_string(&data).unwrap();
    fs::write(
        &data,
        csv.replace(",negative", ",1").replace(",positive", ",5"),
    )
    .unwrap();
    stdout(&mut project.job("out", &["train"]));
    let config = project.json("out/config.json");
    assert_eq!(config["id2label"], json!({"0": "1", "1": "5"}));
    let some = csv.replace(",positive", ",5");
    let some: Vec<&str> = some
        .lines()
        .filter(|line| !line.ends_with("negative"))
        .collect();
    fs::write(&data, some.join("\n")).unwrap();
    let evaluate = || {
        let mut job = project.job("eval", &["evaluate"]);
        job.env("MODEL", project.path("out")).output().unwrap()
    };
    assert!(evaluate().status.success());
    let matrix = &project.json("eval/eval.json")["test"]["confusion_matrix"];
    assert_eq!(matrix[0], json!([0, 0]));
    fs::write(&data, csv).unwrap();
    let refused = evaluate();
    assert_eq!(refused.status.code(), Some(1));
    let message = "has labels that the model doesn't have: [\"negative\", \"positive\"]; it has [\"1\", \"5\"]";
    assert!(stderr(&refused).contains(message), "{}", stderr(&refused));
}

#[test]
fn what_is_no_file_of_reviews_is_refused_before_anything_is_written() {
    let project = Project::new();
    let data = project.path("reviews.csv");
    for (bytes, message) in [
        (
            &b"PAR1\x15\x04"[..],
            "is a Parquet file; CSV and JSON Lines",
        ),
        (
            b"text;label\na;b\n",
            "line 1: no column `text`: the header is `text;label`",
        ),
        (b"text,label\n", "has no reviews, but a header alone"),
        (b"", "line 1: the file is empty"),
    ] {
        fs::write(&data, bytes).unwrap();
        let output = project.job("out", &["train"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let expected = format!("error: {}: {message}", data.display());
        assert!(
            stderr(&output).starts_with(&expected),
            "{}",
            stderr(&output)
        );
        assert_eq!(stderr(&output).lines().count(), 1);
        assert!(!project.path("out").exists());
    }
}
