//! Files that one process has at a time.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{durable, lock};

/// A file that one process has at a time: the kernel takes it back when that process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// A process that has proved that it has a lock's file open.
#[derive(Debug)]
pub struct Holder(OwnedFd);

impl Holder {
    /// Sends it a signal: to that very process, and not to one that has got its number meanwhile.
    ///
    /// # Errors
    ///
    /// It has ended, or is another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.0, signal)?)
    }
}

impl FileLock {
    /// Takes the lock, and writes this process's id into the file as a hint; nothing where another has it.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = durable::change(path)?;
        if !lock::take(&file)? {
            return Ok(None);
        }
        file.set_len(0)?;
        (&file).write_all(std::process::id().to_string().as_bytes())?;
        Ok(Some(Self { file }))
    }

    /// Whether a process has it.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        lock::is_held(path)
    }

    /// The process that has it, if it can be seen from here. The file names one; whether it is that one is
    /// shown by the files that it has open.
    ///
    /// # Errors
    ///
    /// The file can't be read.
    pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
        if !lock::is_held(path)? {
            return Ok(None);
        }
        let mut file = durable::open(path)?;
        let mut text = String::new();
        (&mut file).take(32).read_to_string(&mut text)?;
        let named = text.trim().parse().ok().and_then(Pid::from_raw);
        let Some(process) = named else {
            return Ok(None);
        };
        let Ok(holder) = pidfd_open(process, PidfdFlags::empty()) else {
            return Ok(None);
        };
        let metadata = file.metadata()?;
        let is_it = |open: fs::DirEntry| {
            let open = fs::metadata(open.path());
            open.is_ok_and(|open| (open.dev(), open.ino()) == (metadata.dev(), metadata.ino()))
        };
        // Who may not look at another's files may not end it either.
        let open = fs::read_dir(format!("/proc/{}/fd", process.as_raw_pid()));
        let has_it = open.is_ok_and(|mut open| open.any(|open| open.is_ok_and(is_it)));
        Ok(has_it.then_some(Holder(holder)))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Whoever waits for it is not to take us for its holder.
        let _ = self.file.set_len(0);
    }
}
