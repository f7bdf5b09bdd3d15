//! `jobctl help`, and what all help has in common.

use std::fmt::Write as _;

use clap::{Arg, Args, Command};

use super::context::Context;
use super::globals::Globals;
use super::hints;
use crate::exit::Exit;

/// Verbs by what they are for, in the order in which help lists them.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Build and publish images",
        &[
            "init", "build", "push", "pull", "tag", "images", "login", "logout",
        ],
    ),
    ("Run jobs", &["run", "up", "down"]),
    (
        "Look at runs",
        &[
            "ps", "logs", "attach", "exec", "runs", "show", "metrics", "plot", "get", "collect",
        ],
    ),
    ("End runs", &["stop", "kill", "wait", "rm", "prune"]),
    ("Release", &["promote", "rollback", "export"]),
    (
        "Set up",
        &[
            "doctor",
            "validate",
            "trust",
            "schema",
            "completions",
            "man",
            "help",
        ],
    ),
];

/// What help of a verb says instead of listing the options of all verbs.
const OPTIONS_OF_ALL: &str =
    "Global options (--file, --directory, --host, --format, …): jobctl help options";

/// Print help for jobctl, a command, or the global options
#[derive(Debug, Args)]
pub(super) struct HelpArgs {
    /// A command, or `options`
    topic: Option<String>,
}

pub(super) fn exec(args: &HelpArgs, context: &mut Context) -> Exit {
    let mut command = with_short_help(super::command());
    command.build();
    let text = match args.topic.as_deref() {
        None => command.render_long_help(),
        Some("options") => options().render_long_help(),
        Some(topic) => match command.find_subcommand_mut(topic) {
            Some(verb) => verb.render_long_help(),
            None => {
                let message = format!("there is no command `{topic}`");
                let listed = "`jobctl --help` lists the commands; `jobctl help options` prints the \
                              global options";
                let help = hints::of_verb(topic, &command);
                let help = help.unwrap_or_else(|| listed.to_owned());
                return context.output.usage(&message, Some(&help));
            }
        },
    };
    context.output.text(&text.ansi().to_string());
    Exit::Success
}

/// The options of all verbs, as a command's help.
fn options() -> Command {
    Globals::augment_args(Command::new("jobctl"))
        .about("The global options: all commands take them")
        .override_usage("jobctl [OPTIONS] COMMAND")
        .disable_help_flag(true)
        .max_term_width(100)
}

/// The command line with help that is short: the commands by what they are for, and the global options
/// only where they are asked for.
pub(super) fn with_short_help(command: Command) -> Command {
    let listed = listed(&command);
    command
        .after_help(listed)
        .mut_args(hidden)
        .mut_subcommands(|verb| verb.after_help(OPTIONS_OF_ALL).mut_args(hidden))
}

/// An option, hidden if it is one of all verbs.
fn hidden(option: Arg) -> Arg {
    let is_hidden = option.is_hide_set() || Globals::has(&option);
    option.hide(is_hidden)
}

/// The commands, by what they are for.
fn listed(command: &Command) -> String {
    let verbs = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter());
    let width = verbs.map(|verb| verb.len()).max().unwrap_or_default();
    let styles = command.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = String::new();
    for (heading, verbs) in GROUPS {
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for verb in verbs {
            let about = command.find_subcommand(verb).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{verb:width$}{literal:#}  {about}");
        }
        text.push('\n');
    }
    text + OPTIONS_OF_ALL
}

#[cfg(test)]
mod tests {
    use super::GROUPS;

    #[test]
    fn every_command_is_listed_once() {
        let command = crate::cli::command();
        let mut known: Vec<_> = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        let mut listed: Vec<_> = GROUPS
            .iter()
            .flat_map(|(_, verbs)| *verbs)
            .copied()
            .collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, known);
    }
}
