//! What verbs have done to runs and images, for programs.

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::model::RunId;
use crate::ops::build::Unneeded;

/// `{"schema":"jobctl.ids/1","ids":[…]}`.
#[must_use]
pub fn ids_json<T: ToString>(ids: &[T]) -> Value {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    json!({ "schema": "jobctl.ids/1", "ids": ids })
}

/// `{"schema":"jobctl.error/1","diagnostics":[…],"result":…}`: what failed, and what was done all the same.
#[must_use]
pub fn error_json(diagnostics: &[Value], result: Option<Value>) -> Value {
    let mut document = json!({ "schema": "jobctl.error/1", "diagnostics": diagnostics });
    if let Some(result) = result {
        document["result"] = result;
    }
    document
}

/// `{"schema":"jobctl.wait/1","runs":[{"run":…,"exit_code":…}]}`.
#[must_use]
pub fn wait_json(waited: &[(RunId, Exit)]) -> Value {
    let runs = waited
        .iter()
        .map(|(run, exit)| json!({ "run": run, "exit_code": exit.code() }));
    json!({ "schema": "jobctl.wait/1", "runs": runs.collect::<Vec<_>>() })
}

/// `{"schema":"jobctl.prune/1","is_dry_run":…,"runs":[…],"images":[{"id":…,"names":[…]}]}`.
#[must_use]
pub fn prune_json(runs: &[RunId], images: &[Unneeded], is_dry_run: bool) -> Value {
    let images = images
        .iter()
        .map(|image| json!({ "id": image.id.to_string(), "names": image.names }));
    json!({
        "schema": "jobctl.prune/1",
        "is_dry_run": is_dry_run,
        "runs": runs,
        "images": images.collect::<Vec<_>>(),
    })
}
