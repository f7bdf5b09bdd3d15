//! Files and directories of the state folder: the one place where they are created and opened.
//!
//! They are for their owner alone, whatever the process's umask is. None is reached through a link, and
//! one that already exists has to be the user's own or root's: a state folder may have come with a cloned
//! repository. A crash leaves a write either complete or not started.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const FILE: u32 = 0o600;
const DIRECTORY: u32 = 0o700;

/// Puts a file in its place: written beside it, made durable, then renamed over what was there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = directory_of(path);
    beside(path, bytes)?
        .persist(path)
        .map_err(|error| error.error)?;
    sync(folder)
}

/// The same only where there is no such file yet: whoever comes second finds the file of the first.
pub(super) fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match beside(path, bytes)?.persist_noclobber(path) {
        Ok(_) => sync(directory_of(path)),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// Makes durable which files a directory has.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A new file in a directory, under a name that nobody looks for.
pub(super) fn unnamed(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(directory)?;
    let mode = Permissions::from_mode(FILE);
    file.as_file().set_permissions(mode)?;
    Ok(file)
}

/// Creates a directory, and those above it. One that already exists is closed to everybody else.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let create = || DirBuilder::new().mode(DIRECTORY).create(path);
    let created = create().or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        fs::create_dir_all(directory_of(path))?;
        create()
    });
    match created {
        // The umask may have taken something away.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = directory(path)?.ok_or(error)?;
            if metadata.mode() & 0o777 == DIRECTORY || metadata.uid() != user() {
                return Ok(());
            }
            fs::set_permissions(path, Permissions::from_mode(DIRECTORY))
        }
        Err(error) => Err(error),
    }
}

/// The metadata of a directory, if it exists.
pub(super) fn directory(path: &Path) -> io::Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_dir() => Err(refused(path, "is not a directory")),
        Ok(metadata) => own(path, metadata).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
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
pub(super) fn change(path: &Path) -> io::Result<File> {
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
    let file = match rustix::fs::open(path, flags | safe, Mode::from_raw_mode(FILE)) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(refused(path, "is a link")),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = own(path, file.metadata()?)?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(refused(path, "is not a file"))
    }
}

/// Refuses what is another user's: who that is may change it at any time.
fn own(path: &Path, metadata: Metadata) -> io::Result<Metadata> {
    match metadata.uid() {
        0 => Ok(metadata),
        owner if owner == user() => Ok(metadata),
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

/// A durable file that has no place yet.
fn beside(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = unnamed(directory_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
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
        assert!(create_directory(&folder).is_err() && super::directory(&folder).is_err());
        assert!(open(top.path()).is_err());
    }
}
