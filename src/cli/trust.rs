//! `jobctl trust`, and the question whether a program of the project may run.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::context::{Context, resolved};
use crate::diagnostic::{Diagnostic, plain};
use crate::exit::Exit;
use crate::facts::host;
use crate::manifest::{self, Manifest};
use crate::plan::build::{Bootstrap, BuildFlags, Item, plan};
use crate::records::{Grant, HostProgram, Trust, Untrusted};
use crate::report::{host_program, revoked_json, trust_human, trust_json};

/// Allow the programs that jobs.yaml runs on this machine, as they are now
///
/// A `bootstrap` is run outside of any container, where its image can't be pulled. It may run once it was
/// allowed here, or when asked on a terminal; a change of the program, of the repository's files that its `#!`
/// line names, or of what it is called with, needs that again. Files that the program reads in turn are not
/// looked at. `JOBCTL_TRUST=1` allows all programs for one call.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    /// The project's directory; the project here, if not given
    #[arg(value_name = "DIR", conflicts_with = "list")]
    project: Option<PathBuf>,
    /// List what is allowed, of all projects, and whether it has changed since
    #[arg(long)]
    list: bool,
    /// Take back all that was allowed to the project
    #[arg(long, conflicts_with = "list")]
    revoke: bool,
}

/// Whether the project's programs may run, for verbs that may run them.
#[derive(Debug, Args)]
pub(super) struct TrustArg {
    /// Run the programs that jobs.yaml runs on this machine without asking; as `JOBCTL_TRUST=1` does
    #[arg(long)]
    trust: bool,
}

impl TrustArg {
    pub(super) fn get(&self, context: &Context) -> Trust {
        let trust = trust(context);
        let is_given = self.trust || trust.is_given();
        trust.given(is_given)
    }
}

/// What the user trusts: what he allowed, or all if `JOBCTL_TRUST` says so.
fn trust(context: &Context) -> Trust {
    let word = context.environment.get("JOBCTL_TRUST").unwrap_or_default();
    let is_given = ["1", "true", "yes", "on"].contains(&word);
    let directory = context.user_state().map(|state| state.join("trust"));
    Trust::new(directory).given(is_given)
}

pub(super) fn exec(args: &TrustArgs, context: &mut Context) -> Exit {
    let trust = trust(context).given(false);
    if args.list {
        return match trust.grants() {
            Ok(grants) => show(context, &grants),
            Err(error) => unreadable(context, &error),
        };
    }
    let found = match &args.project {
        None => context.manifest().map_err(|found| vec![*found]),
        Some(directory) => Ok(of(directory, context)),
    };
    let (path, shown) = match found {
        Ok(found) => found,
        Err(found) => {
            context.output.failure(&found);
            return Exit::Usage;
        }
    };
    if let Some(directory) = &args.project
        && !args.revoke
        && !path.exists()
    {
        let message = format!("there is no jobs.yaml in `{}`", directory.display());
        let help = "name the directory of one; for a file of another name: `jobctl -f FILE trust`";
        return context.output.usage(&message, Some(help));
    }
    if args.revoke {
        // A project that is gone can be named, too.
        let manifest = resolved(path);
        return match trust.revoke(&manifest) {
            Ok(revoked) => {
                for grant in &revoked {
                    let program = grant.program.program.display();
                    context
                        .output
                        .note(&format!("no longer trusted: {program}"));
                }
                if revoked.is_empty() {
                    let shown = manifest.display();
                    context
                        .output
                        .note(&format!("nothing of {shown} was trusted"));
                }
                context
                    .output
                    .all_done(|| revoked_json(&manifest, &revoked));
                Exit::Success
            }
            Err(error) => unreadable(context, &error),
        };
    }
    let manifest = match manifest::load(&path, &shown, &context.environment) {
        Ok(manifest) => manifest,
        Err(found) => {
            context.output.failure(&found);
            return Exit::Usage;
        }
    };
    match programs(&manifest, context) {
        Ok(programs) if programs.is_empty() => {
            let said = format!("{} runs no program on this machine", shown.display());
            context.output.result(|| said, || trust_json(&[]));
            Exit::Success
        }
        Ok(programs) => allow(context, &trust, programs),
        Err(why) => context.output.failed(&why),
    }
}

/// The manifest of a directory, whether it exists or not: its path, and the path as the user knows it.
fn of(directory: &Path, context: &Context) -> (PathBuf, PathBuf) {
    let whole = context.environment.current_dir().join(directory);
    let name = match manifest::find(&whole) {
        Some(found) if found.parent() == Some(whole.as_path()) => {
            found.file_name().unwrap_or_default().to_owned()
        }
        _ => "jobs.yaml".into(),
    };
    (whole.join(&name), directory.join(&name))
}

/// The programs that a manifest names, as they are now.
fn programs(manifest: &Manifest, context: &Context) -> Result<Vec<HostProgram>, Box<Diagnostic>> {
    let flags = BuildFlags::default();
    let items = plan(Some(manifest), &[], &flags, &context.environment);
    let items = items.map_err(|error| Box::new(error.into()))?;
    let mut programs = Vec::new();
    for bootstrap in bootstraps(&items) {
        match bootstrap.untrusted() {
            Ok(Some(Untrusted { program, .. })) if !programs.contains(&program) => {
                programs.push(program);
            }
            Ok(_) => {}
            Err(error) => {
                let program = bootstrap.program.display();
                let message = format!("can't read `{program}`: {}", plain(&error));
                let help =
                    "it is the `bootstrap` of a base image: correct that in jobs.yaml, or the file";
                return Err(Box::new(Diagnostic::error("trust", message).help(help)));
            }
        }
    }
    Ok(programs)
}

fn bootstraps<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<&'a Bootstrap> {
    let bases = items.into_iter().filter_map(|item| match item {
        Item::Base(base) => base.bootstrap.as_deref(),
        Item::Build(_) => None,
    });
    bases.collect()
}

fn allow(context: &Context, trust: &Trust, programs: Vec<HostProgram>) -> Exit {
    let granted = host::now();
    let mut grants = Vec::new();
    for program in programs {
        if let Err(error) = trust.grant(&program, granted) {
            return context.output.failed(&not_kept(&error));
        }
        grants.push(Grant { program, granted });
    }
    show(context, &grants)
}

fn show(context: &Context, grants: &[Grant]) -> Exit {
    context
        .output
        .result(|| trust_human(grants), || trust_json(grants));
    Exit::Success
}

fn unreadable(context: &Context, error: &io::Error) -> Exit {
    let message = format!("can't read what is trusted: {error}");
    context.output.error(&message)
}

fn not_kept(error: &io::Error) -> Diagnostic {
    Diagnostic::error("trust", format!("can't remember what is trusted: {error}")).help(
        "set XDG_STATE_HOME to a directory of your own outside of the project, or JOBCTL_TRUST=1",
    )
}

/// Asks on a terminal whether the programs may run that make base images that are not here. Without a
/// terminal nothing is asked, and what is not trusted is refused when its turn comes.
pub(super) fn ask<'a>(
    context: &Context,
    items: impl IntoIterator<Item = &'a Item>,
) -> io::Result<()> {
    let is_ci = context.environment.get_non_empty("CI").is_some();
    if is_ci || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let bases = items.into_iter().filter_map(|item| match item {
        Item::Base(base) => Some((base, base.bootstrap.as_ref()?.untrusted().ok()??)),
        Item::Build(_) => None,
    });
    let bases: Vec<_> = bases.collect();
    if bases.is_empty() {
        return Ok(());
    }
    let missing = context.watch(async |_events| {
        let engine = context.connect().await.ok()?;
        let mut missing = Vec::new();
        for (base, untrusted) in bases {
            let is_here = engine.image(&base.image.to_string()).await.ok()?.is_some();
            if !is_here || base.pulls {
                missing.push((base, untrusted));
            }
        }
        Some(missing)
    })?;
    // What is wrong with the engine is reported when the work begins.
    for (base, untrusted) in missing.unwrap_or_default() {
        let program = &untrusted.program;
        context.output.note(&format!(
            "where `{}` can't be pulled, jobs.yaml makes it with a program of this project, {};\n{}",
            base.image,
            untrusted.reason(),
            host_program(program)
        ));
        if !is_yes(context)? {
            continue;
        }
        let trust = base.bootstrap.as_ref().map(|bootstrap| &bootstrap.trust);
        if let Some(Err(error)) = trust.map(|trust| trust.grant(program, host::now())) {
            context.output.diagnostics(&[not_kept(&error)]);
        }
    }
    Ok(())
}

fn is_yes(context: &Context) -> io::Result<bool> {
    context
        .output
        .ask("may it run, as long as it is unchanged? [y/N]");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(["y", "yes"].contains(&answer.as_str()))
}
