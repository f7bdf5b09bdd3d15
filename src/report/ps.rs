//! The list of runs that are not over.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::printable;
use super::table::columns;
use super::words::elapsed;
use crate::ops::ps::Listed;

/// A table: run, job, status, since when, where a service is reached, image, and the container's name.
#[must_use]
pub fn ps_human(runs: &[Listed], now: Timestamp) -> String {
    let heads = [
        "RUN",
        "JOB",
        "STATUS",
        "AGE",
        "ADDRESS",
        "IMAGE",
        "CONTAINER",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for listed in runs {
        let run = &listed.run;
        let age = now.duration_since(run.created).unsigned_abs();
        let row = [
            run.id.short(),
            run.job.clone().unwrap_or_else(|| "-".to_owned()),
            listed.status(),
            elapsed(age),
            addresses(listed).join(" "),
            run.image.clone(),
            run.container.clone().unwrap_or_default(),
        ];
        rows.push(row.map(|cell| printable::line(&cell)).to_vec());
    }
    columns(&rows)
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
                "restarts": listed.restarts(),
                "addresses": addresses(listed),
                "unreachable": listed.unreachable,
            })
        })
        .collect();
    json!({ "schema": "jobctl.ps/1", "runs": runs })
}

fn addresses(listed: &Listed) -> Vec<String> {
    listed.addresses.iter().map(ToString::to_string).collect()
}
