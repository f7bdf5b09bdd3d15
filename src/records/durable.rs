//! Files and directories of the state folder: the one place where they are created and opened.
//!
//! They are for their owner alone, whatever the process's umask is. None is reached through a link, and
//! one that already exists has to be the user's own or root's: a state folder may have come with a cloned
//! repository. A crash leaves a write either complete or not started.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

const FILE: u32 = 0o600;
const DIRECTORY: u32 = 0o700;
/// Where the kernel has the open files of this process.
const OPEN_FILES: &str = "/proc/self/fd";

/// A directory that is held open, so that nothing on the way to it can become a link any more.
#[derive(Debug)]
pub(crate) struct Directory(File);

impl Directory {
    /// Opens a directory; no part of its path may be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (mut reached, rest) = start(path)?;
        for part in rest.components() {
            match part {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
                Component::ParentDir | Component::Normal(_) => {
                    reached = step(reached.as_fd(), part.as_os_str())?;
                }
            }
        }
        Ok(Self(reached))
    }

    /// The directory that something is in, and its name there.
    fn above(path: &Path) -> io::Result<(Self, &OsStr)> {
        match path.file_name() {
            Some(name) => Ok((Self::open(directory_of(path))?, name)),
            None => Ok((Self::open(path)?, OsStr::new("."))),
        }
    }

    /// A path that leads to it for as long as it is open, wherever it is moved to.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(OPEN_FILES).join(self.0.as_raw_fd().to_string())
    }

    /// Makes durable which files it has.
    fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&self.0, ".", flags, Mode::empty())?;
        Ok(rustix::fs::fsync(readable)?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a path starts, and the rest of it.
fn start(path: &Path) -> io::Result<(File, &Path)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parts = path.components();
    // What is open is reached by what looks like a link.
    let open = path.strip_prefix(OPEN_FILES).map(Path::components);
    if let Ok(mut inner) = open
        && let Some(number) = inner.next()
    {
        let opened = Path::new(OPEN_FILES).join(number);
        let file = rustix::fs::open(opened, flags, Mode::empty())?;
        return Ok((file.into(), inner.as_path()));
    }
    let first = match parts.next() {
        Some(Component::RootDir) => "/",
        _ => ".",
    };
    let file = rustix::fs::open(first, flags, Mode::empty())?;
    Ok((file.into(), path))
}

/// Opens a directory in another.
fn step(from: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(from, name, flags, Mode::empty()) {
        Ok(directory) => Ok(directory.into()),
        Err(Errno::NOTDIR | Errno::LOOP) if is_link(from, name) => {
            Err(refused(Path::new(name), "is a link"))
        }
        Err(errno) => Err(errno.into()),
    }
}

fn is_link(from: BorrowedFd<'_>, name: &OsStr) -> bool {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Puts a file in its place: written beside it, made durable, then renamed over what was there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, name) = Directory::above(path)?;
    let file = beside(&directory, bytes)?;
    file.as_file().sync_all()?;
    file.persist(directory.path().join(name))
        .map_err(|error| error.error)?;
    directory.sync()
}

/// The same only where there is no such file yet: whoever comes second finds the file of the first.
pub(super) fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, name) = Directory::above(path)?;
    let file = beside(&directory, bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(directory.path().join(name)) {
        Ok(_) => directory.sync(),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// The same of a file that need not survive a crash of the machine, only be whole.
pub(super) fn write_cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, name) = Directory::above(path)?;
    let file = beside(&directory, bytes)?;
    let persisted = file.persist(directory.path().join(name));
    persisted.map(drop).map_err(|error| error.error)
}

/// Makes durable which files a directory has.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    Directory::open(directory)?.sync()
}

/// Creates a directory, and those above it. One that already exists is closed to everybody else.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let above = Directory::above(path).or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        fs::create_dir_all(directory_of(path))?;
        Directory::above(path)
    });
    let (above, name) = above?;
    match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(DIRECTORY)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let directory = match step(above.as_fd(), name) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refused(path, "is not a directory"));
        }
        directory => Directory(directory?),
    };
    let stat = own(path, rustix::fs::fstat(&directory)?)?;
    // The umask may have taken something away.
    if stat.st_mode & 0o777 == DIRECTORY || stat.st_uid != user() {
        return Ok(());
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(DIRECTORY))
}

/// Whether a directory exists. What is something else, or another user's, is an error.
pub(super) fn has_directory(path: &Path) -> io::Result<bool> {
    let found = Directory::above(path)
        .and_then(|(above, name)| Ok(rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?));
    match found {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            Err(refused(path, "is not a directory"))
        }
        Ok(stat) => own(path, stat).map(|_| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a directory with all that is in it, if it exists.
pub(super) fn remove_directory(path: &Path) -> io::Result<()> {
    let removed = Directory::above(path)
        .and_then(|(above, name)| fs::remove_dir_all(above.path().join(name)));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Opens a file to read it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    opened(path, OFlags::RDONLY)
}

/// What a file has.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file to write at its end and to read it; creates it if it does not exist.
pub(super) fn append(path: &Path) -> io::Result<File> {
    tightened(opened(
        path,
        OFlags::RDWR | OFlags::APPEND | OFlags::CREATE,
    )?)
}

/// Opens a file to write it anywhere and to read it; creates it if it does not exist.
pub(crate) fn change(path: &Path) -> io::Result<File> {
    tightened(opened(path, OFlags::RDWR | OFlags::CREATE)?)
}

/// Closes a file that already exists to everybody else.
fn tightened(file: File) -> io::Result<File> {
    let metadata = file.metadata()?;
    if metadata.mode() & 0o777 != FILE && metadata.uid() == user() {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

fn opened(path: &Path, flags: OFlags) -> io::Result<File> {
    let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let (above, name) = Directory::above(path)?;
    let file = match rustix::fs::openat(&above, name, flags | safe, Mode::from_raw_mode(FILE)) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(refused(path, "is a link")),
        Err(errno) => return Err(errno.into()),
    };
    let stat = own(path, rustix::fs::fstat(&file)?)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(file)
    } else {
        Err(refused(path, "is not a file"))
    }
}

/// Refuses what is another user's: who that is may change it at any time.
fn own(path: &Path, stat: Stat) -> io::Result<Stat> {
    match stat.st_uid {
        0 => Ok(stat),
        owner if owner == user() => Ok(stat),
        owner => Err(refused(path, &format!("belongs to user {owner}"))),
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn refused(path: &Path, reason: &str) -> io::Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} {reason}"))
}

/// A file that has no place yet, under a name that nobody looks for.
fn beside(directory: &Directory, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(directory.path())?;
    let mode = Permissions::from_mode(FILE);
    file.as_file().set_permissions(mode)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_created_is_for_its_owner_alone_and_what_exists_becomes_so() {
        let top = tempfile::tempdir().unwrap();
        let loose = top.path().join("loose");
        fs::create_dir(&loose).unwrap();
        fs::set_permissions(&loose, Permissions::from_mode(0o755)).unwrap();
        for folder in [&loose, &top.path().join("new/state")] {
            create_directory(folder).unwrap();
            assert_eq!(mode(folder), 0o700);
        }
        let [log, text] = ["log", "text"].map(|name| loose.join(name));
        fs::write(&log, "a").unwrap();
        fs::set_permissions(&log, Permissions::from_mode(0o644)).unwrap();
        append(&log).unwrap().write_all(b"b").unwrap();
        write(&text, b"c").unwrap();
        assert_eq!((mode(&log), read(&log).unwrap()), (0o600, b"ab".to_vec()));
        assert_eq!((mode(&text), read(&text).unwrap()), (0o600, b"c".to_vec()));
    }

    #[test]
    fn nothing_is_reached_through_a_link() {
        let top = tempfile::tempdir().unwrap();
        let [target, link] = ["target", "link"].map(|name| top.path().join(name));
        fs::write(&target, "kept").unwrap();
        symlink(&target, &link).unwrap();
        for opened in [open(&link), append(&link), change(&link)] {
            assert_eq!(opened.unwrap_err().to_string(), "link is a link");
        }
        write(&link, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(read(&link).unwrap(), b"new");

        let folder = top.path().join("folder");
        symlink(top.path(), &folder).unwrap();
        assert!(create_directory(&folder).is_err() && has_directory(&folder).is_err());
        assert!(open(top.path()).is_err());
    }

    #[test]
    fn no_directory_on_the_way_may_be_a_link() {
        let top = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| top.path().join(name));
        fs::create_dir_all(real.join("in/directory")).unwrap();
        fs::write(real.join("in/file"), "kept").unwrap();
        symlink(&real, &link).unwrap();
        let [file, new, directory] =
            ["file", "new", "directory"].map(|name| link.join("in").join(name));
        for refused in [
            open(&file).map(drop),
            append(&file).map(drop),
            change(&new).map(drop),
            write(&new, b"new"),
            write_once(&new, b"new"),
            write_cache(&new, b"new"),
            create_directory(&link.join("in/new")),
            has_directory(&directory).map(drop),
            remove_directory(&directory),
            sync(&directory),
        ] {
            assert_eq!(refused.unwrap_err().to_string(), "link is a link");
        }
        assert_eq!(fs::read(real.join("in/file")).unwrap(), b"kept");
        assert!(real.join("in/directory").exists() && !real.join("in/new").exists());

        // The same directory by another way, and from one that is open.
        let held = Directory::open(&real.join("directory/../in/.."));
        assert!(held.is_err());
        let held = Directory::open(&real.join("in/../in")).unwrap();
        assert_eq!(read(&held.path().join("file")).unwrap(), b"kept");
        assert!(open(&held.path().join("../../link/in/file")).is_err());
    }
}
