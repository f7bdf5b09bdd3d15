//! Raising the version that `jobs.yaml` has, and nothing else in it.

use std::io::{self, Write as _};
use std::path::PathBuf;

use super::Manifest;
use super::schema::VersionSource;
use crate::model::Version;

/// A manifest's text with another version.
#[derive(Debug)]
pub struct Raised {
    path: PathBuf,
    before: String,
    after: String,
}

/// Why the version can't be raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// The file can't be read or written.
    #[error("can't change `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The version is not written there as it is.
    #[error("`image.version` in `{}` is not a version that can be replaced", path.display())]
    NotLiteral {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else changed the file meanwhile.
    #[error("`{}` was changed meanwhile: its version is still the old one", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Manifest {
    /// The manifest's text with another version in place of its own; comments, quotes and
    /// everything else stay.
    ///
    /// # Errors
    ///
    /// There is no version, it comes from a variable, or the file can't be read.
    pub fn with_version(&self, version: &Version) -> Result<Raised, RaiseError> {
        let path = self.folder.join(self.path.file_name().unwrap_or_default());
        let before = std::fs::read_to_string(&path).map_err(|source| RaiseError::Io {
            path: path.clone(),
            source,
        })?;
        let own = self
            .root
            .image
            .as_ref()
            .and_then(|image| image.version.as_ref());
        let replaced = own.and_then(|own| {
            let VersionSource::Literal(old) = &**own else {
                return None;
            };
            let old = old.to_string();
            let written = before.get(own.span())?;
            let at = own.span().start + written.find(&old)?;
            let is_alone = written.trim_matches(['"', '\'']) == old;
            is_alone.then(|| format!("{}{version}{}", &before[..at], &before[at + old.len()..]))
        });
        match replaced {
            Some(after) => Ok(Raised {
                path,
                before,
                after,
            }),
            None => Err(RaiseError::NotLiteral { path }),
        }
    }
}

impl Raised {
    /// Writes the file: the old one is there until the new one is whole.
    ///
    /// # Errors
    ///
    /// It can't be written, or is not what it was.
    pub fn write(&self) -> Result<(), RaiseError> {
        let failed = |source| RaiseError::Io {
            path: self.path.clone(),
            source,
        };
        if std::fs::read_to_string(&self.path).map_err(failed)? != self.before {
            return Err(RaiseError::Changed {
                path: self.path.clone(),
            });
        }
        // A link stays one: what it points to is replaced.
        let target = self.path.canonicalize().map_err(failed)?;
        let folder = target.parent().unwrap_or(&target);
        let mode = std::fs::metadata(&target).map_err(failed)?.permissions();
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(self.after.as_bytes()).map_err(failed)?;
        file.as_file().set_permissions(mode).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&target)
            .map(drop)
            .map_err(|error| failed(error.error))
    }
}
