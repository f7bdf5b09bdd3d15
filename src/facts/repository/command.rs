//! How git is called, and what it answers.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};

/// git, with nothing of the process's environment but the way to programs.
pub(super) fn git() -> Command {
    let mut command = git_with(&["PATH"]);
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        // A file that is there draws a hint.
        ("GIT_GRAFT_FILE", "/dev/null/none"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        command.env(name, value);
    }
    command
}

/// git, with some of the process's environment variables; an end such as `GIT_CONFIG*` means all that
/// begin so.
#[expect(
    clippy::disallowed_methods,
    reason = "what finds git, and what the user's git is configured with"
)]
pub(in crate::facts) fn git_with(names: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.env_clear().env("LC_ALL", "C");
    for (name, value) in std::env::vars_os() {
        let is_known = names.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => name.as_bytes().starts_with(start.as_bytes()),
            None => name == *known,
        });
        if is_known {
            command.env(name, value);
        }
    }
    command
}

/// Why git can't be called.
pub(super) fn no_git(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return io::Error::new(error.kind(), "git is not in PATH");
    }
    error
}

pub(super) fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().map_err(no_git)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let verb = command.get_args().next().unwrap_or_default();
    Err(failed(&verb.to_string_lossy()))
}

pub(super) fn failed(verb: &str) -> io::Error {
    io::Error::other(format!("`git {verb}` failed"))
}

/// What a child answered.
///
/// # Errors
///
/// It failed: what it said of that.
pub(in crate::facts) fn answer(child: io::Result<Child>) -> io::Result<Vec<u8>> {
    let output = child?.wait_with_output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}

/// What ends with zeros.
pub(in crate::facts) fn records(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    text.split(|byte| *byte == 0)
        .filter(|record| !record.is_empty())
}
