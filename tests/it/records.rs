//! The verbs that read records: what the library has written, they show.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use jobctl::model::RunId;
use jobctl::records::metrics::{MetricsWriter, Point};
use jobctl::records::{
    Attempt, CollectedFile, Ending, EngineRecord, HostRecord, ImageRecord, InputRecord,
    OutputRecord, Record, SourceRecord, State, Store, VariableRecord,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Bench, Ended, is_root, run, skipped};

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

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

/// Puts an output of a run where jobctl keeps it.
fn collect(bench: &Bench, record: &mut Record, name: &str, files: &[(&str, &str)]) {
    let folder = store(bench).run(record.id);
    let collected = files.iter().map(|(path, text)| {
        let file = folder.output(name).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        CollectedFile {
            path: (*path).to_owned(),
            sha256: sha256(text.as_bytes()),
            bytes: text.len() as u64,
            link: None,
        }
    });
    let output = OutputRecord {
        path: format!("/out/{name}"),
        sha256: sha256(name.as_bytes()),
        files: collected.collect(),
    };
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
    let expected = json!({"schema": "jobctl.runs/1", "runs": [], "left_out": 0, "unread": []});
    assert_eq!(document(&bench, &["runs"]), expected);
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
        "{:16}{:10}{:23}CREATED TOOK    METRICS\n",
        "RUN", "JOB", "STATE"
    );
    assert_eq!(
        shown(&[]),
        format!(
            "{head}{c}  train     failed: out of memory  AGO\n\
             {b}  evaluate  finished               AGO  1m 00s  accuracy=0.875\n\
             {a}  train     finished               AGO  1m 00s  accuracy=0.5\n"
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
            "its logs and outputs may be whole: look in its folder"
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
            sha256: "3333".to_owned(),
            bytes: 12_345_678,
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
    let output = sha256(b"model");
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
CPU flags      avx2
GPU            A GPU
NVIDIA driver  550.54.15
jobctl         0.1.0
kept in        {folder}

metrics
  accuracy  0.875

environment
  SEED      jobs.yaml  1337
  LR        --env      hmac-sha256:abcd
  HF_TOKEN  jobs.yaml  a secret

inputs
  imdb  data/imdb.csv at /data/imdb.csv  12.3 MB  sha256:3333

outputs
  model  /out/model  2 files  4 B  sha256:{output}

attempts
  1  films-train-1  success, exit code 0, 1m 00s, peak 2.0 GB of 8.0 GB

warnings
  line
"
    );
    assert_eq!((ended.code, ended.stdout), (Some(0), expected));
    assert_eq!(document(&bench, &["show", "train"]), json!(record));
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let files = files.iter();
    files
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn outputs_are_copied_and_nothing_is_overwritten() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    collect(
        &bench,
        &mut record,
        "model",
        &[("a.bin", "abc"), ("b/c.txt", "d")],
    );
    collect(&bench, &mut record, "plots", &[("p.svg", "<svg/>")]);
    let target = bench.path().join("out");

    let ended = jobctl(&bench, &["get", "train:model", "out"]);
    assert_eq!(
        ended.stdout, "model: 2 files, 4 B, copied to out\n",
        "{ended:?}"
    );
    assert_eq!(files(&target), texts(&[("a.bin", "abc"), ("b/c.txt", "d")]));

    fs::write(target.join("a.bin"), "mine").unwrap();
    let there = target.join("a.bin").display().to_string();
    assert_eq!(
        refused(&bench, &["get", "train:model", "out"]),
        error(
            "file-exists",
            &format!("`{there}` is there already"),
            "take another folder, or `--force`"
        )
    );
    assert_eq!(files(&target)["a.bin"], "mine");
    assert_eq!(
        jobctl(&bench, &["get", "train:model", "out", "--force"]).code,
        Some(0)
    );
    assert_eq!(files(&target)["a.bin"], "abc");

    let copied = document(&bench, &["get", "train", "all"]);
    let expected = json!({
        "schema": "jobctl.get/1",
        "run": record.id,
        "outputs": ["model", "plots"],
        "files": 3,
        "bytes": 10,
    });
    assert_eq!(copied, expected);
    let all = [
        ("model/a.bin", "abc"),
        ("model/b/c.txt", "d"),
        ("plots/p.svg", "<svg/>"),
    ];
    assert_eq!(files(&bench.path().join("all")), texts(&all));
    assert_eq!(
        refused(&bench, &["get", "train:modle", "x"]),
        error(
            "no-output",
            &format!("run {} has no output `modle`", record.id.short()),
            "did you mean `model`?"
        )
    );
}

#[test]
fn an_output_that_was_changed_is_not_given_out() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    collect(&bench, &mut record, "model", &[("a.bin", "abc")]);
    let kept = store(&bench).run(record.id).output("model").join("a.bin");
    fs::write(&kept, "abd").unwrap();
    assert_eq!(
        refused(&bench, &["get", "train", "out"]),
        error(
            "output-differs",
            "`a.bin` is not what was collected: its digest differs from the record's",
            "the disk or somebody changed it; run the job again"
        )
    );
    fs::remove_file(&kept).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &kept).unwrap();
    refused(&bench, &["get", "train", "out"]);
    assert_eq!(files(&bench.path().join("out")), texts(&[]));
}

#[test]
fn no_record_leads_out_of_the_folder() {
    let bench = Bench::new();
    let link = |path: &str, to: &str| CollectedFile {
        path: path.to_owned(),
        sha256: sha256(to.as_bytes()),
        bytes: 0,
        link: Some(to.to_owned()),
    };
    let file = |path: &str| CollectedFile {
        path: path.to_owned(),
        sha256: sha256(b"x"),
        bytes: 1,
        link: None,
    };
    let mut record = finished(&bench, "train", 0, 0.5);
    for files in [
        vec![file("../evil")],
        vec![file("/tmp/evil")],
        vec![file("a/../../evil")],
        vec![file("")],
        vec![link("a", "/etc/passwd")],
        vec![link("a", "../evil")],
        vec![link("a/b", "../../evil")],
        // A link to the folder itself, and one from there to above it.
        vec![link("a/up", ".."), link("b", "a/up/../out"), file("b/evil")],
    ] {
        let output = OutputRecord {
            path: "/out".to_owned(),
            sha256: String::new(),
            files,
        };
        record.outputs = BTreeMap::from([("model".to_owned(), output)]);
        let folder = store(&bench).run(record.id);
        fs::create_dir_all(folder.output("model").join("b")).unwrap();
        fs::write(folder.output("model").join("b/evil"), "x").unwrap();
        folder.write(&record).unwrap();
        refused(&bench, &["get", "train", "out"]);
        refused(&bench, &["get", "train:model", "out"]);
        for place in [
            bench.path().join("evil"),
            bench.path().join("out/evil"),
            "/tmp/evil".into(),
        ] {
            assert!(fs::symlink_metadata(place).is_err(), "{:?}", record.outputs);
        }
        let _ = fs::remove_dir_all(bench.path().join("out"));
    }
    let output = OutputRecord {
        path: "/out".to_owned(),
        sha256: String::new(),
        files: vec![link("a/b", "../c"), file("c")],
    };
    record.outputs = BTreeMap::from([("model".to_owned(), output)]);
    let folder = store(&bench).run(record.id);
    fs::write(folder.output("model").join("c"), "x").unwrap();
    folder.write(&record).unwrap();
    assert_eq!(jobctl(&bench, &["get", "train:model", "out"]).code, Some(0));
    assert_eq!(
        fs::read_link(bench.path().join("out/a/b")).unwrap(),
        Path::new("../c")
    );
    assert_eq!(
        fs::read_to_string(bench.path().join("out/a/b")).unwrap(),
        "x"
    );
}

/// A run with a curve of losses.
fn with_history(bench: &Bench, second: i64) -> Record {
    let record = finished(bench, "train", second, 0.875);
    let mut writer = MetricsWriter::open(store(bench).run(record.id).path()).unwrap();
    for step in 1..=4_i32 {
        let point = Point {
            name: "loss".to_owned(),
            value: 1.0 / f64::from(step),
            step: Some(f64::from(step)),
            time: None,
        };
        writer
            .append(&[point], at(second + i64::from(step)))
            .unwrap();
    }
    record
}

#[test]
fn metrics_are_shown() {
    let bench = Bench::new();
    let record = with_history(&bench, 0);
    let shown = |args: &[&str]| {
        let ended = jobctl(&bench, &[&["metrics", "train"], args].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    assert_eq!(shown(&[]), "accuracy  0.875\nloss      0.25\n");
    assert_eq!(shown(&["loss"]), "loss  0.25\n");
    assert_eq!(
        shown(&["--csv"]),
        "metric,value\naccuracy,0.875\nloss,0.25\n"
    );
    assert_eq!(
        shown(&["--history"]),
        "TIME                  STEP  METRIC  VALUE\n\
         2023-11-14T22:13:21Z  1     loss    1\n\
         2023-11-14T22:13:22Z  2     loss    0.5\n\
         2023-11-14T22:13:23Z  3     loss    0.3333333333333333\n\
         2023-11-14T22:13:24Z  4     loss    0.25\n"
    );
    assert_eq!(
        shown(&["--history", "--csv", "loss"]).lines().nth(3),
        Some("2023-11-14T22:13:23Z,3,loss,0.3333333333333333")
    );
    let expected = json!({
        "schema": "jobctl.metrics/1",
        "run": record.id,
        "metrics": {"accuracy": 0.875, "loss": 0.25},
    });
    assert_eq!(document(&bench, &["metrics", "train"]), expected);
    assert_eq!(
        refused(&bench, &["metrics", "train", "los"]),
        error(
            "no-metric",
            "no run that was named has a metric `los`",
            "did you mean `loss`?"
        )
    );
}

#[test]
fn curves_are_drawn() {
    let bench = Bench::new();
    let first = with_history(&bench, 0);
    with_history(&bench, 100);
    for columns in ["1", "40", "80", "200", "1000"] {
        let args = ["plot", "train", "train~1", "--metric", "loss"];
        let ended = run(command(&bench, &args).env("COLUMNS", columns));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let width = ended.stdout.lines().map(|line| line.chars().count()).max();
        let allowed = columns.parse::<usize>().unwrap().clamp(20, 200);
        assert!(
            width.unwrap() <= allowed,
            "{width:?} of {columns}: {}",
            ended.stdout
        );
        assert!(ended.stdout.starts_with("loss\n") && ended.stdout.contains('⠉'));
    }
    for _ in 0..2 {
        let ended = jobctl(&bench, &["plot", "train~1", "-o", "loss.svg"]);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), ""),
            "{ended:?}"
        );
    }
    let svg = fs::read_to_string(bench.path().join("loss.svg")).unwrap();
    assert!(
        svg.contains(&format!("train {} (0.25)", first.id.short())),
        "{svg}"
    );
    let ended = jobctl(&bench, &["plot", "train", "-o", "loss.png"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    finished(&bench, "serve", 300, 0.5);
    let ended = jobctl(&bench, &["plot", "serve"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_run_is_refused_where_its_record_has_no_room() {
    if !is_root("a_run_is_refused_where_its_record_has_no_room") {
        return;
    }
    let bench = Bench::new();
    let folder = bench.path().join("small");
    fs::create_dir(&folder).unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "jobctl-test"])
            .arg(&folder);
        mount.output().is_ok_and(|output| output.status.success())
    };
    let begin = |options: &str| {
        if !mount(options) {
            skipped(
                "a_run_is_refused_where_its_record_has_no_room",
                "can't mount",
            );
            return None;
        }
        let begun = Store::new(folder.join(".jobctl")).begin(&record("train", 0));
        let is_empty = fs::read_dir(&folder).unwrap().next().is_none();
        let said = begun.map(drop).map_err(|error| error.to_string());
        Command::new("umount").arg(&folder).status().unwrap();
        assert!(is_empty, "{said:?}");
        said.err()
    };
    let place = folder.join(".jobctl");
    let place = place.display();
    let Some(full) = begin("size=16m") else {
        return;
    };
    assert_eq!(
        full,
        format!(
            "there is too little room for a run's record in `{place}`: 16 MB are free, 64 MB are needed"
        )
    );
    assert_eq!(
        begin("size=100m,nr_inodes=20").unwrap(),
        format!("there are no inodes left for a run's record in `{place}`")
    );
    assert_eq!(
        begin("size=100m,ro").unwrap(),
        format!("a run's record can't be kept in `{place}`: the file system is read-only")
    );
}
