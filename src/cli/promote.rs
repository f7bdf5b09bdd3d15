//! `jobctl promote` and `jobctl rollback`

use clap::Args;

use super::context::Context;
use super::run::no_flags;
use super::up::{PatienceArgs, asked, fail, in_pipeline, load, planned};
use super::{Ending, reach};
use crate::diagnostic::Diagnostic;
use crate::engine::run::RunError;
use crate::exit::Exit;
use crate::manifest::Manifest;
use crate::ops::run::RunFailure;
use crate::ops::up::{UpFailure, Wishes, promote};
use crate::plan::run::Subject;
use crate::report::{promoted_human, promoted_json, up_human, up_json};

/// Promote a run: gates compare with it as `promoted.METRIC`
///
/// The runs that it was made from are promoted with it. `jobctl up` promotes what a service stands on by
/// itself, once the service is healthy.
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    /// The run: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    run: String,
}

/// Roll a service back to its previous run
///
/// The same image is run with the same inputs, and is found to be healthy before the one that is up ends.
/// Secrets, which no record has, are those of jobs.yaml and of your shell.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The service; the only one, if not given
    #[arg(value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    patience: PatienceArgs,
}

pub(super) fn exec(args: &PromoteArgs, context: &mut Context) -> Ending {
    let id = match reach::run(context, &args.run) {
        Ok(id) => id,
        Err(exit) => return Ok(exit.of_other_verb()),
    };
    match promote(&context.store(), id) {
        Ok(promoted) => {
            context
                .output
                .result(|| promoted_human(&promoted), || promoted_json(&promoted));
            Ok(Exit::Success)
        }
        Err(failure) => Ok(fail(context, &failure)?.of_other_verb()),
    }
}

pub(super) fn exec_rollback(args: &RollbackArgs, context: &mut Context) -> Ending {
    let manifest = match load(context) {
        Ok(manifest) => manifest,
        Err(found) => return Ok(unusable(context, &found)),
    };
    let planning = service(&manifest, args.job.as_deref());
    let planning = planning.and_then(|subject| match subject {
        Subject::Job(_, name, job) => {
            let flags = no_flags(context)?;
            Ok((name, planned(&manifest, name, job, &flags, context)?))
        }
        Subject::Image(_) => unreachable!("a job is asked for by its name"),
    });
    let (name, plan) = match planning {
        Ok(planned) => planned,
        Err(found) => return Ok(unusable(context, &found)),
    };
    let wishes = Wishes {
        asked: asked(&[&plan], context),
        explains: false,
        is_fresh: false,
        at_once: 1,
        patience: args.patience.get(),
        is_forward: false,
    };
    let outcome = in_pipeline(context, wishes, async |pipeline, controls| {
        let done = Box::pin(pipeline.rollback(name, plan, controls)).await?;
        Ok(vec![done])
    })?;
    match outcome {
        Ok(done) => {
            context.output.result(|| up_human(&done), || up_json(&done));
            Ok(Exit::Success)
        }
        Err(failure) => {
            let is_engines = matches!(
                &failure,
                UpFailure::Run(RunFailure::Engine(_) | RunFailure::Run(RunError::Engine(_)))
            );
            let exit = fail(context, &failure)?;
            Ok(if is_engines {
                exit
            } else {
                exit.of_other_verb()
            })
        }
    }
}

/// Says why there is nothing to do: of a verb that ends with no job's code.
fn unusable(context: &Context, found: &[Diagnostic]) -> Exit {
    context.output.failure(found);
    Exit::Usage
}

/// The service that is meant.
fn service<'a>(
    manifest: &'a Manifest,
    named: Option<&str>,
) -> Result<Subject<'a>, Vec<Diagnostic>> {
    let jobs = manifest.root.jobs.iter();
    let services = jobs.filter(|(_, job)| job.value.is_service());
    let services: Vec<_> = services.map(|(name, _)| name.as_str()).collect();
    let wrong = |message: String| {
        let help = match services.as_slice() {
            [] => "give a job `service: true`".to_owned(),
            services => format!("name a service: {}", services.join(", ")),
        };
        vec![Diagnostic::error("usage", message).help(help)]
    };
    let name = match (named, services.as_slice()) {
        (Some(name), _) => name,
        (None, [name]) => name,
        (None, []) => return Err(wrong("there is no service".to_owned())),
        (None, _) => return Err(wrong("which service is meant is not said".to_owned())),
    };
    let subject = Subject::job(manifest, Some(name)).map_err(|error| vec![error.into()])?;
    if services.contains(&name) {
        Ok(subject)
    } else {
        Err(wrong(format!("`{name}` is no service")))
    }
}
