//! What decides what comes of a run of an image, in one digest.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::RunPlan;
use crate::model::Digest;
use crate::plan::build::is_proxy;
use crate::records::{InputRecord, VariableRecord, spec};

/// What of a container does not decide what a job makes: how it is called, what it may use of the
/// machine, how it is watched.
const NOT_THE_RESULTS: [&str; 16] = [
    "cap_add",
    "cap_drop",
    "cpus",
    "extra_hosts",
    "health",
    "hostname",
    "init",
    "memory",
    "network",
    "ports",
    "restart",
    "security",
    "shm_size",
    "stop_grace",
    "stop_signal",
    "ulimits",
];

/// An output of another run, as a run reads it: its digest, and where it appears.
pub type Handed = BTreeMap<String, BTreeMap<String, (String, String)>>;

/// The digest of all but the image that decides what comes of a run: command, variables, inputs, and what
/// it is handed by other runs, by job and output. Of a service, everything that is asked of the container
/// counts.
///
/// `variables` have the digests of their values; a secret counts by its name alone. A proxy is a way to
/// the same result, and is left out.
#[must_use]
pub fn key(
    plan: &RunPlan,
    variables: &[VariableRecord],
    inputs: &BTreeMap<String, InputRecord>,
    handed: &Handed,
) -> String {
    let mut container = spec::to_json(&plan.spec);
    if let Some(fields) = container.as_object_mut() {
        let is_left_out = |name: &str| {
            matches!(name, "image" | "name" | "labels")
                || (!plan.policy.is_service && NOT_THE_RESULTS.contains(&name))
        };
        fields.retain(|name, _| !is_left_out(name));
    }
    let variables = variables
        .iter()
        .filter(|variable| !is_proxy(&variable.name))
        .map(|variable| (&variable.name, &variable.digest));
    let inputs: BTreeMap<_, _> = inputs
        .iter()
        .map(|(name, input)| (name, (&input.sha256, &input.target)))
        .collect();
    let all: Value = json!({
        "key": 1,
        "container": container,
        "variables": variables.collect::<Vec<_>>(),
        "inputs": inputs,
        "handed": handed,
        "outputs": plan.policy.outputs,
    });
    Digest::from(<[u8; 32]>::from(Sha256::digest(all.to_string()))).to_string()
}
