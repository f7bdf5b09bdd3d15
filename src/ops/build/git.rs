//! What git knows of a build context, and what becomes of a build where it knows nothing.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Reason;
use crate::context::{Filter, build_files};
use crate::facts::{self, EmptySubmodule, GitFacts, MissingTags, NoGit};
use crate::plan::build::{BuildSpec, VersionChoice};

/// What git knows of what is built, and warnings where it should know more. It may wait for the disk.
///
/// # Errors
///
/// The version is git's to say, and git can't be asked, or its own rules keep the user from asking it; or it
/// would be pushed under a version that git may not know.
pub(super) fn ask(spec: &BuildSpec) -> Result<(Option<GitFacts>, Vec<String>), Reason> {
    let context = &spec.recipe.context;
    let needs_it = spec.version == VersionChoice::Git;
    if needs_it && let Some((message, fix)) = facts::refusal(context) {
        return Err(Reason::Git {
            message: format!("the version is not known: {message}"),
            help: format!("if you trust its owner: `{fix}`"),
        });
    }
    let shown = context.display();
    let files = build_files(context, &spec.recipe.dockerfile);
    match facts::git(context, &files) {
        Ok(known) => {
            let mut warnings = submodule_warnings(spec, &known.empty_submodules);
            if needs_it && let Some(missing) = &known.missing_tags {
                let (why, fix) = explained(missing);
                if spec.is_deployed {
                    return Err(Reason::Git {
                        message: format!(
                            "the version of `{shown}` is not known: the newest commit has no tag `vX.Y.Z` here, {why}"
                        ),
                        help: format!("{fix}; or set the version: `--version 1.2.3`"),
                    });
                }
                warnings.push(format!(
                    "`{shown}` has the version 0.0.0-dev: the newest commit has no tag `vX.Y.Z` here, {why}: {fix}"
                ));
            }
            Ok((Some(known), warnings))
        }
        Err(why @ (NoGit::NoRepository | NoGit::NoCommit)) => {
            let warning = format!("`{shown}` has the version 0.0.0-dev: {why}");
            Ok((None, needs_it.then_some(warning).into_iter().collect()))
        }
        Err(why) if needs_it => Err(Reason::Git {
            message: format!("the version of `{shown}` is not known: {why}"),
            help: fix(&why).unwrap_or_else(|| {
                "see what `git status` says there, or say the version: `--version 1.2.3`".to_owned()
            }),
        }),
        Err(why) => {
            let fix = fix(&why).map(|fix| format!("; {fix}")).unwrap_or_default();
            let warning =
                format!("whether `{shown}` is as it was committed is not known: {why}{fix}");
            Ok((None, vec![warning]))
        }
    }
}

/// How to fix that git can't be asked, where that is known.
fn fix(why: &NoGit) -> Option<String> {
    match why {
        NoGit::Elsewhere { fix, .. } => Some(fix.clone()),
        NoGit::Partial(_) => Some(format!("fetch them: {FETCH_OBJECTS}")),
        NoGit::NoRepository | NoGit::NoCommit | NoGit::Unknown(_) => None,
    }
}

/// What makes a partial clone a whole one.
const FETCH_OBJECTS: &str = "`git fetch --refetch --no-filter`";

/// Why tags may not be here, and how to fetch them.
fn explained(missing: &MissingTags) -> (String, String) {
    match missing {
        MissingTags::Shallow => (
            "and one may be missing, as this is a shallow clone".to_owned(),
            "`git fetch --unshallow --tags`; in CI, set `fetch-depth: 0` for actions/checkout, `GIT_DEPTH: 0` \
             for GitLab"
                .to_owned(),
        ),
        MissingTags::NotFetched(remote) => {
            let key = format!("remote.{remote}.tagOpt");
            (
                format!("and one may be missing, as tags of `{}` are not fetched", remote.escape_debug()),
                format!(
                    "`git config --unset {}`, then `git fetch --tags`",
                    shell_words::quote(&key)
                ),
            )
        }
    }
}

/// Warns of submodules that a build gets as empty directories, for each repository that has some.
fn submodule_warnings(spec: &BuildSpec, submodules: &[EmptySubmodule]) -> Vec<String> {
    // An ignore file that can't be read is reported when the context is.
    let ignored = Filter::of_build(&spec.recipe.context, &spec.recipe.dockerfile);
    let Ok(context) = spec.recipe.context.canonicalize() else {
        return Vec::new();
    };
    let is_sent = |submodule: &&EmptySubmodule| {
        let place = submodule.top.join(&submodule.path);
        place.strip_prefix(&context).is_ok_and(|path| {
            let path = path.as_os_str().as_bytes();
            !ignored
                .as_ref()
                .is_ok_and(|filter| filter.excludes.matches(path))
        })
    };
    let mut paths: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    for submodule in submodules.iter().filter(is_sent) {
        let path = submodule.path.to_string_lossy();
        paths
            .entry(&submodule.top)
            .or_default()
            .push(path.into_owned());
    }
    let warnings = paths.into_iter().map(|(top, paths)| {
        let named: Vec<_> = paths
            .iter()
            .map(|path| format!("`{}`", path.escape_debug()))
            .collect();
        let is = match named.len() {
            1 => "is a submodule that was never checked out, and an empty directory",
            _ => "are submodules that were never checked out, and empty directories",
        };
        let top = top.to_string_lossy();
        let words = [
            "git",
            "-C",
            &top,
            "submodule",
            "update",
            "--init",
            "--recursive",
            "--",
        ];
        let words = words.into_iter().chain(paths.iter().map(String::as_str));
        format!(
            "{} {is} for the build: `{}`",
            named.join(", "),
            shell_words::join(words)
        )
    });
    warnings.collect()
}
