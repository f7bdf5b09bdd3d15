//! What goes wrong with a build context, by what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::path::from_bytes;
use super::pattern::PatternError;

/// What goes wrong with a build context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The folder is not there.
    #[error("the build context `{}` does not exist", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// It is no folder.
    #[error("the build context `{}` is not a directory", path.display())]
    NotAFolder {
        /// What was named.
        path: PathBuf,
    },
    /// A file or folder of it can't be read.
    #[error("can't read `{}`: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was written while it was read.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A line of an ignore file is no pattern.
    #[error("`{}`: {source}", path.display())]
    IgnoreFile {
        /// The ignore file.
        path: PathBuf,
        /// What is wrong with which line.
        source: PatternError,
    },
    /// A pattern that did not come from a file is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The stat cache can't be written.
    #[error("can't write `{}`: {source}", path.display())]
    Cache {
        /// The cache.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever takes the tar stream does not take it any more.
    #[error("can't send the build context: {0}")]
    Send(#[source] io::Error),
}

impl ContextError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Missing { .. } => "check the path: in jobs.yaml it is relative to that file's directory, as an argument to the working \
                 directory".to_owned(),
            Self::NotAFolder { .. } => "name the directory that has the files to copy".to_owned(),
            Self::Unreadable { path, .. } => format!(
                "make it readable (`chmod u+r {}`, for a directory `u+rx`), or leave it out of the \
                 build with a line in .dockerignore",
                shell_words::quote(&path.to_string_lossy())
            ),
            Self::Changed { .. } => "stop what writes to it and build again, or leave it out of \
                                     the build with a line in .dockerignore"
                .to_owned(),
            Self::IgnoreFile { source, .. } => source.help(),
            Self::Pattern(error) => error.help(),
            Self::Cache { .. } => {
                "check the directory's permissions and the room on its disk".to_owned()
            }
            Self::Send(_) => "see the engine's own error".to_owned(),
        }
    }

    /// Something below the context's folder can't be read.
    pub(super) fn unreadable(root: &Path, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Unreadable {
            path: root.join(from_bytes(path)),
            source: source.into(),
        }
    }

    /// A file below the context's folder is not what it was.
    pub(super) fn changed(root: &Path, path: &[u8]) -> Self {
        Self::Changed {
            path: root.join(from_bytes(path)),
        }
    }
}
