//! How a process of ours ends: the exit codes, in one place.
//!
//! Verbs that run a job (`run`, `exec`, `wait`, …) end with the job's own code, so that everything
//! that is not the job's fault needs a number that programs seldom use; the others follow `diff`
//! and `grep`. `docs/reference/exit-codes.md` has the same table for users, kept equal by a test.

use std::process::ExitCode;

/// How jobctl ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked was done; for verbs that compare: the same.
    Success,
    /// What was asked failed; for verbs that compare: it differs.
    Failed,
    /// The command line or `jobs.yaml` is wrong; for verbs that compare: it could not be told.
    Usage,
    /// A job ran out of the time jobctl gave it (coreutils' `timeout` uses the same number).
    Timeout,
    /// The engine can't be reached or refused, before any job ran (docker's number).
    Engine,
    /// The job's command was found but can't be executed (docker's number).
    NotExecutable,
    /// The job's command was not found (docker's number).
    NotFound,
    /// The terminal was closed before a job started, as shells number it.
    HungUp,
    /// The user interrupted it, as shells number it.
    Interrupted,
    /// The run was stopped before its job started, or between two attempts, as shells number it.
    Terminated,
    /// The job's own code.
    Job(u8),
}

impl Exit {
    /// What a verb ends with that gives no job's code, where the engine has no part in it: it has no
    /// number of its own for what jobctl could not do.
    #[must_use]
    pub fn of_other_verb(self) -> Self {
        match self {
            Self::Engine => Self::Failed,
            other => other,
        }
    }

    /// The number the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Timeout => 124,
            Self::Engine => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Job(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
