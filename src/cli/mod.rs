//! One file per verb: its arguments and `exec`. The only place for clap, stdout, exit codes and the
//! process's environment.
//!
//! Results go to stdout, everything else to stderr.

mod attach;
mod build;
mod ci;
mod collect;
mod completions;
mod context;
mod doctor;
mod down;
mod exec;
mod export;
mod get;
mod globals;
mod help;
mod hints;
mod images;
mod init;
mod listen;
mod login;
mod logs;
mod man;
mod metrics;
mod output;
mod panic;
mod plot;
mod promote;
mod ps;
mod pull;
mod push;
mod reach;
mod rm;
mod run;
mod runs;
mod schema;
mod show;
mod standard;
mod stop;
mod tag;
mod threads;
mod trust;
mod up;
mod validate;
mod wait;

use std::io;
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::ci::Ci;
use self::context::Context;
use self::globals::Globals;
use self::output::Output;
use self::standard::Standard;
use self::threads::NoThread;
use crate::event::Stream;
use crate::exit::Exit;
use crate::facts::Environment;
use crate::model::ValueError;

/// Reproducible, containerized ML jobs: build, version, ship, run, re-run and prove.
#[derive(Debug, Parser)]
#[command(
    name = "jobctl",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    help_template = "{about-with-newline}\n{usage-heading} {usage}{after-help}"
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
    Init(init::InitArgs),
    Build(Box<build::BuildArgs>),
    Push(push::PushArgs),
    Pull(pull::PullArgs),
    Images(images::ImagesArgs),
    Tag(tag::TagArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Run(Box<run::RunArgs>),
    Up(up::UpArgs),
    Down(down::DownArgs),
    Promote(promote::PromoteArgs),
    Rollback(promote::RollbackArgs),
    Ps(ps::PsArgs),
    Logs(logs::LogsArgs),
    Attach(attach::AttachArgs),
    Exec(exec::ExecArgs),
    Stop(stop::StopArgs),
    Kill(stop::KillArgs),
    Wait(wait::WaitArgs),
    Rm(rm::RmArgs),
    Prune(rm::PruneArgs),
    #[command(hide = true)]
    Supervise(run::SuperviseArgs),
    #[command(hide = true)]
    Listen(listen::ListenArgs),
    Runs(runs::RunsArgs),
    Show(show::ShowArgs),
    Get(get::GetArgs),
    Collect(collect::CollectArgs),
    Metrics(metrics::MetricsArgs),
    Plot(plot::PlotArgs),
    Export(export::ExportArgs),
    Doctor(doctor::DoctorArgs),
    Validate(validate::ValidateArgs),
    Trust(trust::TrustArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    Help(help::HelpArgs),
}

impl Verb {
    /// Whether a manifest that was named must exist: it is read, or runs are kept beside it, and a slip would
    /// find those of another project. `validate` has that as its result; the others have no use for one.
    fn needs_file(&self) -> bool {
        !matches!(
            self,
            Self::Validate(_) | Self::Init(_) | Self::Supervise(_) | Self::Listen(_)
        )
    }
}

/// What a verb ends with: an exit code, or an error of reading or writing.
type Ending = io::Result<Exit>;

/// Runs jobctl on the process's command line.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place where the command line is read"
)]
pub fn main() -> ExitCode {
    panic::install_hook();
    if let Some(marks) = Ci::of(&Environment::new(std::env::vars_os(), "/")).marks {
        Standard::guard(marks);
    }
    let exit = called();
    Standard::end();
    exit
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place where the command line is read"
)]
fn called() -> ExitCode {
    let words = match run::argv::plain(std::env::args_os().collect(), built_command) {
        Ok(words) => words,
        Err((message, help)) => {
            let message = format!("{message}\nhelp: {help}");
            return output::fail_early(&message, Exit::Engine).into();
        }
    };
    // No job's code is to be imitated.
    let usage = || {
        if run::argv::ends_as_a_job(&words, &built_command()) {
            Exit::Engine
        } else {
            Exit::Usage
        }
    };
    let mut command = help::with_short_help(command());
    let parsed = command.try_get_matches_from_mut(&words);
    let cli = match parsed.and_then(|matches| read(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let error = hints::with_hint(error, &command).format(&mut command);
            let exit = if error.use_stderr() {
                usage()
            } else {
                Exit::Success
            };
            return tell(&error, exit).into();
        }
    };
    cli.globals.start_tracing();
    let globals = cli.globals.clone();
    let mut context = match Context::of_process(cli.globals, words.clone()) {
        Ok(context) => context,
        Err(ValueError { message, help }) => {
            let output = Output::new(&globals, Ci::default());
            output.usage(&message, help.as_deref());
            return output.finish(usage()).into();
        }
    };
    if cli.verb.needs_file()
        && let Err(message) = context.check_file()
    {
        context.output.usage(&message, None);
        return context.output.finish(usage()).into();
    }
    let exit = match exec(cli.verb, &mut context) {
        Ok(exit) => exit,
        Err(error) if NoThread::is_cause(&error) => {
            let message = error.to_string();
            context.output.unrun(&message, Some(NoThread::HELP))
        }
        Err(error) => context.output.error(&output::unwritten(&error)),
    };
    context.output.finish(exit).into()
}

fn exec(verb: Verb, context: &mut Context) -> Ending {
    match verb {
        Verb::Build(args) => build::exec(&args, context),
        Verb::Init(args) => init::exec(&args, context),
        Verb::Push(args) => push::exec(&args, context),
        Verb::Pull(args) => pull::exec(&args, context),
        Verb::Images(args) => images::exec(&args, context),
        Verb::Tag(args) => tag::exec(&args, context),
        Verb::Login(args) => login::exec_login(&args, context),
        Verb::Logout(args) => login::exec_logout(&args, context),
        Verb::Run(args) => run::exec(&args, context),
        Verb::Up(args) => up::exec(&args, context),
        Verb::Down(args) => down::exec(&args, context),
        Verb::Promote(args) => promote::exec(&args, context),
        Verb::Rollback(args) => promote::exec_rollback(&args, context),
        Verb::Ps(args) => ps::exec(&args, context),
        Verb::Logs(args) => logs::exec(&args, context),
        Verb::Attach(args) => attach::exec(&args, context),
        Verb::Exec(args) => exec::exec(&args, context),
        Verb::Stop(args) => stop::exec(&args, context),
        Verb::Kill(args) => stop::exec_kill(&args, context),
        Verb::Wait(args) => wait::exec(&args, context),
        Verb::Rm(args) => rm::exec(&args, context),
        Verb::Prune(args) => rm::exec_prune(&args, context),
        Verb::Supervise(args) => run::supervise_exec(&args, context),
        Verb::Listen(args) => listen::exec(&args, context),
        Verb::Runs(args) => runs::exec(&args, context),
        Verb::Show(args) => show::exec(&args, context),
        Verb::Get(args) => get::exec(&args, context),
        Verb::Collect(args) => collect::exec(&args, context),
        Verb::Metrics(args) => metrics::exec(&args, context),
        Verb::Plot(args) => plot::exec(&args, context),
        Verb::Export(args) => Ok(export::exec(&args, context)),
        Verb::Doctor(args) => doctor::exec(&args, context),
        Verb::Validate(args) => Ok(validate::exec(&args, context)),
        Verb::Trust(args) => Ok(trust::exec(&args, context)),
        Verb::Schema(args) => Ok(schema::exec(&args, context)),
        Verb::Completions(args) => Ok(completions::exec(&args, context)),
        Verb::Man(args) => man::exec(&args, context),
        Verb::Help(args) => Ok(help::exec(&args, context)),
    }
}

/// What the command line says.
fn read(matches: &ArgMatches) -> Result<Cli, clap::Error> {
    let mut cli = Cli::from_arg_matches(matches)?;
    if let Some((_, verb)) = matches.subcommand() {
        cli.globals.read_verb(verb);
    }
    Ok(cli)
}

/// Shows what clap says: help, the version, or what is wrong with the command line.
fn tell(said: &clap::Error, exit: Exit) -> Exit {
    let stream = if said.use_stderr() {
        Stream::Stderr
    } else {
        Stream::Stdout
    };
    let text = said.render().ansi().to_string();
    match Standard(stream).write_text(&text, ColorChoice::Auto) {
        // `--help | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::fail_early(&output::unwritten(&error), Exit::Failed)
        }
        _ => exit,
    }
}

/// The command line as data, with the flags of all verbs put into each.
fn built_command() -> clap::Command {
    let mut command = command();
    command.build();
    command
}

/// The command line as data, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command().mut_subcommand("run", run::argv::takes_any_value);
    Globals::with_quiet_verbs(command)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
