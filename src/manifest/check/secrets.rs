//! Secrets, and what looks like one.

use super::{Checker, Rule};
use crate::manifest::masking::looks_secret;
use crate::manifest::schema::Variables;
use crate::model::Name;

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for (name, secret) in &root.secrets {
        let is_one = secret.value.environment.is_some() != secret.value.file.is_some();
        if !is_one && checker.is_whole(&secret.extent) {
            let diagnostic = Rule::SecretSource
                .error(format!("the secret `{name}` must come from one place"))
                .help("give it either `environment: VARIABLE` or `file: PATH`");
            checker.report(diagnostic, secret.key.span(), "");
        }
        if !is_used(checker, name) {
            let diagnostic = Rule::UnusedSecret
                .warning(format!("the secret `{name}` is not used"))
                .help("name it under a build's `secrets`, or remove it");
            checker.report(diagnostic, secret.key.span(), "");
        }
    }
    let builds = root
        .jobs
        .values()
        .filter_map(|job| job.value.build.as_ref());
    let bases = root
        .images
        .values()
        .filter_map(|image| image.value.build.as_ref());
    for build in builds.chain(bases) {
        arguments(checker, &build.args);
    }
    for job in root.jobs.values() {
        literals(checker, &job.value.environment);
    }
}

fn is_used(checker: &Checker<'_>, name: &Name) -> bool {
    let root = checker.root;
    let builds = root
        .jobs
        .values()
        .filter_map(|job| job.value.build.as_ref());
    let bases = root
        .images
        .values()
        .filter_map(|image| image.value.build.as_ref());
    builds
        .chain(bases)
        .any(|build| build.secrets.iter().any(|used| **used == *name))
}

/// A build argument stays in the image's history, whoever supplied it.
fn arguments(checker: &mut Checker<'_>, arguments: &Variables) {
    for argument in &arguments.0 {
        if looks_secret(argument.name.as_str()) {
            let diagnostic = Rule::LiteralSecret
                .error(format!(
                    "the build argument `{}` looks like a secret, and would stay in the image",
                    *argument.name
                ))
                .help("name it under `secrets`, and mount it: `RUN --mount=type=secret,id=…`");
            checker.report(diagnostic, argument.name.span(), "");
        }
    }
}

/// A literal in the manifest ends up in the repository.
fn literals(checker: &mut Checker<'_>, variables: &Variables) {
    for variable in &variables.0 {
        let has_literal = variable
            .value
            .as_ref()
            .is_some_and(|value| !value.is_empty())
            && variable.is_literal;
        if has_literal && looks_secret(variable.name.as_str()) {
            let name = &*variable.name;
            let diagnostic = Rule::LiteralSecret
                .error(format!(
                    "the value of `{name}` looks like a secret that is written down"
                ))
                .help(format!(
                    "leave the value out: `{name}:` takes it from the caller"
                ));
            checker.report(diagnostic, variable.name.span(), "");
        }
    }
}
