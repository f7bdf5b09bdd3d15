//! `jobctl up`

use std::io::{self, Read as _};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc::unbounded_channel;

use super::Ending;
use super::context::{Context, Program};
use super::run::{Told, adopt_in_background, ending, launch, no_flags, signals};
use super::trust::{self, TrustArg};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::manifest::schema::Job;
use crate::manifest::{self, Manifest};
use crate::model::{Name, RunId};
use crate::ops::env_files;
use crate::ops::run::{Asked, Prepared, RunFailure};
use crate::ops::up::{
    Done, How, Launched, Launcher, Launching, Pipeline, UpFailure, Wishes, given_up,
};
use crate::plan::run::{ImageChoice, RunFlags, RunPlan, Subject, plan};
use crate::plan::up::{Step, after, order};
use crate::records::Store;
use crate::report::{pipeline_human, pipeline_json, printable_text, up_human, up_json};

/// Run a job and all that it needs, and start its service
///
/// Builds what is to be built, runs what JOB `needs` in order, and skips what was run before with the
/// same image, command, variables and inputs. A step whose `gate` is not met ends it with 1, and what was
/// up stays up. A service is started, found to be healthy, and only then put in the place of the one
/// before, without a request being lost. Without JOB, all services are meant; without one, the jobs that
/// no other needs. When it was cut short, the next one goes on from there. Ends with the code of the job
/// that failed; 1 for a gate that is not met or a service that is not healthy; 125 if jobctl or the
/// engine failed.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent, as flags are"
)]
pub(super) struct UpArgs {
    /// Jobs of jobs.yaml
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Run every step, also those that were run before
    #[arg(long)]
    fresh: bool,
    /// How many steps may run at once; as many as can, if not given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs_at_once: Option<u16>,
    #[command(flatten)]
    patience: PatienceArgs,
    /// Say of each step that runs why: what changed since the run before, from what to what
    #[arg(long, conflicts_with = "dry_run")]
    why: bool,
    /// Start services as jobs.yaml has them now, also those that were rolled back
    #[arg(long)]
    forward: bool,
    #[command(flatten)]
    trust: TrustArg,
    /// Say what would be run, in which order; do nothing
    #[arg(long)]
    dry_run: bool,
}

/// How long services are waited for.
#[derive(Debug, Args)]
pub(super) struct PatienceArgs {
    /// How long a service may take to be healthy: 90s, 5m
    #[arg(long, value_name = "TIME", default_value = "5m")]
    wait_timeout: crate::model::Duration,
}

pub(super) fn exec(args: &UpArgs, context: &mut Context) -> Ending {
    let manifest = match load(context) {
        Ok(manifest) => manifest,
        Err(found) => return Ok(unusable(context, &found)),
    };
    let planned = no_flags(context).and_then(|mut flags| {
        flags.build.trust = args.trust.get(context);
        steps(&manifest, &args.jobs, &flags, context)
    });
    let steps = match planned {
        Ok(steps) => steps,
        Err(found) => return Ok(unusable(context, &found)),
    };
    for warning in steps.iter().flat_map(|step| &step.plan.warnings) {
        context.output.warning(&printable_text(warning));
    }
    if args.dry_run {
        context
            .output
            .result(|| pipeline_human(&steps), || pipeline_json(&steps));
        return Ok(Exit::Success);
    }
    let built = steps.iter().flat_map(|step| match &step.plan.image {
        ImageChoice::Build(items) => items.as_slice(),
        _ => &[],
    });
    trust::ask(context, built)?;
    let plans: Vec<_> = steps.iter().map(|step| &step.plan).collect();
    let wishes = Wishes {
        asked: asked(&plans, context),
        is_fresh: args.fresh,
        explains: args.why,
        at_once: args.jobs_at_once.map_or(usize::MAX, usize::from),
        patience: args.patience.get(),
        is_forward: args.forward,
    };
    let outcome = in_pipeline(context, wishes, async |pipeline, controls| {
        pipeline.up(steps, controls).await
    })?;
    match outcome {
        Ok(done) => {
            // What was run before had its warnings then.
            let ran = done.iter().filter(|step| step.how != How::UpToDate);
            for warning in ran.flat_map(|step| &step.record.warnings) {
                context.output.warning(warning);
            }
            let records: Vec<_> = done.iter().map(|step| &step.record).collect();
            ending::tell_ci(context, &records)?;
            context.output.result(|| up_human(&done), || up_json(&done));
            Ok(Exit::Success)
        }
        Err(failure) => fail(context, &failure),
    }
}

impl PatienceArgs {
    pub(super) fn get(&self) -> Duration {
        self.wait_timeout.get()
    }
}

/// The manifest, without which there is nothing to do.
pub(super) fn load(context: &Context) -> Result<Manifest, Vec<Diagnostic>> {
    let (path, shown) = context.manifest().map_err(|found| vec![*found])?;
    let manifest = manifest::load(&path, &shown, &context.environment)?;
    context.output.diagnostics(&manifest.warnings);
    Ok(manifest)
}

/// Says why there is nothing to do.
pub(super) fn unusable(context: &Context, found: &[Diagnostic]) -> Exit {
    context.output.failure(found);
    Exit::Engine
}

/// The jobs that are meant with all that they need, in an order in which they can be run.
pub(super) fn steps(
    manifest: &Manifest,
    named: &[String],
    flags: &RunFlags,
    context: &Context,
) -> Result<Vec<Step>, Vec<Diagnostic>> {
    let jobs = order(manifest, named).map_err(|error| vec![error.into()])?;
    let mut steps = Vec::new();
    let mut found = Vec::new();
    for (name, job) in jobs {
        match planned(manifest, name, job, flags, context) {
            Ok(plan) => steps.push(Step {
                job: name.clone(),
                after: after(job),
                is_service: job.is_service(),
                plan,
            }),
            Err(errors) => found.extend(errors),
        }
    }
    if found.is_empty() {
        Ok(steps)
    } else {
        Err(found)
    }
}

/// How a job is run.
pub(super) fn planned(
    manifest: &Manifest,
    name: &Name,
    job: &Job,
    flags: &RunFlags,
    context: &Context,
) -> Result<RunPlan, Vec<Diagnostic>> {
    let subject = Subject::Job(manifest, name, job);
    let files = env_files::read(&subject, flags, &context.environment)?;
    plan(&subject, flags, &files, &context.environment)
}

/// What every run of a pipeline is asked for with.
pub(super) fn asked(plans: &[&RunPlan], context: &Context) -> Asked {
    Asked {
        argv: context.recorded_words(plans),
        is_detached: false,
        cache: super::build::cache_folder(&context.environment),
        nvidia_hook: context
            .environment
            .find_program("nvidia-container-runtime-hook"),
    }
}

/// Does something with a project's pipelines, and passes on what the user asks meanwhile.
pub(super) fn in_pipeline(
    context: &Context,
    wishes: Wishes,
    work: impl AsyncFnOnce(
        Arc<Pipeline<Processes>>,
        &mut crate::ops::run::Controls,
    ) -> Result<Vec<Done>, UpFailure>,
) -> io::Result<Result<Vec<Done>, UpFailure>> {
    let store = context.store();
    let launcher = Processes::new(context)?;
    context.watch(async |events| {
        let (sender, mut controls) = unbounded_channel();
        signals::listen_for_all(&sender);
        let engine = tokio::select! {
            engine = context.connect() => engine.map_err(RunFailure::from)?,
            () = given_up(&mut controls) => return Err(UpFailure::Interrupted),
        };
        let pipeline = Pipeline {
            engine,
            store,
            wishes,
            launcher,
            events: events.clone(),
        };
        work(Arc::new(pipeline), &mut controls).await
    })
}

/// Says why a pipeline did not get to its end.
pub(super) fn fail(context: &Context, failure: &UpFailure) -> Ending {
    let output = &context.output;
    let message = printable_text(&failure.to_string());
    context.summary(|| format!("**Not done**: {message}"))?;
    let exit = match failure {
        UpFailure::Run(failure) => return Ok(ending::fail(context, failure)),
        UpFailure::Step { record, .. } => return Ok(ending::say_failed(context, record)),
        UpFailure::Interrupted => {
            let exit = output.interrupted("interrupted; the next `jobctl up` continues from here");
            // It may be another process that has stopped the run.
            return Ok(signals::asked_to_part().unwrap_or(exit));
        }
        UpFailure::Detached => {
            output.note(
                "let go of what runs; `jobctl ps` lists it, and the next `jobctl up` waits for it",
            );
            return Ok(signals::parting());
        }
        UpFailure::Gate { .. }
        | UpFailure::Unhealthy { .. }
        | UpFailure::Ailing { .. }
        | UpFailure::NoWayBack { .. } => Exit::Failed,
        UpFailure::NotPromotable { .. } => Exit::Failed,
        UpFailure::Port { .. } | UpFailure::Listener { .. } | UpFailure::Busy => Exit::Engine,
    };
    let mut why = Diagnostic::error("up", message);
    if let UpFailure::Unhealthy { log, .. } = failure {
        why.notes
            .extend(log.iter().map(|line| printable_text(line)));
    }
    why.help.extend(failure.help());
    output.failure(&[why]);
    Ok(exit)
}

/// Processes of this program that keep running when this one has ended.
pub(super) struct Processes {
    program: Program,
    store: Store,
}

impl Processes {
    pub(super) fn new(context: &Context) -> io::Result<Self> {
        Ok(Self {
            program: context.program()?,
            store: context.store(),
        })
    }
}

impl Launcher for Processes {
    fn supervisor(&self, prepared: &Prepared) -> io::Result<Launching> {
        let launched = launch(&self.program, prepared, None)?;
        Ok(Box::new(|| {
            Ok(match launched.wait()? {
                Told::Started { .. } => Launched::Started,
                Told::Over { code, message } => Launched::Over(code, message),
            })
        }))
    }

    fn adopter(&self, run: RunId) -> io::Result<()> {
        let log = self.store.run(run).supervisor_log()?;
        adopt_in_background(&self.program, run, log)
    }

    fn listener(&self, job: &Name) -> Result<(), String> {
        let told = self.listen(job).map_err(|error| error.to_string())?;
        match told.trim() {
            super::listen::READY => Ok(()),
            "" => Err("the process that is to listen ended".to_owned()),
            why => Err(why.to_owned()),
        }
    }
}

impl Processes {
    /// Starts the process that listens; what it tells.
    fn listen(&self, job: &Name) -> io::Result<String> {
        let log = self.store.service(job).log()?;
        let mut child = self
            .program
            .command("listen")
            .arg(job.as_str())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut told = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            // It closes it as soon as it listens.
            stdout.read_to_string(&mut told)?;
        }
        Ok(told)
    }
}
