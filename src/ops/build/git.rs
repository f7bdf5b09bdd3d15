//! What git knows of a build context, and what becomes of a build where it knows nothing.

use super::Reason;
use crate::context::build_files;
use crate::facts::{self, GitFacts, NoGit};
use crate::plan::build::{BuildSpec, VersionChoice};

/// What git knows of what is built, and a warning if it should know more. It may wait for the disk.
///
/// # Errors
///
/// The version is git's to say, and git can't be asked, or its own rules keep the user from asking it.
pub(super) fn ask(spec: &BuildSpec) -> Result<(Option<GitFacts>, Option<String>), Reason> {
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
        Ok(known) => Ok((Some(known), None)),
        Err(why @ NoGit::Unknown(_)) if needs_it => Err(Reason::Git {
            message: format!("the version of `{shown}` is not known: {why}"),
            help: "see what `git status` says there, or say the version: `--version 1.2.3`"
                .to_owned(),
        }),
        Err(why) if needs_it => Ok((
            None,
            Some(format!("`{shown}` has the version 0.0.0-dev: {why}")),
        )),
        Err(why @ NoGit::Unknown(_)) => Ok((
            None,
            Some(format!(
                "whether `{shown}` is as it was committed is not known: {why}"
            )),
        )),
        Err(_) => Ok((None, None)),
    }
}
