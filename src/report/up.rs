//! Pipelines: what would be run, and what came of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::metrics::numbers_json;
use super::printable;
use super::run_plan_json;
use super::table::columns;
use super::words::figure;
use crate::model::{Port, RunId};
use crate::ops::up::{Done, Down, How, Why};
use crate::plan::up::Step;

/// So many metrics are shown of each run.
const METRICS: usize = 3;

/// What would be run, as a tree: below each job what it needs.
#[must_use]
pub fn pipeline_human(steps: &[Step]) -> String {
    let needed: BTreeSet<_> = steps.iter().flat_map(|step| &step.after).collect();
    let mut text = String::new();
    let mut shown = BTreeSet::new();
    for step in steps.iter().filter(|step| !needed.contains(&step.job)) {
        branch(steps, step, None, ("", ""), &mut shown, &mut text);
    }
    text
}

/// One job of the tree, and those that it needs. One that was shown before is not shown with its own
/// again.
fn branch<'a>(
    steps: &'a [Step],
    step: &'a Step,
    above: Option<&Step>,
    (first, rest): (&str, &str),
    shown: &mut BTreeSet<&'a str>,
    text: &mut String,
) {
    let mut words = step.job.to_string();
    if step.is_service {
        let ports: Vec<_> = step.plan.spec.ports.iter().map(Port::to_string).collect();
        words.push_str(" (service");
        if !ports.is_empty() {
            let _ = write!(words, " at {}", ports.join(", "));
        }
        words.push(')');
    }
    if let Some(gate) = above.and_then(|above| above.plan.gates.get(&step.job)) {
        let _ = write!(words, ", if {gate}");
    }
    let is_new = shown.insert(step.job.as_str());
    if !is_new && !step.after.is_empty() {
        words.push_str(" (as above)");
    }
    let _ = writeln!(text, "{first}{words}");
    if !is_new {
        return;
    }
    let needs: Vec<_> = steps
        .iter()
        .filter(|other| step.after.contains(&other.job))
        .collect();
    for (at, need) in needs.iter().enumerate() {
        let is_last = at + 1 == needs.len();
        let (mark, line) = if is_last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        let (first, rest) = (format!("{rest}{mark}"), format!("{rest}{line}"));
        branch(steps, need, Some(step), (&first, &rest), shown, text);
    }
}

/// `{"schema":"jobctl.pipeline/1","steps":[…]}`, in the order in which they can be run.
#[must_use]
pub fn pipeline_json(steps: &[Step]) -> Value {
    let steps = steps.iter().map(|step| {
        let gates = step.plan.gates.iter();
        let gates = gates.map(|(job, gate)| (job.to_string(), Value::from(gate.to_string())));
        json!({
            "job": step.job.to_string(),
            "after": step.after.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "gates": gates.collect::<serde_json::Map<_, _>>(),
            "service": step.is_service,
            "run": run_plan_json(&step.plan),
        })
    });
    json!({ "schema": "jobctl.pipeline/1", "steps": steps.collect::<Vec<_>>() })
}

/// What came of it: a line for each step.
#[must_use]
pub fn up_human(done: &[Done]) -> String {
    let rows = done.iter().map(|step| {
        let metrics = step.record.metrics.iter().take(METRICS);
        let metrics =
            metrics.map(|(name, value)| format!("{}={}", printable::name(name), figure(*value)));
        let said = if step.ports.is_empty() {
            metrics.collect::<Vec<_>>().join(" ")
        } else {
            urls(&step.ports).join(" ")
        };
        vec![
            step.job.to_string(),
            step.record.id.short(),
            words(step).to_owned(),
            said,
        ]
    });
    columns(&rows.collect::<Vec<_>>())
}

/// `{"schema":"jobctl.up/1","steps":[…]}`.
#[must_use]
pub fn up_json(done: &[Done]) -> Value {
    let steps = done.iter().map(|step| {
        json!({
            "job": step.job.to_string(),
            "run": step.record.id,
            "how": match step.how {
                How::UpToDate => "up_to_date",
                How::Resumed => "resumed",
                How::Ran => "ran",
                How::RolledBack => "rolled_back",
            },
            "why": step.why.as_ref().map(why_json),
            "key": step.record.key,
            "image": step.record.image.id,
            "metrics": numbers_json(&step.record.metrics),
            "service": step.record.policy.is_service,
            "urls": urls(&step.ports),
        })
    });
    json!({ "schema": "jobctl.up/1", "steps": steps.collect::<Vec<_>>() })
}

fn why_json(why: &Why) -> Value {
    let (reason, run, changes) = match why {
        Why::First => ("first", None, None),
        Why::Fresh => ("fresh", None, None),
        Why::Unsuccessful => ("unsuccessful", None, None),
        Why::Damaged(run) => ("damaged", Some(run), None),
        Why::NotUp => ("not_up", None, None),
        Why::Ports(run) => ("ports", Some(run), None),
        Why::Changed(run, found) => ("changed", Some(run), Some(found)),
    };
    let changes = changes.into_iter().flatten().map(|change| {
        json!({
            "what": change.aspect.word(),
            "name": change.name,
            "old": change.old,
            "new": change.new,
            "files": change.files,
        })
    });
    json!({ "reason": reason, "run": run, "changes": changes.collect::<Vec<_>>() })
}

fn words(step: &Done) -> &'static str {
    match (step.how, step.record.policy.is_service) {
        (How::UpToDate, false) => "up to date",
        (How::UpToDate, true) => "unchanged",
        (How::Resumed, false) => "ended",
        (How::Ran, false) => "ran",
        (How::RolledBack, _) => "stays rolled back",
        (_, true) => "up",
    }
}

/// Where a service answers on this machine.
fn urls(ports: &[Port]) -> Vec<String> {
    let fixed = ports.iter().filter_map(|port| {
        let host = port.host()?;
        let ip = match port.ip() {
            Some(ip) if !ip.is_unspecified() => match ip {
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
                std::net::IpAddr::V4(ip) => ip.to_string(),
            },
            _ => "localhost".to_owned(),
        };
        Some(format!("http://{ip}:{}", host.start()))
    });
    fixed.collect()
}

/// What was ended.
#[must_use]
pub fn down_human(ended: &[Down]) -> String {
    if ended.is_empty() {
        return "nothing is up".to_owned();
    }
    let rows = ended.iter().map(|down| {
        let runs: Vec<_> = down.runs.iter().map(RunId::short).collect();
        vec![down.job.to_string(), "down".to_owned(), runs.join(" ")]
    });
    columns(&rows.collect::<Vec<_>>())
}

/// `{"schema":"jobctl.down/1","services":[…]}`.
#[must_use]
pub fn down_json(ended: &[Down]) -> Value {
    let services = ended
        .iter()
        .map(|down| json!({ "job": down.job.as_str(), "runs": down.runs }));
    json!({ "schema": "jobctl.down/1", "services": services.collect::<Vec<_>>() })
}

/// What is promoted now.
#[must_use]
pub fn promoted_human(promoted: &[(String, RunId)]) -> String {
    let rows = promoted
        .iter()
        .map(|(job, run)| vec![job.clone(), run.short(), "promoted".to_owned()]);
    columns(&rows.collect::<Vec<_>>())
}

/// `{"schema":"jobctl.promote/1","runs":[…]}`.
#[must_use]
pub fn promoted_json(promoted: &[(String, RunId)]) -> Value {
    let runs = promoted
        .iter()
        .map(|(job, run)| json!({ "job": job, "run": run }));
    json!({ "schema": "jobctl.promote/1", "runs": runs.collect::<Vec<_>>() })
}
