//! One file per verb: its arguments and `exec`. The only place for clap, stdout, exit codes and the
//! process's environment.
//!
//! Results go to stdout, everything else to stderr.

mod build;
mod completions;
mod context;
mod doctor;
mod get;
mod globals;
mod man;
mod metrics;
mod output;
mod panic;
mod plot;
mod runs;
mod schema;
mod show;
mod validate;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::context::Context;
use self::globals::Globals;
use crate::exit::Exit;

/// Reproducible, containerized ML jobs: build, version, ship, run, re-run and prove.
#[derive(Debug, Parser)]
#[command(
    name = "jobctl",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(Box<build::BuildArgs>),
    Runs(runs::RunsArgs),
    Show(show::ShowArgs),
    Get(get::GetArgs),
    Metrics(metrics::MetricsArgs),
    Plot(plot::PlotArgs),
    Doctor(doctor::DoctorArgs),
    Validate(validate::ValidateArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// What a verb ends with: an exit code, or an error of reading or writing.
type Ending = io::Result<Exit>;

/// Runs jobctl on the process's command line.
#[must_use]
pub fn main() -> ExitCode {
    panic::install_hook();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            // `--help | head` is no failure.
            let _ = error.print();
            return exit.into();
        }
    };
    cli.globals.start_tracing();
    let mut context = match Context::of_process(cli.globals) {
        Ok(context) => context,
        Err(message) => return output::fail_early(&message).into(),
    };
    let exit = match exec(cli.verb, &mut context) {
        Ok(exit) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => context.output.error(&format!("can't write: {error}")),
    };
    exit.into()
}

fn exec(verb: Verb, context: &mut Context) -> Ending {
    match verb {
        Verb::Build(args) => build::exec(&args, context),
        Verb::Runs(args) => runs::exec(&args, context),
        Verb::Show(args) => show::exec(&args, context),
        Verb::Get(args) => get::exec(&args, context),
        Verb::Metrics(args) => metrics::exec(&args, context),
        Verb::Plot(args) => plot::exec(&args, context),
        Verb::Doctor(args) => doctor::exec(&args, context),
        Verb::Validate(args) => validate::exec(&args, context),
        Verb::Schema(args) => schema::exec(&args, context),
        Verb::Completions(args) => completions::exec(&args, context),
        Verb::Man(args) => man::exec(&args, context),
    }
}

/// The command line as data, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
