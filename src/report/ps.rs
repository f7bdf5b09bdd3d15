//! The list of runs that are not over.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::printable;
use super::words::elapsed;
use crate::ops::ps::Listed;

/// A table: run, job, status, since when, image, and the container's name.
#[must_use]
pub fn ps_human(runs: &[Listed], now: Timestamp) -> String {
    let mut rows = vec![["RUN", "JOB", "STATUS", "AGE", "IMAGE", "CONTAINER"].map(str::to_owned)];
    for listed in runs {
        let run = &listed.run;
        let age = now.duration_since(run.created).unsigned_abs();
        rows.push([
            run.id.short(),
            run.job.clone().unwrap_or_else(|| "-".to_owned()),
            listed.status(),
            elapsed(age),
            run.image.clone(),
            run.container.clone().unwrap_or_default(),
        ]);
    }
    table(&rows)
}

/// Columns, two blanks apart.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| printable::line(cell)))
        .collect();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `{"schema":"jobctl.ps/1","runs":[…]}`.
#[must_use]
pub fn ps_json(runs: &[Listed]) -> Value {
    let runs: Vec<_> = runs
        .iter()
        .map(|listed| {
            let run = &listed.run;
            json!({
                "id": run.id,
                "project": run.project,
                "job": run.job,
                "state": run.state,
                "status": listed.status(),
                "is_attended": listed.is_attended,
                "created": run.created,
                "started": run.started,
                "exit_code": run.exit_code,
                "image": run.image,
                "container": run.container,
                "container_id": run.container_id,
            })
        })
        .collect();
    json!({ "schema": "jobctl.ps/1", "runs": runs })
}
