//! `jobctl run`

mod args;
pub(super) mod argv;
mod flags;

use self::flags::flags;
use super::Ending;
use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::manifest;
use crate::ops::env_files;
use crate::plan::run::{RunPlan, Subject, plan};
use crate::report::{run_plan_human, run_plan_json};

pub(super) use self::args::RunArgs;

pub(super) fn exec(args: &RunArgs, context: &mut Context) -> Ending {
    let plan = match planned(args, context) {
        Ok(plan) => plan,
        Err(found) => {
            context.output.failure(&found)?;
            return Ok(Exit::Engine);
        }
    };
    let warnings = plan.warnings.iter();
    let warnings: Vec<_> = warnings
        .map(|warning| Diagnostic::warning("usage", warning))
        .collect();
    context.output.diagnostics(&warnings);
    if args.dry_run {
        context
            .output
            .result(|| run_plan_human(&plan), || run_plan_json(&plan))?;
        return Ok(Exit::Success);
    }
    context
        .output
        .usage("`run` can't run yet", Some("look at its plan: `--dry-run`"));
    Ok(Exit::Engine)
}

/// What is to be run. An image that is run by its name has nothing to do with jobs.yaml.
fn planned(args: &RunArgs, context: &Context) -> Result<RunPlan, Vec<Diagnostic>> {
    let (image, flags) = flags(args, context)?;
    let environment = &context.environment;
    let manifest;
    let subject = match image {
        Some(image) => Subject::Image(image),
        None => {
            let (path, shown) = context.manifest().map_err(|found| vec![*found])?;
            manifest = manifest::load(&path, &shown, environment)?;
            context.output.diagnostics(&manifest.warnings);
            Subject::job(&manifest, args.job.as_deref()).map_err(|error| vec![error.into()])?
        }
    };
    let files = env_files::read(&subject, &flags, environment)?;
    for (_, file) in &files.of_flags {
        context.output.diagnostics(&file.warnings);
    }
    plan(&subject, &flags, &files, environment)
}
