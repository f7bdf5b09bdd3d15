//! Keys of a job that need or exclude each other.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Checker, Rule};
use crate::manifest::decode::list;
use crate::manifest::schema::Job;
use crate::manifest::suggest::nearest;
use crate::manifest::{Entry, Located};
use crate::model::{ContainerPath, MetricName, Name};

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for job in root.jobs.values() {
        image(checker, job);
        service(checker, job);
        paths(checker, &job.value);
        ports(checker, &job.value);
        step(checker, job);
        for need in job.value.needs.0.values() {
            if let Some(gate) = &need.value.gate {
                let metrics = gate.conditions().iter();
                let metrics = metrics.map(|condition| &condition.metric);
                judged(checker, &need.key, gate.span(), "this gate", metrics);
            }
        }
    }
    ports_of_all(checker);
}

fn image(checker: &mut Checker<'_>, job: &Entry<Name, Job>) {
    let name = &*job.key;
    match (&job.value.build, &job.value.image) {
        (Some(_), Some(image)) => {
            let diagnostic = Rule::TwoImages
                .error(format!(
                    "the job `{name}` both builds its image and names one"
                ))
                .help("keep `build` or `image`");
            checker.report(diagnostic, image.span(), "");
        }
        (None, None) if checker.is_whole(&job.extent) => {
            let diagnostic = Rule::NoImage
                .error(format!("the job `{name}` has no image"))
                .help("add `build: { context: FOLDER }`, or `image: REFERENCE`");
            checker.report(diagnostic, job.key.span(), "");
        }
        _ => {}
    }
}

/// What only a service has, and what a service can't have.
fn service(checker: &mut Checker<'_>, job: &Entry<Name, Job>) {
    let value = &job.value;
    let name = &*job.key;
    if value.is_service() {
        let spans = [
            ("timeout", value.timeout.as_ref().map(Located::span)),
            ("retry", value.retry.as_ref().map(Located::span)),
            (
                "outputs",
                value
                    .outputs
                    .values()
                    .next()
                    .map(|output| output.key.span()),
            ),
        ];
        for (key, span) in spans {
            if let Some(span) = span {
                let diagnostic = Rule::ServiceKey
                    .error(format!(
                        "the service `{name}` has `{key}`, but does not end"
                    ))
                    .help(format!("remove `{key}`, or `service: true`"));
                checker.report(diagnostic, span, "");
            }
        }
        return;
    }
    let spans = [
        ("ports", value.ports.first().map(Located::span)),
        ("healthcheck", value.healthcheck.as_ref().map(Located::span)),
        ("restart", value.restart.as_ref().map(Located::span)),
    ];
    for (key, span) in spans {
        if let Some(span) = span
            && checker.is_whole(&job.extent)
        {
            let diagnostic = Rule::NotAService
                .error(format!("the job `{name}` has `{key}`, but is no service"))
                .help(match key {
                    "restart" => {
                        "remove `restart`; `retry: { attempts: 2 }` runs a job again that failed, and \
                         `service: true` makes one that stays up"
                            .to_owned()
                    }
                    key => format!("add `service: true`, or remove `{key}`"),
                });
            checker.report(diagnostic, span, "");
        }
    }
}

/// Whoever's metrics are judged must have some; and where all are known by name, these.
fn judged<'m>(
    checker: &mut Checker<'_>,
    name: &Name,
    span: Range<usize>,
    who: &str,
    judged: impl Iterator<Item = &'m MetricName>,
) {
    let Some(job) = checker.root.jobs.get(name) else {
        return;
    };
    if !checker.is_whole(&job.extent) {
        return;
    }
    let declared = job.value.metrics.as_ref();
    let Some(declared) = declared.filter(|metrics| !metrics.is_empty()) else {
        let diagnostic = Rule::NoMetrics
            .error(format!(
                "{who} asks for metrics of `{name}`, which declares none"
            ))
            .help(format!(
                "add to `{name}`: `metrics: {{ files: [/metrics.json] }}`"
            ));
        checker.report(diagnostic, span, "");
        return;
    };
    if !declared.files.is_empty() {
        // Whatever its files have.
        return;
    }
    let known: Vec<_> = declared.log.0.keys().map(MetricName::as_str).collect();
    let unknown: BTreeSet<_> = judged
        .filter(|metric| !known.contains(&metric.as_str()))
        .collect();
    for metric in unknown {
        let help = match nearest(metric.as_str(), known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("add `{metric}` under `metrics` of `{name}`: `log: [{metric}]`"),
        };
        let diagnostic = Rule::UnknownMetric
            .warning(format!(
                "{who} asks for `{metric}` of `{name}`, whose metrics are {}",
                list(&known)
            ))
            .help(help);
        checker.report(diagnostic, span.clone(), "");
    }
}

/// A pattern of the step alone finds nothing.
fn step(checker: &mut Checker<'_>, job: &Entry<Name, Job>) {
    let Some(metrics) = &job.value.metrics else {
        return;
    };
    if let Some(step) = &metrics.step
        && metrics.log.0.is_empty()
        && checker.is_whole(&job.extent)
    {
        let diagnostic = Rule::UnusedStep
            .warning("`step` has no effect: no metric is looked for in the log")
            .help("add `log: [loss]`, or remove `step`; files of metrics have their own `step`");
        checker.report(diagnostic, step.span(), "");
    }
}

/// A place in the container holds one thing.
fn paths(checker: &mut Checker<'_>, job: &Job) {
    let inputs = job.inputs.values().map(|input| &input.value.target);
    let outputs = job.outputs.values().map(|output| &output.value.path);
    let needs = job
        .needs
        .0
        .values()
        .flat_map(|need| need.value.outputs.values());
    let places: Vec<(ContainerPath, Range<usize>)> = inputs
        .chain(outputs)
        .chain(needs.map(|output| &output.value))
        .map(|path| ((**path).clone(), path.span()))
        .chain(
            job.volumes
                .iter()
                .map(|mount| (mount.target().clone(), mount.span())),
        )
        .collect();
    for (index, (path, span)) in places.iter().enumerate() {
        let first = places[..index].iter().find(|(earlier, _)| earlier == path);
        if let Some((_, first)) = first {
            let diagnostic = Rule::PathConflict
                .error(format!("`{path}` in the container is used twice"))
                .related(first.clone(), "first here")
                .help("give one of them another path");
            checker.report(diagnostic, span.clone(), "");
        }
    }
}

/// Services that can't be up at the same time.
fn ports_of_all(checker: &mut Checker<'_>) {
    let root = checker.root;
    let services = root.jobs.values().filter(|job| job.value.is_service());
    let ports: Vec<_> = services
        .flat_map(|job| job.value.ports.iter().map(|port| (&*job.key, port)))
        .collect();
    for (index, (job, port)) in ports.iter().enumerate() {
        let mut before = ports[..index].iter();
        let first = before.find(|(other, first)| other != job && first.conflicts_with(port));
        if let Some((other, first)) = first {
            let diagnostic = Rule::PortConflict
                .warning(format!(
                    "the services `{other}` and `{job}` have the same port of this machine: only one of \
                     them can be up"
                ))
                .related(first.span(), "first here")
                .help("give one of them another port");
            checker.report(diagnostic, port.span(), "");
        }
    }
}

fn ports(checker: &mut Checker<'_>, job: &Job) {
    let network = job.network.as_deref().map(ToString::to_string);
    if let (Some(port), Some(network)) = (job.ports.first(), network) {
        let diagnostic = match network.as_str() {
            "none" => Some(
                Rule::UnreachablePort
                    .error("a service without a network has no ports")
                    .help("remove `network: none`, or `ports`"),
            ),
            "host" => Some(
                Rule::UnreachablePort
                    .warning(
                        "in the host's network, a service's ports are its own: these mean nothing",
                    )
                    .help("remove `ports`, or `network: host`"),
            ),
            _ => None,
        };
        if let Some(diagnostic) = diagnostic {
            checker.report(diagnostic, port.span(), "");
        }
    }
    for (index, port) in job.ports.iter().enumerate() {
        let first = job.ports[..index]
            .iter()
            .find(|earlier| earlier.conflicts_with(port));
        if let Some(first) = first {
            let diagnostic = Rule::PortConflict
                .error("two of the ports are the same on this machine")
                .related(first.span(), "first here")
                .help("publish each port once");
            checker.report(diagnostic, port.span(), "");
        }
    }
}
