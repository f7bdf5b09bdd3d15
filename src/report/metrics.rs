//! Metrics of runs, as tables and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::printable;
use super::table::columns;
use crate::diagnostic::Diagnostic;
use crate::model::number;
use crate::ops::metrics::{MetricsError, RunMetrics};

/// A line for each metric.
#[must_use]
pub fn last_human(run: &RunMetrics) -> String {
    let rows = run.last.iter();
    let rows: Vec<_> = rows
        .map(|(name, value)| vec![printable::name(name), number::text(*value)])
        .collect();
    columns(&rows)
}

/// A line for each value.
#[must_use]
pub fn history_human(run: &RunMetrics) -> String {
    let heads = ["TIME", "STEP", "METRIC", "VALUE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(history(run));
    columns(&rows)
}

fn history(run: &RunMetrics) -> impl Iterator<Item = Vec<String>> {
    run.history.iter().map(|point| {
        vec![
            point.time.map_or_else(String::new, |time| time.to_string()),
            point.step.map_or_else(String::new, |step| step.to_string()),
            printable::name(&point.name),
            number::text(point.value),
        ]
    })
}

/// `metric,value`.
#[must_use]
pub fn last_csv(run: &RunMetrics) -> String {
    let rows = run.last.iter();
    csv(
        &["metric", "value"],
        rows.map(|(name, value)| vec![printable::name(name), number::text(*value)]),
    )
}

/// `time,step,metric,value`.
#[must_use]
pub fn history_csv(run: &RunMetrics) -> String {
    csv(&["time", "step", "metric", "value"], history(run))
}

/// Comma-separated values (RFC 4180), but with the line ends of this system.
fn csv(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = heads.join(",");
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| quoted(cell)).collect();
        text.push('\n');
        text.push_str(&cells.join(","));
    }
    text
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// `{"schema":"jobctl.metrics/1","run":…,"metrics":{…}}`, and with `history` all values.
#[must_use]
pub fn metrics_json(run: &RunMetrics, with_history: bool) -> Value {
    let mut document = json!({
        "schema": "jobctl.metrics/1",
        "run": run.id,
        "metrics": numbers_json(&run.last),
    });
    if with_history {
        let history = run.history.iter().map(|point| {
            json!({
                "time": point.time,
                "step": point.step,
                "metric": point.name,
                "value": number::json(point.value),
            })
        });
        document["history"] = history.collect();
    }
    document
}

/// Metrics by their names.
pub(super) fn numbers_json(metrics: &BTreeMap<String, f64>) -> Value {
    let metrics = metrics.iter();
    metrics
        .map(|(name, value)| (name.clone(), number::json(*value)))
        .collect()
}

/// Why there are no metrics to show.
#[must_use]
pub fn metrics_failure(error: &MetricsError) -> Diagnostic {
    let rule = match error {
        MetricsError::Unknown { .. } => "no-metric",
        MetricsError::None => "no-metrics",
        MetricsError::Unreadable { .. } => "unreadable-metrics",
    };
    let mut diagnostic = Diagnostic::error(rule, printable::name(&error.to_string()));
    diagnostic
        .help
        .extend(error.help().as_deref().map(printable::name));
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        for (cell, expected) in [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("a \"b\"", "\"a \"\"b\"\"\""),
        ] {
            assert_eq!(quoted(cell), expected);
        }
    }
}
