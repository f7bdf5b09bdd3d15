//! Flags of all verbs.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::standard::Standard;
use crate::event::Stream;

/// The option's id.
const QUIET: &str = "quiet";

/// Flags of all verbs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// The manifest; else jobs.yaml or jobs.yml here or in the nearest directory above
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Work in this directory
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// The engine: unix:///…, tcp://…, ssh://…; else `DOCKER_HOST`, docker's context, its socket
    #[arg(short = 'H', long, global = true, value_name = "ADDRESS")]
    pub(super) host: Option<String>,
    /// The docker context that says where the engine is
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "host")]
    pub(super) context: Option<String>,
    /// How results are written to stdout
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(super) format: Format,
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "STYLE")]
    #[arg(env = "JOBCTL_PROGRESS")]
    pub(super) progress: ProgressStyle,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(super) color: Color,
    /// Say less: warnings and errors only; `-q` of `ps`, `runs` and `images` prints their ids only
    // Not clap's `global`: these verbs have a `-q` of their own.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Say more, for developers of jobctl; up to three times
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
}

/// How results are written to stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Human,
    /// For programs: one JSON document with its schema's name
    Json,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressStyle {
    /// `tty` on a terminal that is not CI's, else `plain`
    #[default]
    Auto,
    /// Redrawn lines
    Tty,
    /// A line for each thing that happens
    Plain,
    /// JSON lines
    Json,
    /// Warnings and failures only
    Quiet,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

impl Globals {
    /// Whether an option is one of all verbs.
    pub(super) fn has(option: &Arg) -> bool {
        option.is_global_set() || option.get_id() == QUIET
    }

    /// Lets all verbs take `--quiet` that have no `-q` of their own.
    pub(super) fn with_quiet_verbs(command: Command) -> Command {
        let quiet = command
            .get_arguments()
            .find(|option| option.get_id() == QUIET);
        let quiet = quiet.cloned().expect("it is one of these options");
        command.mut_subcommands(|verb| {
            if verb
                .get_arguments()
                .any(|option| option.get_short() == Some('q'))
            {
                return verb;
            }
            verb.arg(quiet.clone())
        })
    }

    /// Takes note of a `--quiet` behind the verb.
    pub(super) fn read_verb(&mut self, verb: &ArgMatches) {
        let quiet = verb.try_get_one::<bool>(QUIET).ok().flatten();
        self.quiet |= quiet.copied().unwrap_or_default();
    }

    /// Sends developers' messages to stderr: none, then `info`, `debug`, `trace`.
    pub(super) fn start_tracing(&self) {
        let level = match self.verbose {
            0 => return,
            1 => "jobctl=info",
            2 => "jobctl=debug",
            _ => "jobctl=trace",
        };
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(level))
            .with_writer(|| Standard(Stream::Stderr))
            .with_ansi(self.color == Color::Always)
            .without_time()
            .init();
    }
}
