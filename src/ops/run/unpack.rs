//! An output's archive, as an engine sends it, put onto the disk.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::archive::{Archive, Member};
use crate::ops::tree::{Tree, copy_sparse};
use crate::records::CollectedFile;

/// How much of a file is held at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What an archive had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// A symbolic link in the place of the output, and where it points.
    Link(PathBuf),
    /// Files, sorted by the bytes of their paths.
    Files(Vec<CollectedFile>),
}

/// Why an archive was not unpacked.
#[derive(Debug)]
pub(super) struct UnpackError {
    /// The file of the output that it met with, if it was one.
    pub(super) file: Option<PathBuf>,
    /// Why.
    pub(super) source: io::Error,
}

impl From<io::Error> for UnpackError {
    fn from(source: io::Error) -> Self {
        Self { file: None, source }
    }
}

/// Unpacks an archive into an empty directory, and hashes what it writes in the same pass. What the
/// archive's paths have in common, the name of what was asked for, is left off; a single file gets `name`.
///
/// Nothing is written through a link. Files belong to whoever unpacks them, who can read them and change
/// their directories, whatever their modes were; set-user and set-group bits are left off. Devices and
/// pipes are nobody's output. Blocks of zeros take up no room.
pub(super) fn unpack(
    archive: impl Read,
    into: &Path,
    name: &OsStr,
    most_bytes: Option<u64>,
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker {
        tree: Tree::open(into)?,
        links: Tree::open(into)?,
        name,
        most_bytes,
        bytes: 0,
        files: Vec::new(),
        buffer: vec![0; CHUNK_BYTES],
    };
    let mut archive = Archive::new(archive);
    while let Some(member) = archive.next()? {
        let mut parts = path(&member.path).components();
        let is_root = parts.next().is_some() && parts.as_path().as_os_str().is_empty();
        let inner = parts.as_path();
        if is_root && member.kind == EntryType::Symlink {
            return Ok(Unpacked::Link(path(&member.link).to_owned()));
        }
        unpacker
            .take(&mut archive, &member, inner)
            .map_err(|source| UnpackError {
                file: (!is_root).then(|| inner.to_owned()),
                source,
            })?;
    }
    let mut files = unpacker.files;
    files.sort_unstable_by(|left, right| left.path.as_os_str().cmp(right.path.as_os_str()));
    Ok(Unpacked::Files(files))
}

struct Unpacker<'a> {
    tree: Tree,
    /// The same for where hard links point.
    links: Tree,
    name: &'a OsStr,
    most_bytes: Option<u64>,
    bytes: u64,
    files: Vec<CollectedFile>,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn take(&mut self, content: &mut impl Read, member: &Member, inner: &Path) -> io::Result<()> {
        let mode = Mode::from_raw_mode(member.mode & 0o777);
        match member.kind {
            EntryType::Directory => self.directory(inner, mode | Mode::RWXU),
            EntryType::Regular | EntryType::Continuous => {
                let is_root = inner.as_os_str().is_empty();
                let path = if is_root { Path::new(self.name) } else { inner };
                self.file(content, member, path, mode | Mode::RUSR)
            }
            EntryType::Symlink => self.symlink(inner, path(&member.link)),
            EntryType::Link => {
                let mut parts = path(&member.link).components();
                parts.next();
                self.hard_link(inner, parts.as_path())
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => Ok(()),
            _ => Err(io::Error::other(
                "it is of a kind that jobctl does not know",
            )),
        }
    }

    fn directory(&mut self, path: &Path, mode: Mode) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(rustix::fs::fchmod(self.tree.root(), mode)?);
        }
        // Making what would be in it makes the directory itself.
        let (folder, _) = self.tree.parent(&path.join("x"), true)?;
        Ok(rustix::fs::fchmod(folder, mode)?)
    }

    fn file(
        &mut self,
        content: &mut impl Read,
        member: &Member,
        path: &Path,
        mode: Mode,
    ) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(member.bytes);
        if let Some(most) = self.most_bytes.filter(|most| self.bytes > *most) {
            return Err(io::Error::other(format!(
                "the output is larger than its `max_size` of {most} bytes"
            )));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (folder, name) = self.tree.parent(path, true)?;
        let file = File::from(rustix::fs::openat(
            folder,
            name,
            flags | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?);
        let (sha256, bytes) = copy_sparse(content, &file, &mut self.buffer)?;
        rustix::fs::fchmod(&file, mode)?;
        let (seconds, nanos) = member.modified;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&file, &times)?;
        self.files.push(CollectedFile {
            path: path.to_owned(),
            sha256,
            bytes,
            link: None,
        });
        Ok(())
    }

    fn symlink(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let (folder, name) = self.tree.parent(path, true)?;
        rustix::fs::symlinkat(target, folder, name)?;
        self.files.push(CollectedFile {
            path: path.to_owned(),
            sha256: Sha256::digest(target.as_os_str().as_bytes()).into(),
            bytes: 0,
            link: Some(target.to_owned()),
        });
        Ok(())
    }

    /// Another name of a file that came before. It is read once more, as its digest may be far behind.
    fn hard_link(&mut self, path: &Path, first: &Path) -> io::Result<()> {
        let (from, first_name) = self.links.parent(first, false)?;
        let (folder, name) = self.tree.parent(path, true)?;
        match rustix::fs::linkat(from, first_name, folder, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                return Err(io::Error::other("the archive lacks what it links to"));
            }
            Err(errno) => return Err(errno.into()),
        }
        if let Ok(target) = self.tree.link(path) {
            self.files.push(CollectedFile {
                path: path.to_owned(),
                sha256: Sha256::digest(target.as_os_str().as_bytes()).into(),
                bytes: 0,
                link: Some(target),
            });
            return Ok(());
        }
        let mut file = self.tree.read(path)?;
        let mut hasher = Sha256::new();
        let bytes = io::copy(&mut file, &mut hasher)?;
        self.files.push(CollectedFile {
            path: path.to_owned(),
            sha256: hasher.finalize().into(),
            bytes,
            link: None,
        });
        Ok(())
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
