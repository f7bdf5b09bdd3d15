//! The words of `jobctl run`, made plain for clap.
//!
//! As with docker, the first free word ends the flags: what follows is the job's, hyphens and all.
//! And `--gpus` may stand alone, but must not swallow the job.

use std::ffi::OsString;
use std::ops::Range;

use clap::Command;

use crate::model::{Gpus, Sensitive};

/// How many words a flag is.
enum Flag {
    /// Its value, if it has one, is in the same word.
    Alone,
    /// Its value is the next word.
    Pair,
    /// It is not known.
    Unknown,
}

/// Where the words of a command line of `jobctl run` are.
struct Walk {
    /// The flags of `run`, in words.
    flags: Range<usize>,
    /// Where in it flags begin that have no value of their own.
    bare_gpus: Vec<usize>,
    /// Whether `--image` is given.
    has_image: bool,
    /// The first flag that is not known.
    unknown: Option<usize>,
}

/// Flags of `docker run` that `jobctl run` does not have, and whether each has a value (`docker run --help` of
/// 28.2).
const OF_DOCKER: [(&str, bool); 62] = [
    ("annotation", true),
    ("attach", true),
    ("blkio-weight", true),
    ("blkio-weight-device", true),
    ("cgroup-parent", true),
    ("cgroupns", true),
    ("cpu-count", true),
    ("cpu-percent", true),
    ("cpu-period", true),
    ("cpu-quota", true),
    ("cpu-rt-period", true),
    ("cpu-rt-runtime", true),
    ("cpu-shares", true),
    ("cpuset-cpus", true),
    ("cpuset-mems", true),
    ("device-cgroup-rule", true),
    ("device-read-bps", true),
    ("device-read-iops", true),
    ("device-write-bps", true),
    ("device-write-iops", true),
    ("disable-content-trust", false),
    ("dns", true),
    ("dns-opt", true),
    ("dns-option", true),
    ("dns-search", true),
    ("domainname", true),
    ("expose", true),
    ("group-add", true),
    ("health-cmd", true),
    ("health-interval", true),
    ("health-retries", true),
    ("health-start-interval", true),
    ("health-start-period", true),
    ("health-timeout", true),
    ("ip", true),
    ("ip6", true),
    ("isolation", true),
    ("kernel-memory", true),
    ("label-file", true),
    ("link", true),
    ("link-local-ip", true),
    ("log-driver", true),
    ("log-opt", true),
    ("mac-address", true),
    ("memory-reservation", true),
    ("memory-swap", true),
    ("memory-swappiness", true),
    ("net-alias", true),
    ("network-alias", true),
    ("no-healthcheck", false),
    ("oom-kill-disable", false),
    ("oom-score-adj", true),
    ("pid", true),
    ("pids-limit", true),
    ("publish-all", false),
    ("storage-opt", true),
    ("sysctl", true),
    ("use-api-socket", false),
    ("userns", true),
    ("uts", true),
    ("volume-driver", true),
    ("volumes-from", true),
];
/// The short ones.
const SHORT_OF_DOCKER: [(char, bool); 3] = [('a', true), ('c', true), ('P', false)];

/// What is said of a flag that docker has and jobctl does not.
fn dockers(words: &[OsString], at: usize) -> Option<(String, String)> {
    let word = words[at].to_string_lossy();
    let (flag, takes_value) = match word.strip_prefix("--") {
        Some(long) => {
            let name = long.split('=').next().unwrap_or_default();
            let (name, takes_value) = OF_DOCKER.iter().find(|(known, _)| *known == name)?;
            (format!("--{name}"), takes_value)
        }
        None => {
            let mut letters = word.strip_prefix('-')?.chars();
            let is_it = |letter: char| SHORT_OF_DOCKER.iter().find(|(known, _)| *known == letter);
            let (name, takes_value) = letters.find_map(is_it)?;
            (format!("-{name}"), takes_value)
        }
    };
    let value = words
        .get(at + 1)
        .filter(|_| *takes_value && !word.contains('='));
    let value = value.map(|value| value.to_string_lossy().into_owned());
    let shown: Vec<_> = [word.into_owned()].into_iter().chain(value).collect();
    // A log driver's token is given so, whatever it is called.
    let shown = match flag.as_str() {
        "--log-opt" => flag.clone(),
        _ => Sensitive::default().masked_words(&shown).join(" "),
    };
    Some((
        format!("`{shown}`: docker has `{flag}`, jobctl does not"),
        "`jobctl run --help` lists the flags that it has; `jobctl run --dry-run` prints the docker command \
         to which you can add it"
            .to_owned(),
    ))
}

/// Makes a command line plain, if it is of `run`: `--` stands before the first word that is the
/// job's, and `--gpus` has a value.
///
/// # Errors
///
/// One of our flags stands behind the job. What is wrong, and how to fix it.
pub(in crate::cli) fn plain(
    words: Vec<OsString>,
    command: impl FnOnce() -> Command,
) -> Result<Vec<OsString>, (String, String)> {
    // Nothing is looked at for other verbs: jobctl starts in a few milliseconds.
    if !words.iter().any(|word| word == "run") {
        return Ok(words);
    }
    let command = command();
    let Some(run) = command.find_subcommand("run") else {
        return Ok(words);
    };
    let Some(walk) = walk(&words, &command, run) else {
        return Ok(words);
    };
    let mut end = walk.flags.end;
    if let Some(at) = walk.unknown {
        return match dockers(&words, at) {
            Some(unsupported) => Err(unsupported),
            // Whether the next word is its value is not known: clap names this one, and no other.
            None => Ok(words.into_iter().take(at + 1).collect()),
        };
    }
    if !walk.has_image && end < words.len() && words[end] != "--" {
        // The job's own word.
        end += 1;
        if let Some(word) = words.get(end).filter(|word| *word != "--") {
            if is_help(word) {
                return Ok(words);
            }
            if !matches!(flag(word, run), None | Some(Flag::Unknown)) {
                return Err(misplaced(word, &words[end - 1]));
            }
        }
    }
    let mut plain = Vec::with_capacity(words.len() + 1);
    for (at, word) in words.into_iter().enumerate() {
        if at == end && word != "--" {
            plain.push("--".into());
        }
        if walk.bare_gpus.contains(&at) {
            plain.push("--gpus=all".into());
        } else {
            plain.push(word);
        }
    }
    Ok(plain)
}

fn is_help(word: &OsString) -> bool {
    word == "--help" || word == "-h"
}

fn misplaced(word: &OsString, job: &OsString) -> (String, String) {
    let (word, job) = (word.to_string_lossy(), job.to_string_lossy());
    let flag = word.split('=').next().unwrap_or_default();
    (
        format!("`{flag}` stands behind the job, where words are the job's own arguments"),
        format!(
            "write it before the job: `jobctl run {flag} … {job}`; if the job takes it: `jobctl \
             run {job} -- {flag} …`"
        ),
    )
}

/// Whether the verb is one that ends with a job's code.
pub(in crate::cli) fn ends_as_a_job(words: &[OsString], command: &Command) -> bool {
    const VERBS: [&str; 5] = ["attach", "exec", "run", "up", "wait"];

    verb(words, command).is_some_and(|at| {
        let passes_code = words[at] == "logs" && words.iter().any(|word| word == "--exit-code");
        passes_code || VERBS.iter().any(|verb| words[at] == *verb)
    })
}

/// The flags of `run` with whatever word follows one as its value, as docker has it: `--stop-timeout -1`.
pub(in crate::cli) fn takes_any_value(run: Command) -> Command {
    run.mut_args(|arg| {
        let takes_values = arg.get_action().takes_values();
        if takes_values && !arg.is_positional() && !arg.is_require_equals_set() {
            return arg.allow_hyphen_values(true);
        }
        arg
    })
}

/// Where the verb is.
fn verb(words: &[OsString], command: &Command) -> Option<usize> {
    let mut at = 1;
    loop {
        match flag(words.get(at)?, command) {
            None => return Some(at),
            Some(Flag::Pair) => at += 2,
            Some(Flag::Alone | Flag::Unknown) => at += 1,
        }
    }
}

/// Looks at the flags of `run`; nothing for another verb.
fn walk(words: &[OsString], command: &Command, run: &Command) -> Option<Walk> {
    let start = verb(words, command).filter(|at| words[*at] == "run")? + 1;
    let mut found = Walk {
        flags: start..start,
        bare_gpus: Vec::new(),
        has_image: false,
        unknown: None,
    };
    let mut at = start;
    while let Some(word) = words.get(at).filter(|word| *word != "--") {
        let Some(kind) = flag(word, run) else {
            break;
        };
        let text = word.to_string_lossy();
        found.has_image |= text == "--image" || text.starts_with("--image=");
        let next = words.get(at + 1);
        if text == "--gpus" && !next.is_some_and(|next| is_gpus(&next.to_string_lossy())) {
            found.bare_gpus.push(at);
            at += 1;
            continue;
        }
        at += match kind {
            Flag::Pair => 2,
            Flag::Alone => 1,
            Flag::Unknown => {
                found.unknown = Some(at);
                break;
            }
        };
    }
    found.flags.end = at.min(words.len());
    Some(found)
}

/// Whether the word behind `--gpus` is its value, and not the job.
///
/// What no job can be called is taken as well, so that a slip in it is answered as one.
fn is_gpus(word: &str) -> bool {
    word.parse::<Gpus>().is_ok() || word.contains([',', '=', '"'])
}

/// What kind of flag a word is; nothing for a free word.
fn flag(word: &OsString, command: &Command) -> Option<Flag> {
    let text = word.to_string_lossy();
    let kind = |takes_value: Option<bool>| match takes_value {
        None => Flag::Unknown,
        Some(true) => Flag::Pair,
        Some(false) => Flag::Alone,
    };
    if let Some(long) = text.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or_default();
        let found = takes_value(command, |arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name) || aliases.contains(&name)
        });
        return Some(match (found, long.contains('=')) {
            (Some(_), true) => Flag::Alone,
            (found, _) => kind(found),
        });
    }
    let letters = text.strip_prefix('-').filter(|rest| !rest.is_empty())?;
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        match takes_value(command, |arg| arg.get_short() == Some(letter)) {
            Some(true) if rest.is_empty() => return Some(Flag::Pair),
            Some(true) => return Some(Flag::Alone),
            // `-t=false`
            Some(false) if rest.starts_with('=') => return Some(Flag::Alone),
            Some(false) => {}
            None => return Some(Flag::Unknown),
        }
    }
    Some(Flag::Alone)
}

/// Whether the flag takes the next word as its value; nothing for one that is not known.
fn takes_value(command: &Command, is_it: impl Fn(&clap::Arg) -> bool) -> Option<bool> {
    let arg = command.get_arguments().find(|arg| is_it(arg))?;
    let values = arg.get_num_args().map_or(0, |range| range.min_values());
    Some(arg.get_action().takes_values() && values > 0 && !arg.is_require_equals_set())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::plain;

    fn words(text: &str) -> Vec<OsString> {
        let words = shell_words::split(text).unwrap();
        words.into_iter().map(OsString::from).collect()
    }

    fn command() -> clap::Command {
        let mut command = crate::cli::command();
        command.build();
        command
    }

    #[test]
    fn flags_end_where_the_job_begins() {
        for (text, expected) in [
            ("run", "run"),
            ("run train", "run train"),
            ("run train ls -l", "run train -- ls -l"),
            ("run train -x", "run train -- -x"),
            ("run train --epochs 3", "run train -- --epochs 3"),
            ("run train -- ls -l", "run train -- ls -l"),
            ("run train -- --gpus", "run train -- --gpus"),
            ("run train x -- y", "run train -- x -- y"),
            ("run train ls --gpus", "run train -- ls --gpus"),
            ("run -- x", "run -- x"),
            ("run -it train sh", "run -it train -- sh"),
            ("run -e A=1 train sh", "run -e A=1 train -- sh"),
            (
                "run -eA=1 -v=/a:/b train x",
                "run -eA=1 -v=/a:/b train -- x",
            ),
            ("run -t=false train x", "run -t=false train -- x"),
            ("run -itw /tmp train x", "run -itw /tmp train -- x"),
            ("run --init train x", "run --init train -- x"),
            ("run --init=false train x", "run --init=false train -- x"),
            ("run --net none train x", "run --net none train -- x"),
            ("run --image a ls -l", "run --image a -- ls -l"),
            ("run --image a --gpus", "run --image a --gpus=all"),
            ("run --image=a -- ls -l", "run --image=a -- ls -l"),
            ("run --image a ls -- x", "run --image a -- ls -- x"),
            ("run --image a ls --rm", "run --image a -- ls --rm"),
            ("run -i --image a --rm ls", "run -i --image a --rm -- ls"),
            ("-f x.yaml run train x", "-f x.yaml run train -- x"),
            ("-C run build x y", "-C run build x y"),
            ("-vv run train x", "-vv run train -- x"),
            ("run -f run train x", "run -f run train -- x"),
            ("run train --help", "run train --help"),
            ("run --no-such train x", "run --no-such"),
            ("run --no-such value --gpus train", "run --no-such"),
            ("build run --gpus", "build run --gpus"),
        ] {
            let found = plain(words(&format!("jobctl {text}")), command);
            assert_eq!(found, Ok(words(&format!("jobctl {expected}"))), "{text}");
        }
    }

    #[test]
    fn gpus_without_a_value_do_not_swallow_the_job() {
        for (text, expected) in [
            ("run --gpus train", "run --gpus=all train"),
            ("run --gpus all train", "run --gpus all train"),
            ("run --gpus 2 train", "run --gpus 2 train"),
            ("run --gpus -1 train", "run --gpus -1 train"),
            ("run --gpus none train", "run --gpus none train"),
            ("run --gpus optional train", "run --gpus optional train"),
            ("run --gpus=device=0,2 train", "run --gpus=device=0,2 train"),
            ("run --gpus device=0,2 train", "run --gpus device=0,2 train"),
            ("run --gpus GPU-1f train", "run --gpus GPU-1f train"),
            // A slip is told as one.
            ("run --gpus 0,1 train", "run --gpus 0,1 train"),
            ("run --gpus devices=0 train", "run --gpus devices=0 train"),
            // A job named like a number needs the value to be written.
            ("run --gpus 2", "run --gpus 2"),
            ("run --gpus=all 2", "run --gpus=all 2"),
            ("run --gpus -- x", "run --gpus=all -- x"),
            ("run --gpus", "run --gpus=all"),
            ("run --gpus --rm train", "run --gpus=all --rm train"),
            ("run --gpus -it train", "run --gpus=all -it train"),
            ("run --gpus --gpus 2 train", "run --gpus=all --gpus 2 train"),
            ("run -e --gpus train", "run -e --gpus train"),
            ("run --gpus train all", "run --gpus=all train -- all"),
            ("run --image a --gpus ls", "run --image a --gpus=all -- ls"),
        ] {
            let found = plain(words(&format!("jobctl {text}")), command);
            assert_eq!(found, Ok(words(&format!("jobctl {expected}"))), "{text}");
        }
    }

    #[test]
    fn dockers_flag_is_named_with_its_value() {
        for (text, shown, flag) in [
            (
                "run --dns 1.1.1.1 --gpus all train",
                "--dns 1.1.1.1",
                "--dns",
            ),
            ("run --dns=1.1.1.1 train", "--dns=1.1.1.1", "--dns"),
            (
                "run --rm --no-healthcheck train",
                "--no-healthcheck",
                "--no-healthcheck",
            ),
            ("run -P --image nginx", "-P", "-P"),
            ("run -c 512 train", "-c 512", "-c"),
            (
                "run --log-opt splunk-token=abc train",
                "--log-opt",
                "--log-opt",
            ),
        ] {
            let (message, help) = plain(words(&format!("jobctl {text}")), command).unwrap_err();
            assert_eq!(
                message,
                format!("`{shown}`: docker has `{flag}`, jobctl does not")
            );
            assert!(help.contains("--dry-run"));
        }
    }

    #[test]
    fn no_flag_of_docker_that_is_had_is_said_to_be_missing() {
        let command = command();
        let run = command.find_subcommand("run").unwrap();
        for (name, _) in super::OF_DOCKER {
            let found = super::flag(&format!("--{name}").into(), run);
            assert!(matches!(found, Some(super::Flag::Unknown)), "{name}");
        }
        assert!(super::OF_DOCKER.is_sorted());
    }

    #[test]
    fn our_own_flags_behind_the_job_are_refused() {
        for (text, flag) in [
            ("run train --gpus", "--gpus"),
            ("run train --gpus=all", "--gpus"),
            ("run train -e A=1", "-e"),
            ("run train --dry-run", "--dry-run"),
            ("run --rm train --format json", "--format"),
        ] {
            let (message, help) = plain(words(&format!("jobctl {text}")), command).unwrap_err();
            assert_eq!(
                message,
                format!("`{flag}` stands behind the job, where words are the job's own arguments")
            );
            assert_eq!(
                help,
                format!(
                    "write it before the job: `jobctl run {flag} … train`; if the job takes it: \
                     `jobctl run train -- {flag} …`"
                )
            );
        }
    }
}
