//! Files below a directory, reached without following a single link: what is below it may come from
//! anybody, and a link in it may lead anywhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Of directories in one another, at most so many are gone into.
const DEEPEST: usize = 1000;
/// What is nothing but zeros and as large as this is left out of a file: a file system's block.
const HOLE_BYTES: usize = 4 << 10;

/// A directory and what is below it. It remembers the directory that it was in last, as files come in the
/// order of their paths most often.
pub(super) struct Tree {
    root: OwnedFd,
    /// Where it is, from the root, and its handle; nothing for the root itself.
    current: Option<OwnedFd>,
    path: Vec<OsString>,
}

impl Tree {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// It is not there, is a link, or is no directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            root: rustix::fs::open(path, DIRECTORY, Mode::empty())?,
            current: None,
            path: Vec::new(),
        })
    }

    /// The directory itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that a path below this one is in, and the last part of that path. With `makes`,
    /// directories that are not there are made, for their owner alone.
    ///
    /// # Errors
    ///
    /// The path leads elsewhere than down, or through a link, or a directory is not there.
    pub(super) fn parent<'a>(
        &mut self,
        path: &'a Path,
        makes: bool,
    ) -> io::Result<(BorrowedFd<'_>, &'a OsStr)> {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => parts.push(name),
                _ => return Err(outside()),
            }
        }
        let name = parts.pop().ok_or_else(outside)?;
        if parts.len() > DEEPEST {
            return Err(io::Error::other("it is nested too deeply"));
        }
        self.enter(&parts, makes)?;
        let folder = self.current.as_ref().unwrap_or(&self.root);
        Ok((folder.as_fd(), name))
    }

    fn enter(&mut self, parts: &[&OsStr], makes: bool) -> io::Result<()> {
        let is_below = parts.len() >= self.path.len()
            && self
                .path
                .iter()
                .zip(parts)
                .all(|(known, part)| known == part);
        if !is_below {
            self.current = None;
            self.path.clear();
        }
        for part in &parts[self.path.len()..] {
            let from = self.current.as_ref().unwrap_or(&self.root);
            if makes {
                match rustix::fs::mkdirat(from, *part, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            self.current = Some(rustix::fs::openat(from, *part, DIRECTORY, Mode::empty())?);
            self.path.push((*part).to_owned());
        }
        Ok(())
    }

    /// Opens a file to read it; what is no regular file is an error.
    ///
    /// # Errors
    ///
    /// It can't be reached or read.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let (folder, name) = self.parent(path, false)?;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(File::from(file))
    }

    /// Where a symbolic link points.
    ///
    /// # Errors
    ///
    /// It can't be reached, or is no link.
    pub(super) fn link(&mut self, path: &Path) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;

        let (folder, name) = self.parent(path, false)?;
        let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// What is at a path, if anything is.
    ///
    /// # Errors
    ///
    /// It can't be reached.
    pub(super) fn kind(&mut self, path: &Path) -> io::Result<Option<FileType>> {
        let found = self.parent(path, false).and_then(|(folder, name)| {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            Ok(rustix::fs::statat(folder, name, flags)?)
        });
        match found {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn outside() -> io::Error {
    io::Error::other("its path leads out of the directory")
}

/// Copies all bytes into an empty file and hashes them; how many there are. Blocks of zeros are not
/// written, so that a sparse file stays one.
///
/// # Errors
///
/// Reading or writing failed.
pub(super) fn copy_sparse(
    from: &mut impl Read,
    to: &File,
    buffer: &mut [u8],
) -> io::Result<([u8; 32], u64)> {
    let mut hasher = Sha256::new();
    let mut at = 0;
    let mut is_hole = false;
    loop {
        let length = fill(from, buffer)?;
        let chunk = &buffer[..length];
        hasher.update(chunk);
        let mut start = 0;
        // Neighbouring blocks that are no holes are written at once.
        while start < length {
            let is_zero = |from: usize| {
                let block = &chunk[from..length.min(from + HOLE_BYTES)];
                block.iter().all(|byte| *byte == 0)
            };
            let mut end = start;
            while end < length && !is_zero(end) {
                end += HOLE_BYTES;
            }
            let end = end.min(length);
            to.write_all_at(&chunk[start..end], at + start as u64)?;
            is_hole = end < length;
            start = end + HOLE_BYTES;
        }
        at += length as u64;
        if length < buffer.len() {
            break;
        }
    }
    if is_hole {
        to.set_len(at)?;
    }
    Ok((hasher.finalize().into(), at))
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
