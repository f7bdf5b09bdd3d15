//! Base images and builds.

use std::fs;
use std::path::Path;

use super::{Checker, Rule, THIS_DIRECTORY};
use crate::facts;
use crate::manifest::Located;
use crate::manifest::schema::{Build, VersionSource};
use crate::model::check_prefix;

pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    names(checker);
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
            checker.exists(
                bootstrap.as_path(),
                bootstrap.span(),
                "bootstrap program",
                THIS_DIRECTORY,
            );
        }
    }
    for job in root.jobs.values() {
        if let Some(build) = &job.value.build {
            build_files(checker, build);
        }
    }
}

/// What images are named with must make names.
fn names(checker: &mut Checker<'_>) {
    let root = checker.root;
    let Some(defaults) = &root.image else {
        return;
    };
    if let Some(prefix) = defaults.prefix.as_ref().filter(|prefix| !prefix.is_empty())
        && let Err(error) = check_prefix(prefix, root.name.as_str())
    {
        let diagnostic = Rule::InvalidValue.error(format!("`prefix`: {error}"));
        let diagnostic = diagnostic.help(error.help.unwrap_or_default());
        checker.report(diagnostic, prefix.span(), "");
    }
    if let Some(version) = &defaults.version
        && let VersionSource::Literal(literal) = &**version
        && let Err(error) = literal.image_tag()
    {
        let diagnostic = Rule::InvalidValue
            .error(format!("`version`: it can't be an image's tag: {error}"))
            .help("write a shorter version: `1.2.3-rc.1`");
        checker.report(diagnostic, version.span(), "");
    }
}

/// The folder and the Dockerfile of a build must be there.
fn build_files(checker: &mut Checker<'_>, build: &Build) {
    let context = build.context.as_ref();
    let folder = context.map_or(Path::new("."), |context| context.as_path());
    if let Some(context) = context {
        let exists = checker.exists(folder, context.span(), "build context", THIS_DIRECTORY);
        if !exists {
            return;
        }
    }
    let name = match &build.dockerfile {
        Some(dockerfile) => dockerfile.as_path(),
        None => Path::new("Dockerfile"),
    };
    let span = build.dockerfile.as_ref().map(Located::span);
    let Some(span) = span.or_else(|| context.map(Located::span)) else {
        return;
    };
    // It has more than one spelling.
    let path = checker.folder.join(folder).join(name);
    if facts::dockerfile(path).exists() {
        return;
    }
    let shown = match folder.to_str() {
        Some(".") => name.to_owned(),
        _ => folder.join(name),
    };
    let message = format!("the Dockerfile `{}` does not exist", shown.display());
    let fix = if build.dockerfile.is_none() {
        "create it, or name another one: `build: { context: …, dockerfile: … }`".to_owned()
    } else if name.is_relative() {
        format!(
            "create it, or fix `dockerfile`, which is relative to the build context `{}`",
            folder.display()
        )
    } else {
        "create it, or fix `dockerfile`".to_owned()
    };
    let submodule = if may_be_submodule(&checker.folder.join(folder)) {
        let folder = folder.to_string_lossy();
        format!(
            "; `{folder}` is empty: if it is a submodule, `git submodule update --init {}` fills it",
            shell_words::quote(&folder)
        )
    } else {
        String::new()
    };
    let help = format!("{fix}{submodule}");
    checker.report_file(&shown, Rule::MissingFile.error(message).help(help), span);
}

/// Whether a directory is empty, as a submodule is that was never checked out, and there are submodules.
fn may_be_submodule(folder: &Path) -> bool {
    let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    is_empty
        && folder
            .ancestors()
            .any(|above| above.join(".gitmodules").is_file())
}
