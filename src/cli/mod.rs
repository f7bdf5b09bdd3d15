//! One file per verb: its arguments and `exec`. The only place for clap, stdout, exit codes and the
//! process's environment.

use std::process::ExitCode;

use crate::exit::Exit;

/// Runs jobctl on the process's command line.
#[must_use]
pub fn main() -> ExitCode {
    Exit::Success.into()
}
