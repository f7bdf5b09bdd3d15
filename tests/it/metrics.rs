//! Metrics of runs on the real engine: where they are found, what is kept, what is drawn.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::recorder::Recorder;
use crate::support::{Ended, run, wait_for};

/// A run that is to succeed; what it reports on standard error.
fn warnings(project: &Project, job: &str) -> Vec<String> {
    let ended = run(&mut project.run(&[job]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stderr.lines().map(str::to_owned).collect()
}

/// The result of a verb.
fn document(project: &Project, args: &[&str]) -> Value {
    let printed = project.output(&[&["--format", "json"], args].concat());
    serde_json::from_str(&printed).unwrap()
}

/// The values of a metric, each with its step.
fn history(project: &Project, run: &str, metric: &str) -> Vec<(Value, Value)> {
    let args = ["--format", "json", "metrics", run, metric, "--history"];
    let ended = crate::support::run(&mut project.jobctl(&args));
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let points = printed["history"].as_array().cloned().unwrap_or_default();
    let points = points.into_iter();
    points
        .map(|point| (point["step"].clone(), point["value"].clone()))
        .collect()
}

/// The same values without steps.
fn values(project: &Project, metric: &str) -> Vec<Value> {
    let history = history(project, "train", metric).into_iter();
    history.map(|(_, value)| value).collect()
}

#[test]
fn a_number_that_is_not_finite_costs_no_other_and_passes_no_gate() {
    let project = Project::with_name(
        r#"train:
  image: IMAGE
  command: [sh, -c, 'mkdir /o; echo "{\"accuracy\": 0.91, \"auc\": NaN, \"by\": {\"best\": -Infinity}}" > /o/m.json']
  metrics: { files: [/o/m.json] }
check:
  image: IMAGE
  command: ["true"]
  needs: { train: { gate: "accuracy >= 0.8 and auc >= 0.8" } }
above:
  image: IMAGE
  command: ["true"]
  needs: { train: { gate: "by.best < 1" } }
fine:
  image: IMAGE
  command: ["true"]
  needs: { train: { gate: "accuracy >= 0.8" } }
"#,
    );
    let up = |job: &str| -> Ended { run(&mut project.jobctl(&["up", job])) };
    let refused = up("check");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("auc is NaN"), "{refused:?}");
    let refused = up("above");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("by.best is -Infinity"),
        "{refused:?}"
    );
    let passed = up("fine");
    assert_eq!(passed.code, Some(0), "{passed:?}");
    let all = json!({ "accuracy": 0.91, "auc": "NaN", "by.best": "-Infinity" });
    assert_eq!(document(&project, &["metrics", "train"])["metrics"], all);
    assert_eq!(document(&project, &["show", "train"])["metrics"], all);
    assert_eq!(
        document(&project, &["up", "fine"])["steps"][0]["metrics"],
        all
    );
    let runs = document(&project, &["runs", "--job", "train"]);
    assert_eq!(runs["runs"][0]["metrics"], all);
    assert_eq!(
        project.output(&["metrics", "train"]),
        "accuracy  0.91\nauc       NaN\nby.best   -Infinity\n"
    );
    assert!(project.output(&["runs", "--job", "train"]).contains("NaN"));
    assert!(project.output(&["show", "train"]).contains("NaN"));
    project.assert_clean();
}

#[test]
fn a_broken_line_costs_itself_and_a_warning() {
    let project = Project::new(
        r#"train:
  image: IMAGE
  command:
    - sh
    - -c
    - |
      mkdir /o
      printf '{"step":1,"loss":0.9}\n{"step":2,"loss":NaN}\n{oops}\n{"step":3,"loss":0.5}\n7' > /o/m.jsonl
      ln -s m.jsonl /o/link.jsonl
  metrics: { files: [/o/m.jsonl] }
linked:
  image: IMAGE
  command: [sh, -c, 'mkdir /o; echo "{\"loss\": 1}" > /o/m; ln -s m /o/latest.json']
  metrics: { files: [/o/latest.json] }
"#,
    );
    assert_eq!(
        warnings(&project, "train"),
        [
            "warning: `/o/m.jsonl`: line 3 is left out: it is not JSON: key must be a string at column 2; \
             line 5: it is not an object of numbers, as in {\"accuracy\": 0.9}"
        ]
    );
    let expected = [
        (json!(1.0), json!(0.9)),
        (json!(2.0), json!("NaN")),
        (json!(3.0), json!(0.5)),
    ];
    assert_eq!(history(&project, "train", "loss"), expected);
    let drawn = project.output(&["plot", "train", "--metric", "loss"]);
    assert!(
        drawn.starts_with("loss\n") && drawn.contains("step"),
        "{drawn}"
    );
    // A file that is reached through a link is a file.
    assert_eq!(warnings(&project, "linked"), [""; 0]);
    assert_eq!(project.output(&["metrics", "linked"]), "loss  1\n");
    project.assert_clean();
}

#[test]
fn metrics_of_the_log_are_found_by_name_and_drawn_over_their_steps() {
    let project = Project::new(
        r#"train:
  image: IMAGE
  command: [sh, -c, 'for i in 10 20 30; do printf "\r step $$i val_loss=7 \"loss\": 1.2e-0$$i,"; sleep $$PAUSE; done']
  environment: { PAUSE: "0" }
  metrics: { log: [loss, val_loss], step: 'step ([0-9]+)' }
plain:
  image: IMAGE
  command: [sh, -c, 'echo loss=3; echo loss=inf']
  metrics: { log: { loss: , accuracy: , f1: 'f1 (\S+)' }, step: 'step ([0-9]+)' }
"#,
    );
    assert_eq!(warnings(&project, "train"), [""; 0]);
    let slow = run(&mut project.run(&["-e", "PAUSE=0.3", "train"]));
    assert_eq!(slow.code, Some(0), "{slow:?}");
    assert_eq!(
        warnings(&project, "plain"),
        [
            "warning: no line of the log has `accuracy`",
            "warning: no line of the log matches the pattern of `f1`",
            "warning: no line of the log matches the pattern of `step`: its metrics are in their order",
        ]
    );
    let curve = [
        (json!(10.0), json!(1.2e-10)),
        (json!(20.0), json!(1.2e-20)),
        (json!(30.0), json!(1.2e-30)),
    ];
    assert_eq!(history(&project, "train", "loss"), curve);
    assert_eq!(history(&project, "train~1", "loss"), curve);

    // Equal trainings have equal curves, however long they took.
    let args = ["plot", "train", "train~1", "plain", "--metric", "loss"];
    let plot = document(&project, &args);
    let [first, second, plain] = &plot["charts"][0]["curves"].as_array().unwrap()[..] else {
        panic!("{plot}");
    };
    assert_eq!(first["points"], second["points"]);
    assert_eq!(first["points"][1], json!({ "x": 20.0, "value": 1.2e-20 }));
    assert_eq!([&first["x"], &plain["x"]], ["step", "order"]);
    let expected = json!([{ "x": 1.0, "value": 3.0 }, { "x": 2.0, "value": "Infinity" }]);
    assert_eq!(plain["points"], expected);
    let drawn = project.output(&args);
    assert!(drawn.contains("step, or order"), "{drawn}");
    assert!(
        drawn.contains("has no steps: its values are in their order"),
        "{drawn}"
    );
    let seconds = document(&project, &[&args[..], &["--x", "seconds"]].concat());
    let x = |curve: usize, point: usize| {
        seconds["charts"][0]["curves"][curve]["points"][point]["x"]
            .as_f64()
            .unwrap()
    };
    // A line has the time of its end, which the next one begins.
    assert!(x(0, 1) - x(0, 0) > 0.25 && x(0, 0) > 0.25, "{seconds}");
    let time = document(&project, &["plot", "train", "--x", "time"]);
    let when = time["charts"][0]["curves"][0]["points"][0]["x"].as_str();
    assert!(when.unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
    let wrong = run(&mut project.jobctl(&["plot", "train", "--x", "epoch"]));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    project.assert_clean();
}

#[test]
fn an_attempt_that_begins_again_is_drawn_once() {
    let project = Project::new(
        r#"train:
  image: IMAGE
  command:
    - sh
    - -c
    - |
      for i in 1 2; do echo "step $$i loss=$$i"; echo "{\"step\": $$i, \"lr\": $$i}" >> /m.jsonl; done
      [ -e /shared/second ] && exit
      touch /shared/second; exit 1
  retry: { attempts: 2, on: [error], backoff: 1s }
  metrics: { log: [loss], step: 'step ([0-9]+)', files: [/m.jsonl] }
"#,
    );
    project.bench.write("shared/.keep", "");
    let ended = run(&mut project.run(&["-v", "./shared:/shared", "train"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for metric in ["loss", "lr"] {
        assert_eq!(values(&project, metric), [1.0, 2.0, 1.0, 2.0], "{metric}");
        let plot = document(&project, &["plot", "train", "--metric", metric]);
        let chart = &plot["charts"][0];
        let expected = json!([{ "x": 1.0, "value": 1.0 }, { "x": 2.0, "value": 2.0 }]);
        assert_eq!(chart["curves"][0]["points"], expected);
        let note = chart["notes"][0].as_str().unwrap();
        assert!(
            note.ends_with("left out 2 values of an earlier attempt"),
            "{note}"
        );
    }
    project.assert_clean();
}

/// A job that writes to its file of metrics as it is allowed to.
const GROWING: &str = r#"train:
  image: IMAGE
  command:
    - sh
    - -c
    - |
      may() { until [ -e /shared/$$1 ]; do sleep 0.05; done; }
      echo step 3
      printf '{"step":1,"loss":1}\n{"loss":0.5}\n{"loss":0.5}\n{"lo' > /m.jsonl
      may grow; printf 'ss":0.25}\n' >> /m.jsonl
      may replace; printf '{"loss":7}\n{"loss":8}' > /m.jsonl
      echo lr=0.5
  metrics: { files: [/m.jsonl], log: [lr], step: 'step ([0-9]+)' }
"#;

#[test]
fn a_file_is_read_from_where_the_last_look_ended_also_after_a_kill() {
    let project = Project::new(GROWING);
    project.bench.write("shared/.keep", "");
    let mut killed = Project::start(&mut project.run(&["-v", "./shared:/shared", "train"]));
    // Values that repeat are values; a line that is not complete is none yet.
    wait_for(|| values(&project, "loss") == [1.0, 0.5, 0.5]);
    kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
    killed.wait().unwrap();
    project.bench.write("shared/grow", "");
    let waiting = Project::start(&mut project.jobctl(&["wait", "train"]));
    wait_for(|| values(&project, "loss") == [1.0, 0.5, 0.5, 0.25]);
    project.bench.write("shared/replace", "");
    let ended = waiting.wait_with_output().unwrap();
    assert_eq!(ended.stdout, b"0\n", "{ended:?}");
    // A file that was written anew is read anew.
    assert_eq!(values(&project, "loss"), [1.0, 0.5, 0.5, 0.25, 7.0, 8.0]);
    let last = json!({ "loss": 8.0, "lr": 0.5 });
    assert_eq!(project.record()["metrics"], last);
    // The step was in what the one that was killed had read.
    assert_eq!(history(&project, "train", "lr"), [(json!(3.0), json!(0.5))]);
    project.assert_clean();
}

#[test]
fn a_file_that_does_not_change_is_not_fetched_again() {
    let project = Project::new(GROWING);
    project.bench.write("shared/.keep", "");
    let recorder = Recorder::start();
    let mut command = project.run(&["-v", "./shared:/shared", "train"]);
    let running = Project::start(command.env("DOCKER_HOST", recorder.host()));
    let mut looks = 0;
    let mut fetches = 0;
    let mut count = || {
        let asked = recorder.take();
        let of_file = |method: &str| {
            let asked = asked.iter().filter(|asked| asked.method == method);
            asked.filter(|asked| asked.path.contains("m.jsonl")).count()
        };
        looks += of_file("HEAD");
        fetches += of_file("GET");
        (looks, fetches)
    };
    wait_for(|| values(&project, "loss").len() == 3);
    wait_for(|| count().0 >= 4);
    let (_, fetches) = count();
    // One more, if the first look came before the file was complete.
    assert!(fetches <= 2, "{fetches} fetches");
    project.bench.write("shared/grow", "");
    project.bench.write("shared/replace", "");
    let start = Instant::now();
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(start.elapsed() < Duration::from_mins(1));
    let last = values(&project, "loss");
    assert_eq!(last[last.len() - 2..], [7.0, 8.0]);
    project.assert_clean();
}

#[test]
fn a_name_is_shown_on_one_line_whatever_is_in_it() {
    let project = Project::new(
        r#"train:
  image: IMAGE
  command: [sh, -c, 'printf "%s" "$$METRICS" > /m.json']
  environment: { METRICS: '{"x\nloss": 1, "\u001b[31mred": 2, "a\u202eb": 3, "loss": 4}' }
  metrics: { files: [/m.json] }"#,
    );
    warnings(&project, "train");
    let names = ["x\\nloss", "\\x1b[31mred", "a\\u{202e}b", "loss"];
    let lines = |args: &[&str]| project.output(args).lines().count();
    assert_eq!(lines(&["metrics", "train"]), 4);
    assert_eq!(lines(&["metrics", "train", "--csv"]), 5);
    assert_eq!(lines(&["runs"]), 2);
    for args in [
        &["metrics", "train"][..],
        &["metrics", "train", "--csv"],
        &["metrics", "train", "--history"],
        &["metrics", "train", "--history", "--csv"],
        &["show", "train"],
        &["runs"],
        &[
            "runs",
            "--columns",
            "run,x\nloss,\u{1b}[31mred,a\u{202e}b,loss",
        ],
        &["plot", "train"],
    ] {
        let printed = project.output(args);
        for name in names {
            assert!(printed.contains(name), "{args:?}: {name}: {printed}");
        }
        let is_acted_on = |c: char| c == '\u{202e}' || c.is_control() && c != '\n';
        let plain = anstream::adapter::strip_str(&printed).to_string();
        assert!(!plain.contains(is_acted_on), "{args:?}: {printed:?}");
        assert!(!printed.contains("\u{1b}[31m"), "{args:?}: {printed:?}");
    }
    project.output(&["plot", "train", "-o", "plot.svg"]);
    let drawn = std::fs::read_to_string(project.bench.path().join("plot.svg")).unwrap();
    for name in names {
        assert!(
            drawn.contains(&format!(">{name}</text>")),
            "{name}: {drawn}"
        );
    }
    let document = document(&project, &["metrics", "train"]);
    assert_eq!(document["metrics"]["x\nloss"], 1.0);
    for args in [
        &["metrics", "train", "los"][..],
        &["metrics", "train", "y\nloss"],
        &["runs", "--columns", "x\nlosss"],
        &["runs", "--columns", "\u{1b}[31m"],
    ] {
        let ended = run(&mut project.jobctl(args));
        assert_ne!(ended.code, Some(0), "{args:?}");
        assert!(!ended.stderr.contains('\u{1b}'), "{args:?}: {ended:?}");
        let lines = ended.stderr.lines().filter(|line| line.starts_with("loss"));
        assert_eq!(lines.count(), 0, "{args:?}: {ended:?}");
    }
}
