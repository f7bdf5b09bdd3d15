//! What a training's recipe can ask for: accumulated gradients, class weights, validations and checkpoints between
//! epochs, the best model, an early stop.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Project, Weight, read_weights, stderr, stdout, write_weights};
use crate::train::assert_refused;

const WEIGHTS: &str = "model.safetensors";

/// Sets fields of the model's config.json.
fn configure(project: &Project, fields: &[(&str, Value)]) {
    let mut config = project.json("model/config.json");
    for (name, value) in fields {
        config[*name] = value.clone();
    }
    fs::write(project.path("model/config.json"), config.to_string()).unwrap();
}

fn train(project: &Project, output: &str, variables: &[(&str, &str)]) -> String {
    let mut job = project.job(output, &["train"]);
    stdout(job.envs(variables.iter().copied()))
}

/// The lines of metrics.jsonl that have a value of this name.
fn lines(project: &Project, output: &str, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(project.path(&format!("{output}/metrics.jsonl"))).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line.get(name).is_some())
        .collect()
}

fn numbers(lines: &[Value], name: &str) -> Vec<f64> {
    let numbers = lines.iter().map(|line| line[name].as_f64());
    numbers.collect::<Option<_>>().unwrap()
}

fn checkpoints(project: &Project, output: &str) -> Vec<String> {
    let entries = fs::read_dir(project.path(&format!("{output}/checkpoints"))).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn accumulated_batches_are_one_large_one() {
    let project = Project::new();
    configure(&project, &[("hidden_dropout_prob", json!(0.0))]);
    for train_body in ["1", "0"] {
        let run = |output: &str, batch_size, accumulation| {
            let output = format!("{output}-{train_body}");
            let variables = [
                ("TRAIN_BODY", train_body),
                ("CLASS_WEIGHTS", "balanced"),
                ("N_EPOCHS", "2"),
                ("LR", "1e-3"),
                ("BATCH_SIZE", batch_size),
                ("GRADIENT_ACCUMULATION", accumulation),
            ];
            train(&project, &output, &variables);
            let losses = numbers(&lines(&project, &output, "loss"), "loss");
            let steps =
                project.json(&format!("{output}/metrics.json"))["training"]["steps"].clone();
            (
                losses,
                steps,
                read_weights(&project.path(&format!("{output}/{WEIGHTS}"))),
            )
        };
        let (losses, steps, weights) = run("whole", "8", "1");
        // Of the third, a micro-batch is smaller than the others.
        for (batch_size, accumulation) in [("4", "2"), ("1", "8")] {
            let parts = run(&format!("parts-{batch_size}"), batch_size, accumulation);
            assert_eq!(parts.1, steps);
            assert_eq!(parts.0.len(), losses.len());
            for (one, other) in losses.iter().zip(&parts.0) {
                assert!((one - other).abs() < 1e-5, "{losses:?} {:?}", parts.0);
            }
            for one in &weights {
                let is_same = |other: &&Weight| other.name == one.name;
                let other = parts.2.iter().find(is_same).unwrap();
                // A key's bias changes no attention: its gradient is rounding, and AdamW's step follows its sign.
                if one.name.ends_with("self.key.bias") {
                    continue;
                }
                let pairs = one.numbers().into_iter().zip(other.numbers());
                let differences = pairs.map(|(one, other)| (one - other).abs());
                let most = differences.fold(0.0_f32, f32::max);
                assert!(most < 1e-5, "{}: {most}", one.name);
            }
        }
    }
}

/// The mean loss of the training reviews of each label, and how many they are, by the model itself.
fn losses_of_labels(project: &Project, output: &str) -> [(f64, f64); 2] {
    let mut reader = csv::Reader::from_path(project.path("reviews.csv")).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let rows = project.json(&format!("{output}/split.json"))["train"].clone();
    let rows: Vec<usize> = serde_json::from_value(rows).unwrap();
    let mut child = project
        .job(output, &["predict", "--logits"])
        .env("MODEL", project.path(output))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for &row in &rows {
        writeln!(input, "{}", json!({ "text": records[row][0] })).unwrap();
    }
    drop(input);
    let answers = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let mut sums = [(0.0, 0.0); 2];
    for (answer, &row) in answers.lines().zip(&rows) {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let logits = [0, 1].map(|label: usize| answer["logits"][label].as_f64().unwrap());
        let label = usize::from(&records[row][1] == "positive");
        let other = logits[1 - label] - logits[label];
        sums[label].0 += (1.0 + other.exp()).ln();
        sums[label].1 += 1.0;
    }
    sums.map(|(sum, count)| (sum / count, count))
}

#[test]
fn balanced_classes_count_the_same_in_the_training_loss() {
    let project = Project::new();
    configure(&project, &[("hidden_dropout_prob", json!(0.0))]);
    // Three of four positive reviews are left out.
    let path = project.path("reviews.csv");
    let reviews = fs::read_to_string(&path).unwrap();
    let kept = reviews
        .lines()
        .enumerate()
        .filter(|(number, line)| line.ends_with(",negative") || number % 8 < 2);
    let kept: String = kept.flat_map(|(_, line)| [line, "\n"]).collect();
    fs::write(&path, kept).unwrap();
    // One step, which changes nothing.
    let loss = |output: &str, weights, batch_size, accumulation| {
        let variables = [
            ("CLASS_WEIGHTS", weights),
            ("BATCH_SIZE", batch_size),
            ("GRADIENT_ACCUMULATION", accumulation),
            ("N_EPOCHS", "1"),
            ("LR", "0"),
        ];
        train(&project, output, &variables);
        numbers(&lines(&project, output, "loss"), "loss")[0]
    };
    let plain = loss("plain", "none", "1024", "1");
    let balanced = loss("balanced", "balanced", "1024", "1");
    let in_parts = loss("parts", "balanced", "37", "30");
    let [(negative, negatives), (positive, positives)] = losses_of_labels(&project, "plain");
    assert!(negatives > 2.0 * positives, "{negatives} {positives}");
    let mean = (negative * negatives + positive * positives) / (negatives + positives);
    assert!((plain - mean).abs() < 1e-5, "{plain} {mean}");
    let mean = f64::midpoint(negative, positive);
    assert!((balanced - mean).abs() < 1e-5, "{balanced} {mean}");
    assert!((plain - balanced).abs() > 1e-4, "the test tells them apart");
    assert!((in_parts - balanced).abs() < 1e-6, "{in_parts} {balanced}");
    // Validation is without weights.
    let valid = |output| numbers(&lines(&project, output, "valid_loss"), "valid_loss");
    assert_eq!(valid("plain"), valid("balanced"));
}

#[test]
fn validations_and_checkpoints_between_epochs_change_no_weight() {
    let project = Project::new();
    train(&project, "plain", &[("N_EPOCHS", "2")]);
    let every = [
        ("N_EPOCHS", "2"),
        ("EVAL_STEPS", "19"),
        ("SAVE_STEPS", "19"),
    ];
    train(&project, "every", &every);
    assert_eq!(
        project.sha256("every/model.safetensors"),
        project.sha256("plain/model.safetensors")
    );
    let metrics = project.json("every/metrics.json");
    let steps = metrics["training"]["steps"].as_u64().unwrap();
    let (per_epoch, every) = (steps / 2, 19);
    let is_due = |step: &u64| step.is_multiple_of(every) || step.is_multiple_of(per_epoch);
    let validated = lines(&project, "every", "valid_loss");
    let validated: Vec<u64> = validated
        .iter()
        .map(|it| it["step"].as_u64().unwrap())
        .collect();
    assert_eq!(validated, (1..=steps).filter(is_due).collect::<Vec<_>>());
    // The training loss is as it was.
    assert_eq!(
        lines(&project, "every", "loss"),
        lines(&project, "plain", "loss")
    );
    let is_saved = |step: &u64| step.is_multiple_of(every) && !step.is_multiple_of(per_epoch);
    let saved = (1..=steps).rev().filter(is_saved).take(3);
    let mut names: Vec<String> = saved.map(|step| format!("step-{step}")).collect();
    names.extend(["epoch-1", "epoch-2"].map(str::to_owned));
    names.sort();
    assert_eq!(checkpoints(&project, "every"), names);
    // Each is a model.
    let step = names.last().unwrap();
    let mut job = project.job("every", &["predict", "a film"]);
    stdout(job.env("MODEL", project.path(&format!("every/checkpoints/{step}"))));
    // Those of another recipe are gone with it.
    train(&project, "every", &[("N_EPOCHS", "1")]);
    assert_eq!(checkpoints(&project, "every"), ["epoch-1"]);
}

#[test]
fn the_best_model_is_the_result() {
    let project = Project::new();
    for (best, name) in [
        ("max accuracy", "valid_accuracy"),
        ("min loss", "valid_loss"),
        ("max macro_f1", "valid_macro_f1"),
        // The worst, which is not the last.
        ("max loss", "valid_loss"),
    ] {
        let output = best.replace(' ', "-");
        let variables = [
            ("BEST", best),
            ("EVAL_STEPS", "10"),
            ("LR", "1e-2"),
            ("N_EPOCHS", "2"),
        ];
        let said = train(&project, &output, &variables);
        let validations = lines(&project, &output, name);
        let values = numbers(&validations, name);
        let sign = if best.starts_with("max") { 1.0 } else { -1.0 };
        let mut first_best = 0;
        for (index, value) in values.iter().enumerate() {
            if sign * value > sign * values[first_best] {
                first_best = index;
            }
        }
        let line = &validations[first_best];
        let metadata = project.json(&format!("{output}/metadata.json"));
        let noted = json!({ "step": line["step"], "value": line[name] });
        assert_eq!(metadata["best"], noted, "{best}: {values:?}");
        assert_eq!(metadata["given"]["BEST"], best);
        let valid = project.json(&format!("{output}/metrics.json"))["valid"].clone();
        assert_eq!(valid["loss"], line["valid_loss"], "{best}");
        assert_eq!(valid["accuracy"], line["valid_accuracy"], "{best}");
        assert_eq!(valid["macro_f1"], line["valid_macro_f1"], "{best}");
        let mut job = project.job(&output, &["evaluate"]);
        let evaluation = stdout(job.env("MODEL", project.path(&output)));
        assert_eq!(evaluation, said, "{best}");
        assert!(!checkpoints(&project, &output).contains(&"resume".to_owned()));
    }
    // So that it is seen that the best one was taken.
    let metadata = project.json("max-loss/metadata.json");
    let steps = project.json("max-loss/metrics.json")["training"]["steps"].clone();
    assert_ne!(metadata["best"]["step"], steps);
}

#[test]
fn training_stops_early_where_nothing_gets_better() {
    let project = Project::new();
    let patience = [("PATIENCE", "3"), ("EVAL_STEPS", "5"), ("LR", "0")];
    let mut job = project.job("out", &["train"]);
    let output = job.envs(patience).output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let metadata = project.json("out/metadata.json");
    let reason = metadata["stopped_early"].as_str().unwrap();
    assert!(reason.starts_with("stopped after step 20 of 2"), "{reason}");
    assert!(reason.contains("since step 5 (loss 0."), "{reason}");
    assert!(said.contains(reason), "{said}");
    // It doesn't keep the best without BEST.
    assert_eq!(metadata["best"], Value::Null);
    let training = project.json("out/metrics.json")["training"].clone();
    assert_eq!(training, json!({ "steps": 20, "samples": 160 }));
    assert!(checkpoints(&project, "out").is_empty());

    // Enough patience is as none, and the learning rate is that of all steps.
    train(
        &project,
        "patient",
        &[("PATIENCE", "100"), ("N_EPOCHS", "2")],
    );
    train(&project, "plain", &[("N_EPOCHS", "2")]);
    assert_eq!(
        project.json("patient/metadata.json")["stopped_early"],
        Value::Null
    );
    assert_eq!(
        project.sha256("patient/model.safetensors"),
        project.sha256("plain/model.safetensors")
    );
    let early = [
        ("PATIENCE", "1"),
        ("EVAL_STEPS", "5"),
        ("BEST", "max loss"),
        ("N_EPOCHS", "2"),
    ];
    train(&project, "early", &early);
    let rates = numbers(&lines(&project, "early", "lr"), "lr");
    assert_eq!(
        rates,
        numbers(&lines(&project, "plain", "lr"), "lr")[..rates.len()]
    );
}

#[test]
fn a_recipe_that_needs_validation_reviews_is_refused_without_them() {
    let project = Project::new();
    for (name, value) in [
        ("BEST", "max accuracy"),
        ("PATIENCE", "2"),
        ("EVAL_STEPS", "10"),
    ] {
        let mut job = project.job("", &["train"]);
        assert_refused(
            &project,
            job.env(name, value).env("VALID_PCT", "0"),
            &format!("error: {name}={value}: there are no validation reviews: VALID_PCT=0 of "),
        );
    }
    let mut job = project.job("", &["train"]);
    assert_refused(
        &project,
        job.env("BEST", "max f1"),
        "error: BEST=\"max f1\": BEST is max or min",
    );
}

/// No checkpoint has weights that are not finite.
#[test]
fn a_training_that_diverges_ends_before_the_next_checkpoint() {
    let project = Project::new();
    train(&project, "base", &[("N_EPOCHS", "1")]);
    let path = project.path("base/model.safetensors");
    let mut weights = read_weights(&path);
    for weight in &mut weights {
        if weight.name == "classifier.weight" {
            // The logits are infinite.
            weight.cast(weight.dtype, |number| {
                (number.signum() * f32::MAX).to_le_bytes()
            });
        }
    }
    write_weights(&path, &weights);
    for (save_steps, steps) in [("0", "1 to 10"), ("4", "1 to 4")] {
        let output = format!("out-{save_steps}");
        let mut job = project.job(&output, &["train"]);
        job.env("SAVE_STEPS", save_steps)
            .env("MODEL", project.path("base"));
        let failed = job.output().unwrap();
        assert_eq!(failed.status.code(), Some(1));
        let said = stderr(&failed);
        let message = format!("error: training diverged in one of the steps {steps}: ");
        assert!(said.contains(&message), "{said}");
        assert!(!project.path(&format!("{output}/checkpoints")).exists());
    }
}

/// Its mask is of its own probability, and hidden vectors' where it has none.
#[test]
fn the_classifiers_dropout_is_that_of_the_model() {
    let project = Project::new();
    let weights = |hidden: f64, classifier: Value| {
        let fields = [
            ("hidden_dropout_prob", json!(hidden)),
            ("classifier_dropout", classifier.clone()),
        ];
        configure(&project, &fields);
        let output = format!("out-{hidden}-{classifier}");
        train(&project, &output, &[("N_EPOCHS", "1")]);
        project.sha256(&format!("{output}/{WEIGHTS}"))
    };
    let same = weights(0.1, Value::Null);
    assert_eq!(weights(0.1, json!(0.1)), same);
    assert_ne!(weights(0.1, json!(0.3)), same);
    assert_ne!(weights(0.1, json!(0)), same);
    let none = weights(0.0, json!(0.0));
    assert_eq!(weights(0.0, Value::Null), none);
    assert_ne!(weights(0.0, json!(0.1)), none);
}

/// Sends a signal once the metrics have so many lines.
fn interrupt(mut job: Command, metrics: &Path, line_count: usize, signal: &str) -> Option<i32> {
    let mut child = job.stderr(Stdio::null()).spawn().unwrap();
    let lines = || fs::read_to_string(metrics).map_or(0, |text| text.lines().count());
    while lines() < line_count {
        assert!(child.try_wait().unwrap().is_none(), "the job ended early");
        std::thread::yield_now();
    }
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    child.wait().unwrap().code()
}

#[test]
fn a_training_with_everything_comes_to_the_same_bytes_after_signals() {
    let project = Project::new();
    let job = |output: &str| {
        let mut job = project.job(output, &["train"]);
        job.envs([
            ("BATCH_SIZE", "3"),
            ("GRADIENT_ACCUMULATION", "2"),
            ("CLASS_WEIGHTS", "balanced"),
            ("N_EPOCHS", "3"),
            ("EVAL_STEPS", "7"),
            ("SAVE_STEPS", "5"),
            ("BEST", "min loss"),
            ("PATIENCE", "8"),
            ("TRACE", "1"),
        ]);
        job
    };
    stdout(&mut job("whole"));
    let all = lines(&project, "whole", "step").len();
    let metrics = project.path("broken/metrics.jsonl");
    for (signal, code, count) in [
        ("-KILL", None, all / 4),
        ("-TERM", Some(143), all / 2),
        ("-KILL", None, all - 3),
    ] {
        let ended = interrupt(job("broken"), &metrics, count, signal);
        assert_eq!(ended, code, "{signal} at line {count} of {all}");
    }
    let state = project.json("broken/checkpoints/resume/state.json");
    let training = project.json("whole/metrics.json")["training"].clone();
    let lost = training["steps"].as_u64().unwrap() - state["position"]["step"].as_u64().unwrap();
    assert!(lost < 30, "{lost} steps were lost");
    let resumed = job("broken").output().unwrap();
    let said = stderr(&resumed);
    assert!(resumed.status.success(), "{said}");
    assert!(said.contains("continuing after step"), "{said}");
    let files = |output: &str| {
        let mut files = crate::train::files(&project.path(output));
        assert!(files.remove("timings.json").is_some());
        files
    };
    assert_eq!(files("broken"), files("whole"));
}
