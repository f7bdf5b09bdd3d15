//! A pipeline: which jobs are run, in which order, and whether what they made is good enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::manifest::Manifest;
use crate::manifest::schema::{ImageSource, Job};
use crate::model::{Bound, Condition, Gate, Name, number};
use crate::plan::build::PlanError;
use crate::plan::run::{RunPlan, Subject};

/// A job of a pipeline.
#[derive(Debug, Clone)]
pub struct Step {
    /// The job.
    pub job: Name,
    /// The jobs of the pipeline that must have succeeded before.
    pub after: BTreeSet<Name>,
    /// Whether the job stays up.
    pub is_service: bool,
    /// How it is run.
    pub plan: RunPlan,
}

/// The jobs that are meant, and all that they need, in an order in which they can be run.
///
/// None at all means the services; without one, the jobs that no other needs.
///
/// # Errors
///
/// There is no such job.
pub fn order<'a>(
    manifest: &'a Manifest,
    named: &[String],
) -> Result<Vec<(&'a Name, &'a Job)>, PlanError> {
    let mut targets = Vec::new();
    for name in named {
        match Subject::job(manifest, Some(name))? {
            Subject::Job(_, name, _) => targets.push(name),
            Subject::Image(_) => unreachable!("a job is asked for by its name"),
        }
    }
    if named.is_empty() {
        targets = usual_targets(manifest);
    }
    if targets.is_empty() {
        return Err(PlanError::new(
            format!("{} has no jobs", manifest.path.display()),
            "write one under `jobs`",
        ));
    }
    let mut ordered = Vec::new();
    for target in targets {
        visit(manifest, target, &mut ordered);
    }
    Ok(ordered)
}

fn usual_targets(manifest: &Manifest) -> Vec<&Name> {
    let jobs = &manifest.root.jobs;
    let services = jobs.iter().filter(|(_, job)| job.value.is_service());
    let services: Vec<_> = services.map(|(name, _)| name).collect();
    if !services.is_empty() {
        return services;
    }
    let needed: BTreeSet<_> = jobs.values().flat_map(|job| after(&job.value)).collect();
    let is_last = |name: &&Name| !needed.contains(*name);
    jobs.keys().filter(is_last).collect()
}

/// Puts a job behind those that it needs. The manifest has no cycles.
fn visit<'a>(manifest: &'a Manifest, name: &Name, ordered: &mut Vec<(&'a Name, &'a Job)>) {
    if ordered.iter().any(|(known, _)| *known == name) {
        return;
    }
    let Some((name, entry)) = manifest.root.jobs.get_key_value(name) else {
        return;
    };
    for needed in after(&entry.value) {
        visit(manifest, &needed, ordered);
    }
    ordered.push((name, &entry.value));
}

/// The jobs that must have succeeded before a job: those that it needs, and the one whose image it runs.
#[must_use]
pub fn after(job: &Job) -> BTreeSet<Name> {
    let mut after: BTreeSet<_> = job.needs.0.keys().cloned().collect();
    if let Some(ImageSource::Job(other)) = job.image.as_deref() {
        after.insert(other.clone());
    }
    after
}

/// What became of one condition of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The condition.
    pub condition: Condition,
    /// What the metric is, if the run has it.
    pub value: Option<f64>,
    /// What it is compared with; nothing where no run is promoted that has such a metric.
    pub bound: Option<f64>,
    /// Whether it holds.
    pub holds: bool,
}

/// Judges a run by its metrics and those of the promoted run, where there is one.
///
/// A condition on a promoted run holds as long as there is none: the first has nothing to be worse than. None
/// holds of a value that is not finite.
#[must_use]
pub fn judge(
    gate: &Gate,
    metrics: &BTreeMap<String, f64>,
    promoted: Option<&BTreeMap<String, f64>>,
) -> Vec<Judgement> {
    let judged = gate.conditions().iter().map(|condition| {
        let value = metrics.get(condition.metric.as_str()).copied();
        let bound = match &condition.bound {
            Bound::Constant(bound) => Some(*bound),
            Bound::Promoted(metric, offset) => promoted
                .and_then(|metrics| metrics.get(metric.as_str()))
                .map(|metric| metric + offset),
        };
        let holds = match (value, bound) {
            (Some(value), _) if !value.is_finite() => false,
            (Some(value), Some(bound)) => {
                bound.is_finite() && condition.comparison.holds(value, bound)
            }
            (Some(_), None) => promoted.is_none(),
            (None, _) => false,
        };
        Judgement {
            condition: condition.clone(),
            value,
            bound,
            holds,
        }
    });
    judged.collect()
}

impl fmt::Display for Judgement {
    /// `accuracy 0.8311 is not >= promoted.accuracy - 0.01 (0.8473)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition {
            metric,
            comparison,
            bound,
        } = &self.condition;
        let Some(value) = self.value else {
            return write!(f, "{metric} is not among its metrics");
        };
        if let Some(name) = number::name(value) {
            return write!(f, "{metric} is {name}");
        }
        let not = if self.holds { "" } else { "is not " };
        let sign = comparison.sign();
        write!(f, "{metric} {} {not}{sign} {bound}", figure(value))?;
        match (bound, self.bound) {
            (Bound::Constant(_), _) => Ok(()),
            (_, Some(bound)) => match number::name(bound) {
                Some(name) => write!(f, " ({name})"),
                None => write!(f, " ({})", figure(bound)),
            },
            (_, None) if self.holds => f.write_str(" (no run is promoted yet)"),
            (_, None) => f.write_str(" (the promoted run does not have it)"),
        }
    }
}

/// A value without the digits that binary fractions add.
fn figure(value: f64) -> String {
    let rounded = format!("{value:.9}");
    let rounded = rounded.trim_end_matches('0');
    rounded.strip_suffix('.').unwrap_or(rounded).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(gate: &str, value: f64, promoted: Option<f64>) -> (bool, String) {
        let metrics = |value| BTreeMap::from([("accuracy".to_owned(), value)]);
        let promoted = promoted.map(metrics);
        let judged = judge(&gate.parse().unwrap(), &metrics(value), promoted.as_ref());
        let said: Vec<_> = judged.iter().map(ToString::to_string).collect();
        (judged.iter().all(|one| one.holds), said.join("; "))
    }

    #[test]
    fn a_gate_reports_its_values() {
        for (gate, value, promoted, holds, said) in [
            ("accuracy >= 0.8", 0.85, None, true, "accuracy 0.85 >= 0.8"),
            (
                "accuracy >= 0.8",
                0.799_999_9,
                None,
                false,
                "accuracy 0.7999999 is not >= 0.8",
            ),
            (
                "accuracy > promoted.accuracy - 0.01",
                0.84,
                Some(0.86),
                false,
                "accuracy 0.84 is not > promoted.accuracy - 0.01 (0.85)",
            ),
            (
                "accuracy > promoted.accuracy - 0.01",
                0.84,
                None,
                true,
                "accuracy 0.84 > promoted.accuracy - 0.01 (no run is promoted yet)",
            ),
            (
                "accuracy >= promoted.f1 and accuracy <= 1",
                0.84,
                Some(0.8),
                false,
                "accuracy 0.84 is not >= promoted.f1 (the promoted run does not have it); \
                 accuracy 0.84 <= 1",
            ),
            (
                "loss < 1",
                0.84,
                None,
                false,
                "loss is not among its metrics",
            ),
            ("accuracy != 0.8", f64::NAN, None, false, "accuracy is NaN"),
            (
                "accuracy > 0.8",
                f64::INFINITY,
                None,
                false,
                "accuracy is Infinity",
            ),
            (
                "accuracy >= promoted.accuracy",
                f64::NEG_INFINITY,
                None,
                false,
                "accuracy is -Infinity",
            ),
            (
                "accuracy > promoted.accuracy",
                0.84,
                Some(f64::NEG_INFINITY),
                false,
                "accuracy 0.84 is not > promoted.accuracy (-Infinity)",
            ),
            (
                "accuracy >= promoted.accuracy - 0.01",
                0.84,
                Some(f64::NAN),
                false,
                "accuracy 0.84 is not >= promoted.accuracy - 0.01 (NaN)",
            ),
        ] {
            assert_eq!(judged(gate, value, promoted), (holds, said.to_owned()));
        }
    }
}
