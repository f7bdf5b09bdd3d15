//! Base images and builds.

use std::ops::Range;
use std::path::Path;

use super::{Checker, Rule};
use crate::facts;
use crate::manifest::schema::Build;

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for (name, image) in &root.images {
        let message = match (&image.value.pull, &image.value.build) {
            (Some(_), Some(_)) => Some("is both pulled and built"),
            (None, None) if checker.is_whole(&image.extent) => Some("is neither pulled nor built"),
            (None, Some(_)) if image.value.bootstrap.is_some() => {
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
        if let Some(build) = &image.value.build {
            build_files(checker, build);
        }
        if let Some(bootstrap) = &image.value.bootstrap {
            checker.exists(bootstrap.as_path(), bootstrap.span(), "bootstrap program");
        }
    }
    for job in root.jobs.values() {
        if let Some(build) = &job.value.build {
            build_files(checker, build);
        }
    }
}

/// The folder and the Dockerfile of a build must be there.
fn build_files(checker: &mut Checker<'_>, build: &Build) {
    let context = build.context.as_ref();
    let folder = context.map_or(Path::new("."), |context| context.as_path());
    if let Some(context) = context {
        let exists = checker.exists(folder, context.span(), "build context");
        if !exists {
            return;
        }
    }
    if let Some(dockerfile) = &build.dockerfile {
        let path = folder.join(dockerfile.as_path());
        dockerfile_exists(checker, &path, dockerfile.span());
    } else if let Some(context) = context {
        let path = folder.join("Dockerfile");
        dockerfile_exists(checker, &path, context.span());
    }
}

/// A Dockerfile must be there, in one of its spellings.
fn dockerfile_exists(checker: &mut Checker<'_>, path: &Path, span: Range<usize>) {
    let found = facts::dockerfile(checker.folder.join(path));
    let path = if found.exists() { &found } else { path };
    checker.exists(path, span, "Dockerfile");
}
