//! `jobctl export`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::run::no_flags;
use super::up::{load, steps};
use crate::exit::Exit;
use crate::plan::export::compose;
use crate::plan::run::RunFlags;
use crate::report::{compose_file, printable_text};

/// Write a job and all that it needs as a Compose file
///
/// What the other tool can't do is said on standard error, and in comments. Paths are relative to the
/// directory of jobs.yaml: put the file there.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Jobs of jobs.yaml; all services, if none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// The tool
    #[arg(long = "as", value_enum, value_name = "TOOL")]
    tool: Tool,
    /// Where to write it, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Tools whose words are known.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tool {
    /// docker compose
    Compose,
}

pub(super) fn exec(args: &ExportArgs, context: &mut Context) -> Exit {
    let planned = load(context).and_then(|manifest| {
        // What the caller must supply, the caller of compose supplies.
        let flags = RunFlags {
            allows_unset: true,
            ..no_flags(context)?
        };
        let steps = steps(&manifest, &args.jobs, &flags, context)?;
        Ok((manifest, steps))
    });
    let (manifest, steps) = match planned {
        Ok(planned) => planned,
        Err(found) => {
            context.output.failure(&found);
            return Exit::Usage;
        }
    };
    let Tool::Compose = args.tool;
    let export = compose(&manifest, &steps);
    let mut command = "jobctl export".to_owned();
    for job in &args.jobs {
        command.push(' ');
        command.push_str(job);
    }
    command.push_str(" --as compose");
    let text = compose_file(&export, &command);
    for note in &export.notes {
        context.output.warning(&printable_text(note));
    }
    match &args.output {
        None => context.output.result(|| text, || export.document.clone()),
        Some(path) => {
            let path = context.environment.current_dir().join(path);
            if let Err(error) = std::fs::write(&path, text) {
                let message = format!("can't write `{}`: {error}", path.display());
                return context.output.error(&message);
            }
        }
    }
    Exit::Success
}
