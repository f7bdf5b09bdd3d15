//! The values of variables are a run's parameters: kept, listed and shown.

use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::run;

/// A job that gets better with its learning rate, and makes a model.
fn training() -> Project {
    let project = Project::new(
        "train:\n  image: IMAGE\n  command: [sh, -c, 'echo accuracy=0.$$ACC; mkdir /m; echo $$LR > /m/w']\n  \
         env_file: [c.env]\n  environment: { WD: '${WD:-0.05}', HF_TOKEN: }\n  metrics: { log: { accuracy: \
         'accuracy=([0-9.]+)' } }\n  outputs: { model: /m }\n",
    );
    project
        .bench
        .write("c.env", "N_EPOCHS=3\nDB_PASSWORD=hunter2hunter2\n");
    project
}

fn train(project: &Project, flags: &[&str]) {
    let words = [flags, &["train"]].concat();
    let ended = run(project.run(&words).env("HF_TOKEN", "hush-hush-hush"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn listed(project: &Project, flags: &[&str]) -> Value {
    let words = [&["--format", "json", "runs"], flags].concat();
    serde_json::from_str(&project.output(&words)).unwrap()
}

#[test]
fn a_record_has_the_values_of_all_but_secrets() {
    let project = training();
    train(
        &project,
        &[
            "-e",
            "LR=0.001",
            "-e",
            "TOKENIZERS_PARALLELISM=false",
            "-e",
            "ACC=9",
        ],
    );
    let record = project.record();
    let variables = record["environment"].as_array().unwrap().iter();
    let variables = variables.map(|variable| {
        let digest = variable["digest"].as_str().unwrap_or_default();
        assert_eq!(
            variable["is_secret"] == true,
            digest.starts_with("hmac-sha256:")
        );
        (variable["name"].as_str().unwrap(), &variable["value"])
    });
    assert_eq!(
        json!(variables.collect::<Vec<_>>()),
        json!([
            ("N_EPOCHS", "3"),
            ("DB_PASSWORD", Value::Null),
            ("WD", "0.05"),
            ("HF_TOKEN", Value::Null),
            ("LR", "0.001"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("ACC", "9"),
            ("NVIDIA_VISIBLE_DEVICES", "void"),
        ])
    );
    let argv = record["argv"].as_array().unwrap();
    assert!(argv.contains(&json!("LR=0.001")), "{argv:?}");
    assert_eq!(
        record["manifest"]["environment"],
        json!({ "WD": "0.05", "HF_TOKEN": null })
    );
    let shown = project.output(&["show", "train"]);
    for row in [
        "LR                      --env      0.001\n",
        "a secret, hmac-sha256:",
    ] {
        assert!(shown.contains(row), "{shown}");
    }
    // The same secret, and another.
    train(&project, &["-e", "ACC=9"]);
    let ended = run(project
        .run(&["-e", "HF_TOKEN=another-token", "train"])
        .env("ACC", "9"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let digests = project.records().into_iter().map(|record| {
        let variables = record["environment"].as_array().unwrap().clone();
        let token = variables
            .into_iter()
            .find(|variable| variable["name"] == "HF_TOKEN");
        token.unwrap()["digest"].clone()
    });
    let digests: Vec<_> = digests.collect();
    assert!(
        digests[0] != digests[1] && digests[1] == digests[2],
        "{digests:?}"
    );
}

/// Which learning rate had the best run, and is its model still here?
#[test]
fn two_commands_tell_of_the_best_run_and_its_model() {
    let project = training();
    for (rate, accuracy) in [("0.1", "81"), ("0.01", "93"), ("0.001", "87")] {
        let flags = [
            "-e",
            &format!("LR={rate}"),
            "-e",
            &format!("ACC={accuracy}"),
        ];
        train(&project, &flags);
    }
    let table = project.output(&["runs"]);
    let mut rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let heads = rows.next().unwrap();
    assert_eq!(
        heads,
        [
            "RUN", "JOB", "STATE", "CREATED", "TOOK", "ACC", "LR", "accuracy"
        ]
    );
    let best = rows
        .find(|row| row.ends_with(&["93", "0.01", "0.93"]))
        .unwrap();
    let shown = project.output(&["show", best[0]]);
    let is_row = |row: &str, words: &[&str]| {
        let row: Vec<_> = row.split_whitespace().collect();
        row.starts_with(words)
    };
    for words in [&["LR", "--env", "0.01"][..], &["model", "/m"]] {
        assert!(
            shown.lines().any(|row| is_row(row, words)),
            "{words:?}: {shown}"
        );
    }
}

#[test]
fn columns_are_those_that_the_user_names() {
    let project = training();
    assert_eq!(project.output(&["runs", "--columns", "LR"]), "no runs\n");
    train(&project, &["-e", "LR=0.1", "-e", "ACC=5"]);
    train(&project, &["-e", "LR=0.2", "-e", "ACC=5"]);
    let table = project.output(&["runs", "--columns", "LR,accuracy,N_EPOCHS,job,exit_code"]);
    let expected = "LR   accuracy  N_EPOCHS  JOB    EXIT CODE\n\
                    0.2  0.5       3         train  0\n\
                    0.1  0.5       3         train  0\n";
    assert_eq!(table, expected);
    let columns = |flags: &[&str]| {
        let columns = listed(&project, flags)["columns"].clone();
        let columns = columns.as_array().unwrap().clone();
        let columns = columns
            .iter()
            .map(|column| format!("{} {}", column["kind"], column["name"]).replace('"', ""));
        columns.collect::<Vec<_>>()
    };
    let usual = ["own run", "own job", "own state", "own created", "own took"];
    assert_eq!(
        columns(&[]),
        [&usual[..], &["parameter LR", "metric accuracy"]].concat()
    );
    assert_eq!(
        columns(&["-n", "1"]),
        [&usual[..], &["metric accuracy"]].concat()
    );
    let chosen = ["metric accuracy", "parameter WD"];
    assert_eq!(
        columns(&["--columns", "accuracy", "--columns", "WD"]),
        chosen
    );
    let parameters = &listed(&project, &[])["runs"][0]["parameters"];
    assert_eq!(
        *parameters,
        json!({ "ACC": "5", "LR": "0.2", "N_EPOCHS": "3", "WD": "0.05" })
    );
    let ended = run(&mut project.jobctl(&["runs", "--columns", "acuracy"]));
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
    let expected = "--columns: no run has a column `acuracy`";
    assert!(ended.stderr.contains(expected) && ended.stderr.contains("did you mean `accuracy`?"));
}

#[test]
fn arguments_are_a_parameter_too() {
    let project = training();
    train(&project, &["-e", "LR=0.1", "-e", "ACC=5"]);
    let script = "echo m > /m/model; echo accuracy=0.9";
    let words = ["-e", "LR=0.1", "-e", "ACC=5", "train", "sh", "-c", script];
    let args = ["--lr", "0.02", "--token", "hush-hush"];
    let mut command = project.run(&[&words[..], &args].concat());
    let ended = run(command.env("HF_TOKEN", "hush-hush-hush"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let table = project.output(&["runs", "--columns", "args,LR"]);
    assert!(table.starts_with("args "), "{table}");
    let runs = listed(&project, &[]);
    let args = runs["runs"][0]["parameters"]["args"].as_str().unwrap();
    assert!(args.ends_with("--lr 0.02 --token '***'"), "{args}");
    assert_eq!(runs["runs"][1]["parameters"]["args"], Value::Null);
    assert!(project.output(&["runs"]).contains("args"));
}
