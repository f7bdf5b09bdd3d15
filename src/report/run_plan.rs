//! What would be run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::{build_plan_human, build_plan_json, printable};
use crate::engine::run::{Bound, BoundKind, RunSpec};
use crate::model::{Gpus, STARS};
use crate::plan::build::{Item, VersionChoice};
use crate::plan::run::{GpuChoice, ImageChoice, Pull, RunPlan};

/// What would be run, and as which docker command.
#[must_use]
pub fn run_plan_human(plan: &RunPlan) -> String {
    let mut text = String::new();
    if let ImageChoice::Build(items) = &plan.image {
        text.push_str(&build_plan_human(items, &[]));
    }
    let image = image(plan);
    let title = plan.job.as_ref().map_or("image", |job| job.as_str());
    let _ = writeln!(text, "{title}: run {image}");
    let _ = writeln!(text, "  {}", docker_command(plan, &image));
    if plan.gpus == GpuChoice::Optional {
        text.push_str("  with `--gpus all` where the engine can give GPUs\n");
    }
    for (job, outputs) in &plan.needs {
        if outputs.is_empty() {
            let _ = writeln!(text, "  needs {job}");
        }
        for (output, target) in outputs {
            let _ = writeln!(text, "  needs {output} of {job} at {target}");
        }
    }
    for (output, path) in &plan.policy.outputs {
        let _ = writeln!(text, "  keeps {path} as {output}");
    }
    if let Some(timeout) = plan.policy.timeout_ms {
        let timeout = super::elapsed(std::time::Duration::from_millis(timeout));
        let _ = writeln!(text, "  stops after {timeout}");
    }
    if plan.policy.retry.attempts > 1 {
        let _ = writeln!(text, "  tries {} times at most", plan.policy.retry.attempts);
    }
    text
}

/// `{"schema":"jobctl.run-plan/1",…}`.
#[must_use]
pub fn run_plan_json(plan: &RunPlan) -> Value {
    let image = image(plan);
    let inputs = plan.inputs.iter().map(|(name, input)| {
        let input = json!({
            "source": input.shown,
            "target": input.target.to_string(),
        });
        (name.to_string(), input)
    });
    let needs = plan.needs.iter().map(|(job, outputs)| {
        let outputs = outputs
            .iter()
            .map(|(name, target)| (name.to_string(), target.to_string()));
        (job.to_string(), outputs.collect::<BTreeMap<_, _>>())
    });
    json!({
        "schema": "jobctl.run-plan/1",
        "project": plan.project.as_ref().map(ToString::to_string),
        "job": plan.job.as_ref().map(ToString::to_string),
        "image": image,
        "image_from": match &plan.image {
            ImageChoice::Build(_) => "build",
            ImageChoice::Built(_) => "last_build",
            ImageChoice::Named(_) => "name",
            ImageChoice::OfJob(_) => "job",
        },
        "build": match &plan.image {
            ImageChoice::Build(items) => build_plan_json(items, &[])["steps"].take(),
            _ => json!([]),
        },
        "pull": pull(plan.pull),
        "name": plan.name,
        "gpus": match plan.gpus {
            GpuChoice::None => "none",
            GpuChoice::Optional => "optional",
            GpuChoice::Required => "required",
        },
        "container": plan.container(),
        "environment": plan.variables,
        "inputs": inputs.collect::<BTreeMap<_, _>>(),
        "needs": needs.collect::<BTreeMap<_, _>>(),
        "policy": plan.policy,
        "warnings": plan.warnings,
        "docker": docker_command(plan, &image),
    })
}

fn pull(pull: Pull) -> &'static str {
    match pull {
        Pull::Missing => "missing",
        Pull::Always => "always",
        Pull::Never => "never",
    }
}

/// The image, as far as its name is known beforehand.
fn image(plan: &RunPlan) -> String {
    let spec = match &plan.image {
        ImageChoice::Named(image) => return image.to_string(),
        ImageChoice::OfJob(job) => return format!("job:{job}"),
        // What the engine was asked for.
        ImageChoice::Built(_) if !plan.spec.image.is_empty() => return plan.spec.image.clone(),
        ImageChoice::Built(spec) => spec,
        ImageChoice::Build(items) => match items.last() {
            Some(Item::Build(spec)) => spec,
            Some(Item::Base(base)) => return base.image.to_string(),
            None => return String::new(),
        },
    };
    let version = match &spec.version {
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => Some(version),
        VersionChoice::None | VersionChoice::Git => None,
    };
    // One that can't be named is refused when it is built.
    let names = spec.names(version, None).unwrap_or_default();
    names
        .first()
        .map_or_else(|| spec.name.clone(), ToString::to_string)
}

/// The docker command that does the same, secrets masked.
fn docker_command(plan: &RunPlan, image: &str) -> String {
    let spec = &plan.spec;
    let mut words = Words(vec!["docker".to_owned(), "run".to_owned()]);
    // docker takes only one of the two.
    words.switch("--rm", !plan.policy.keep && spec.restart.is_none());
    words.switch("--interactive", spec.stdin);
    words.switch("--tty", spec.tty);
    words.switch("--init", spec.init == Some(true));
    words.flag("--name", plan.name.as_ref());
    if plan.pull != Pull::Missing {
        words.flag("--pull", Some(pull(plan.pull)));
    }
    words.flag("--platform", spec.platform.as_ref());
    for variable in &plan.variables {
        let name = &variable.name;
        words.flag(
            "--env",
            Some(match &variable.value {
                Some(value) => format!("{name}={value}"),
                None if is_unset(spec, name) => name.clone(),
                None => format!("{name}={STARS}"),
            }),
        );
    }
    for request in &spec.gpus {
        words.flag("--gpus", Some(Gpus::Request(request.clone())));
    }
    words.flag("--runtime", spec.runtime.as_ref());
    words.flags("--device", &spec.devices);
    words.flags("--volume", &spec.mounts);
    for bound in &spec.bound {
        words.flag("--mount", Some(bound));
    }
    for input in plan.inputs.values() {
        words.flag(
            "--mount",
            Some(
                Bound::of(
                    BoundKind::Bind,
                    Some(input.source.display().to_string()),
                    input.target.as_str(),
                )
                .read_only(),
            ),
        );
    }
    for (target, options) in &spec.tmpfs {
        let colon = if options.is_empty() { "" } else { ":" };
        words.flag("--tmpfs", Some(format!("{target}{colon}{options}")));
    }
    words.flags("--publish", &spec.ports);
    words.flags("--network", &spec.networks);
    words.flags("--add-host", &spec.extra_hosts);
    words.flag("--hostname", spec.hostname.as_ref());
    words.flag("--cpus", spec.limits.cpus.as_ref());
    words.flag("--memory", spec.limits.memory.as_ref());
    words.flag("--shm-size", spec.limits.shm_size.as_ref());
    words.flags("--ulimit", &spec.limits.ulimits);
    words.flag("--ipc", spec.ipc.as_ref());
    words.flags("--security-opt", &spec.security);
    words.flags("--cap-add", &spec.cap_add);
    words.flags("--cap-drop", &spec.cap_drop);
    words.switch("--privileged", spec.is_privileged);
    words.switch("--read-only", spec.is_read_only);
    words.flag("--user", spec.user.as_ref());
    words.flag("--workdir", spec.workdir.as_ref());
    words.flag("--stop-signal", spec.stop_signal.as_ref());
    words.flag(
        "--stop-timeout",
        spec.stop_grace.map(|grace| match grace {
            // docker waits as long as it takes.
            Duration::MAX => "-1".to_owned(),
            grace => grace.as_secs().to_string(),
        }),
    );
    words.flag("--restart", spec.restart);
    health(&mut words, spec);
    for (name, value) in &spec.labels {
        words.flag("--label", Some(format!("{name}={value}")));
    }
    let entrypoint = spec.entrypoint.as_deref();
    let program = entrypoint.map(|words| words.first().cloned().unwrap_or_default());
    words.flag("--entrypoint", program);
    words.0.push(image.to_owned());
    words
        .0
        .extend(entrypoint.unwrap_or_default().iter().skip(1).cloned());
    words.0.extend(spec.command.clone().unwrap_or_default());
    printable::command(plan.discretion().words(&words.0))
}

/// The words of a command.
struct Words(Vec<String>);

impl Words {
    fn switch(&mut self, name: &str, is_on: bool) {
        if is_on {
            self.0.push(name.to_owned());
        }
    }

    fn flag(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.extend([name.to_owned(), value.to_string()]);
        }
    }

    fn flags<T: ToString>(&mut self, name: &str, values: &[T]) {
        for value in values {
            self.flag(name, Some(value.to_string()));
        }
    }
}

fn is_unset(spec: &RunSpec, name: &str) -> bool {
    let mut variables = spec.environment.iter();
    variables.any(|(given, value)| given.as_str() == name && value.is_none())
}

fn health(words: &mut Words, spec: &RunSpec) {
    let Some(health) = &spec.health else {
        return;
    };
    match health.test.split_first() {
        Some((kind, _)) if kind == "NONE" => words.switch("--no-healthcheck", true),
        Some((kind, line)) if kind == "CMD-SHELL" => {
            words.flag("--health-cmd", line.first());
        }
        Some((_, command)) => words.flag("--health-cmd", Some(shell_words::join(command))),
        None => {}
    }
    let time =
        |time: Option<std::time::Duration>| time.map(|time| format!("{}ms", time.as_millis()));
    words.flag("--health-interval", time(health.interval));
    words.flag("--health-timeout", time(health.timeout));
    words.flag("--health-start-period", time(health.start_period));
    words.flag("--health-retries", health.retries);
}
