//! Base images and builds.

use std::path::Path;

use super::{Checker, Rule};
use crate::manifest::schema::{Build, EnvFiles};

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for (name, image) in &root.images {
        if checker.is_whole(&image.extent) {
            let message = match (&image.value.pull, &image.value.build) {
                (Some(_), Some(_)) => Some("is both pulled and built"),
                (None, None) => Some("is neither pulled nor built"),
                _ if image.value.build.is_some() && image.value.bootstrap.is_some() => {
                    Some("is built, so it needs no bootstrap")
                }
                _ => None,
            };
            if let Some(message) = message {
                let diagnostic = Rule::ImageSource
                    .error(format!("the image `{name}` {message}"))
                    .help("give it either `pull` (and `bootstrap`) or `build`");
                checker.report(diagnostic, image.key.span(), "");
            }
        }
        if let Some(build) = &image.value.build {
            build_files(checker, build);
        }
        if let Some(bootstrap) = &image.value.bootstrap {
            there(
                checker,
                bootstrap.as_path(),
                bootstrap.span(),
                "bootstrap program",
            );
        }
    }
    for job in root.jobs.values() {
        if let Some(build) = &job.value.build {
            build_files(checker, build);
        }
        env_files(checker, &job.value.env_file);
    }
}

/// The folder and the Dockerfile of a build must be there.
fn build_files(checker: &mut Checker<'_>, build: &Build) {
    let context = build.context.as_ref();
    let folder = context.map_or(Path::new("."), |context| context.as_path());
    if let Some(context) = context {
        let is_there = there(checker, folder, context.span(), "build context");
        if !is_there {
            return;
        }
    }
    if let Some(dockerfile) = &build.dockerfile {
        let path = folder.join(dockerfile.as_path());
        there(checker, &path, dockerfile.span(), "Dockerfile");
    } else if let Some(context) = context {
        let path = folder.join("Dockerfile");
        there(checker, &path, context.span(), "Dockerfile");
    }
}

fn env_files(checker: &mut Checker<'_>, files: &EnvFiles) {
    for file in &files.0 {
        if file.required != Some(false) {
            there(checker, file.path.as_path(), file.path.span(), "env file");
        }
    }
}

fn there(checker: &mut Checker<'_>, path: &Path, span: std::ops::Range<usize>, what: &str) -> bool {
    let is_there = checker.folder.join(path).exists();
    if !is_there {
        let diagnostic = Rule::MissingFile
            .error(format!("the {what} `{}` is not there", path.display()))
            .help(match what {
                "env file" => "make it, or write `{ path: …, required: false }`",
                _ => "make it, or mend the path; it is relative to this file's folder",
            });
        checker.report(diagnostic, span, "");
    }
    is_there
}
