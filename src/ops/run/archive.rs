//! The tar archive of a container's files, as engines send it.
//!
//! The formats are those that Go's `archive/tar` writes: pax (POSIX.1-2017, pax, "pax Interchange
//! Format") and GNU's long names. The crate `tar` is not used for it, as it ends a pax record at the first
//! line feed: with one in its name, a file would get another name, or the size of another file.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// A tar archive is made of blocks of so many bytes.
const BLOCK: usize = 512;
/// The records of a file are not larger: Linux has paths of 4 KiB and attributes of 64 KiB at most.
const MOST_RECORD_BYTES: u64 = 1 << 20;

/// What an archive says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) kind: EntryType,
    /// Where a link points, of either kind.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) bytes: u64,
    /// When it was modified: seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
}

/// An archive that is read from its beginning to its end. What it reads as are the bytes of the member that
/// was given out last.
pub(super) struct Archive<R> {
    from: R,
    /// How many bytes of the member are left.
    left: u64,
    /// How many follow it to the end of its last block.
    padding: u64,
}

/// What is said of the next member before its header.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: Option<u64>,
    modified: Option<(i64, u32)>,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            padding: 0,
        }
    }

    /// The next member; nothing at the end of the archive, after which all that comes is read, too.
    ///
    /// # Errors
    ///
    /// It can't be read, breaks off, or is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                io::copy(&mut self.from, &mut io::sink())?;
                return Ok(None);
            };
            self.expect(header.entry_size()?);
            match header.entry_type() {
                EntryType::XHeader => extensions.read_pax(&self.record()?)?,
                EntryType::GNULongName => extensions.path = Some(text(&self.record()?)),
                EntryType::GNULongLink => extensions.link = Some(text(&self.record()?)),
                // For all that follows; engines write none that matters here.
                EntryType::XGlobalHeader => {}
                kind => {
                    if let Some(bytes) = extensions.bytes {
                        self.expect(bytes);
                    }
                    let link = header.link_name_bytes().unwrap_or_default().into_owned();
                    let path = header.path_bytes().into_owned();
                    let seconds = i64::try_from(header.mtime()?).unwrap_or(0);
                    return Ok(Some(Member {
                        path: extensions.path.unwrap_or(path),
                        kind,
                        link: extensions.link.unwrap_or(link),
                        mode: header.mode()?,
                        bytes: self.left,
                        modified: extensions.modified.unwrap_or((seconds, 0)),
                    }));
                }
            }
        }
    }

    fn expect(&mut self, bytes: u64) {
        self.left = bytes;
        self.padding = bytes.next_multiple_of(BLOCK as u64) - bytes;
    }

    /// Reads what is left of a member.
    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        (self.left, self.padding) = (0, 0);
        if skipped < rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// The next header; nothing where zeros are, or no more comes.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut length = 0;
        while length < BLOCK {
            match self.from.read(&mut block[length..]) {
                Ok(0) if length == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let checksum = block[..148].iter().chain(&block[156..]);
        let checksum = checksum.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum()? != checksum {
            return Err(malformed("its header has a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn record(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MOST_RECORD_BYTES {
            return Err(malformed("what it says of a file is too long"));
        }
        let mut record = Vec::new();
        self.read_to_end(&mut record)?;
        Ok(record)
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// Reads records of the form `LENGTH KEY=VALUE\n`, of which the length is that of all of it.
    fn read_pax(&mut self, mut records: &[u8]) -> io::Result<()> {
        let wrong = || malformed("what it says of a file can't be read");
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ');
            let blank = blank.ok_or_else(wrong)?;
            let length = number::<usize>(&records[..blank]).ok_or_else(wrong)?;
            let (record, rest) = records.split_at_checked(length).ok_or_else(wrong)?;
            records = rest;
            let record = record
                .get(blank + 1..)
                .and_then(|record| record.strip_suffix(b"\n"));
            let record = record.ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let (key, value) = record.split_at(equals.ok_or_else(wrong)?);
            let value = &value[1..];
            match key {
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.link = Some(value.to_owned()),
                b"size" => self.bytes = Some(number(value).ok_or_else(wrong)?),
                b"mtime" => self.modified = time(value),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(malformed("it has a sparse file, which engines do not send"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds since 1970 with a fraction: `1700000000.25`. Time before that is not worth the trouble.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9.9}").parse().ok()?;
    Some((seconds.parse().ok().filter(|seconds| *seconds >= 0)?, nanos))
}

/// A text that ends with a NUL.
fn text(record: &[u8]) -> Vec<u8> {
    let end = record.iter().position(|byte| *byte == 0);
    record[..end.unwrap_or(record.len())].to_vec()
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the engine's archive can't be read: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend(format!("{length} {key}=").bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        text
    }

    fn append(archive: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, data: &[u8]) {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(7);
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, data).unwrap();
    }

    /// Paths, and what they have.
    fn read(bytes: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut archive = Archive::new(bytes);
        let mut found = Vec::new();
        while let Some(member) = archive.next()? {
            let mut content = Vec::new();
            archive.read_to_end(&mut content)?;
            assert_eq!(member.bytes, content.len() as u64);
            found.push((member.path, content));
        }
        Ok(found)
    }

    #[test]
    fn names_with_line_feeds_are_read_as_they_are() {
        let hostile = b"out/a\xe9\n23 path=out/../../evil\n\n";
        let mut archive = tar::Builder::new(Vec::new());
        let records = pax(&[("mtime", b"8.5"), ("path", hostile), ("size", b"3")]);
        append(&mut archive, EntryType::XHeader, "PaxHeaders/x", &records);
        append(&mut archive, EntryType::Regular, "out/a", b"abc");
        append(&mut archive, EntryType::Regular, "out/b", b"");
        let bytes = archive.into_inner().unwrap();
        let expected = [
            (hostile.to_vec(), b"abc".to_vec()),
            (b"out/b".to_vec(), Vec::new()),
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
        let first = Archive::new(bytes.as_slice()).next().unwrap().unwrap();
        assert_eq!(first.modified, (8, 500_000_000));
    }

    #[test]
    fn long_names_of_gnus_format_are_read() {
        let mut archive = tar::Builder::new(Vec::new());
        let name = format!("out/{}", "n".repeat(240));
        let mut header = Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o600);
        archive.append_data(&mut header, &name, &b"x"[..]).unwrap();
        let bytes = archive.into_inner().unwrap();
        assert_eq!(read(&bytes).unwrap(), [(name.into_bytes(), b"x".to_vec())]);
    }

    #[test]
    fn what_breaks_off_or_is_changed_is_an_error() {
        let mut archive = tar::Builder::new(Vec::new());
        append(
            &mut archive,
            EntryType::XHeader,
            "x",
            &pax(&[("path", b"out/name")]),
        );
        append(&mut archive, EntryType::Regular, "out/a", &[b'a'; 700]);
        let bytes = archive.into_inner().unwrap();
        assert_eq!(read(&bytes).unwrap().len(), 1);
        let end = bytes.len() - 2 * BLOCK;
        for length in 1..end {
            let is_error = read(&bytes[..length]).is_err();
            // Between two members, an archive without an end may end.
            assert_eq!(is_error, length != 2 * BLOCK, "{length}");
        }
        for record in [
            &b"9999 path=x\n"[..],
            b"x path=y\n",
            b"8 path=x",
            b"5 ab\n",
            b"\n",
        ] {
            let mut archive = tar::Builder::new(Vec::new());
            append(&mut archive, EntryType::XHeader, "x", record);
            append(&mut archive, EntryType::Regular, "out/a", b"");
            assert!(read(&archive.into_inner().unwrap()).is_err(), "{record:?}");
        }
        let mut flipped = bytes.clone();
        flipped[2 * BLOCK + 5] ^= 1;
        assert!(read(&flipped).is_err());
    }
}
