//! The context as a tar stream, for the classic builder and for Podman.

use std::io::{self, Write};
use std::path::Path;

use tar::{EntryType, Header};

use super::entry::{Entry, Kind};
use super::error::ContextError;
use super::read;

const BLOCK_BYTES: usize = 512;
/// The largest number that a header's 11 octal digits hold.
const LARGEST_NUMBER: u64 = 0o777_7777_7777;

/// The time that every entry of a stream gets: `SOURCE_DATE_EPOCH`, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarTimes(pub u64);

/// Writes a context as a tar stream that depends on nothing but the entries' paths, kinds, modes,
/// links and bytes: owner 0, no names of owners, one time for all. What a ustar header can't hold
/// (names that are long or not ASCII, sizes from 8 GiB) is in a PAX header, as Go writes it.
///
/// # Errors
///
/// The walk's own, a file that can't be read or changed meanwhile, or `out` takes no more.
pub fn write_tar(
    root: &Path,
    entries: impl IntoIterator<Item = Result<Entry, ContextError>>,
    mut out: impl Write,
    times: TarTimes,
) -> Result<(), ContextError> {
    for entry in entries {
        let entry = entry?;
        let headers = headers(&entry, times);
        out.write_all(&headers).map_err(ContextError::Send)?;
        if entry.kind == Kind::File {
            read::copy(root, &entry, &mut out)?;
            let padding = padding(entry.size);
            out.write_all(padding).map_err(ContextError::Send)?;
        }
    }
    out.write_all(&[0; 2 * BLOCK_BYTES])
        .and_then(|()| out.flush())
        .map_err(ContextError::Send)
}

/// Writes one regular file that is no entry of a folder; `name` is short and ASCII.
///
/// # Errors
///
/// `out` takes no more.
pub fn write_file(
    name: &str,
    content: &[u8],
    out: &mut impl Write,
    times: TarTimes,
) -> io::Result<()> {
    let size = content.len() as u64;
    out.write_all(&file_header(name, size, times)?)?;
    out.write_all(content)?;
    out.write_all(padding(size))
}

/// The header of one regular file that is no entry of a folder; `name` is short and ASCII.
///
/// # Errors
///
/// `name` is too long.
pub fn file_header(name: &str, size: u64, times: TarTimes) -> io::Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(times.0);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

/// An entry's header, after a PAX header if it needs one.
fn headers(entry: &Entry, times: TarTimes) -> Vec<u8> {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Folder {
        path.push(b'/');
    }
    let link = entry.link.as_deref().unwrap_or_default();
    let size = if entry.kind == Kind::File {
        entry.size
    } else {
        0
    };

    let mut header = header(match entry.kind {
        Kind::Folder => EntryType::Directory,
        Kind::File => EntryType::Regular,
        Kind::Symlink => EntryType::Symlink,
        Kind::HardLink => EntryType::Link,
    });
    header.set_mode(if entry.kind == Kind::Symlink {
        0o777
    } else {
        entry.mode
    });
    let mut pax = Vec::new();
    set_name(&mut header.as_old_mut().name, "path", &path, &mut pax);
    set_name(
        &mut header.as_old_mut().linkname,
        "linkpath",
        link,
        &mut pax,
    );
    header.set_size(fitting("size", size, &mut pax));
    header.set_mtime(fitting("mtime", times.0, &mut pax));
    header.set_cksum();

    let mut bytes = Vec::with_capacity(2 * BLOCK_BYTES);
    if !pax.is_empty() {
        let mut extension = self::header(EntryType::XHeader);
        extension.as_old_mut().name[..10].copy_from_slice(b"PaxHeaders");
        extension.set_mode(0o644);
        extension.set_size(pax.len() as u64);
        extension.set_mtime(0);
        extension.set_cksum();
        bytes.extend(extension.as_bytes());
        bytes.extend(&pax);
        bytes.extend(padding(pax.len() as u64));
    }
    bytes.extend(header.as_bytes());
    bytes
}

fn header(kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Puts a name into a header's field, and into the PAX header if it does not fit.
fn set_name(field: &mut [u8; 100], key: &str, name: &[u8], pax: &mut Vec<u8>) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    if length < name.len() || !name.is_ascii() {
        push_record(pax, key, name);
    }
}

/// A number if it fits into a header's field, else 0 and the number in the PAX header.
fn fitting(key: &str, number: u64, pax: &mut Vec<u8>) -> u64 {
    if number <= LARGEST_NUMBER {
        return number;
    }
    push_record(pax, key, number.to_string().as_bytes());
    0
}

/// A record of a PAX header: its own length in decimal, a blank, `key=value`, a line feed.
fn push_record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend(format!("{length} {key}=").as_bytes());
    pax.extend(value);
    pax.push(b'\n');
}

/// What fills the last block of so many bytes.
#[must_use]
pub fn padding(size_bytes: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let used = usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or(0);
    &ZEROS[..(BLOCK_BYTES - used) % BLOCK_BYTES]
}

#[cfg(test)]
mod tests;
