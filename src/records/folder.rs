//! A run's folder.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::Deserialize;

use super::durable;
use super::error::{ReadError, StoreError};
use super::lock::{self, RunLock};
use super::record::{Record, SCHEMA};
use super::services::ServiceFolder;
use super::store::Store;
use crate::model::{Name, RunId};

/// The record.
pub(super) const RECORD: &str = "run.json";
/// The file that is locked by whoever finishes the run.
pub(super) const LOCK: &str = "lock";
/// Bytes that are given back to a full disk, so that the record can still be written.
pub(super) const RESERVE: &str = "reserve";
/// The size of [`RESERVE`].
const RESERVE_BYTES: u64 = 1 << 20;
/// Nothing that jobctl writes is larger.
const LARGEST_RECORD: u64 = 64 << 20;

/// Where all of a run is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    id: RunId,
    path: PathBuf,
}

impl RunFolder {
    pub(super) fn new(id: RunId, path: PathBuf) -> Self {
        Self { id, path }
    }

    /// The run.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state folder that it is in, by its absolute path.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        let runs = self.path.parent().unwrap_or(&self.path);
        Store::new(runs.parent().unwrap_or(runs).to_owned()).place()
    }

    /// The folder of a service of the same project.
    #[must_use]
    pub fn service(&self, job: &Name) -> ServiceFolder {
        let state = self.path.ancestors().nth(2).unwrap_or(&self.path);
        Store::new(state.to_owned()).service(job)
    }

    /// What is remembered of an input; see [`Store::input_cache`].
    #[must_use]
    pub fn input_cache(&self, source: &Path) -> Option<PathBuf> {
        let state = self.path.ancestors().nth(2).unwrap_or(&self.path);
        Store::new(state.to_owned()).input_cache(source)
    }

    /// Takes the right to finish the run; nothing where another process has it.
    ///
    /// # Errors
    ///
    /// The folder is gone, or not for this user.
    pub fn try_lock(&self) -> Result<Option<RunLock>, StoreError> {
        let path = self.path.join(LOCK);
        RunLock::take(self.id, &path).map_err(|error| StoreError::write(path, error))
    }

    /// Whether a process works on the run.
    ///
    /// # Errors
    ///
    /// The lock is not for this user.
    pub fn is_locked(&self) -> Result<bool, StoreError> {
        let path = self.path.join(LOCK);
        lock::is_held(&path).map_err(|error| StoreError::read(path, error))
    }

    /// Whether another process works on the run in another directory, of which this one is a copy.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        lock::is_open_elsewhere(&self.path.join(LOCK), self.id)
    }

    /// Writes the record: who reads it meanwhile, or after a crash, finds the old one or the new
    /// one. On a full disk the run's reserve is used up for it.
    ///
    /// # Errors
    ///
    /// It can't be written, or is there already and of a newer jobctl.
    pub fn write(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.path.join(RECORD);
        let newer = match read_limited(&path) {
            Ok(bytes) => newer_schema(&bytes),
            Err(_) => newer(&record.schema),
        };
        if let Some(schema) = newer {
            let id = self.id;
            return Err(StoreError::Newer { id, schema });
        }
        // What was begun by an older jobctl is finished as this one does it.
        let current;
        let record = if record.schema == SCHEMA {
            record
        } else {
            current = Record {
                schema: SCHEMA.to_owned(),
                ..record.clone()
            };
            &current
        };
        let mut bytes = serde_json::to_vec_pretty(record)
            .map_err(|error| StoreError::write(&path, error.into()))?;
        bytes.push(b'\n');
        let written = durable::write(&path, &bytes).or_else(|error| {
            if !is_full(&error) {
                return Err(error);
            }
            self.release_reserve()?;
            durable::write(&path, &bytes)
        });
        written.map_err(|error| StoreError::write(path, error))?;
        if record.state.is_final() {
            // It takes up room, and does no other harm.
            let _ = self.release_reserve();
        }
        Ok(())
    }

    /// Reads the record.
    ///
    /// One of a newer jobctl is read as far as this one knows its fields, and can't be written.
    ///
    /// # Errors
    ///
    /// It is not there, not whole, not a record, or of a newer jobctl and can't be made out.
    pub fn read(&self) -> Result<Record, ReadError> {
        let id = self.id;
        let path = self.path.join(RECORD);
        let bytes = match read_limited(&path) {
            Ok(bytes) => bytes,
            Err(error) => return Err(self.unread(path, error)),
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.id != id => {
                let reason = format!("it is of run {}", record.id);
                Err(ReadError::Damaged { id, reason })
            }
            Ok(mut record) => {
                if let Some((name, what)) = strange_name(&record) {
                    let reason = format!("{name:?} is not the name of {what}");
                    return Err(ReadError::Damaged { id, reason });
                }
                // Records of version 1 have the files themselves.
                for output in record
                    .outputs
                    .values_mut()
                    .filter(|output| !output.files.is_empty())
                {
                    output.file_count = output.files.len() as u64;
                    output.bytes = output.files.iter().map(|file| file.bytes).sum();
                }
                Ok(record)
            }
            Err(error) => Err(match newer_schema(&bytes) {
                Some(schema) => ReadError::Newer { id, schema },
                None => ReadError::Damaged {
                    id,
                    reason: error.to_string(),
                },
            }),
        }
    }

    fn unread(&self, path: PathBuf, source: io::Error) -> ReadError {
        let id = self.id;
        let damaged = |reason: &str| ReadError::Damaged {
            id,
            reason: reason.to_owned(),
        };
        match source.kind() {
            io::ErrorKind::NotFound if self.path.is_dir() => damaged("it has no run.json"),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::Missing { id },
            io::ErrorKind::InvalidData => damaged(&source.to_string()),
            _ => ReadError::Unreadable { path, source },
        }
    }

    /// Writes another file of the run.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        durable::write(&self.path.join(name), bytes)
    }

    /// Sets bytes aside for a full disk.
    pub(super) fn make_reserve(&self) -> io::Result<()> {
        let file = durable::change(&self.path.join(RESERVE))?;
        let whole = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&file, whole, 0, RESERVE_BYTES) {
            Ok(()) => Ok(()),
            // Not every file system can: NFS before 4.2, ext3.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                io::copy(&mut io::repeat(0x5a).take(RESERVE_BYTES), &mut &file).map(drop)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn release_reserve(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(RESERVE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// A name that jobs.yaml can't have, and of what it would be: what is kept under such a name could be
/// anywhere.
fn strange_name(record: &Record) -> Option<(&String, &'static str)> {
    let outputs = record.outputs.keys().chain(record.lost_outputs.keys());
    let outputs = outputs.chain(record.policy.outputs.keys());
    let jobs = record.job.iter().chain(record.parents.keys());
    let project = record.project.iter().map(|name| (name, "a project"));
    let jobs = jobs.map(|name| (name, "a job"));
    let inputs = record.inputs.keys().map(|name| (name, "an input"));
    let outputs = outputs.map(|name| (name, "an output"));
    let mut names = project.chain(jobs).chain(inputs).chain(outputs);
    names.find(|(name, _)| name.parse::<Name>().is_err())
}

/// Whether writing failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};

    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Reads a file that may be endless.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let file = durable::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > LARGEST_RECORD {
        let reason = "run.json is too large";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(LARGEST_RECORD).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The schema, if it is newer than what this version writes.
fn newer_schema(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: String,
    }
    let versioned: Versioned = serde_json::from_slice(bytes).ok()?;
    newer(&versioned.schema)
}

fn newer(schema: &str) -> Option<String> {
    let (name, own) = SCHEMA.split_once('/')?;
    let major = schema.strip_prefix(name)?.strip_prefix('/')?;
    let major = major.split('.').next()?;
    (major.parse::<u32>().ok()? > own.parse().ok()?).then(|| schema.to_owned())
}
