//! What files' contents were, so that unchanged files need not be read: git's index in small.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, Stamp};
use super::error::ContextError;

/// The first bytes of a cache's file; a later format has others, and this one is ignored then.
const MAGIC: &[u8] = b"jobctl stat cache 1\n";
const DIGEST_BYTES: usize = 32;
/// A larger cache is not read: some millions of files.
const LARGEST: u64 = 512 << 20;
/// A file that changed this shortly before it was read may change again without its times showing
/// it: clocks of file systems tick, on FAT every 2 s.
const RACY_SECONDS: i64 = 2;
/// How many times a cache is written without a file before that file is forgotten. Images with
/// ignore files of their own share a cache.
const MOST_ABSENCES: u8 = 8;

/// The digests of files' contents by path and [`Stamp`].
///
/// An edit that keeps size and modification time still changes the time of change (`ctime`), which
/// the kernel alone sets.
#[derive(Debug, Default)]
pub struct StatCache {
    /// Where it is stored, if anywhere.
    path: Option<PathBuf>,
    records: HashMap<Vec<u8>, Record>,
    /// Further names of files, each with the name that has the record.
    links: HashMap<Vec<u8>, Vec<u8>>,
    /// The file system's clock when the cache was loaded: before any file was read.
    loaded: Option<(i64, u32)>,
    has_changed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    stamp: Stamp,
    content: [u8; DIGEST_BYTES],
    /// Whether the stamp was old enough when the content was read.
    is_settled: bool,
    is_seen: bool,
    absences: u8,
}

impl StatCache {
    /// Loads a cache. One that is not there, is damaged, or was written by another version is
    /// empty.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let records = read(path)
            .ok()
            .and_then(|bytes| decode(&bytes))
            .unwrap_or_default();
        Self {
            path: Some(path.to_owned()),
            records,
            links: HashMap::new(),
            loaded: clock(path),
            has_changed: false,
        }
    }

    /// The SHA-256 of a file's content, if it was found out for the file as it is now, under
    /// whichever of its names.
    #[must_use]
    pub fn known(&self, entry: &Entry) -> Option<[u8; DIGEST_BYTES]> {
        let name = self.links.get(&entry.path).unwrap_or(&entry.path);
        let record = self.records.get(name)?;
        (record.stamp == entry.stamp).then_some(record.content)
    }

    /// Writes the cache, if it differs from what was loaded: beside its place, then renamed.
    ///
    /// # Errors
    ///
    /// The folder can't be made or written to.
    pub fn save(&mut self) -> Result<(), ContextError> {
        let Some(path) = self.path.clone().filter(|_| self.has_changed) else {
            return Ok(());
        };
        for record in self.records.values_mut() {
            record.absences = if record.is_seen {
                0
            } else {
                record.absences + 1
            };
        }
        self.records
            .retain(|_, record| record.absences <= MOST_ABSENCES);
        write(&path, &encode(&self.records)).map_err(|source| ContextError::Cache {
            path: path.clone(),
            source,
        })?;
        self.has_changed = false;
        Ok(())
    }

    pub(super) fn lookup(&mut self, entry: &Entry) -> Option<[u8; DIGEST_BYTES]> {
        let record = self.records.get_mut(&entry.path)?;
        record.is_seen = true;
        (record.is_settled && record.stamp == entry.stamp).then_some(record.content)
    }

    /// Takes note of a hard link: another walk may meet the file under this name alone.
    pub(super) fn link(&mut self, entry: &Entry) {
        if let Some(first) = &entry.link {
            self.links.insert(entry.path.clone(), first.clone());
        }
    }

    pub(super) fn insert(&mut self, entry: &Entry, content: [u8; DIGEST_BYTES]) {
        let stamp = entry.stamp;
        let newest = stamp.modified.max(stamp.changed);
        let is_settled = self
            .loaded
            .is_some_and(|(seconds, nanos)| newest < (seconds - RACY_SECONDS, nanos));
        let record = Record {
            stamp,
            content,
            is_settled,
            is_seen: true,
            absences: 0,
        };
        self.records.insert(entry.path.clone(), record);
        self.has_changed = true;
    }
}

/// Opens a cache's directory, and has the cache's name in it. The directory may have come with a
/// repository, and be a link to anywhere: then it is none.
fn directory(path: &Path) -> io::Result<(File, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = folder.unwrap_or(Path::new("."));
    let opened = rustix::fs::open(folder, flags, Mode::empty())?;
    Ok((opened.into(), name))
}

/// A path that leads to an open directory.
fn held(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Reads a cache, which is a regular file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (directory, name) = directory(path)?;
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The time on the clock of the file system where a cache is to be, which is not always this
/// machine's.
fn clock(path: &Path) -> Option<(i64, u32)> {
    let probe = match directory(path) {
        Ok((directory, _)) => tempfile::tempfile_in(held(&directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.ancestors().skip(1).find(|folder| folder.is_dir())?;
            tempfile::tempfile_in(folder)
        }
        Err(error) => Err(error),
    };
    let stat = rustix::fs::fstat(probe.ok()?).ok()?;
    Some(Stamp::of(&stat).modified)
}

/// Replaces a cache. It is for its owner alone, as it has the names of files.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let (directory, name) = directory(path)?;
    let folder = held(&directory);
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(&folder)?;
    file.write_all(bytes)?;
    let persisted = file.persist(folder.join(name));
    persisted.map(drop).map_err(|error| error.error)
}

/// All records sorted by path, between [`MAGIC`] and the SHA-256 of everything before it.
fn encode(records: &HashMap<Vec<u8>, Record>) -> Vec<u8> {
    let mut sorted: Vec<_> = records.iter().collect();
    sorted.sort_unstable_by_key(|(path, _)| *path);
    let mut bytes = MAGIC.to_vec();
    for (path, record) in sorted {
        let Ok(length) = u32::try_from(path.len()) else {
            continue;
        };
        let stamp = record.stamp;
        bytes.extend(length.to_le_bytes());
        bytes.extend(path);
        for number in [stamp.device, stamp.inode, stamp.size] {
            bytes.extend(number.to_le_bytes());
        }
        for (seconds, nanos) in [stamp.modified, stamp.changed] {
            bytes.extend(seconds.to_le_bytes());
            bytes.extend(nanos.to_le_bytes());
        }
        bytes.extend([u8::from(record.is_settled), record.absences]);
        bytes.extend(record.content);
    }
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Record>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    let mut rest = body.strip_prefix(MAGIC)?;
    if Sha256::digest(body).as_slice() != checksum {
        return None;
    }
    let mut records = HashMap::with_capacity(rest.len() / 128);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take(&mut rest)?);
        let (path, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        let record = Record {
            stamp: Stamp {
                device: u64::from_le_bytes(take(&mut rest)?),
                inode: u64::from_le_bytes(take(&mut rest)?),
                size: u64::from_le_bytes(take(&mut rest)?),
                modified: time(&mut rest)?,
                changed: time(&mut rest)?,
            },
            is_settled: take::<1>(&mut rest)? == [1],
            absences: u8::from_le_bytes(take(&mut rest)?),
            content: take(&mut rest)?,
            is_seen: false,
        };
        records.insert(path.to_vec(), record);
    }
    Some(records)
}

fn time(rest: &mut &[u8]) -> Option<(i64, u32)> {
    let seconds = i64::from_le_bytes(take(rest)?);
    Some((seconds, u32::from_le_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests;
