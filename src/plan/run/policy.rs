//! What is done with a run while it runs and when it ends.

use std::path::Path;
use std::time::Duration;

use super::RunFlags;
use crate::engine::run::{BoundKind, RunSpec};
use crate::manifest::schema::{Job, LogMetric, RetryCause};
use crate::model::{MountSource, clean};
use crate::plan::build::PlanError;
use crate::records::{Ending, FILE_LIST, Policy, RetryRecord};

/// How long a job may take to end, as docker has it.
const GRACE: Duration = Duration::from_secs(10);

/// What the command line says of it.
pub(super) fn policy(flags: &RunFlags) -> Policy {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut policy = Policy {
        timeout_ms: flags.timeout.flatten().map(milliseconds),
        grace_ms: milliseconds(flags.spec.stop_grace.unwrap_or(GRACE)),
        keep: flags.is_kept,
        fails_on_oom: flags.fails_on_oom,
        ..Policy::default()
    };
    if let Some(retries) = flags.retries {
        policy.retry.attempts = retries.saturating_add(1);
        policy.retry.on = endings(RetryCause::Infra);
    }
    policy
}

/// Takes from the job what the command line does not say.
pub(super) fn fill_policy(policy: &mut Policy, job: &Job, flags: &RunFlags) {
    let milliseconds =
        |time: crate::model::Duration| u64::try_from(time.get().as_millis()).unwrap_or(u64::MAX);
    if flags.timeout.is_none() {
        policy.timeout_ms = job.timeout.as_deref().copied().map(milliseconds);
    }
    if let Some(retry) = job.retry.as_deref() {
        let causes = retry.on.iter().flat_map(|cause| endings(**cause));
        let mut on: Vec<_> = causes.collect();
        if on.is_empty() {
            on = endings(RetryCause::Infra);
        }
        let usual = RetryRecord::default();
        let backoff = retry.backoff.as_deref().copied().map(milliseconds);
        policy.retry = RetryRecord {
            attempts: match flags.retries {
                Some(_) => policy.retry.attempts,
                None => *retry.attempts,
            },
            on,
            backoff_ms: backoff.unwrap_or(usual.backoff_ms),
        };
    }
    say_outputs(policy, job);
    if let Some(metrics) = &job.metrics {
        policy.metric_files = metrics.files.iter().map(|file| file.to_string()).collect();
        for (name, metric) in &metrics.log.0 {
            let name = name.to_string();
            match &metric.value {
                LogMetric::Name => {
                    policy.metric_names.insert(name);
                }
                LogMetric::Pattern(pattern) => {
                    policy.metric_patterns.insert(name, pattern.to_string());
                }
            }
        }
        policy.metric_step = metrics.step.as_ref().map(|step| step.to_string());
    }
    policy.is_service = job.is_service();
}

/// What a job says of its outputs.
#[must_use]
pub fn outputs(job: &Job) -> Policy {
    let mut policy = Policy::default();
    say_outputs(&mut policy, job);
    policy
}

fn say_outputs(policy: &mut Policy, job: &Job) {
    let outputs = job.outputs.iter();
    policy.outputs = outputs
        .map(|(name, output)| (name.to_string(), output.value.path.to_string()))
        .collect();
    for (name, output) in &job.outputs {
        if let Some(most) = output.value.max_size.as_deref() {
            policy
                .max_output_bytes
                .insert(name.to_string(), most.bytes());
        }
        if output.value.optional.as_deref() == Some(&true) {
            policy.optional_outputs.insert(name.to_string());
        }
    }
}

/// The endings that a cause means.
fn endings(cause: RetryCause) -> Vec<Ending> {
    match cause {
        RetryCause::Infra => vec![Ending::Infra, Ending::EngineStopped, Ending::Lost],
        RetryCause::Oom => vec![Ending::Oom],
        RetryCause::Error => vec![Ending::Error],
        RetryCause::Timeout => vec![Ending::Timeout],
    }
}

/// An output that is gone when the container ends, or that other runs write to as well.
pub(super) fn not_kept(spec: &RunSpec, (name, path): (&String, &String)) -> Option<PlanError> {
    if name.ends_with(FILE_LIST) {
        return Some(PlanError::new(
            format!("the output `{name}` has the name of the list of another output's files"),
            format!("give it a name that does not end with `{FILE_LIST}`"),
        ));
    }
    let lies_in = |target: &str| Path::new(path).starts_with(clean(Path::new(target)));
    let memory = spec.tmpfs.keys().map(String::as_str);
    let bound = |kind: BoundKind| {
        let bound = spec.bound.iter().filter(move |bound| bound.kind == kind);
        bound.map(|bound| bound.target.as_str())
    };
    let volumes = spec.mounts.iter().filter(|mount| {
        matches!(
            mount.source(),
            MountSource::Anonymous | MountSource::Volume(_)
        )
    });
    let volumes = volumes.map(|mount| mount.target().as_str());
    let mut in_memory = memory
        .chain(bound(BoundKind::Tmpfs))
        .chain(["/dev", "/proc", "/sys"]);
    if let Some(target) = in_memory.find(|target| lies_in(target)) {
        return Some(PlanError::new(
            format!(
                "the output `{name}` at `{path}` would be lost: `{target}` is in memory, and gone \
                 when the container ends"
            ),
            "give the output a path of its own, such as `/artifacts`, and mount nothing there",
        ));
    }
    let mut volumes = volumes.chain(bound(BoundKind::Volume));
    let target = volumes.find(|target| lies_in(target))?;
    Some(PlanError::new(
        format!("the output `{name}` at `{path}` is not this run's alone: `{target}` is a volume"),
        "leave the volume out: jobctl keeps the output with the run; or give it another path",
    ))
}
