//! The digest of a context's content.

use std::collections::HashMap;
use std::io;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::cache::StatCache;
use super::entry::{Entry, Kind, Skip};
use super::error::ContextError;
use super::read;
use super::secret::holds_secrets;
use super::walk::{Filter, walk};

/// The first bytes of what is hashed. A change of the encoding changes them.
const ENCODING: &[u8] = b"jobctl context 1\n";
/// More readers than this do not make a disk faster.
const MOST_THREADS: usize = 4;

/// More entries than this are not listed.
const MOST_LISTED: usize = 20_000;

/// An entry, and the digest of its content if it is a file.
pub type ReadEntry = (Entry, Option<[u8; 32]>);

/// What a context holds, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextDigest {
    /// The SHA-256 over paths, kinds, modes, links and contents; times and owners do not count.
    pub sha256: [u8; 32],
    /// Its regular files, hard links among them.
    pub files: u64,
    /// The bytes of their contents, each inode once.
    pub bytes: u64,
    /// The digest of each file and link, in the order of the walk; nothing where there are tens of thousands
    /// of entries.
    pub listed: Vec<(Vec<u8>, [u8; 32])>,
    /// What was left out because an image can't have it, with its path.
    pub skipped: Vec<(Vec<u8>, Skip)>,
    /// Paths of files that usually hold secrets.
    pub secrets: Vec<Vec<u8>>,
}

/// The digest of a context. Only files that the cache does not know are read.
///
/// Two contexts have the same digest exactly if a build can't tell them apart.
///
/// # Errors
///
/// A file or folder can't be read, or a file changed meanwhile.
pub fn digest(
    root: &Path,
    filter: &Filter,
    cache: &mut StatCache,
) -> Result<ContextDigest, ContextError> {
    let mut skipped = Vec::new();
    let mut encoded = ENCODING.to_vec();
    let (mut files, mut bytes) = (0, 0);
    let mut secrets = Vec::new();
    let mut listed = Vec::new();
    let on_skipped = &mut |path: &[u8], skip| skipped.push((path.to_vec(), skip));
    let entries = read_tree(root, filter, cache, on_skipped, read::sha256)?;
    let is_listed = entries.len() <= MOST_LISTED;
    for (entry, content) in entries {
        let start = encoded.len();
        encode(&entry, &mut encoded);
        if entry.kind != Kind::Folder && holds_secrets(&entry.path) {
            secrets.push(entry.path.clone());
        }
        match entry.kind {
            Kind::Folder | Kind::Symlink => {}
            Kind::HardLink => files += 1,
            Kind::File => {
                files += 1;
                bytes += entry.size;
                encoded.extend(content.unwrap_or_default());
            }
        }
        if is_listed && entry.kind != Kind::Folder {
            listed.push((entry.path, Sha256::digest(&encoded[start..]).into()));
        }
    }
    Ok(ContextDigest {
        sha256: Sha256::digest(&encoded).into(),
        files,
        bytes,
        listed,
        skipped,
        secrets,
    })
}

/// What is in a folder, in the order of the walk, each file with the SHA-256 of its bytes alone; a hard
/// link has that of the file that it repeats. Only files that the cache does not know are read.
///
/// # Errors
///
/// A file or folder can't be read, or a file changed meanwhile.
pub fn contents(
    root: &Path,
    filter: &Filter,
    cache: &mut StatCache,
) -> Result<Vec<ReadEntry>, ContextError> {
    let mut found = read_tree(root, filter, cache, &mut |_, _| {}, read::content)?;
    let first: HashMap<_, _> = found
        .iter()
        .filter_map(|(entry, content)| Some((entry.path.clone(), (*content)?)))
        .collect();
    for (entry, content) in &mut found {
        if entry.kind == Kind::HardLink {
            *content = entry
                .link
                .as_ref()
                .and_then(|link| first.get(link).copied());
        }
    }
    Ok(found)
}

/// The SHA-256 of a file's bytes, and how many there are. It is read only if the cache does not know it;
/// a link to it is followed.
///
/// # Errors
///
/// It can't be read, is no regular file, or changed meanwhile.
pub fn file_content(path: &Path, cache: &mut StatCache) -> Result<([u8; 32], u64), ContextError> {
    let unreadable = |source: io::Error| ContextError::unreadable(path, b"", source);
    let path = path.canonicalize().map_err(unreadable)?;
    let (Some(root), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    };
    let stat = rustix::fs::stat(&path).map_err(|errno| unreadable(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let entry = Entry::of_file(name.as_bytes().to_vec(), &stat);
    if let Some(content) = cache.lookup(&entry) {
        return Ok((content, entry.size));
    }
    let content = read::content(root, &entry)?;
    cache.insert(&entry, content);
    Ok((content, entry.size))
}

/// The entries of a folder, each file with what `read` makes of it, or the cache has of it.
fn read_tree(
    root: &Path,
    filter: &Filter,
    cache: &mut StatCache,
    on_skipped: &mut dyn FnMut(&[u8], Skip),
    read: impl Fn(&Path, &Entry) -> Result<[u8; 32], ContextError> + Sync,
) -> Result<Vec<ReadEntry>, ContextError> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for entry in walk(root, filter, on_skipped) {
        let entry = entry?;
        let content = match entry.kind {
            Kind::Folder | Kind::Symlink => None,
            Kind::HardLink => {
                cache.link(&entry);
                None
            }
            Kind::File => {
                let known = cache.lookup(&entry);
                if known.is_none() {
                    unknown.push(found.len());
                }
                known
            }
        };
        found.push((entry, content));
    }
    let entries: Vec<_> = unknown.iter().map(|at| &found[*at].0).collect();
    let contents = read_all(&entries, |entry| read(root, entry))?;
    for (at, content) in unknown.into_iter().zip(contents) {
        cache.insert(&found[at].0, content);
        found[at].1 = Some(content);
    }
    Ok(found)
}

/// Appends an entry, less its content: kind, mode, path, link. Lengths come before names, so no two
/// contexts have the same bytes. The order is the walk's.
fn encode(entry: &Entry, encoded: &mut Vec<u8>) {
    let (kind, mode) = match entry.kind {
        Kind::Folder => (b'd', entry.mode),
        Kind::File => (b'f', entry.mode),
        // Its own mode has no meaning and differs between systems.
        Kind::Symlink => (b'l', 0o777),
        Kind::HardLink => (b'h', entry.mode),
    };
    encoded.push(kind);
    encoded.extend(mode.to_le_bytes());
    for name in [&entry.path, entry.link.as_deref().unwrap_or_default()] {
        encoded.extend((name.len() as u64).to_le_bytes());
        encoded.extend(name);
    }
}

/// What is made of each file, in their order.
fn read_all(
    entries: &[&Entry],
    read_one: impl Fn(&Entry) -> Result<[u8; 32], ContextError> + Sync,
) -> Result<Vec<[u8; 32]>, ContextError> {
    let next = AtomicUsize::new(0);
    let read = || {
        let mut contents = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(index) else {
                return Ok(contents);
            };
            match read_one(entry) {
                Ok(content) => contents.push((index, content)),
                Err(error) => {
                    next.store(entries.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(MOST_THREADS).min(entries.len());
    let parts: Result<Vec<_>, ContextError> = thread::scope(|scope| {
        // Where no thread is to be had, this one reads what the others would.
        let readers = (1..threads).map_while(|_| {
            let reader = thread::Builder::new().spawn_scoped(scope, read);
            reader.ok()
        });
        let readers: Vec<_> = readers.collect();
        let own = read();
        let others = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader does not panic"));
        std::iter::once(own).chain(others).collect()
    });
    let mut contents = vec![[0; 32]; entries.len()];
    for (index, content) in parts?.into_iter().flatten() {
        contents[index] = content;
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
