//! What a CI system checks out, and where jobs.yaml is in it.

use std::io;
use std::path::{Path, PathBuf};

use crate::facts::{Repository, default_branch};
use crate::manifest;

/// What a CI system checks out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The top of the repository, without links; the directory itself, if it is in none.
    pub top: PathBuf,
    /// The jobs.yaml that is named; else that of the directory or of the nearest one above, if there is one in
    /// the repository.
    pub manifest: Option<PathBuf>,
    /// The branch that work is merged into.
    pub branch: Option<String>,
}

impl Project {
    /// The project of a directory, with the jobs.yaml that is named.
    ///
    /// # Errors
    ///
    /// The directory or its repository can't be read.
    pub fn find(directory: &Path, named: Option<PathBuf>) -> io::Result<Self> {
        let directory = directory.canonicalize()?;
        let repository = Repository::open(&directory)?;
        let top = repository.as_ref().map_or(&*directory, Repository::top);
        // A link to it is where the link is.
        let named = named.map(|file| match (file.parent(), file.file_name()) {
            (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
            _ => Ok::<_, io::Error>(file),
        });
        let found = || manifest::find(&directory).filter(|manifest| manifest.starts_with(top));
        Ok(Self {
            top: top.to_owned(),
            manifest: named.transpose()?.or_else(found),
            branch: repository.as_ref().and_then(default_branch),
        })
    }
}
