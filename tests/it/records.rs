//! The verbs that read records: what the library has written, they show.

mod curves;
mod faults;
mod outputs;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use jiff::Timestamp;
use jobctl::model::RunId;
use jobctl::records::{
    Attempt, CollectedFile, Ending, EngineRecord, HostRecord, ImageRecord, InputRecord,
    OutputRecord, Record, SourceRecord, State, Store, VariableRecord,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Bench, Ended, run};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn store(bench: &Bench) -> Store {
    Store::new(bench.path().join("state"))
}

fn jobctl(bench: &Bench, args: &[&str]) -> Ended {
    run(&mut command(bench, args))
}

fn command(bench: &Bench, args: &[&str]) -> Command {
    let mut command = bench.jobctl();
    command.env("JOBCTL_STATE_DIR", "state").args(args);
    command
}

/// The document on stdout.
fn document(bench: &Bench, args: &[&str]) -> Value {
    let ended = jobctl(bench, &[&["--format", "json"], args].concat());
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// What a call that fails says.
fn refused(bench: &Bench, args: &[&str]) -> String {
    let ended = jobctl(bench, args);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), ""),
        "{ended:?}"
    );
    ended.stderr
}

/// How an error is written for people.
fn error(rule: &str, message: &str, help: &str) -> String {
    format!("error[{rule}]: {message}\n |\n = help: {help}\n\n")
}

fn record(job: &str, second: i64) -> Record {
    Record {
        job: Some(job.to_owned()),
        project: Some("films".to_owned()),
        argv: ["jobctl", "run", job, "--", "a b"]
            .map(str::to_owned)
            .into(),
        image: ImageRecord {
            name: format!("{job}:1.0.0"),
            ..ImageRecord::default()
        },
        jobctl: "0.1.0".to_owned(),
        ..Record::new(RunId::new(at(second)), at(second))
    }
}

/// A run that ended with success after a minute.
fn finished(bench: &Bench, job: &str, second: i64, accuracy: f64) -> Record {
    let mut record = record(job, second);
    let run = store(bench).begin(&record).unwrap();
    record.state = State::Finished;
    record.ending = Some(Ending::Success);
    record.exit_code = Some(0);
    record.started = Some(at(second));
    record.finished = Some(at(second + 60));
    record.metrics = BTreeMap::from([("accuracy".to_owned(), accuracy)]);
    run.folder.write(&record).unwrap();
    record
}

/// Puts an output of a run where jobctl keeps it.
fn collect(bench: &Bench, record: &mut Record, name: &str, files: &[(&str, &str)]) {
    let folder = store(bench).run(record.id);
    let mut collected = Vec::new();
    for (path, text) in files {
        let file = folder.output(name).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        collected.push(CollectedFile {
            path: path.into(),
            sha256: Sha256::digest(text).into(),
            bytes: text.len() as u64,
            link: None,
        });
    }
    folder
        .outputs(true)
        .unwrap()
        .write_list(name, &collected)
        .unwrap();
    let output = OutputRecord::of(format!("/out/{name}"), &collected);
    record.outputs.insert(name.to_owned(), output);
    folder.write(record).unwrap();
}

#[test]
fn runs_are_kept_beside_jobs_yaml_or_where_the_user_says() {
    let bench = Bench::new();
    let home = bench.path().join("home");
    let kept_in = |command: &mut Command, folder: PathBuf| {
        let record = record("train", 0);
        let run = Store::new(folder.clone()).begin(&record).unwrap();
        let ended = run_show(command, &record.id.to_string());
        fs::remove_dir_all(folder).unwrap();
        assert!(
            ended
                .stdout
                .contains(&run.folder.path().display().to_string()),
            "{ended:?}"
        );
    };
    kept_in(&mut bench.jobctl(), home.join(".local/state/jobctl"));
    let elsewhere = bench.path().join("xdg");
    kept_in(
        bench.jobctl().env("XDG_STATE_HOME", &elsewhere),
        elsewhere.join("jobctl"),
    );
    bench.write("project/jobs.yaml", "version: 1\nname: films\njobs: {}\n");
    let project = bench.path().join("project");
    fs::create_dir(project.join("src")).unwrap();
    kept_in(
        bench.jobctl().current_dir(project.join("src")),
        project.join(".jobctl"),
    );
    kept_in(
        bench.jobctl().args(["-f", "project/jobs.yaml"]),
        project.join(".jobctl"),
    );
    kept_in(
        bench
            .jobctl()
            .args(["-C", "project"])
            .env("JOBCTL_STATE_DIR", "state"),
        project.join("state"),
    );
}

fn run_show(command: &mut Command, id: &str) -> Ended {
    run(command.args(["show", id]))
}

#[test]
fn no_runs_are_no_failure() {
    let bench = Bench::new();
    let ended = jobctl(&bench, &["runs"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "no runs\n"));
    assert!(!bench.path().join("state").exists());
    let document = document(&bench, &["runs"]);
    assert_eq!(document["runs"], json!([]));
    assert_eq!(document["left_out"], 0);
}

#[test]
fn runs_are_listed_newest_first() {
    let bench = Bench::new();
    let first = finished(&bench, "train", 0, 0.5);
    let second = finished(&bench, "evaluate", 100, 0.875);
    let mut third = record("train", 200);
    let run = store(&bench).begin(&third).unwrap();
    third.state = State::Failed;
    third.ending = Some(Ending::Oom);
    third.exit_code = Some(137);
    run.folder.write(&third).unwrap();

    let shown = |args: &[&str]| {
        let ended = jobctl(&bench, &[&["runs"], args].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // How long ago depends on when the test runs.
        let ago = regex::Regex::new(r"\d+d ago").unwrap();
        let text = ago.replace_all(&ended.stdout, "AGO");
        let head = regex::Regex::new("CREATED +TOOK").unwrap();
        head.replace(&text, "CREATED TOOK").into_owned()
    };
    let [a, b, c] = [&first, &second, &third].map(|record| record.id.short());
    let head = format!(
        "{:16}{:10}{:23}CREATED TOOK    accuracy\n",
        "RUN", "JOB", "STATE"
    );
    assert_eq!(
        shown(&[]),
        format!(
            "{head}{c}  train     failed: out of memory  AGO\n\
             {b}  evaluate  finished               AGO  1m 00s  0.875\n\
             {a}  train     finished               AGO  1m 00s  0.5\n"
        )
    );
    let ids = |args: &[&str]| {
        let runs = document(&bench, &[&["runs"], args].concat());
        let runs = runs["runs"].as_array().unwrap().clone();
        let ids = runs
            .iter()
            .map(|run| run["id"].as_str().unwrap()[..14].to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--job", "train"]), [c.clone(), a.clone()]);
    assert_eq!(ids(&["--state", "finished"]), [b, a]);
    assert_eq!(ids(&["-n", "1"]), [c]);
    assert!(shown(&["-n", "1"]).ends_with("… and 2 more: --all\n"));
    assert_eq!(ids(&["--all"]).len(), 3);
}

#[test]
fn a_damaged_record_is_flagged_below_the_others() {
    let bench = Bench::new();
    let good = finished(&bench, "train", 0, 0.5);
    let bad = finished(&bench, "train", 1, 0.5).id;
    let file = store(&bench).run(bad).path().join("run.json");
    fs::write(&file, "{\"schema\": \"jobctl.run/1\"").unwrap();
    let why = format!(
        "the record of run {bad} is damaged: EOF while parsing an object at line 1 column 25"
    );
    let ended = jobctl(&bench, &["runs"]);
    assert_eq!(ended.code, Some(0));
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert!(
        lines[1].starts_with(&good.id.short()) && lines[2] == why,
        "{ended:?}"
    );
    let document = document(&bench, &["runs"]);
    assert_eq!(document["unread"], json!([{"id": bad, "reason": why}]));
    assert_eq!(
        refused(&bench, &["show", &bad.to_string()]),
        error(
            "damaged-record",
            &why,
            "its logs and outputs may be whole: look in its directory"
        )
    );
}

#[test]
fn which_run_is_meant_must_be_clear() {
    let bench = Bench::new();
    let first = finished(&bench, "train", 0, 0.5);
    let second = finished(&bench, "train", 1, 0.5);
    assert_eq!(
        refused(&bench, &["show", "trian"]),
        error("no-run", "there is no run `trian`", "did you mean `train`?")
    );
    assert_eq!(
        refused(&bench, &["show", "0"]),
        error(
            "ambiguous-run",
            "`0` is the beginning of 2 runs",
            &format!("write more of it: {}, {}", second.id, first.id)
        )
    );
    assert_eq!(document(&bench, &["show", "train"])["id"], json!(second.id));
    assert_eq!(
        document(&bench, &["show", "train~1"])["id"],
        json!(first.id)
    );
    let refusal = document(&bench, &["show", "ffff"]);
    assert_eq!(refusal["schema"], "jobctl.error/1");
    bench.write(
        "jobs.yaml",
        "version: 1\nname: films\njobs: {serve: {image: debian}}\n",
    );
    assert_eq!(
        refused(&bench, &["show", "serve"]),
        error(
            "no-run",
            "job `serve` has no run",
            "run it: `jobctl run serve`"
        )
    );
}

fn described(bench: &Bench) -> Record {
    let mut record = finished(bench, "train", 0, 0.875);
    record.image.id = Some("sha256:1111".to_owned());
    record.image.repo_digests = vec!["reg/train@sha256:2222".to_owned()];
    record.source = Some(SourceRecord {
        revision: "0123abcd".to_owned(),
        is_dirty: true,
        origin: Some("https://example.com/films.git".to_owned()),
        patch: Some("source.patch".to_owned()),
        files: Vec::new(),
        left_out: Vec::new(),
        left_out_unnamed: 0,
    });
    let variable = |name: &str, origin: &str| VariableRecord {
        name: name.to_owned(),
        origin: origin.to_owned(),
        value: None,
        digest: None,
        is_secret: false,
    };
    record.environment = vec![
        VariableRecord {
            value: Some("1337".to_owned()),
            ..variable("SEED", "jobs.yaml")
        },
        VariableRecord {
            digest: Some("hmac-sha256:abcd".to_owned()),
            ..variable("LR", "--env")
        },
        VariableRecord {
            is_secret: true,
            ..variable("HF_TOKEN", "jobs.yaml")
        },
    ];
    record.inputs.insert(
        "imdb".to_owned(),
        InputRecord {
            source: "data/imdb.csv".to_owned(),
            target: "/data/imdb.csv".to_owned(),
            path: None,
            sha256: "3333".to_owned(),
            is_executable: false,
            bytes: 12_345_678,
            is_changed: false,
            sha256_at_end: None,
        },
    );
    record.attempts = vec![Attempt {
        container: "films-train-1".to_owned(),
        started: record.started,
        finished: record.finished,
        exit_code: Some(0),
        ending: Some(Ending::Success),
        peak_memory: Some(2_000_000_000),
        memory_limit: Some(8_000_000_000),
        ..Attempt::default()
    }];
    record.warnings = vec!["\u{1b}[31mred\u{1b}[0m\r\nline".to_owned()];
    record.engine = Some(EngineRecord {
        address: "unix:///var/run/docker.sock".to_owned(),
        version: Some("20.10.24".to_owned()),
        kernel: Some("6.1.0".to_owned()),
        system: Some("Debian GNU/Linux 12".to_owned()),
    });
    record.host = Some(HostRecord {
        name: "alpha".to_owned(),
        cpu: Some("A Processor".to_owned()),
        cpus: 2,
        cpu_flags: vec!["avx2".to_owned()],
        gpus: vec!["A GPU".to_owned()],
        nvidia_driver: Some("550.54.15".to_owned()),
    });
    collect(
        bench,
        &mut record,
        "model",
        &[("a.bin", "abc"), ("b/c.txt", "d")],
    );
    record
}

#[test]
fn a_run_is_shown_as_it_was() {
    let bench = Bench::new();
    let record = described(&bench);
    let ended = jobctl(&bench, &["show", "train"]);
    let id = record.id;
    let folder = store(&bench).run(id);
    let folder = folder.path().display();
    let output = &record.outputs["model"].sha256;
    let expected = format!(
        "\
run            {id}
job            train of films
state          finished, exit code 0
created        2023-11-14T22:13:20Z
started        2023-11-14T22:13:20Z
finished       2023-11-14T22:14:20Z (after 1m 00s)
command        jobctl run train -- 'a b'
image          train:1.0.0
image id       sha256:1111
image digest   reg/train@sha256:2222
source         0123abcd with changes (source.patch), from https://example.com/films.git
engine         unix:///var/run/docker.sock, version 20.10.24, Debian GNU/Linux 12, kernel 6.1.0
host           alpha
CPU            2 processors, A Processor
CPU flags      1 (`--all` lists them)
GPU            A GPU
NVIDIA driver  550.54.15
jobctl         0.1.0
kept in        {folder}

metrics
  accuracy  0.875

environment
  SEED      jobs.yaml  1337
  LR        --env      not recorded, hmac-sha256:abcd
  HF_TOKEN  jobs.yaml  a secret

inputs
  imdb  data/imdb.csv at /data/imdb.csv  12.3 MB  sha256:3333

outputs
  model  /out/model  2 files  4 B  sha256:{output}

attempts
  1  films-train-1  success, exit code 0, 1m 00s, peak 1.9 GiB of 7.5 GiB

warnings
  line
"
    );
    assert_eq!((ended.code, ended.stdout), (Some(0), expected));
    assert_eq!(document(&bench, &["show", "train"]), json!(record));
}
