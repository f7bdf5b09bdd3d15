//! Who works on a run.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::durable;
use crate::model::RunId;

/// Somebody who only looks whether a lock is held holds it himself for some microseconds.
const GLANCES: u32 = 20;
const GLANCE: Duration = Duration::from_millis(1);

/// The right to finish a run: one process has it at a time, and the kernel takes it back when that
/// process ends, however it does.
#[derive(Debug)]
pub struct RunLock {
    id: RunId,
    /// Open for as long as the lock is held; closed on exec, so that no child keeps it.
    file: File,
}

impl RunLock {
    /// The run.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The lock that an open file has: another process has taken it, and passed the file on.
    #[must_use]
    pub fn of(id: RunId, file: File) -> Self {
        Self { id, file }
    }

    /// The file, for a process that goes on with the run: as long as it is open there, the lock is
    /// held.
    ///
    /// # Errors
    ///
    /// There are too many open files.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Takes the lock; nothing where another process has it, or where the file was taken away.
    pub(super) fn take(id: RunId, path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        let is_taken = take(&file)? && is_at(&file, path)?;
        Ok(is_taken.then_some(Self { id, file }))
    }
}

/// Takes the lock of an open file; whether that went well.
pub(super) fn take(file: &File) -> io::Result<bool> {
    for _ in 0..GLANCES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(GLANCE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether a process has the lock.
pub(super) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match durable::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether a process has the lock of a run open, and the file is another than ours: the directory that ours
/// is in is a copy. Processes that can't be seen from here don't count.
pub(super) fn is_open_elsewhere(path: &Path, id: RunId) -> bool {
    let ours = path.symlink_metadata().ok();
    let ours = ours.map(|ours| (ours.dev(), ours.ino()));
    let place = Path::new("runs").join(id.to_string()).join("lock");
    let is_other = |open: fs::DirEntry| {
        let leads_there = fs::read_link(open.path()).is_ok_and(|file| file.ends_with(&place));
        leads_there
            && fs::metadata(open.path()).is_ok_and(|file| Some((file.dev(), file.ino())) != ours)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut open = processes
        .filter_map(|process| fs::read_dir(process.path().join("fd")).ok())
        .flatten()
        .flatten();
    open.any(is_other)
}

/// Opens the file; where the folder can't be written to, one that is there will do.
fn open(path: &Path) -> io::Result<File> {
    match durable::change(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            durable::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

/// Whether the path still leads to the file: a run may be removed while its lock is waited for.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
