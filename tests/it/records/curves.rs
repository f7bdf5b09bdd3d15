//! `metrics` and `plot`

use std::fs;

use jobctl::records::Record;
use jobctl::records::metrics::{MetricsWriter, Point};
use serde_json::json;

use super::{at, command, document, error, finished, jobctl, refused, store};
use crate::support::{Bench, run};

/// A run with a curve of losses.
fn with_history(bench: &Bench, second: i64) -> Record {
    let record = finished(bench, "train", second, 0.875);
    let mut writer = MetricsWriter::open(store(bench).run(record.id).path(), 1).unwrap();
    for step in 1..=4_i32 {
        let point = Point {
            name: "loss".to_owned(),
            value: 1.0 / f64::from(step),
            step: Some(f64::from(step)),
            attempt: None,
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
    let ended = jobctl(&bench, &["plot", "train~1", "-o", "loss.png"]);
    if ended.stderr.contains("no font") {
        assert_eq!(ended.code, Some(1), "{ended:?}");
    } else {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let image = fs::read(bench.path().join("loss.png")).unwrap();
        assert!(image.starts_with(b"\x89PNG\r\n\x1a\n") && image.len() > 2000);
    }
    let ended = jobctl(&bench, &["plot", "train", "-o", "loss.gif"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    finished(&bench, "serve", 300, 0.5);
    let ended = jobctl(&bench, &["plot", "serve"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
