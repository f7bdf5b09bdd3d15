//! A file's bytes, or an error if it changes while they are read.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::attributes::attributes;
use super::entry::{Entry, Stamp};
use super::error::ContextError;
use super::path::from_bytes;

/// How much of a file is held at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// Opens the file of an entry; links are not followed, pipes not waited for.
///
/// # Errors
///
/// It can't be read, or is not the file that the walk saw.
pub fn open(root: &Path, entry: &Entry) -> Result<File, ContextError> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = root.join(from_bytes(&entry.path));
    let handle = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => ContextError::changed(root, &entry.path),
        errno => ContextError::unreadable(root, &entry.path, errno),
    })?;
    let file = File::from(handle);
    check(&file, root, entry)?;
    Ok(file)
}

/// Whether the file is still the one that the walk saw.
fn check(file: &File, root: &Path, entry: &Entry) -> Result<(), ContextError> {
    let stat = rustix::fs::fstat(file)
        .map_err(|errno| ContextError::unreadable(root, &entry.path, errno))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file && Stamp::of(&stat) == entry.stamp {
        Ok(())
    } else {
        Err(ContextError::changed(root, &entry.path))
    }
}

/// Copies exactly the bytes that the walk saw.
///
/// # Errors
///
/// The file can't be read or changed; or the bytes can't be written.
pub(super) fn copy(root: &Path, entry: &Entry, out: &mut impl Write) -> Result<(), ContextError> {
    let mut file = open(root, entry)?;
    let size = entry.stamp.size;
    // One byte more than the file has, to meet its end in the first read.
    let room = usize::try_from(size).map_or(CHUNK_BYTES, |size| (size + 1).min(CHUNK_BYTES));
    let mut chunk = vec![0; room];
    let mut copied = 0;
    loop {
        let length = match file.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ContextError::unreadable(root, &entry.path, error)),
        };
        copied += length as u64;
        if copied > size || (length == 0 && copied < size) {
            return Err(ContextError::changed(root, &entry.path));
        }
        if length == 0 {
            break;
        }
        out.write_all(&chunk[..length])
            .map_err(ContextError::Send)?;
    }
    check(&file, root, entry)
}

/// The SHA-256 of a file's bytes.
pub(super) fn content(root: &Path, entry: &Entry) -> Result<[u8; 32], ContextError> {
    let mut hasher = Sha256::new();
    copy(root, entry, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// The SHA-256 of a file's bytes, and of its extended attributes if it has any. Both change the
/// file's time of change, so that what is remembered of one holds for the other.
pub(super) fn sha256(root: &Path, entry: &Entry) -> Result<[u8; 32], ContextError> {
    let content = content(root, entry)?;
    let attributes = attributes(root, &entry.path)?;
    if attributes.is_empty() {
        return Ok(content);
    }
    let mut hasher = Sha256::new();
    hasher.update(content);
    for (name, value) in attributes {
        for part in [name.as_bytes(), &value] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().into())
}
