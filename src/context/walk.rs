//! The entries of a folder that a filter lets through, as fsutil's `FilterFS` finds them.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::entry::{Entry, Kind, Skip};
use super::error::ContextError;
use super::follow::with_followed;
use super::pattern::{Inherited, Patterns};

/// What BuildKit asks for: the metadata of its `DiffCopy` call.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Patterns of which a path or a folder above it has to match one; none lets all through.
    pub includes: Vec<Vec<u8>>,
    /// Patterns that a path may not match.
    pub excludes: Patterns,
    /// Paths, with wildcards, that are included together with what their symbolic links lead to.
    pub follow: Vec<Vec<u8>>,
}

/// The entries of a folder that a filter lets through: siblings in the order of their names' bytes,
/// a folder's children directly after it. A folder that the filter does not let through comes just
/// before the first entry in it that does.
///
/// What vanishes during the walk is left out. After an error there are no more entries.
pub fn walk<'a>(
    root: &'a Path,
    filter: &'a Filter,
    on_skipped: &'a mut dyn FnMut(&[u8], Skip),
) -> impl Iterator<Item = Result<Entry, ContextError>> + use<'a> {
    let mut walk = Walk {
        root,
        includes: None,
        excludes: &filter.excludes,
        on_skipped,
        levels: Vec::new(),
        ready: VecDeque::new(),
        links: HashMap::new(),
        failed: None,
    };
    walk.failed = walk.begin(filter).err();
    walk
}

struct Walk<'a> {
    root: &'a Path,
    includes: Option<Patterns>,
    excludes: &'a Patterns,
    on_skipped: &'a mut dyn FnMut(&[u8], Skip),
    /// The folders from the top to where the walk is.
    levels: Vec<Level>,
    ready: VecDeque<Entry>,
    /// The first path of each inode that has several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    failed: Option<ContextError>,
}

struct Level {
    /// The folder, until it was given out.
    folder: Option<Entry>,
    /// Its path with a `/` at the end; empty for the top.
    prefix: Vec<u8>,
    handle: Dir,
    names: std::vec::IntoIter<(CString, FileType)>,
    included: Inherited,
    excluded: Inherited,
}

/// What the filter says of a path.
struct Verdict {
    is_kept: bool,
    /// Whether something inside may be kept.
    is_entered: bool,
    included: Inherited,
    excluded: Inherited,
}

impl Level {
    /// Lists a folder.
    fn list(handle: OwnedFd, prefix: Vec<u8>) -> io::Result<Self> {
        let mut handle = Dir::new(handle)?;
        let mut names = Vec::new();
        while let Some(entry) = handle.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self {
            folder: None,
            prefix,
            handle,
            names: names.into_iter(),
            included: Inherited::default(),
            excluded: Inherited::default(),
        })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, ContextError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            if let Some(error) = self.failed.take() {
                self.levels.clear();
                return Some(Err(error));
            }
            let level = self.levels.last_mut()?;
            match level.names.next() {
                Some((name, kind)) => self.failed = self.visit(&name, kind).err(),
                None => {
                    self.levels.pop();
                }
            }
        }
    }
}

impl Walk<'_> {
    fn begin(&mut self, filter: &Filter) -> Result<(), ContextError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::open(self.root, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(errno) => {
                let path = self.root.to_owned();
                return Err(match errno {
                    Errno::NOENT => ContextError::Missing { path },
                    Errno::NOTDIR => ContextError::NotAFolder { path },
                    errno => ContextError::Unreadable {
                        path,
                        source: errno.into(),
                    },
                });
            }
        };
        let includes = with_followed(self.root, &filter.includes, &filter.follow)?;
        if !includes.is_empty() {
            self.includes = Some(Patterns::from_lines(&includes)?);
        }
        let level = Level::list(root, Vec::new())
            .map_err(|source| ContextError::unreadable(self.root, b"", source))?;
        self.levels.push(level);
        Ok(())
    }

    fn visit(&mut self, name: &CString, listed: FileType) -> Result<(), ContextError> {
        let level = self.levels.last().expect("a name comes from a level");
        let path = [&level.prefix, name.as_bytes()].concat();
        let mut stat = None;
        let mut file_type = listed;
        if file_type == FileType::Unknown {
            let Some(found) = self.stat(name, &path)? else {
                return Ok(());
            };
            file_type = FileType::from_raw_mode(found.st_mode);
            stat = Some(found);
        }
        if file_type == FileType::Directory {
            return self.visit_folder(name, path, stat);
        }
        if !self.judge(&path, false).is_kept {
            return Ok(());
        }
        let stat = match stat {
            Some(stat) => stat,
            None => match self.stat(name, &path)? {
                Some(stat) => stat,
                None => return Ok(()),
            },
        };
        if let Some(entry) = self.entry(name, path, &stat)? {
            self.give(entry);
        }
        Ok(())
    }

    fn visit_folder(
        &mut self,
        name: &CString,
        path: Vec<u8>,
        stat: Option<Stat>,
    ) -> Result<(), ContextError> {
        let verdict = self.judge(&path, true);
        if !verdict.is_kept && !verdict.is_entered {
            return Ok(());
        }
        let Some(stat) = stat.map_or_else(|| self.stat(name, &path), |stat| Ok(Some(stat)))? else {
            return Ok(());
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let parent = self.levels.last().expect("a name comes from a level");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let level = parent
            .handle
            .fd()
            .and_then(|fd| rustix::fs::openat(fd, name, flags, Mode::empty()))
            .map_err(io::Error::from)
            .and_then(|handle| Level::list(handle, [path.as_slice(), b"/"].concat()));
        let mut level = match level {
            Ok(level) => level,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
                    io::ErrorKind::PermissionDenied if !verdict.is_kept => Ok(()),
                    _ => Err(ContextError::unreadable(self.root, &path, error)),
                };
            }
        };
        level.included = verdict.included;
        level.excluded = verdict.excluded;
        level.folder = self.entry(name, path, &stat)?;
        if verdict.is_kept
            && let Some(folder) = level.folder.take()
        {
            self.give(folder);
        }
        self.levels.push(level);
        Ok(())
    }

    fn judge(&self, path: &[u8], is_folder: bool) -> Verdict {
        let level = self.levels.last().expect("a name comes from a level");
        let mut verdict = Verdict {
            is_kept: true,
            is_entered: is_folder,
            included: Inherited::default(),
            excluded: Inherited::default(),
        };
        if let Some(includes) = &self.includes {
            if is_folder {
                (verdict.is_kept, verdict.included) =
                    includes.matches_folder_in(path, &level.included);
                if !verdict.is_kept {
                    verdict.is_entered = includes.may_match_inside(path);
                }
            } else {
                verdict.is_kept = includes.matches_in(path, &level.included);
            }
        }
        if self.excludes.is_empty() || !(verdict.is_kept || verdict.is_entered) {
            return verdict;
        }
        if is_folder {
            let (is_excluded, excluded) = self.excludes.matches_folder_in(path, &level.excluded);
            if is_excluded {
                verdict.is_kept = false;
                verdict.is_entered &= self.excludes.may_except_inside(path, &excluded);
            }
            verdict.excluded = excluded;
        } else if self.excludes.matches_in(path, &level.excluded) {
            verdict.is_kept = false;
        }
        verdict
    }

    /// What the file system says of a name in the current folder, if it is still there.
    fn stat(&self, name: &CString, path: &[u8]) -> Result<Option<Stat>, ContextError> {
        let level = self.levels.last().expect("a name comes from a level");
        let stat = level
            .handle
            .fd()
            .and_then(|fd| rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW));
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(ContextError::unreadable(self.root, path, errno)),
        }
    }

    fn entry(
        &mut self,
        name: &CString,
        path: Vec<u8>,
        stat: &Stat,
    ) -> Result<Option<Entry>, ContextError> {
        let mut entry = Entry::of_file(path, stat);
        let stamp = entry.stamp;
        let skip = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    let inode = (stamp.device, stamp.inode);
                    entry.link = self.links.get(&inode).cloned();
                    if entry.link.is_some() {
                        entry.kind = Kind::HardLink;
                        entry.size = 0;
                    } else {
                        self.links.insert(inode, entry.path.clone());
                    }
                }
                return Ok(Some(entry));
            }
            FileType::Directory => {
                entry.kind = Kind::Folder;
                entry.size = 0;
                return Ok(Some(entry));
            }
            FileType::Symlink => {
                let level = self.levels.last().expect("a name comes from a level");
                let target = level
                    .handle
                    .fd()
                    .and_then(|fd| rustix::fs::readlinkat(fd, name, Vec::new()));
                return match target {
                    Ok(target) => {
                        entry.kind = Kind::Symlink;
                        entry.link = Some(target.into_bytes());
                        Ok(Some(entry))
                    }
                    Err(Errno::NOENT | Errno::INVAL) => Ok(None),
                    Err(errno) => Err(ContextError::unreadable(self.root, &entry.path, errno)),
                };
            }
            FileType::Fifo => Skip::Fifo,
            FileType::Socket => Skip::Socket,
            _ => Skip::Device,
        };
        (self.on_skipped)(&entry.path, skip);
        Ok(None)
    }

    /// Gives an entry out, after the folders that it is in.
    fn give(&mut self, entry: Entry) {
        let folders = self
            .levels
            .iter_mut()
            .filter_map(|level| level.folder.take());
        self.ready.extend(folders);
        self.ready.push_back(entry);
    }
}

#[cfg(test)]
mod tests;
