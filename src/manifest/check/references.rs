//! Names that must be defined, and circles.

use std::ops::Range;

use super::{Checker, Rule};
use crate::manifest::schema::{ImageSource, Root};
use crate::manifest::{Located, Names};
use crate::model::Name;

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for job in root.jobs.values() {
        if let Some(image) = &job.value.image
            && let ImageSource::Job(name) = &**image
        {
            known_job(checker, &Located::new(name.clone(), image.span()));
        }
        for need in job.value.needs.0.values() {
            if known_job(checker, &need.key) {
                known_outputs(checker, &need.key, &need.value.outputs);
            }
        }
        if let Some(build) = &job.value.build {
            known(
                checker,
                Rule::UnknownImage,
                "image",
                &build.requires,
                &root.images,
            );
            known(
                checker,
                Rule::UnknownSecret,
                "secret",
                &build.secrets,
                &root.secrets,
            );
        }
    }
    for image in root.images.values() {
        let image = &image.value;
        known(
            checker,
            Rule::UnknownImage,
            "image",
            &image.requires,
            &root.images,
        );
        if let Some(build) = &image.build {
            known(
                checker,
                Rule::UnknownImage,
                "image",
                &build.requires,
                &root.images,
            );
            known(
                checker,
                Rule::UnknownSecret,
                "secret",
                &build.secrets,
                &root.secrets,
            );
        }
    }
    job_circles(checker);
    image_circles(checker);
}

fn known_job(checker: &mut Checker<'_>, name: &Located<Name>) -> bool {
    let jobs = &checker.root.jobs;
    known(
        checker,
        Rule::UnknownJob,
        "job",
        std::slice::from_ref(name),
        jobs,
    );
    jobs.contains_key::<Name>(name)
}

fn known<T>(
    checker: &mut Checker<'_>,
    rule: Rule,
    what: &str,
    wanted: &[Located<Name>],
    defined: &Names<T>,
) {
    for name in wanted {
        if !defined.contains_key::<Name>(name) {
            let diagnostic = rule.error(format!("the {what} `{}` is not defined", **name));
            checker.undefined(diagnostic, name, defined.keys());
        }
    }
}

fn known_outputs<T>(checker: &mut Checker<'_>, job: &Name, wanted: &Names<T>) {
    let outputs = &checker.root.jobs[job].value.outputs;
    for output in wanted.values() {
        let name = &output.key;
        if !outputs.contains_key::<Name>(name) {
            let diagnostic =
                Rule::UnknownOutput.error(format!("the job `{job}` has no output `{}`", **name));
            checker.undefined(diagnostic, name, outputs.keys());
        }
    }
}

/// An edge of a graph of names: what is needed, and where that is said.
type Edge = (Name, Range<usize>);

fn job_circles(checker: &mut Checker<'_>) {
    let edges = |root: &Root, name: &Name| -> Vec<Edge> {
        let job = &root.jobs[name].value;
        let image = job.image.as_ref().and_then(|image| match &**image {
            ImageSource::Job(name) => Some((name.clone(), image.span())),
            ImageSource::Reference(_) => None,
        });
        let needs = job.needs.0.values();
        needs
            .map(|need| ((*need.key).clone(), need.key.span()))
            .chain(image)
            .filter(|(name, _)| root.jobs.contains_key(name))
            .collect()
    };
    for circle in circles(checker.root, checker.root.jobs.keys(), edges) {
        let diagnostic = Rule::JobCycle
            .error(format!(
                "jobs need each other in a circle: {}",
                path(&circle)
            ))
            .help("remove one of these needs");
        report_circle(checker, diagnostic, &circle);
    }
}

fn image_circles(checker: &mut Checker<'_>) {
    let edges = |root: &Root, name: &Name| -> Vec<Edge> {
        let image = &root.images[name].value;
        let build = image.build.iter().flat_map(|build| &build.requires);
        image
            .requires
            .iter()
            .chain(build)
            .map(|required| ((**required).clone(), required.span()))
            .filter(|(name, _)| root.images.contains_key(name))
            .collect()
    };
    for circle in circles(checker.root, checker.root.images.keys(), edges) {
        let diagnostic = Rule::ImageCycle
            .error(format!(
                "images require each other in a circle: {}",
                path(&circle)
            ))
            .help("remove one of these requirements");
        report_circle(checker, diagnostic, &circle);
    }
}

fn report_circle(
    checker: &mut Checker<'_>,
    mut diagnostic: crate::diagnostic::Diagnostic,
    circle: &[Edge],
) {
    let Some(((_, last), others)) = circle.split_last() else {
        return;
    };
    for (_, span) in others {
        diagnostic = diagnostic.related(span.clone(), "and this");
    }
    checker.report(diagnostic, last.clone(), "this closes the circle");
}

/// `a → b → a`
fn path(circle: &[Edge]) -> String {
    let names: Vec<_> = circle.iter().map(|(name, _)| format!("`{name}`")).collect();
    let last = names.last().cloned().unwrap_or_default();
    format!("{last} → {}", names.join(" → "))
}

/// The circles of a graph, each found once: for each the edges on it, the last one closing it.
fn circles<'a>(
    root: &Root,
    names: impl Iterator<Item = &'a Name>,
    edges: impl Fn(&Root, &Name) -> Vec<Edge>,
) -> Vec<Vec<Edge>> {
    let mut done: Vec<Name> = Vec::new();
    let mut found = Vec::new();
    for start in names {
        // An explicit stack: a manifest may chain more jobs than a thread's stack has room for.
        let mut trail: Vec<(Edge, std::vec::IntoIter<Edge>)> = Vec::new();
        if !done.contains(start) {
            let next = edges(root, start).into_iter();
            trail.push(((start.clone(), 0..0), next));
        }
        while let Some((_, next)) = trail.last_mut() {
            let Some((name, span)) = next.next() else {
                if let Some(((name, _), _)) = trail.pop() {
                    done.push(name);
                }
                continue;
            };
            if let Some(at) = trail
                .iter()
                .position(|((on_trail, _), _)| *on_trail == name)
            {
                let mut circle: Vec<Edge> = trail[at + 1..]
                    .iter()
                    .map(|(edge, _)| edge.clone())
                    .collect();
                circle.push((name, span));
                found.push(circle);
            } else if !done.contains(&name) {
                let next = edges(root, &name).into_iter();
                trail.push(((name, span), next));
            }
        }
    }
    found
}
