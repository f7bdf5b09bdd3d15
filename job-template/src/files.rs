//! Files that are there whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A file can't be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    pub(crate) fn new(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self { path, source }
    }
}

/// Writes a file: beside it first, then in its place, so that who reads it finds the old one or the
/// new one.
///
/// # Errors
/// The disk is full, or the directory can't be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        WriteError::new(path)(error)
    })
}

/// Writes a value as JSON that people can read.
///
/// # Errors
/// As of [`write()`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), WriteError> {
    let mut text = serde_json::to_vec_pretty(value).expect("values have string keys");
    text.push(b'\n');
    write(path, &text)
}

/// A file's bytes, if it is there.
///
/// # Errors
/// It is there, and can't be read.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// It can't be removed.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError::new(path)(error)),
        _ => Ok(()),
    }
}

/// Makes a directory and those above it, where they aren't there, and tries whether it can be written.
///
/// # Errors
/// It can't.
pub fn make_directory(path: &Path) -> Result<(), WriteError> {
    let probe = path.join(".writable");
    fs::create_dir_all(path)
        .and_then(|()| File::create(&probe))
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return WriteError::new(path)(error);
            }
            let user = rustix::process::geteuid().as_raw();
            let reason = format!(
                "{error}\nhelp: let user {user}, as whom this runs, write there (chown {user})"
            );
            WriteError::new(path)(io::Error::other(reason))
        })
}

/// Locks a directory, as far as other processes ask for the lock, while the result lives. It is the directory
/// itself that is locked (flock(2)), so that no file is left.
///
/// # Errors
/// Another process has it, or the directory can't be opened.
pub fn lock_directory(path: &Path) -> Result<File, WriteError> {
    let directory = File::open(path).map_err(WriteError::new(path))?;
    match directory.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let reason =
                "another process is writing to this directory; wait for it, or name another";
            Err(WriteError::new(path)(io::Error::other(reason)))
        }
        // Some file systems of other machines know no locks.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file() {
        let error = write(Path::new("/nowhere/file"), b"")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("/nowhere/file: No such file"), "{error}");
    }
}
