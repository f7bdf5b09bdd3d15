//! The process's environment, as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Environment variables, working directory and home, as they were when jobctl started.
///
/// Only [`crate::cli`] makes one from the real process; tests make their own. `Debug` shows names
/// only, since values can be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    current_dir: PathBuf,
}

impl Environment {
    /// An environment of the given variables, working in `current_dir` (absolute).
    pub fn new<K, V>(
        variables: impl IntoIterator<Item = (K, V)>,
        current_dir: impl Into<PathBuf>,
    ) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            current_dir: current_dir.into(),
        }
    }

    /// A variable's value, if it is set and valid UTF-8; empty counts as set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name.as_ref() as &std::ffi::OsStr)?
            .to_str()
    }

    /// A variable's value, if it is set and not empty.
    #[must_use]
    pub fn get_non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A variable as a path, if it is set and not empty; need not be UTF-8.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(name.as_ref() as &std::ffi::OsStr)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// The names of all variables that are valid UTF-8, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().filter_map(|name| name.to_str())
    }

    /// The working directory.
    #[must_use]
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// The user's home (`HOME`).
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// The full path of a program as a shell would find it in `PATH`.
    #[must_use]
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;

        let path = self.path("PATH")?;
        path.as_os_str()
            .to_string_lossy()
            .split(':')
            .map(|folder| self.current_dir.join(folder).join(name))
            .find(|file| {
                file.metadata().is_ok_and(|metadata| {
                    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
                })
            })
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("names", &self.variables.keys())
            .field("current_dir", &self.current_dir)
            .finish()
    }
}
