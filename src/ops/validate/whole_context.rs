//! Images that take in what changes without the job changing.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::context::{Filter, LARGEST_BUILD_FILE, Patterns};
use crate::diagnostic::Diagnostic;
use crate::facts::{Environment, read_small};
use crate::manifest::schema::Build;
use crate::manifest::{Located, Manifest, Rule};
use crate::plan::build::{BuildFlags, BuildSpec, Item, plan};

/// Recommends to leave the repository's own files, the manifest and the state of jobctl out of images that
/// take their whole context: each commit and each edit would be another image, and `up` would run the job
/// again.
pub(super) fn check(
    manifest: &Manifest,
    path: &Path,
    state: &Path,
    environment: &Environment,
) -> Vec<Diagnostic> {
    // What can't be planned is an error when it is built.
    let items = plan(Some(manifest), &[], &BuildFlags::default(), environment);
    let items = items.unwrap_or_default();
    let found = items.iter().filter_map(|item| match item {
        Item::Build(spec) => recommendation(manifest, spec, &[path, state]),
        Item::Base(_) => None,
    });
    found.collect()
}

fn recommendation(manifest: &Manifest, spec: &BuildSpec, others: &[&Path]) -> Option<Diagnostic> {
    let (context, dockerfile) = (&spec.recipe.context, &spec.recipe.dockerfile);
    let taken = taken(spec, others)?;
    let shown: Vec<_> = taken.iter().map(|path| format!("`{path}`")).collect();
    let shown = shown.join(" and ");
    let own = PathBuf::from(format!("{}.dockerignore", dockerfile.display()));
    let ignore_file = if own.exists() {
        own
    } else {
        context.join(".dockerignore")
    };
    let base = manifest.folder.as_path();
    let ignore_file = ignore_file.strip_prefix(base).unwrap_or(&ignore_file);
    let title = &spec.title;
    let diagnostic = Rule::WholeContext
        .warning(format!(
            "the image of `{title}` has {shown} in it: each change there makes another image, and `up` \
             runs the job again"
        ))
        .at(&manifest.source, place(manifest, spec)?, "")
        .help(format!(
            "add to `{}`: {}",
            ignore_file.display(),
            shown.replace(" and ", ", ")
        ));
    Some(diagnostic)
}

/// What an image takes in of paths that are no part of a job, each from the context.
fn taken(spec: &BuildSpec, others: &[&Path]) -> Option<Vec<String>> {
    let (context, dockerfile) = (&spec.recipe.context, &spec.recipe.dockerfile);
    let text = read_small(dockerfile, LARGEST_BUILD_FILE).ok()?;
    let whole = spec.sources(&text).whole;
    let left_out: Vec<_> = whole
        .iter()
        .filter_map(|patterns| Patterns::from_lines(patterns).ok())
        .collect();
    let filter = Filter::of_build(context, dockerfile).ok()?;
    let git = context.join(".git");
    let candidates = others.iter().copied().chain([git.as_path()]);
    let candidates = candidates.filter(|path| path.exists());
    let candidates = candidates.filter_map(|path| path.strip_prefix(context).ok());
    let is_taken = |path: &&Path| {
        // A pattern may name all that is in a directory, and not the directory.
        let paths = [path.to_path_buf(), path.join("HEAD")];
        let is_in = |patterns: &Patterns| {
            let mut paths = paths.iter();
            paths.any(|path| patterns.matches(path.as_os_str().as_encoded_bytes()))
        };
        !is_in(&filter.excludes) && left_out.iter().any(|patterns| !is_in(patterns))
    };
    let mut taken: Vec<_> = candidates
        .filter(is_taken)
        .map(|path| path.display().to_string())
        .collect();
    taken.sort();
    (!taken.is_empty()).then_some(taken)
}

/// Where the manifest says how an image is built.
fn place(manifest: &Manifest, spec: &BuildSpec) -> Option<Range<usize>> {
    let root = &manifest.root;
    let (key, build): (Range<usize>, Option<&Build>) = if spec.is_base {
        let (_, image) = root
            .images
            .iter()
            .find(|(name, _)| name.as_str() == spec.title)?;
        (image.key.span(), image.value.build.as_ref())
    } else {
        let (_, job) = root
            .jobs
            .iter()
            .find(|(name, _)| name.as_str() == spec.title)?;
        (job.key.span(), job.value.build.as_ref())
    };
    let context = build.and_then(|build| build.context.as_ref());
    Some(context.map_or(key, Located::span))
}
