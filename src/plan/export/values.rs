//! Values as compose writes them.

use serde_json::{Map, Value, json};

use crate::engine::run::RunSpec;
use crate::manifest::schema::Job;
use crate::model::{Devices, Secret};
use crate::plan::run::RunPlan;
use crate::records::VariableRecord;

/// The variables in their order. A secret is asked of the user, and so is what the user must supply.
/// Proxies are this machine's own.
pub(super) fn environment(plan: &RunPlan, job: Option<&Job>) -> Vec<String> {
    let declared = job.map_or(&[][..], |job| &job.environment.0);
    let asked = declared.iter().filter(|variable| variable.value.is_none());
    let asked: Vec<_> = asked.map(|variable| variable.name.as_str()).collect();
    let given = plan.variables.iter().zip(&plan.spec.environment);
    let given = given.filter(|(variable, _)| {
        let name = variable.name.as_str();
        !asked.contains(&name) && !crate::plan::build::is_proxy(name)
    });
    let entry = |(variable, (_, value)): (&VariableRecord, &(_, Option<Secret>))| {
        let value = value.as_ref().filter(|_| !variable.is_secret);
        match value {
            Some(value) => format!("{}={}", variable.name, plain(value.expose())),
            None => required(&variable.name),
        }
    };
    let asked = asked.iter().map(|name| required(name));
    given.map(entry).chain(asked).collect()
}

pub(super) fn required(name: &str) -> String {
    format!("{name}={}", asked_for(name))
}

/// A value that the user must supply.
pub(super) fn asked_for(name: &str) -> String {
    format!("${{{name}:?}}")
}

pub(super) fn health(spec: &RunSpec, words: impl Fn(&Vec<String>) -> Vec<String>) -> Value {
    let Some(health) = &spec.health else {
        return Value::Null;
    };
    let mut fields = Map::new();
    if health.test.first().is_some_and(|word| word == "NONE") {
        return json!({ "disable": true });
    }
    if !health.test.is_empty() {
        fields.insert("test".to_owned(), json!(words(&health.test)));
    }
    let times = [
        ("interval", health.interval),
        ("timeout", health.timeout),
        ("start_period", health.start_period),
    ];
    for (key, time) in times {
        if let Some(time) = time {
            fields.insert(key.to_owned(), json!(seconds(time)));
        }
    }
    if let Some(retries) = health.retries {
        fields.insert("retries".to_owned(), json!(retries));
    }
    Value::Object(fields)
}

pub(super) fn gpus(spec: &RunSpec) -> Value {
    let devices = spec.gpus.iter().map(|request| {
        let mut device = json!({ "capabilities": request.capabilities });
        if !request.driver.is_empty() {
            device["driver"] = json!(request.driver);
        }
        match &request.devices {
            Devices::All => device["count"] = json!("all"),
            Devices::Count(count) => device["count"] = json!(count),
            Devices::Ids(ids) => device["device_ids"] = json!(ids),
        }
        device
    });
    let devices: Vec<_> = devices.collect();
    if devices.is_empty() {
        return Value::Null;
    }
    json!({ "resources": { "reservations": { "devices": devices } } })
}

/// A time as compose writes it.
pub(super) fn seconds(time: std::time::Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// A text in which compose sees no variables.
pub(super) fn plain(text: &str) -> String {
    text.replace('$', "$$")
}

pub(super) fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
