//! Metrics of runs as curves.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::chart::{Chart, Curve};
use super::printable::{self, line};
use super::words::counted;
use crate::model::{RunId, number};
use crate::ops::metrics::RunMetrics;
use crate::records::metrics::Point;

/// What is along the lower edge of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotX {
    /// How far the program was, by its own words; the order of the values where it does not say so.
    Step,
    /// The seconds since the run's start.
    Seconds,
    /// The time of day.
    Time,
}

/// A metric of several runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    metric: String,
    x: PlotX,
    curves: Vec<RunCurve>,
}

/// A metric of a run.
#[derive(Debug, Clone, PartialEq)]
struct RunCurve {
    run: RunId,
    title: String,
    /// Whether the values are in their order, for want of steps.
    is_order: bool,
    /// Seconds since the epoch, where the plot is over time.
    points: Vec<(f64, f64)>,
    /// How many values have no step, though others have.
    without_step: usize,
    /// How many values are those of an earlier attempt that a later one has again.
    of_earlier_attempt: usize,
}

/// A plot for each metric, with a curve for each run.
#[must_use]
pub fn plots(runs: &[RunMetrics], x: PlotX) -> Vec<Plot> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.last.keys()).collect();
    let plots = names.into_iter().map(|name| Plot {
        metric: name.clone(),
        x,
        curves: runs.iter().filter_map(|run| curve(run, name, x)).collect(),
    });
    plots.collect()
}

fn curve(run: &RunMetrics, name: &str, x: PlotX) -> Option<RunCurve> {
    let last = *run.last.get(name)?;
    let mut points: Vec<Point> = run
        .history
        .iter()
        .filter(|p| p.name == name)
        .cloned()
        .collect();
    if points.is_empty() {
        // The record alone has it: the last value is known, and no other.
        points.push(Point {
            name: name.to_owned(),
            value: last,
            step: None,
            attempt: None,
            time: run.finished.or(run.started),
        });
    }
    let mut curve = RunCurve {
        run: run.id,
        title: run.title.clone(),
        is_order: false,
        points: Vec::new(),
        without_step: 0,
        of_earlier_attempt: 0,
    };
    let since = match x {
        PlotX::Step => {
            curve.by_step(&points);
            return Some(curve);
        }
        PlotX::Seconds => run.started.or(points[0].time)?,
        PlotX::Time => Timestamp::UNIX_EPOCH,
    };
    let timed = points.iter().filter_map(|point| {
        let time = point.time?;
        Some((time.duration_since(since).as_secs_f64(), point.value))
    });
    curve.points = timed.collect();
    Some(curve)
}

impl RunCurve {
    /// Over steps, or else over the order of the values. Where another attempt began again, it replaces what
    /// it has again.
    fn by_step(&mut self, points: &[Point]) {
        self.is_order = points.iter().all(|point| point.step.is_none());
        let mut attempt = points[0].attempt;
        let mut order = 0.0;
        let mut begins = false;
        for point in points {
            if point.attempt != attempt {
                attempt = point.attempt;
                begins = true;
                order = 0.0;
            }
            order += 1.0;
            let x = if self.is_order {
                Some(order)
            } else {
                point.step
            };
            let Some(x) = x else {
                self.without_step += 1;
                continue;
            };
            if std::mem::take(&mut begins) {
                let before = self.points.len();
                self.points.retain(|(earlier, _)| *earlier < x);
                self.of_earlier_attempt += before - self.points.len();
            }
            self.points.push((x, point.value));
        }
    }

    fn label(&self) -> String {
        line(&format!("{} {}", self.title, self.run.short()))
    }
}

impl Plot {
    /// What should be known of the curves.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let has_steps = self.curves.iter().any(|curve| !curve.is_order);
        for curve in &self.curves {
            let label = curve.label();
            if self.x == PlotX::Step && curve.is_order && has_steps {
                notes.push(format!(
                    "{label} has no steps: its values are in their order"
                ));
            }
            if curve.without_step > 0 {
                let count = counted(curve.without_step, "value");
                notes.push(format!("{label}: left out {count} without a step"));
            }
            if curve.of_earlier_attempt > 0 {
                let count = counted(curve.of_earlier_attempt, "value");
                notes.push(format!("{label}: left out {count} of an earlier attempt"));
            }
        }
        notes
    }

    fn x_label(&self) -> &'static str {
        let are_order = || self.curves.iter().map(|curve| curve.is_order);
        match self.x {
            PlotX::Seconds => "seconds",
            PlotX::Time => "time (UTC)",
            PlotX::Step if are_order().all(|is_order| is_order) => "order",
            PlotX::Step if are_order().any(|is_order| is_order) => "step, or order",
            PlotX::Step => "step",
        }
    }

    fn chart(&self) -> Chart {
        let xs = self.curves.iter().flat_map(|curve| &curve.points);
        let first = xs.map(|(x, _)| *x).min_by(f64::total_cmp);
        let midnight = (self.x == PlotX::Time).then_some(first).flatten();
        let midnight = midnight.and_then(midnight_before);
        #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
        let origin = midnight.map_or(0.0, |midnight| midnight.as_second() as f64);
        let curves = self.curves.iter().map(|curve| Curve {
            label: curve.label(),
            points: curve.points.iter().map(|(x, y)| (x - origin, *y)).collect(),
        });
        Chart {
            title: printable::name(&self.metric),
            x_label: self.x_label().to_owned(),
            midnight,
            notes: self.notes(),
            curves: curves.collect(),
        }
    }
}

/// The beginning of the day (UTC) that a number of seconds since the epoch is in.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time has no more seconds"
)]
fn midnight_before(seconds: f64) -> Option<Timestamp> {
    let time = Timestamp::from_second(seconds.floor() as i64).ok()?;
    let day = time.to_zoned(TimeZone::UTC).start_of_day().ok()?;
    Some(day.timestamp())
}

/// The charts of plots.
#[must_use]
pub fn charts(plots: &[Plot]) -> Vec<Chart> {
    plots.iter().map(Plot::chart).collect()
}

/// `{"schema":"jobctl.plot/1","x":"step","charts":[{"metric":…,"x":…,"notes":[…],"curves":[…]}]}`.
#[must_use]
pub fn plot_json(plots: &[Plot], x: PlotX) -> Value {
    let name = |x| match x {
        PlotX::Step => "step",
        PlotX::Seconds => "seconds",
        PlotX::Time => "time",
    };
    let charts = plots.iter().map(|plot| {
        let curves = plot.curves.iter().map(|curve| {
            let points = curve.points.iter().map(|(x, value)| {
                let x = match plot.x {
                    PlotX::Time => time_of(*x).map_or(Value::Null, |time| json!(time)),
                    _ => json!(x),
                };
                json!({ "x": x, "value": number::json(*value) })
            });
            json!({
                "run": curve.run,
                "title": curve.title,
                "x": if plot.x == PlotX::Step && curve.is_order { "order" } else { name(plot.x) },
                "points": points.collect::<Vec<_>>(),
            })
        });
        json!({
            "metric": plot.metric,
            "notes": plot.notes(),
            "curves": curves.collect::<Vec<_>>(),
        })
    });
    json!({
        "schema": "jobctl.plot/1",
        "x": name(x),
        "charts": charts.collect::<Vec<_>>(),
    })
}

/// The time of a number of seconds since the epoch, to the microsecond: what a number has of it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time has no more microseconds"
)]
fn time_of(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A run that reported a loss for each of these steps, one a second; a new attempt at each `true`.
    fn run(seconds: i64, values: &[(Option<f64>, f64, bool)]) -> RunMetrics {
        let at = |second| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let mut attempt = 1;
        let mut history = Vec::new();
        for (second, (step, value, begins)) in (seconds + 1..).zip(values) {
            attempt += usize::from(*begins);
            history.push(Point {
                name: "loss".to_owned(),
                value: *value,
                step: *step,
                attempt: Some(attempt),
                time: Some(at(second)),
            });
        }
        RunMetrics {
            id: "0190a1b2c3d47e8f9012a3b4c5d6e7f8".parse().unwrap(),
            title: "train".to_owned(),
            last: BTreeMap::from([("loss".to_owned(), 0.5)]),
            history,
            started: Some(at(seconds)),
            finished: Some(at(100)),
        }
    }

    fn drawn(runs: &[RunMetrics], x: PlotX) -> Chart {
        charts(&plots(runs, x)).pop().unwrap()
    }

    #[test]
    fn equal_trainings_lie_on_one_another() {
        let with = [(Some(10.0), 2.0, false), (Some(20.0), 1.0, false)];
        let without = with.map(|(_, value, begins)| (None, value, begins));
        for (values, label, xs) in [(with, "step", [10.0, 20.0]), (without, "order", [1.0, 2.0])] {
            let chart = drawn(&[run(0, &values), run(5000, &values)], PlotX::Step);
            assert_eq!(chart.x_label, label);
            assert_eq!(chart.curves[0].points, [(xs[0], 2.0), (xs[1], 1.0)]);
            assert_eq!(chart.curves[0], chart.curves[1]);
            assert_eq!(chart.notes, [""; 0]);
            let chart = drawn(&[run(0, &values), run(5000, &values)], PlotX::Seconds);
            assert_eq!(chart.x_label, "seconds");
            assert_eq!(chart.curves[0].points, [(1.0, 2.0), (2.0, 1.0)]);
            assert_eq!(chart.curves[0], chart.curves[1]);
        }
    }

    #[test]
    fn a_mixture_is_named() {
        let with = [(None, 9.0, false), (Some(10.0), 2.0, false)];
        let without = [(None, 2.0, false)];
        let chart = drawn(&[run(0, &with), run(0, &without)], PlotX::Step);
        assert_eq!(chart.x_label, "step, or order");
        let label = &chart.curves[0].label;
        assert_eq!(
            chart.notes,
            [
                format!("{label}: left out 1 value without a step"),
                format!("{label} has no steps: its values are in their order"),
            ]
        );
        assert_eq!(chart.curves[0].points, [(10.0, 2.0)]);
        assert_eq!(chart.curves[1].points, [(1.0, 2.0)]);
    }

    #[test]
    fn an_attempt_that_began_again_replaces_the_one_before() {
        let values = [
            (Some(1.0), 9.0, false),
            (Some(2.0), 8.0, false),
            (Some(3.0), 7.0, false),
            (Some(2.0), 6.0, true),
            (Some(3.0), 5.0, false),
        ];
        let chart = drawn(&[run(0, &values)], PlotX::Step);
        assert_eq!(chart.curves[0].points, [(1.0, 9.0), (2.0, 6.0), (3.0, 5.0)]);
        assert!(chart.notes[0].ends_with("left out 2 values of an earlier attempt"));
        let values = values.map(|(_, value, begins)| (None, value, begins));
        let chart = drawn(&[run(0, &values)], PlotX::Step);
        assert_eq!(chart.curves[0].points, [(1.0, 6.0), (2.0, 5.0)]);
        // Steps that go back within one attempt are as the program reported them.
        let values = [(Some(1.0), 9.0, false), (Some(0.0), 8.0, false)];
        let chart = drawn(&[run(0, &values)], PlotX::Step);
        assert_eq!(chart.curves[0].points, [(1.0, 9.0), (0.0, 8.0)]);
    }

    #[test]
    fn times_are_those_of_the_day() {
        let values = [(None, 2.0, false), (None, f64::NAN, false)];
        let plots = plots(&[run(0, &values)], PlotX::Time);
        let chart = charts(&plots).pop().unwrap();
        assert_eq!(chart.midnight, "2023-11-14T00:00:00Z".parse().ok());
        let seconds = 22.0 * 3600.0 + 13.0 * 60.0 + 21.0;
        assert_eq!(chart.curves[0].points[0], (seconds, 2.0));
        let told = plot_json(&plots, PlotX::Time);
        assert_eq!(told["x"], "time");
        let points = &told["charts"][0]["curves"][0]["points"];
        assert_eq!(
            points[0],
            json!({ "x": "2023-11-14T22:13:21Z", "value": 2.0 })
        );
        assert_eq!(
            points[1],
            json!({ "x": "2023-11-14T22:13:22Z", "value": "NaN" })
        );
    }

    #[test]
    fn a_metric_of_the_record_alone_is_one_point() {
        for (x, expected) in [(PlotX::Step, 1.0), (PlotX::Seconds, 100.0)] {
            let chart = drawn(&[run(0, &[])], x);
            assert_eq!(chart.curves[0].points, [(expected, 0.5)]);
        }
    }
}
