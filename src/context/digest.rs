//! The digest of a context's content.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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

/// What a context holds, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextDigest {
    /// The SHA-256 over paths, kinds, modes, links and contents; times and owners do not count.
    pub sha256: [u8; 32],
    /// Its regular files, hard links among them.
    pub files: u64,
    /// The bytes of their contents, each inode once.
    pub bytes: u64,
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
    // Files to read, and where their contents' digests belong.
    let mut unknown: Vec<(Entry, usize)> = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    let mut secrets = Vec::new();
    for entry in walk(root, filter, &mut |path, skip| {
        skipped.push((path.to_vec(), skip));
    }) {
        let entry = entry?;
        encode(&entry, &mut encoded);
        if entry.kind != Kind::Folder && holds_secrets(&entry.path) {
            secrets.push(entry.path.clone());
        }
        match entry.kind {
            Kind::Folder | Kind::Symlink => {}
            Kind::HardLink => {
                files += 1;
                cache.link(&entry);
            }
            Kind::File => {
                files += 1;
                bytes += entry.size;
                let known = cache.lookup(&entry);
                let at = encoded.len();
                encoded.extend(known.unwrap_or_default());
                if known.is_none() {
                    unknown.push((entry, at));
                }
            }
        }
    }
    let contents = read_all(root, &unknown)?;
    for ((entry, at), content) in unknown.iter().zip(contents) {
        encoded[*at..*at + content.len()].copy_from_slice(&content);
        cache.insert(entry, content);
    }
    Ok(ContextDigest {
        sha256: Sha256::digest(&encoded).into(),
        files,
        bytes,
        skipped,
        secrets,
    })
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

/// The SHA-256 of each file's content, in their order.
fn read_all(root: &Path, entries: &[(Entry, usize)]) -> Result<Vec<[u8; 32]>, ContextError> {
    let next = AtomicUsize::new(0);
    let read = || {
        let mut contents = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((entry, _)) = entries.get(index) else {
                return Ok(contents);
            };
            match read::sha256(root, entry) {
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
        let readers: Vec<_> = (1..threads).map(|_| scope.spawn(read)).collect();
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
