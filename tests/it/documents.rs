//! `--format json`: what each verb prints on standard output is one document, which its schema describes.

use std::collections::BTreeSet;

use jobctl::cli::command;
use serde_json::{Value, json};

use crate::support::image::DEBIAN;
use crate::support::project::Project;
use crate::support::run;

/// What a verb prints on standard output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prints {
    /// A result: with `--format json`, a document.
    Result,
    /// What a job or a build has written, or a file's text: the same with `--format json`.
    Text,
    /// Nothing.
    Nothing,
}

const VERBS: [(&str, Prints); 36] = [
    ("init", Prints::Nothing),
    ("build", Prints::Result),
    ("push", Prints::Result),
    ("pull", Prints::Result),
    ("images", Prints::Result),
    ("tag", Prints::Nothing),
    ("login", Prints::Nothing),
    ("logout", Prints::Nothing),
    ("run", Prints::Text),
    ("up", Prints::Result),
    ("down", Prints::Result),
    ("promote", Prints::Result),
    ("rollback", Prints::Result),
    ("ps", Prints::Result),
    ("logs", Prints::Text),
    ("attach", Prints::Text),
    ("exec", Prints::Text),
    ("stop", Prints::Result),
    ("kill", Prints::Result),
    ("wait", Prints::Result),
    ("rm", Prints::Result),
    ("prune", Prints::Result),
    ("runs", Prints::Result),
    ("show", Prints::Result),
    ("get", Prints::Result),
    ("collect", Prints::Result),
    ("metrics", Prints::Result),
    ("plot", Prints::Result),
    // The document of another tool.
    ("export", Prints::Text),
    ("doctor", Prints::Result),
    ("validate", Prints::Result),
    ("trust", Prints::Result),
    // Documents already.
    ("schema", Prints::Text),
    ("completions", Prints::Text),
    ("man", Prints::Text),
    ("help", Prints::Text),
];

/// The only document that a call prints, which is to succeed.
fn document(project: &Project, args: &[&str]) -> Value {
    let ended = run(&mut project.jobctl(&[&["--format", "json"], args].concat()));
    assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {ended:?}"));
    assert!(document["schema"].is_string(), "{args:?}: {document}");
    document
}

/// Starts a run in the background; its id.
fn start(project: &Project) -> String {
    let flags = ["-d", "--init=false", "--format", "json", "--image", DEBIAN];
    let ended = run(project.run(&flags).args(["sleep", "600"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let id = project.records()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(document, ids(&[&id]));
    id
}

fn ids(ids: &[&str]) -> Value {
    json!({ "schema": "jobctl.ids/1", "ids": ids })
}

#[test]
fn every_verb_that_has_a_result_prints_it_as_a_document() {
    let command = command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs: BTreeSet<_> = verbs.map(clap::Command::get_name).collect();
    let listed = VERBS.map(|(verb, _)| verb);
    assert_eq!(BTreeSet::from(listed), verbs, "what does a new verb print?");

    let project = Project::with_name(
        "train:
  image: IMAGE
  command: [sh, -c, 'mkdir /o; echo 1 > /o/file; echo loss=1']
  outputs: { o: /o }
  metrics: { log: [loss] }
other:
  build: { context: . }",
    );
    project.bench.write("Dockerfile", "FROM scratch\n");
    let calls: &[&[&str]] = &[
        &["validate"],
        &["doctor"],
        &["trust"],
        &["trust", "--list"],
        &["trust", "--revoke"],
        &["build", "--dry-run"],
        &["run", "--dry-run", "train"],
        &["up", "--dry-run", "train"],
        &["up", "train"],
        &["promote", "train"],
        &["ps"],
        &["ps", "-q"],
        &["runs"],
        &["runs", "-q"],
        &["images"],
        &["images", "-q"],
        &["show", "train"],
        &["show", "--files", "train"],
        &["get", "train", "copy"],
        &["collect", "train"],
        &["metrics", "train"],
        &["metrics", "train", "--history"],
        &["plot", "train"],
        &["wait", "train"],
        &["down"],
        &["prune"],
        &["prune", "--dry-run"],
        &["prune", "--images", "--dry-run"],
    ];
    for args in calls {
        document(&project, args);
    }
    // These are called below, and these need a registry or a service: their own tests have their documents.
    let elsewhere = ["stop", "kill", "rm", "push", "pull", "rollback"];
    let called: BTreeSet<_> = calls.iter().map(|call| call[0]).chain(elsewhere).collect();
    for (verb, prints) in VERBS {
        let is_run = verb == "run";
        assert_eq!(
            called.contains(verb) && !is_run,
            prints == Prints::Result,
            "{verb}"
        );
    }
    project.assert_clean();
}

#[test]
fn what_is_done_to_runs_is_one_document() {
    let project = Project::empty();
    let runs = [start(&project), start(&project)];
    let [one, other] = [&*runs[0], &*runs[1]];
    let listed = document(&project, &["ps", "-q"]);
    assert_eq!(listed, ids(&[other, one]));
    assert_eq!(document(&project, &["stop", "-t", "0", one]), ids(&[one]));
    assert_eq!(document(&project, &["kill", other]), ids(&[other]));
    let mut wait = project.jobctl(&["--format", "json", "wait", one, other]);
    let ended = run(&mut wait);
    assert_eq!(ended.code, Some(137), "{ended:?}");
    let waited: Value = serde_json::from_str(&ended.stdout).unwrap();
    let expected = json!({
        "schema": "jobctl.wait/1",
        "runs": [{ "run": one, "exit_code": 137 }, { "run": other, "exit_code": 137 }],
    });
    assert_eq!(waited, expected);
    let pruned = |runs: &[&str], is_dry_run: bool| json!({ "schema": "jobctl.prune/1", "is_dry_run": is_dry_run, "runs": runs, "images": [] });
    let prune = ["prune", "--keep", "1"];
    let dry = document(&project, &[&prune[..], &["--dry-run"]].concat());
    assert_eq!(dry, pruned(&[one], true));
    assert_eq!(document(&project, &prune), pruned(&[one], false));
    assert_eq!(document(&project, &["rm", other]), ids(&[other]));
    assert_eq!(document(&project, &["runs", "-q"]), ids(&[]));
    // What failed is a document, too, and the only one.
    for verb in ["stop", "kill", "rm", "wait"] {
        let ended = run(&mut project.jobctl(&["--format", "json", verb, one]));
        let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(failed["schema"], "jobctl.error/1", "{verb}: {ended:?}");
        assert_ne!(ended.code, Some(0), "{verb}");
    }
    project.assert_clean();
}

#[test]
fn one_format_is_asked_for() {
    let project = Project::empty();
    let args = ["--format", "json", "metrics", "--csv", "none"];
    let ended = run(&mut project.jobctl(&args));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    let message = &failed["diagnostics"][0]["message"];
    assert_eq!(message, "`--csv` and `--format json` are both given");
}
