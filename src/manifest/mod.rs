//! `jobs.yaml` and env files.
//!
//! Text becomes a tree of nodes that know where they stand (`yaml`, `node`), variables are put into
//! its values (`interpolate`), it is read into the types of [`schema`] with all errors at once
//! (`decode`), and what the types can't say is checked (`check`). What comes out is a [`Manifest`].
//! Env files are read by [`env_file`].

mod check;
pub(crate) mod decode;
pub mod env_file;
mod exposed;
mod interpolate;
mod json_schema;
mod load;
mod masking;
pub(crate) mod node;
mod raise;
mod rule;
pub mod schema;
pub(crate) mod suggest;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source};
use crate::model::Secret;

pub use decode::{Entry, Located, Map, Names};
pub use json_schema::json_schema;
pub use load::{FILE_NAMES, MAX_SIZE_BYTES, find, load, not_found, parse};
pub use raise::{RaiseError, Raised};
pub use rule::Rule;

/// A manifest without errors.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What it says.
    pub root: schema::Root,
    /// Its path, as the user knows it.
    pub path: PathBuf,
    /// The folder that its paths are relative to.
    pub folder: PathBuf,
    /// Its text, with what looks like a secret masked.
    pub source: Arc<Source>,
    /// The variables of the user's environment that its values name, and what they have.
    pub interpolated: BTreeMap<String, Option<Secret>>,
    /// What is likely not meant.
    pub warnings: Vec<Diagnostic>,
    /// What is wrong with the files that it names: only what uses such a file is refused.
    pub file_errors: Vec<FileError>,
}

/// What is wrong with a file that a manifest names.
#[derive(Debug, Clone)]
pub struct FileError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong, and where it is named.
    pub diagnostic: Diagnostic,
}

impl Manifest {
    /// All that is wrong with the files that it names, and what is likely not meant, in its order.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let errors = self.file_errors.iter().map(|error| &error.diagnostic);
        let all = errors.chain(&self.warnings).cloned().collect();
        load::in_order(all, &self.source)
    }

    /// What is wrong with one of these files, as far as the manifest names them.
    pub fn errors_of<'p>(&self, files: impl IntoIterator<Item = &'p Path>) -> Vec<Diagnostic> {
        let files: Vec<_> = files.into_iter().collect();
        let named = self.file_errors.iter();
        named
            .filter(|error| files.contains(&error.path.as_path()))
            .map(|error| error.diagnostic.clone())
            .collect()
    }
}

impl Manifest {
    /// The file that it was read from.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        self.folder.join(name)
    }
}
