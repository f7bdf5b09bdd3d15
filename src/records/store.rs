//! The state folder: all runs of a project.
//!
//! ```text
//! .jobctl/
//!   .gitignore       `*`: the folder ignores itself
//!   key              the project's own key, for its owner alone
//!   runs.index       a cache for lists
//!   promoted.json    which runs are compared with, and gone back to
//!   services/JOB/    where connections to a service go
//!   inputs/          caches: what inputs were when they were last looked at
//!   up.lock          held by whoever changes what runs as a service
//!   staging/         runs that are being made or removed; nobody else looks here
//!   runs/ID/         run.json, lock, logs, metrics, outputs
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::durable;
use super::error::{ReadError, StoreError};
use super::folder::{LOCK, RECORD, RunFolder, is_full};
use super::hex;
use super::index::{Entry, Index, Stamp};
use super::key::Key;
use super::lock::RunLock;
use super::record::Record;
use super::room;
use super::summary::Summary;
use crate::engine::PROBE;
use crate::model::RunId;

/// What a run's folder is called in `staging/` while it is made, after its id.
const NEW: &str = ".new";
/// What it is called there while it is removed.
const GONE: &str = ".gone";
/// What has been made for so long was given up.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A state folder. It is made when it is first written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

/// A run that was just recorded, and the right to finish it.
#[derive(Debug)]
pub struct OpenRun {
    /// Where it is kept.
    pub folder: RunFolder,
    /// Held by whoever works on it.
    pub lock: RunLock,
}

/// All runs, newest first.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those whose records can be read.
    pub runs: Vec<Summary>,
    /// The others, and why.
    pub unread: BTreeMap<RunId, ReadError>,
}

impl Store {
    /// The store in that directory, which need not exist. Links above it are followed here, once: from
    /// then on no part of a path in it may be a link.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        let real = |above: &Path| {
            let rest = folder.strip_prefix(above).ok()?;
            Some(above.canonicalize().ok()?.join(rest))
        };
        let real = folder.ancestors().skip(1).find_map(real);
        Self {
            folder: real.unwrap_or(folder),
        }
    }

    /// The state folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The state folder's absolute path without links, whether it is there or not.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        let place = self.folder.canonicalize().ok().or_else(|| {
            let folder = self.folder.parent()?.canonicalize().ok()?;
            Some(folder.join(self.folder.file_name()?))
        });
        place.unwrap_or_else(|| self.folder.clone())
    }

    /// Records a run before anything is asked of an engine, and takes its lock. Others see the
    /// whole record or none.
    ///
    /// # Errors
    ///
    /// There is no room for it, or the folder can't be written to.
    pub fn begin(&self, record: &Record) -> Result<OpenRun, StoreError> {
        room::check(&self.folder)?;
        self.prepare()?;
        self.sweep(record.created);
        let id = record.id;
        let staged = RunFolder::new(id, self.staging().join(format!("{id}{NEW}")));
        let begun = self.stage(&staged, record);
        if begun.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(staged.path());
        }
        let lock = begun?;
        Ok(OpenRun {
            folder: self.run(id),
            lock,
        })
    }

    fn stage(&self, staged: &RunFolder, record: &Record) -> Result<RunLock, StoreError> {
        let fail = |error| self.refused(staged.path(), error);
        durable::create_directory(staged.path()).map_err(fail)?;
        let lock = RunLock::take(record.id, &staged.path().join(LOCK)).map_err(fail)?;
        let lock = lock.ok_or_else(|| fail(io::ErrorKind::ResourceBusy.into()))?;
        staged.make_reserve().map_err(fail)?;
        staged.write(record)?;
        let run = self.run(record.id);
        fs::rename(staged.path(), run.path()).map_err(fail)?;
        durable::sync(&self.runs()).map_err(fail)?;
        Ok(lock)
    }

    /// What begins a run can meet with, although there was room a moment ago.
    fn refused(&self, path: &Path, error: io::Error) -> StoreError {
        if !is_full(&error) {
            return StoreError::write(path, error);
        }
        match room::check(&self.folder) {
            Err(full) => full,
            Ok(()) => StoreError::write(path, error),
        }
    }

    /// What is remembered of an input: a cache that all runs of the project share. `None` where it can't
    /// be kept.
    #[must_use]
    pub fn input_cache(&self, source: &Path) -> Option<PathBuf> {
        let inputs = self.folder.join("inputs");
        let prepared = self.prepare().and_then(|()| {
            durable::create_directory(&inputs).map_err(|error| self.refused(&inputs, error))
        });
        if let Err(error) = prepared {
            tracing::debug!("there is no cache of inputs: {error}");
            return None;
        }
        let name = Sha256::digest(source.as_os_str().as_bytes());
        Some(inputs.join(format!("{}.stat", hex(&name[..16]))))
    }

    /// Where what is known of images is.
    ///
    /// # Errors
    ///
    /// The store can't be made.
    pub fn images(&self) -> Result<PathBuf, StoreError> {
        self.prepare()?;
        let images = self.folder.join("images");
        durable::create_directory(&images).map_err(|error| self.refused(&images, error))?;
        Ok(images)
    }

    /// Makes the folder with what each store has.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        for folder in [self.folder.clone(), self.runs(), self.staging()] {
            durable::create_directory(&folder).map_err(|error| self.refused(&folder, error))?;
        }
        let ignore = self.folder.join(".gitignore");
        if !ignore.exists() {
            durable::write(&ignore, b"*\n").map_err(|error| self.refused(&ignore, error))?;
        }
        Ok(())
    }

    /// Removes what others were killed over while they made or removed it. What can't be removed
    /// now can be later.
    fn sweep(&self, now: Timestamp) {
        let Ok(staged) = fs::read_dir(self.staging()) else {
            return;
        };
        for entry in staged.flatten() {
            let name = entry.file_name();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let Some(name) = name.to_str().filter(|_| is_folder) else {
                continue;
            };
            if name.ends_with(GONE) || (name.starts_with(PROBE) && is_abandoned(&entry, now)) {
                let _ = fs::remove_dir_all(entry.path());
            } else if let Some(id) = name.strip_suffix(NEW).and_then(id_of)
                && id.time() + ABANDONED < now
                && let Ok(Some(_lock)) = RunLock::take(id, &entry.path().join(LOCK))
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// The ids of all runs, newest first. Whatever else lies in their folder is passed over.
    ///
    /// # Errors
    ///
    /// The folder is there, and can't be read.
    pub fn ids(&self) -> Result<Vec<RunId>, StoreError> {
        let runs = self.runs();
        let failed = |error| StoreError::read(&runs, error);
        if !self.has(&runs)? {
            return Ok(Vec::new());
        }
        let mut ids = Vec::new();
        for entry in fs::read_dir(&runs).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A link would lead elsewhere.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ids.extend(entry.file_name().to_str().and_then(id_of));
            }
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// A run's folder, whether it is there or not.
    #[must_use]
    pub fn run(&self, id: RunId) -> RunFolder {
        RunFolder::new(id, self.runs().join(id.to_string()))
    }

    /// Reads a run's record.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::read`].
    pub fn read(&self, id: RunId) -> Result<Record, ReadError> {
        self.run(id).read()
    }

    /// Removes a run with all that is kept of it. The caller has its lock, so that nobody works on
    /// it; one that is gone already is no error.
    ///
    /// # Errors
    ///
    /// It can't be taken away. Once it is, what is left of it is removed sooner or later.
    pub fn remove(&self, id: RunId) -> Result<(), StoreError> {
        self.prepare()?;
        let run = self.run(id);
        let gone = self.staging().join(format!("{id}{GONE}"));
        // From a removal of the same run that was cut short, and of which a copy was put back.
        let _ = fs::remove_dir_all(&gone);
        match fs::rename(run.path(), &gone) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StoreError::write(run.path(), error)),
        }
        durable::sync(&self.runs()).map_err(|error| StoreError::write(run.path(), error))?;
        fs::remove_dir_all(&gone).map_err(|error| StoreError::write(gone, error))
    }

    /// All runs in short, newest first.
    ///
    /// # Errors
    ///
    /// The folder is there, and can't be read.
    pub fn summaries(&self) -> Result<Listing, StoreError> {
        let ids = self.ids()?;
        if ids.is_empty() {
            return Ok(Listing::default());
        }
        let runs = self.runs();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&runs, flags, Mode::empty())
            .map_err(|errno| StoreError::read(&runs, errno.into()))?;
        let index_path = self.folder.join("runs.index");
        let mut index = Index::read(&index_path);
        let mut listing = Listing::default();
        let (mut used, mut found) = (Vec::new(), Vec::new());
        for id in ids {
            let path = format!("{id}/{RECORD}");
            let stat = rustix::fs::statat(&opened, path, AtFlags::SYMLINK_NOFOLLOW);
            let stamp = stat.ok().as_ref().map(Stamp::from);
            if let Some(entry) = index.entries.remove(&id)
                && Some(entry.stamp) == stamp
            {
                listing.runs.push(entry.summary.clone());
                used.push(entry);
                continue;
            }
            match self.read(id) {
                Ok(record) => {
                    let summary = Summary::from(&record);
                    if let Some(stamp) = stamp.filter(|_| record.state.is_final()) {
                        let summary = summary.clone();
                        found.push(Entry { stamp, summary });
                    }
                    listing.runs.push(summary);
                }
                // It was removed meanwhile.
                Err(ReadError::Missing { .. }) => {}
                Err(error) => {
                    listing.unread.insert(id, error);
                }
            }
        }
        if let Err(error) = index.keep(&index_path, &used, &found) {
            tracing::debug!(%error, "the cache of runs was not written");
        }
        Ok(listing)
    }

    /// This project's own key; made when it is first asked for.
    ///
    /// # Errors
    ///
    /// It can't be read or made.
    pub fn key(&self) -> Result<Key, StoreError> {
        let path = self.folder.join("key");
        if let Some(key) = read_key(&path)? {
            return Ok(key);
        }
        self.prepare()?;
        let mut bytes = [0; Key::BYTES];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .map_err(|error| StoreError::read("/dev/urandom", error))?;
        durable::write_once(&path, &bytes).map_err(|error| self.refused(&path, error))?;
        // Another process may have been first.
        read_key(&path)?.ok_or_else(|| StoreError::read(path, io::ErrorKind::NotFound.into()))
    }

    /// Whether a folder of the store is there, which no link may lead to.
    pub(super) fn has(&self, folder: &Path) -> Result<bool, StoreError> {
        for folder in [self.path(), folder] {
            let found = durable::has_directory(folder);
            if !found.map_err(|error| StoreError::read(folder, error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// Where what is being made or removed is.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.folder.join("staging")
    }
}

/// Whether nobody has touched something in `staging/` for a long time.
fn is_abandoned(entry: &fs::DirEntry, now: Timestamp) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let modified = modified
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok());
    modified.is_some_and(|time| time + ABANDONED < now)
}

fn read_key(path: &Path) -> Result<Option<Key>, StoreError> {
    let bytes = match durable::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::read(path, error)),
    };
    match bytes.try_into() {
        Ok(bytes) => Ok(Some(Key::new(bytes))),
        Err(_) => Err(StoreError::read(path, io::ErrorKind::InvalidData.into())),
    }
}

/// The run whose folder is called so.
fn id_of(name: &str) -> Option<RunId> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if name.len() != 32 || !name.bytes().all(is_digit) {
        return None;
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests;
