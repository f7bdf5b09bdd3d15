//! Writes that a crash leaves done or not begun.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Puts a file in its place: written beside it, made durable, then renamed over what was there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    beside(path, bytes, 0o666)?
        .persist(path)
        .map_err(|error| error.error)?;
    sync(folder)
}

/// The same for a file that only its owner may read, and only where there is none yet: whoever
/// comes second finds the file of the first.
pub(super) fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match beside(path, bytes, 0o600)?.persist_noclobber(path) {
        Ok(_) => sync(folder_of(path)),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// Makes durable which files a folder has.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A durable file that has no place yet. The process's umask is taken off its mode.
fn beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
