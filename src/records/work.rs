//! What whoever works on runs needs of their folders.

use std::fs::File;
use std::io::{self, Write as _};

use serde_json::Value;

use super::durable;
use super::error::StoreError;
use super::folder::RunFolder;
use super::log::{LogReader, LogSelection, LogWriter};
use super::record::{Ending, Record, State};
use super::store::Store;
use crate::model::RunId;

/// The file that says that the user wants a run to end.
const STOP: &str = "stop";
/// What was told while a run was worked on.
const EVENTS: &str = "events.jsonl";

impl Store {
    /// The runs that are not over, newest first.
    ///
    /// # Errors
    ///
    /// The folder is there, and can't be read.
    pub fn unfinished(&self) -> Result<Vec<RunId>, StoreError> {
        let runs = self.summaries()?.runs;
        let unfinished = runs.iter().filter(|run| !run.state.is_final());
        Ok(unfinished.map(|run| run.id).collect())
    }

    /// The newest run of a job of which something is true.
    ///
    /// # Errors
    ///
    /// The folder is there, and can't be read.
    pub fn latest(
        &self,
        job: &str,
        is_it: impl Fn(&Record) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        let runs = self.summaries()?.runs;
        let of_job = runs.iter().filter(|run| run.job.as_deref() == Some(job));
        Ok(of_job.filter_map(|run| self.read(run.id).ok()).find(is_it))
    }
}

impl RunFolder {
    /// Notes that the user wants the run to end, for its supervisor.
    ///
    /// # Errors
    ///
    /// The folder can't be written to.
    pub fn want_stop(&self) -> io::Result<()> {
        durable::change(&self.path().join(STOP)).map(drop)
    }

    /// Whether the user wants the run to end.
    #[must_use]
    pub fn is_stop_wanted(&self) -> bool {
        self.path().join(STOP).exists()
    }

    /// Appends to what was told while the run was worked on: an object on a line of its own.
    ///
    /// # Errors
    ///
    /// The file can't be written to.
    pub fn tell(&self, event: &Value) -> io::Result<()> {
        let mut file = durable::append(&self.path().join(EVENTS))?;
        file.write_all(format!("{event}\n").as_bytes())
    }

    /// Opens what the run's supervisor itself says.
    ///
    /// # Errors
    ///
    /// The file can't be opened.
    pub fn supervisor_log(&self) -> io::Result<File> {
        durable::append(&self.path().join("supervisor.log"))
    }

    /// Opens the run's log to append to it; see [`LogWriter::open`].
    ///
    /// # Errors
    ///
    /// The files can't be opened.
    pub fn log_writer(&self, from: [u64; 2]) -> io::Result<LogWriter> {
        LogWriter::open(self.path(), from)
    }

    /// Opens the run's log to read it; see [`LogReader::open`].
    ///
    /// # Errors
    ///
    /// The files can't be opened.
    pub fn log_reader(&self, selection: LogSelection) -> io::Result<LogReader> {
        LogReader::open(self.path(), selection)
    }
}

impl State {
    /// In a word, as people are shown it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Submitted => "submitted",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

impl Ending {
    /// In a word or some, as people are shown it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "ok",
            Self::Error => "failed",
            Self::Oom => "out of memory",
            Self::Timeout => "out of time",
            Self::Stopped => "stopped",
            Self::EngineStopped => "stopped with its engine",
            Self::NotStarted => "not started",
            Self::Infra => "not run",
            Self::Removed => "removed",
            Self::Lost => "lost",
            Self::OutputsLost => "outputs lost",
        }
    }
}
