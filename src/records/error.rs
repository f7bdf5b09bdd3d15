//! Why a record can't be kept or read.

use std::io;
use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::model::RunId;

/// Why a record can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system is all but full.
    #[error(
        "there is too little room for a run's record in `{}`: {free_mb} MB are free, {needed_mb} MB are needed",
        folder.display()
    )]
    Full {
        /// The state folder.
        folder: PathBuf,
        /// What is free, in millions of bytes.
        free_mb: u64,
        /// What is needed, in millions of bytes.
        needed_mb: u64,
    },
    /// The file system can't take more files.
    #[error("there are no inodes left for a run's record in `{}`", folder.display())]
    NoFiles {
        /// The state folder.
        folder: PathBuf,
    },
    /// The file system can't be written to.
    #[error("a run's record can't be kept in `{}`: the file system is read-only", folder.display())]
    ReadOnly {
        /// The state folder.
        folder: PathBuf,
    },
    /// Another user's, or none's.
    #[error("a run's record can't be kept: no permission to write `{}`", path.display())]
    NoPermission {
        /// What can't be written.
        path: PathBuf,
    },
    /// Writing failed.
    #[error("can't write `{}`: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading failed.
    #[error("can't read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is of a newer jobctl, which may mean more by it.
    #[error("the record of run {id} was written by a newer jobctl ({schema}), and is not changed")]
    Newer {
        /// The run.
        id: RunId,
        /// What it is written in.
        schema: String,
    },
}

impl StoreError {
    /// What an attempt to write met with.
    pub(super) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { folder: path },
            io::ErrorKind::PermissionDenied => Self::NoPermission { path },
            _ => Self::Write { path, source },
        }
    }

    /// What an attempt to read met with.
    pub(super) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        Self::Read { path, source }
    }

    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Full { .. } | Self::NoFiles { .. } => {
                "make room, or let JOBCTL_STATE_DIR name a directory elsewhere"
            }
            Self::ReadOnly { .. } | Self::NoPermission { .. } => {
                "let JOBCTL_STATE_DIR name a directory that can be written to"
            }
            Self::Write { .. } | Self::Read { .. } => {
                "check the disk, or let JOBCTL_STATE_DIR name a directory elsewhere"
            }
            Self::Newer { .. } => "take that version of jobctl for it",
        }
    }
}

impl From<&StoreError> for Diagnostic {
    fn from(error: &StoreError) -> Self {
        Self::error("state-directory", error.to_string()).help(error.help())
    }
}

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such run.
    #[error("there is no run {id}")]
    Missing {
        /// The run.
        id: RunId,
    },
    /// It is no record, or not a whole one.
    #[error("the record of run {id} is damaged: {reason}")]
    Damaged {
        /// The run.
        id: RunId,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of a newer jobctl, and this one can't read it.
    #[error("the record of run {id} was written by a newer jobctl ({schema})")]
    Newer {
        /// The run.
        id: RunId,
        /// What it is written in.
        schema: String,
    },
    /// The disk or its permissions are in the way.
    #[error("can't read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ReadError {
    /// How to fix it, where that is possible.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("`jobctl runs` shows them"),
            Self::Damaged { .. } => {
                Some("its logs and outputs may be whole: look in its directory")
            }
            Self::Newer { .. } => Some("take that version of jobctl for it"),
            Self::Unreadable { .. } => None,
        }
    }
}

impl From<&ReadError> for Diagnostic {
    fn from(error: &ReadError) -> Self {
        let rule = match error {
            ReadError::Missing { .. } => "no-run",
            ReadError::Damaged { .. } | ReadError::Unreadable { .. } => "damaged-record",
            ReadError::Newer { .. } => "newer-record",
        };
        let mut diagnostic = Self::error(rule, error.to_string());
        diagnostic.help.extend(error.help().map(str::to_owned));
        diagnostic
    }
}
