//! What decides what comes of a run of an image, in one digest.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::RunPlan;
use crate::model::{ByteSize, Cpus, Digest, Scalar, Secret};
use crate::plan::Discretion;
use crate::plan::build::is_proxy;
use crate::records::{InputRecord, Key, spec};

/// What of a container does not decide what a job makes: how it is called, what it may use of the
/// machine, how it is watched.
const NOT_THE_RESULTS: [&str; 17] = [
    "cap_add",
    "cap_drop",
    "cpus",
    "extra_hosts",
    "further_networks",
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
/// Of a job, a variable that is named as a secret counts by its name alone, another that is one or holds one
/// by what is left when that is masked; of a service, by the digest of its value. A proxy is a way to the same result, and is left out. What
/// has a secret in the container's description counts by its digest under the project's own key.
#[must_use]
pub fn key(
    plan: &RunPlan,
    project: &Key,
    inputs: &BTreeMap<String, InputRecord>,
    handed: &Handed,
) -> String {
    let mut container = plan.container();
    let whole = spec::to_json(&plan.spec);
    if let Some(fields) = container.as_object_mut() {
        for (name, value) in fields.iter_mut() {
            if *value != whole[name.as_str()] {
                *value = project
                    .digest(whole[name.as_str()].to_string().as_bytes())
                    .into();
            }
        }
        fields.retain(|name, _| counts(name, plan.policy.is_service));
        in_usual_form(fields);
    }
    let given = plan.variables.iter().zip(&plan.spec.environment);
    let variables =
        given
            .filter(|(variable, _)| !is_proxy(&variable.name))
            .map(|(variable, (_, value))| {
                let name = &variable.name;
                let value = value.as_ref().map(Secret::expose);
                match value {
                    // Of a service that is up, its users see which one it has.
                    Some(value) if variable.is_secret && plan.policy.is_service => {
                        json!([name, project.digest(value.as_bytes())])
                    }
                    Some(_) if variable.is_secret && plan.sensitive.is_name(name) => json!([name]),
                    Some(value) if variable.is_secret => json!([name, around(plan, value)]),
                    value => json!([name, value]),
                }
            });
    let inputs: BTreeMap<_, _> = inputs
        .iter()
        .map(|(name, input)| {
            let known = (&input.sha256, &input.target);
            // As records of earlier versions have it, where that says all.
            let known = if input.is_executable {
                json!([known.0, known.1, "executable"])
            } else {
                json!(known)
            };
            (name, known)
        })
        .collect();
    let all: Value = json!({
        "key": 2,
        "container": container,
        "variables": variables.collect::<Vec<_>>(),
        "inputs": inputs,
        "handed": handed,
        "outputs": plan.policy.outputs,
    });
    Digest::from(<[u8; 32]>::from(Sha256::digest(all.to_string()))).to_string()
}

/// Whether a field of a container's description decides what comes of a run.
pub(super) fn counts(field: &str, is_service: bool) -> bool {
    let is_left_out = !is_service && NOT_THE_RESULTS.contains(&field);
    !is_left_out && !matches!(field, "image" | "name" | "labels")
}

/// Brings amounts to their usual form: `200m` and `200mb` are the same.
pub(super) fn in_usual_form(fields: &mut Map<String, Value>) {
    fn usual<T: Scalar>(value: Option<&mut Value>, form: impl Fn(&T) -> T) {
        let Some(value) = value else {
            return;
        };
        if let Some(amount) = value.as_str().and_then(|text| text.parse::<T>().ok()) {
            *value = form(&amount).to_string().into();
        }
    }
    usual(fields.get_mut("cpus"), Cpus::in_usual_form);
    for name in ["memory", "shm_size"] {
        usual(fields.get_mut(name), ByteSize::in_usual_form);
    }
    let mounts = fields.get_mut("mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        usual(mount.get_mut("size"), ByteSize::in_usual_form);
    }
}

/// What of a value that holds a secret is none.
fn around(plan: &RunPlan, value: &str) -> String {
    let secrets = plan
        .secrets
        .iter()
        .filter(|secret| secret.expose() != value);
    let secrets: Vec<_> = secrets.cloned().collect();
    Discretion::new(plan.sensitive.clone(), &secrets).text(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{counts, in_usual_form};

    #[test]
    fn amounts_that_are_written_differently_are_the_same() {
        let read = |cpus: &str, memory: &str| {
            let mut fields = json!({
                "cpus": cpus,
                "memory": memory,
                "mounts": [{ "size": memory }, {}],
                "shm_size": "a digest of something secret",
            });
            in_usual_form(fields.as_object_mut().unwrap());
            fields
        };
        assert_eq!(read("1/2", "200m"), read("0.50", "0.1953125 GiB"));
        assert_eq!(read("0.5", "200mb")["mounts"][0]["size"], "200mb");
        assert_ne!(read("1", "200m"), read("1", "201m"));
    }

    #[test]
    fn who_runs_what_program_where_decides_the_result() {
        for field in ["user", "workdir", "entrypoint", "command"] {
            assert!(counts(field, false) && counts(field, true), "{field}");
        }
        for field in ["memory", "network", "further_networks"] {
            assert!(!counts(field, false) && counts(field, true), "{field}");
        }
    }
}
