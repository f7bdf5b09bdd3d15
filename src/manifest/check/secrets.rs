//! Secrets, and what looks like one.

use super::{Checker, Rule};
use crate::facts::{is_given_pipe, read_small};
use crate::manifest::env_file::MAX_FILE_BYTES;
use crate::manifest::schema::{Build, Secret, Variable, Variables};
use crate::model::{Name, Sensitive};

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for (name, secret) in &root.secrets {
        let (variable, file) = (&secret.value.environment, &secret.value.file);
        let is_wrong = match (variable, file) {
            (Some(_), Some(_)) => true,
            (None, None) => checker.is_whole(&secret.extent),
            _ => false,
        };
        if is_wrong {
            let diagnostic = Rule::SecretSource
                .error(format!("the secret `{name}` must come from one place"))
                .help("give it either `environment: VARIABLE` or `file: PATH`");
            checker.report(diagnostic, secret.key.span(), "");
        }
        if !is_used(checker, name, &secret.value) {
            let help = match secret.value.environment.as_deref() {
                Some(variable) => format!(
                    "name it under a build's `secrets`, or `{variable}` under a job's \
                     `environment`; or remove it"
                ),
                None => "name it under a build's `secrets`, or remove it".to_owned(),
            };
            let diagnostic = Rule::UnusedSecret
                .warning(format!("the secret `{name}` is not used"))
                .help(help);
            checker.report(diagnostic, secret.key.span(), "");
        }
    }
    for build in builds(checker) {
        arguments(checker, &build.args);
    }
    for job in root.jobs.values() {
        let declared = job.value.sensitive.iter().map(|name| name.as_str());
        literals(checker, &job.value.environment, &Sensitive::new(declared));
    }
}

fn builds<'a>(checker: &Checker<'a>) -> impl Iterator<Item = &'a Build> + use<'a> {
    let root = checker.root;
    let of_jobs = root.jobs.values().map(|job| &job.value.build);
    let of_images = root.images.values().map(|image| &image.value.build);
    of_jobs.chain(of_images).flatten()
}

/// Whether a build gets the secret, or a job the variable that has it, under whatever name. A file
/// may be anything to a job.
fn is_used(checker: &Checker<'_>, name: &Name, secret: &Secret) -> bool {
    let is_built_in = builds(checker).any(|build| build.secrets.iter().any(|used| **used == *name));
    let Some(variable) = secret.environment.as_deref() else {
        return is_built_in;
    };
    let mut jobs = checker.root.jobs.values();
    let is_given = jobs.any(|job| {
        let mut variables = job.value.environment.0.iter();
        variables.any(|given| *given.name == *variable)
    });
    let mut files = checker
        .root
        .jobs
        .values()
        .flat_map(|job| &job.value.env_file.0);
    let is_in_file = files.any(|file| {
        let path = checker.folder.join(file.path.as_path());
        // What a pipe has can be read once only, and not here.
        let bytes = Some(path).filter(|path| !is_given_pipe(path));
        let bytes = bytes.and_then(|path| read_small(&path, MAX_FILE_BYTES).ok());
        bytes.is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains(variable.as_str()))
    });
    let is_interpolated = checker.interpolated.contains_key(variable.as_str());
    is_built_in || is_given || is_interpolated || is_in_file
}

/// A build argument stays in the image's history, whoever supplied it.
fn arguments(checker: &mut Checker<'_>, arguments: &Variables) {
    for argument in &arguments.0 {
        if is_secret(argument, &Sensitive::default()) {
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

fn is_secret(variable: &Variable, sensitive: &Sensitive) -> bool {
    let value = variable.value.as_deref().map_or("", String::as_str);
    sensitive.is_secret(variable.name.as_str(), value)
}

/// A literal in the manifest ends up in the repository.
fn literals(checker: &mut Checker<'_>, variables: &Variables, sensitive: &Sensitive) {
    for variable in &variables.0 {
        let has_literal = variable
            .value
            .as_ref()
            .is_some_and(|value| !value.is_empty())
            && variable.is_literal;
        if has_literal && is_secret(variable, sensitive) {
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
