//! A run's outputs, copied out of its folder.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::manifest::suggest::nearest;
use crate::ops::tree::{Tree, copy_sparse};
use crate::records::{CollectedFile, FileList, OutputRecord, Record, RunFolder, TreeDigest};

/// What is copied, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// One output; else all.
    pub output: Option<&'a str>,
    /// The folder.
    pub target: &'a Path,
    /// Whether files that are there are overwritten.
    pub is_forced: bool,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The outputs.
    pub outputs: Vec<String>,
    /// How many files.
    pub files: usize,
    /// How many bytes.
    pub bytes: u64,
    /// Links that lead out of their output, and where to. They were copied as they are.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Why outputs were not copied.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The run has no such output.
    #[error("run {run} has no output `{output}`")]
    NoOutput {
        /// The run.
        run: String,
        /// What was asked for.
        output: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// The run has none at all.
    #[error("run {run} has no outputs")]
    Nothing {
        /// The run.
        run: String,
    },
    /// Something already exists there.
    #[error("`{}` already exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Outputs could not be collected yet.
    #[error("run {run} has outputs that were not collected: {}", outputs.join(", "))]
    Uncollected {
        /// The run.
        run: String,
        /// The outputs.
        outputs: Vec<String>,
    },
    /// The list of an output's files can't be used.
    #[error("the list of the files of `{output}` can't be used: {source}")]
    Unlisted {
        /// The output.
        output: String,
        /// Why.
        source: io::Error,
    },
    /// What was collected is not there any more.
    #[error("`{}` can't be read any more: {source}", path.display())]
    Gone {
        /// Where it was kept.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path would lead out of the folder.
    #[error("the record names a file outside of the output: `{path}`")]
    Escapes {
        /// The path as the record has it.
        path: String,
    },
    /// What is kept is not what was collected.
    #[error("`{path}` is not what was collected: its digest differs from the record's")]
    Differs {
        /// The path in the output.
        path: String,
    },
    /// The disk is in the way.
    #[error("can't copy to `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GetError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoOutput { output, known, .. } => {
                let meant = nearest(output, known.iter().map(String::as_str));
                Some(match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("it has {}", known.join(", ")),
                })
            }
            Self::Exists { .. } => Some("take another directory, or `--force`".to_owned()),
            Self::Differs { .. } | Self::Unlisted { .. } | Self::Gone { .. } => {
                Some("the disk or somebody changed it; run the job again".to_owned())
            }
            Self::Uncollected { run, .. } => Some(format!("try again: `jobctl collect {run}`")),
            Self::Nothing { .. } | Self::Escapes { .. } | Self::Io { .. } => None,
        }
    }
}

/// Copies a run's outputs. All paths are looked at before anything is written. Links are copied as links,
/// and nothing is read or written through one.
///
/// # Errors
///
/// See [`GetError`]. Files that were copied before are left; each is whole.
pub fn get(folder: &RunFolder, record: &Record, request: &Request) -> Result<Copied, GetError> {
    let outputs = chosen(record, request.output)?;
    // Of the user's own links, the one that is named is followed.
    let target = request.target.canonicalize();
    let target = target.unwrap_or_else(|_| request.target.to_owned());
    let mut copies = Vec::new();
    for (name, output) in &outputs {
        let to = match request.output {
            Some(_) => target.clone(),
            None => target.join(name),
        };
        let copy = Copy {
            folder,
            name,
            output,
            to,
            is_forced: request.is_forced,
        };
        copy.check()?;
        copies.push(copy);
    }
    let mut copied = Copied {
        outputs: outputs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        files: 0,
        bytes: 0,
        links: Vec::new(),
    };
    for copy in &copies {
        copy.make(&mut copied)?;
    }
    Ok(copied)
}

/// How many files of each output are not as they were collected, as far as names and sizes tell; outputs of which
/// none is are left out.
#[must_use]
pub fn missing(folder: &RunFolder, record: &Record) -> BTreeMap<String, u64> {
    let missing = record.outputs.iter().filter_map(|(name, output)| {
        let count = missing_files(folder, name, output).unwrap_or(output.file_count);
        (count > 0).then(|| (name.clone(), count))
    });
    missing.collect()
}

fn missing_files(folder: &RunFolder, name: &str, output: &OutputRecord) -> io::Result<u64> {
    let mut kept = open_kept(folder, name)?;
    let mut missing = 0;
    for file in folder.files(name, output)? {
        let file = file?;
        let is_kept = match &file.link {
            Some(link) => kept.link(&file.path).is_ok_and(|found| found == *link),
            None => kept
                .read(&file.path)
                .and_then(|found| found.metadata())
                .is_ok_and(|found| found.len() == file.bytes),
        };
        missing += u64::from(!is_kept);
    }
    Ok(missing)
}

fn chosen<'a>(
    record: &'a Record,
    output: Option<&str>,
) -> Result<Vec<(&'a str, &'a OutputRecord)>, GetError> {
    let all = record.outputs.iter();
    let all = all.map(|(name, output)| (name.as_str(), output));
    let chosen: Vec<_> = all
        .filter(|(name, _)| output.is_none_or(|output| output == *name))
        .collect();
    let run = record.id.short();
    let is_lost = match output {
        Some(output) => record.lost_outputs.contains_key(output),
        None => !record.lost_outputs.is_empty(),
    };
    if is_lost {
        let outputs = record.lost_outputs.keys().cloned().collect();
        return Err(GetError::Uncollected { run, outputs });
    }
    match output {
        _ if !chosen.is_empty() => Ok(chosen),
        Some(output) if !record.outputs.is_empty() => Err(GetError::NoOutput {
            run,
            output: output.to_owned(),
            known: record.outputs.keys().cloned().collect(),
        }),
        _ => Err(GetError::Nothing { run }),
    }
}

/// An output and where it goes.
struct Copy<'a> {
    folder: &'a RunFolder,
    name: &'a str,
    output: &'a OutputRecord,
    to: PathBuf,
    is_forced: bool,
}

impl Copy<'_> {
    fn files(&self) -> Result<FileList<'_>, GetError> {
        let files = self.folder.files(self.name, self.output);
        files.map_err(|source| self.unlisted(source))
    }

    fn unlisted(&self, source: io::Error) -> GetError {
        GetError::Unlisted {
            output: self.name.to_owned(),
            source,
        }
    }

    /// Looks whether it can be made: that its list is the one that the record has the digest of, that all
    /// paths lead down, and that nothing is in the way.
    fn check(&self) -> Result<(), GetError> {
        let mut target = match Tree::open(&self.to) {
            Ok(tree) => Some(tree),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return Err(self.exists(Path::new(""))),
        };
        let mut digest = TreeDigest::default();
        let mut count = 0;
        for file in self.files()? {
            let file = file.map_err(|error| self.unlisted(error))?;
            let is_inner = |part: Component| matches!(part, Component::Normal(_));
            if file.path.as_os_str().is_empty() || !file.path.components().all(is_inner) {
                let path = file.path.display().to_string();
                return Err(GetError::Escapes { path });
            }
            if let Some(target) = &mut target {
                match target.kind(&file.path) {
                    Ok(None) => {}
                    Ok(Some(kind)) if kind != FileType::Directory && self.is_forced => {}
                    _ => return Err(self.exists(&file.path)),
                }
            }
            digest.add(&file);
            count += 1;
        }
        // Records of version 1 have the files themselves, and another digest.
        let is_recorded = !self.output.files.is_empty();
        if !is_recorded
            && (digest.finish() != self.output.sha256 || count != self.output.file_count)
        {
            let damaged = io::Error::other("it is not the list that the record has the digest of");
            return Err(self.unlisted(damaged));
        }
        Ok(())
    }

    fn make(&self, copied: &mut Copied) -> Result<(), GetError> {
        std::fs::create_dir_all(&self.to).map_err(|source| self.failed(Path::new(""), source))?;
        let mut to = Tree::open(&self.to).map_err(|source| self.failed(Path::new(""), source))?;
        let mut from = open_kept(self.folder, self.name).map_err(|source| GetError::Gone {
            path: self.folder.output(self.name),
            source,
        })?;
        for file in self.files()? {
            let file = file.map_err(|error| self.unlisted(error))?;
            self.copy(&file, &mut from, &mut to)?;
            copied.files += 1;
            copied.bytes += file.bytes;
            if let Some(link) = file.link
                && leads_out(&file.path, &link)
            {
                copied.links.push((file.path, link));
            }
        }
        Ok(())
    }

    fn copy(&self, file: &CollectedFile, from: &mut Tree, to: &mut Tree) -> Result<(), GetError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => self.exists(&file.path),
            _ => self.failed(&file.path, source),
        };
        let differs = || GetError::Differs {
            path: file.path.display().to_string(),
        };
        if let Some(link) = &file.link {
            if Sha256::digest(link.as_os_str().as_bytes()).as_slice() != file.sha256 {
                return Err(differs());
            }
            return self.place_link(link, &file.path, to).map_err(failed);
        }
        let kept = from.read(&file.path).map_err(|source| GetError::Gone {
            path: self.folder.output(self.name).join(&file.path),
            source,
        })?;
        let (folder, name) = to.parent(&file.path, true).map_err(failed)?;
        let part = OsString::from(format!(".jobctl-{:08x}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        // From a call that was killed.
        let _ = rustix::fs::unlinkat(folder, &part, AtFlags::empty());
        let mode = Mode::RUSR | Mode::WUSR;
        let copy = rustix::fs::openat(folder, &part, flags | OFlags::CLOEXEC, mode);
        let copy = File::from(copy.map_err(|errno| failed(errno.into()))?);
        let placed = copy_bytes(&kept, &copy).map_err(failed).and_then(|sha256| {
            if sha256 != file.sha256 {
                return Err(differs());
            }
            let flags = if self.is_forced {
                RenameFlags::empty()
            } else {
                RenameFlags::NOREPLACE
            };
            rename(folder, &part, name, flags).map_err(failed)
        });
        if placed.is_err() {
            let _ = rustix::fs::unlinkat(folder, &part, AtFlags::empty());
        }
        placed
    }

    fn place_link(&self, link: &Path, path: &Path, to: &mut Tree) -> io::Result<()> {
        let (folder, name) = to.parent(path, true)?;
        if self.is_forced {
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(rustix::fs::symlinkat(link, folder, name)?)
    }

    fn exists(&self, path: &Path) -> GetError {
        GetError::Exists {
            path: self.to.join(path),
        }
    }

    fn failed(&self, path: &Path, source: io::Error) -> GetError {
        GetError::Io {
            path: self.to.join(path),
            source,
        }
    }
}

/// Opens an output as it is kept; no link leads to it.
fn open_kept(folder: &RunFolder, name: &str) -> io::Result<Tree> {
    let outputs = folder.outputs(false)?;
    Tree::open(&outputs.path().join(name))
}

/// Gives a file its name. Not every file system can leave in peace what is there: then it is looked for.
fn rename(folder: BorrowedFd<'_>, from: &OsStr, to: &OsStr, flags: RenameFlags) -> io::Result<()> {
    match rustix::fs::renameat_with(folder, from, folder, to, flags) {
        Err(Errno::INVAL | Errno::NOSYS) if !flags.is_empty() => {
            match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(rustix::fs::renameat(folder, from, folder, to)?),
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(errno) => Err(errno.into()),
            }
        }
        renamed => Ok(renamed?),
    }
}

/// Copies a file's bytes, holes as holes, and says what they are. Whoever copies it can write it,
/// whatever user the job was.
fn copy_bytes(from: &File, to: &File) -> io::Result<[u8; 32]> {
    let (sha256, _) = copy_sparse(&mut &*from, to, &mut vec![0; 256 << 10])?;
    let mode = from.metadata()?.permissions().mode() & 0o755 | 0o600;
    to.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(sha256)
}

/// Whether a link leads out of the directory that its path is in.
fn leads_out(path: &Path, link: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    for part in link.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return true,
        }
    }
    false
}
