//! `TRACE=1`: what each step computed, from what.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::support::{Project, stdout};

/// An entry: step, name, input, output.
type Entry = (u64, String, String, String);

fn train(project: &Project, output: &str, variables: &[(&str, &str)]) -> Vec<Entry> {
    let mut job = project.job(output, &["train"]);
    job.env("N_EPOCHS", "1").env("TRACE", "1");
    stdout(job.envs(variables.iter().copied()));
    let text = fs::read_to_string(project.path(&format!("{output}/trace.jsonl"))).unwrap();
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        assert_eq!(text("out").len(), 32, "{line}");
        let step = entry["step"].as_u64().unwrap();
        (step, text("name"), text("in"), text("out"))
    };
    text.lines().map(entry).collect()
}

/// The first entry whose output differs though its input is the same.
fn parting(one: &[Entry], other: &[Entry]) -> Option<(u64, String)> {
    let pairs = one.iter().zip(other);
    let mut parted = pairs.filter(|(one, other)| one.2 == other.2 && one.3 != other.3);
    parted.next().map(|(one, _)| (one.0, one.1.clone()))
}

#[test]
fn a_trace_says_what_each_step_computed() {
    let project = Project::new();
    let trace = train(&project, "out", &[]);
    let steps = project.json("out/metrics.json")["training"]["steps"].clone();
    let mut names: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (step, name, ..) in &trace {
        names.entry(*step).or_default().push(name);
    }
    assert_eq!(names.remove(&0).unwrap(), ["parameters"]);
    assert_eq!(
        names.keys().copied().collect::<Vec<_>>(),
        (1..=steps.as_u64().unwrap()).collect::<Vec<_>>()
    );
    let of_step = ["batch", "loss", "gradients", "optimizer", "parameters"];
    assert!(names.values().all(|names| names == &of_step));
    // Each step's are its own.
    for name in of_step {
        let outputs: Vec<_> = trace
            .iter()
            .filter(|it| it.1 == name)
            .map(|it| &it.3)
            .collect();
        let mut distinct = outputs.clone();
        distinct.sort();
        distinct.dedup();
        assert!(
            distinct.len() + 1 >= outputs.len(),
            "{name}: only at a learning rate of 0 nothing changes"
        );
    }
    // It is the same every time, and changes nothing else.
    assert_eq!(train(&project, "again", &[]), trace);
    train(&project, "untraced", &[]);
    let weights = |output: &str| project.sha256(&format!("{output}/model.safetensors"));
    stdout(project.job("untraced", &["train"]).env("N_EPOCHS", "1"));
    assert_eq!(weights("untraced"), weights("out"));
    // Of a training without it, none is left.
    assert!(!project.path("untraced/trace.jsonl").exists());
}

#[test]
fn two_traces_part_where_the_computation_did() {
    let project = Project::new();
    let trace = train(&project, "out", &[]);
    let of = |output: &str, variables: &[(&str, &str)]| train(&project, output, variables);
    // The learning rate of the first step is 0.
    let lr = of("lr", &[("LR", "2e-3")]);
    assert_eq!(parting(&trace, &lr), Some((2, "parameters".to_owned())));
    let norm = of("norm", &[("MAX_NORM", "0.01")]);
    assert_eq!(parting(&trace, &norm), Some((1, "optimizer".to_owned())));
    let weights = of("weights", &[("CLASS_WEIGHTS", "balanced")]);
    assert_eq!(parting(&trace, &weights), Some((1, "batch".to_owned())));
    // Other inputs, and what follows from them.
    let seed = of("seed", &[("SEED", "1")]);
    assert_eq!(parting(&trace, &seed), None);
    assert_ne!(seed[0], trace[0]);
    let data = project.path("reviews.csv");
    let reviews = fs::read_to_string(&data)
        .unwrap()
        .replace("great", "lovely");
    fs::write(data, reviews).unwrap();
    let data = of("data", &[]);
    assert_eq!(parting(&trace, &data).unwrap().1, "batch");
}

#[test]
fn features_are_traced_where_the_head_alone_is_trained() {
    let project = Project::new();
    let head = |output: &str| train(&project, output, &[("TRAIN_BODY", "0")]);
    let trace = head("out");
    let names: Vec<_> = trace.iter().take(3).map(|it| it.1.as_str()).collect();
    assert_eq!(names, ["parameters", "features", "batch"]);
    assert_eq!(head("again"), trace);
}
