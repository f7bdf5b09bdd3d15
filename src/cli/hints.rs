//! What clap's errors lack: the command that was likely meant, and how a value is written.

use std::error::Error as _;
use std::num::ParseIntError;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::manifest::suggest::nearest;
use crate::model::{Name, ValueError};

/// An error of the command line, with a tip where clap has none, or a bad one.
pub(super) fn with_hint(mut error: Error, command: &Command) -> Error {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            error.remove(ContextKind::SuggestedSubcommand);
            let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
                return error;
            };
            if let Some(hint) = of_verb(&word.clone(), command) {
                tip(&mut error, &hint);
            }
        }
        ErrorKind::ValueValidation => {
            if let Some(help) = of_value(&error) {
                tip(&mut error, &help);
            }
        }
        // clap's own is to write it as a value behind `--`, which is seldom meant.
        ErrorKind::UnknownArgument => {
            error.remove(ContextKind::Suggested);
            let usage = error.get(ContextKind::Usage);
            let is_of_kill = usage.is_some_and(|usage| usage.to_string().contains("jobctl kill"));
            if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
                && let Some(signal) = flag.strip_prefix('-')
                && signal.starts_with(|c: char| c.is_ascii_alphanumeric())
                && is_of_kill
            {
                let hint = format!("a signal is written `--signal {signal}`");
                tip(&mut error, &hint);
            }
        }
        _ => {}
    }
    error
}

fn tip(error: &mut Error, text: &str) {
    let tips = ContextValue::StyledStrs(vec![StyledStr::from(text.to_owned())]);
    error.insert(ContextKind::Suggested, tips);
}

/// How a value is written that can't be read.
fn of_value(error: &Error) -> Option<String> {
    let source = error.source()?;
    if source.is::<ParseIntError>() {
        return Some("write a whole number, such as `10`".to_owned());
    }
    source.downcast_ref::<ValueError>()?.help.clone()
}

/// What does here what a command does that jobctl does not have.
pub(super) fn of_verb(word: &str, command: &Command) -> Option<String> {
    if let Some(ours) = of_peers(word) {
        return Some(ours.to_owned());
    }
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    if let Some(near) = nearest(word, shown.map(Command::get_name)) {
        return Some(format!("did you mean `jobctl {near}`?"));
    }
    let is_name = word.parse::<Name>().is_ok();
    is_name.then(|| format!("if `{word}` is a job: `jobctl run {word}`"))
}

/// The commands of docker, compose, kubectl, dvc, Slurm and cargo, and what does the same here.
fn of_peers(word: &str) -> Option<&'static str> {
    Some(match word {
        "rmi" => {
            "`jobctl prune --images` removes images that nothing needs; `docker rmi` removes any"
        }
        "status" | "queue" | "squeue" | "container" | "containers" => {
            "`jobctl ps` lists what is running, `jobctl runs` all runs; `jobctl doctor` checks the machine"
        }
        "ls" | "list" | "history" | "exp" | "experiments" => {
            "`jobctl runs` lists runs, `jobctl ps` those that are running, `jobctl images` images"
        }
        "top" | "stats" => "`jobctl ps` lists what is running; `docker stats` shows what it uses",
        "inspect" | "describe" => "`jobctl show RUN` prints all that is known of a run",
        "info" | "system" | "check" => {
            "`jobctl doctor` checks the machine, `jobctl validate` jobs.yaml"
        }
        "start" | "create" | "submit" | "sbatch" => {
            "`jobctl run JOB` runs a job, with `-d` in the background; `jobctl up` starts services"
        }
        "restart" => {
            "end it with `jobctl stop RUN`, then `jobctl run JOB`; `jobctl up` for services"
        }
        "pause" | "unpause" => "runs can't be paused; `jobctl stop RUN` ends one",
        "rerun" | "repro" | "reproduce" => {
            "`jobctl run JOB` runs a job again; `jobctl up` runs what has changed"
        }
        "compose" | "apply" | "deploy" | "serve" => {
            "`jobctl up` runs what jobs.yaml defines, and starts its services"
        }
        "config" | "convert" | "lint" => "`jobctl validate` checks jobs.yaml",
        "delete" | "remove" | "del" => "`jobctl rm RUN` removes a run",
        "clean" | "gc" => "`jobctl prune` removes runs that are no longer needed",
        "cancel" | "scancel" => "`jobctl stop RUN` ends a run",
        "cp" | "copy" | "download" => "`jobctl get RUN DIR` copies what a run has made",
        "image" => "`jobctl images` lists images",
        "sh" | "shell" | "bash" | "ssh" => {
            "`jobctl exec -it RUN sh` opens a shell in a run's container"
        }
        "new" => "`jobctl init` writes a jobs.yaml",
        "publish" | "release" => "`jobctl push JOB` pushes a job's image",
        "plots" | "params" | "diff" | "compare" => {
            "`jobctl plot RUN…` draws metrics; `jobctl runs` shows in what runs differ"
        }
        "version" => "`jobctl --version` prints it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{of_peers, of_verb};

    fn hint(word: &str) -> Option<String> {
        of_verb(word, &crate::cli::command())
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_command() {
        for (slip, meant) in [
            ("rnu", "run"),
            ("biuld", "build"),
            ("log", "logs"),
            ("exex", "exec"),
            ("pus", "push"),
            ("pul", "pull"),
            ("stpo", "stop"),
            ("imagse", "images"),
            ("doctr", "doctor"),
            ("RUN", "run"),
        ] {
            let expected = format!("did you mean `jobctl {meant}`?");
            assert_eq!(hint(slip), Some(expected), "{slip}");
        }
    }

    #[test]
    fn a_word_that_is_near_nothing_may_be_a_job() {
        let expected = "if `train` is a job: `jobctl run train`";
        assert_eq!(hint("train").as_deref(), Some(expected));
        assert_eq!(
            hint("supervize").unwrap(),
            expected.replace("train", "supervize")
        );
        for word in ["ünten", "a b", ""] {
            assert_eq!(hint(word), None, "{word}");
        }
    }

    /// Whatever a hint names can be called as it is written.
    #[test]
    fn hints_name_commands_and_flags_that_exist() {
        let mut command = crate::cli::command();
        command.build();
        let text = include_str!("hints.rs");
        let table = text.split("fn of_peers").nth(1).unwrap();
        let table = table.split("#[cfg(test)]").next().unwrap();
        let named = regex::Regex::new("`jobctl ([a-z]+)([^`]*)`").unwrap();
        let mut found = 0;
        for hint in named.captures_iter(table) {
            let verb = command.find_subcommand(&hint[1]).expect(&hint[1]);
            let flags = hint[2].split(' ').filter(|word| word.starts_with("--"));
            for flag in flags {
                let flag = &flag[2..];
                let mut args = verb.get_arguments();
                assert!(args.any(|arg| arg.get_long() == Some(flag)), "{flag}");
            }
            found += 1;
        }
        assert!(found > 30, "{found}");
        for word in regex::Regex::new("\"([a-z]+)\"")
            .unwrap()
            .captures_iter(table)
        {
            assert!(of_peers(&word[1]).is_some(), "{}", &word[1]);
            assert!(command.find_subcommand(&word[1]).is_none(), "{}", &word[1]);
        }
    }
}
