//! `jobctl run`

mod args;
pub(super) mod argv;
mod background;
pub(super) mod display;
pub(super) mod ending;
mod flags;
mod foreground;
pub(super) mod keys;
pub(super) mod signals;
mod terminal;

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use self::flags::flags;
use super::Ending;
use super::context::Context;
use super::trust;
use crate::diagnostic::{Diagnostic, plain};
use crate::exit::Exit;
use crate::manifest;
use crate::ops::build::{History, settle};
use crate::ops::env_files;
use crate::ops::run::{Asked, RunFailure, last_built};
use crate::plan::run::{ImageChoice, RunPlan, Subject, plan};
use crate::report::{build_failure, run_plan_human, run_plan_json};

pub(super) use self::args::RunArgs;
pub(super) use self::background::{
    SuperviseArgs, Told, adopt_in_background, launch, supervise_exec,
};
pub(super) use self::flags::no_flags;
pub(super) use self::foreground::{Hold, Signals, Unrun, say, say_undone};

/// How a run is asked for, besides what it is.
struct Wishes {
    asked: Asked,
    /// Where the run's id is written.
    cidfile: Option<PathBuf>,
    passes_signals: bool,
    detach_keys: Vec<u8>,
}

pub(super) fn exec(args: &RunArgs, context: &mut Context) -> Ending {
    let plan = match planned(args, context) {
        Ok(plan) => plan,
        Err(found) => {
            context.output.failure(&found);
            return Ok(Exit::Engine);
        }
    };
    let warnings = plan.warnings.iter();
    let warnings: Vec<_> = warnings
        .map(|warning| Diagnostic::warning("usage", warning))
        .collect();
    context.output.diagnostics(&warnings);
    if args.dry_run {
        return dry_run(context, plan);
    }
    let wishes = match wishes(args, &plan, context) {
        Ok(wishes) => wishes,
        Err((message, help)) => return Ok(context.output.unrun(&message, Some(&help))),
    };
    if let ImageChoice::Build(items) = &plan.image {
        trust::ask(context, items)?;
    }
    match args.terminal.detach {
        Some(true) => background::exec(context, plan, &wishes),
        _ => foreground::exec(context, plan, &wishes),
    }
}

/// Says what would be run, under the name that its image will have.
fn dry_run(context: &Context, mut plan: RunPlan) -> Ending {
    if let ImageChoice::Build(items) = &mut plan.image {
        let cache = super::build::cache_folder(&context.environment);
        let planned = std::mem::take(items);
        match context.watch(async |events| settle(planned, cache.as_ref(), events).await)? {
            Ok(settled) => *items = settled,
            Err(failure) => {
                context.output.failure(&[build_failure(&failure)]);
                return Ok(Exit::Engine);
            }
        }
    }
    if let ImageChoice::Built(spec) = &plan.image {
        let cache = super::build::cache_folder(&context.environment);
        let found = context.watch(async |events| {
            let engine = context.connect().await?;
            let store = context.store();
            let history = History::new(&store, cache.as_deref());
            last_built(&engine, &history, &plan, spec, events).await
        })?;
        match found {
            Ok(image) => plan.spec.image = image.name,
            Err(RunFailure::Engine(error)) => {
                let warning = format!("whether its image is built is not known: {error}");
                context.output.warning(&warning);
            }
            Err(failure) => {
                return Ok(context
                    .output
                    .unrun(&failure.to_string(), failure.help().as_deref()));
            }
        }
    }
    context
        .output
        .result(|| run_plan_human(&plan), || run_plan_json(&plan));
    Ok(Exit::Success)
}

fn wishes(args: &RunArgs, plan: &RunPlan, context: &Context) -> Result<Wishes, (String, String)> {
    let terminal = &args.terminal;
    let is_detached = terminal.detach == Some(true);
    if plan.spec.tty && plan.spec.stdin && !is_detached && !io::stdin().is_terminal() {
        let failure = RunFailure::NoTerminal;
        return Err((failure.to_string(), failure.help().unwrap_or_default()));
    }
    let keys = terminal.detach_keys.as_deref().unwrap_or(keys::DEFAULT);
    let detach_keys = keys::parse(keys).map_err(|message| {
        let help = "write keys such as `ctrl-p,ctrl-q`".to_owned();
        (format!("--detach-keys: {message}"), help)
    })?;
    // As docker has it, an empty text says nothing.
    let cidfile = args.container.cidfile.as_ref();
    let cidfile = cidfile.filter(|path| !path.is_empty());
    let cidfile = cidfile.map(|path| context.environment.current_dir().join(path));
    if let Some(path) = cidfile.as_ref().filter(|path| path.exists()) {
        return Err((
            format!("--cidfile: there is a file `{}`", path.display()),
            "remove it, or name another".to_owned(),
        ));
    }
    if let Some(path) = &cidfile
        && let Err(error) = try_new(path)
    {
        let message = format!(
            "--cidfile: can't write `{}`: {}",
            path.display(),
            plain(&error)
        );
        return Err((
            message,
            "name a file in a directory that you can write to".to_owned(),
        ));
    }
    Ok(Wishes {
        asked: Asked {
            argv: context.recorded_words(&[plan]),
            is_detached,
            cache: super::build::cache_folder(&context.environment),
            nvidia_hook: context
                .environment
                .find_program("nvidia-container-runtime-hook"),
        },
        cidfile,
        passes_signals: terminal.sig_proxy.unwrap_or(true),
        detach_keys,
    })
}

/// Whether a file can be created, which is then not there yet.
fn try_new(path: &Path) -> io::Result<()> {
    File::create_new(path)?;
    std::fs::remove_file(path)
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
