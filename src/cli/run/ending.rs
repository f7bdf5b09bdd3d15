//! What is said of a run that is over.

use std::io;

use crate::cli::ci::Made;
use crate::cli::context::Context;
use crate::cli::output::unwritten;
use crate::engine::run::RunError;
use crate::exit::Exit;
use crate::model::{Digest, ImageRef};
use crate::ops::metrics::metrics;
use crate::ops::run::RunFailure;
use crate::records::{Ending, ImageRecord, Record};
use crate::report::{
    PlotX, build_failure, charts, outputs, plots, printable_text, run_ended, runs_summary,
};

/// Reports how a run ended, where people read it, and ends with its exit code.
pub(in crate::cli) fn say(context: &Context, record: &Record) -> Exit {
    said(context, record, context.tells_of_runs())
}

/// The same of a run that this process started: that is always reported.
pub(super) fn say_own(context: &Context, record: &Record) -> Exit {
    said(context, record, true)
}

fn said(context: &Context, record: &Record, is_told: bool) -> Exit {
    for warning in &record.warnings {
        context.output.warning(&printable_text(warning));
    }
    match record.ending {
        // The job's own affair: whoever wants to hear nothing of it is told by the exit code.
        Some(Ending::Success | Ending::Error | Ending::Stopped) => {
            if is_told {
                context.output.note(&run_ended(record));
                if let Some(hint) = replaced_command(record) {
                    context.output.note(&format!("help: {hint}"));
                }
            }
        }
        _ => {
            let help = help(record);
            context.output.unrun(&run_ended(record), help.as_deref());
        }
    }
    let has_files = record.outputs.values().any(|output| output.file_count > 0);
    if has_files && is_told {
        context.output.note(&outputs(record));
    }
    let_ci_know(context, record);
    exit(record)
}

/// Tells a CI system of runs that are over: the last is the one that the next steps know.
pub(in crate::cli) fn tell_ci(context: &Context, records: &[&Record]) -> io::Result<()> {
    if let Some(last) = records.last() {
        made(context, last)?;
    }
    context.summary(|| {
        let runs = records.iter().map(|record| {
            let run = (context.store().run(record.id), (*record).clone());
            // A run without metrics has no curves.
            let charts = metrics(&[run], &[]).map(|runs| charts(&plots(&runs, PlotX::Step)));
            (*record, charts.unwrap_or_default())
        });
        runs_summary(&runs.collect::<Vec<_>>())
    })
}

/// Lets the next steps know a run, which may have just started.
fn made(context: &Context, record: &Record) -> io::Result<()> {
    let id = record.image.id.as_ref().and_then(|id| id.parse().ok());
    context.ci.made(&Made {
        image: Some(record.image.name.clone()),
        digest: registry_digest(&record.image).as_ref(),
        id: id.as_ref(),
        run: Some(record.id.to_string()),
        ..Made::default()
    })
}

/// What is reported of a run that was started in the background: nobody else is there to hear its warnings, and
/// the next steps of CI are to know it. One that ended meanwhile is in the step's summary.
pub(super) fn say_started(context: &Context, record: &Record) {
    for warning in &record.warnings {
        context.output.warning(&printable_text(warning));
    }
    if record.state.is_final() {
        let_ci_know(context, record);
    } else if let Err(error) = made(context, record) {
        context.output.warning(&unwritten(&error));
    }
}

/// Tells a CI system of a run that is over. Where that fails, the run is what it was.
pub(super) fn let_ci_know(context: &Context, record: &Record) {
    if let Err(error) = tell_ci(context, &[record]) {
        context.output.warning(&unwritten(&error));
    }
}

/// The digest that the registry of an image's own name has it under, if it was pulled or pushed.
fn registry_digest(image: &ImageRecord) -> Option<Digest> {
    let name: ImageRef = image.name.parse().ok()?;
    let digests = image.repo_digests.iter();
    let mut digests = digests.filter_map(|text| text.parse::<ImageRef>().ok());
    let own = digests.find(|known| known.repository() == name.repository());
    own?.digest().cloned()
}

/// Says how a run failed that nobody watched by itself.
pub(in crate::cli) fn say_failed(context: &Context, record: &Record) -> Exit {
    for warning in &record.warnings {
        context.output.warning(&printable_text(warning));
    }
    let help = help(record)
        .unwrap_or_else(|| format!("`jobctl logs {}` has what it wrote", record.id.short()));
    context.output.unrun(&run_ended(record), Some(&help));
    exit(record)
}

/// What may be wrong where a program was not found, or could not be executed, and ARGS replaced the job's
/// `command`: people expect them to be added to it.
fn replaced_command(record: &Record) -> Option<String> {
    let words = |list: &serde_json::Value| -> Option<Vec<String>> {
        let words = list.as_array()?.iter();
        words.map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let ran = words(&record.container["command"])?;
    let manifest = record.manifest.as_ref()?;
    let of_job = words(&manifest["command"]);
    let is_unfound = matches!(record.exit_code, Some(126 | 127));
    if !is_unfound || ran.is_empty() || of_job.as_ref() == Some(&ran) {
        return None;
    }
    let args = shell_words::join(&ran);
    let job = record.job.as_deref()?;
    Some(match of_job {
        Some(of_job) => format!(
            "ARGS replace the job's `command`; to add to it: `jobctl run {job} -- {} {args}`",
            shell_words::join(of_job)
        ),
        None => format!(
            "ARGS replace the image's CMD; write the program first: `jobctl run {job} -- PROGRAM {args}`"
        ),
    })
}

/// How to fix what kept a run from starting.
fn help(record: &Record) -> Option<String> {
    if let Some(hint) = replaced_command(record) {
        return Some(hint);
    }
    let message = String::new();
    match (record.ending, record.exit_code) {
        (Some(Ending::NotStarted), Some(127)) => RunError::NotFound { message }.help(),
        (Some(Ending::NotStarted), Some(126)) => RunError::NotExecutable { message }.help(),
        (Some(Ending::Oom), _) => {
            Some("give it more: `--memory`, or `resources` in jobs.yaml".to_owned())
        }
        (Some(Ending::Timeout), _) => {
            Some("give it more: `--timeout`, or `timeout` in jobs.yaml".to_owned())
        }
        (Some(Ending::OutputsLost), _) => Some(format!(
            "its container is kept: `jobctl collect {run}` tries again, with `outputs` as jobs.yaml has \
             them then; `jobctl up --fresh` runs the job again; `jobctl rm --force {run}` discards it",
            run = record.id.short()
        )),
        _ => None,
    }
}

/// The exit code of a run that is over.
pub(in crate::cli) fn exit(record: &Record) -> Exit {
    match (record.ending, record.exit_code) {
        (_, Some(0)) => Exit::Success,
        (Some(Ending::Timeout), _) => Exit::Timeout,
        (Some(Ending::Infra | Ending::Lost | Ending::Removed), _) | (_, None) => Exit::Engine,
        (_, Some(code)) => Exit::Job(code),
    }
}

/// Says why there was no run.
pub(in crate::cli) fn fail(context: &Context, failure: &RunFailure) -> Exit {
    match failure {
        RunFailure::Engine(error) => context.output.engine(error),
        RunFailure::Build(failure) => {
            // Whoever closed stdout does not want it.
            context.output.failure(&[build_failure(failure)]);
            Exit::Engine
        }
        other => context
            .output
            .unrun(&other.to_string(), other.help().as_deref()),
    }
}
