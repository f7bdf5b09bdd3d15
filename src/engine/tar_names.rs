//! Archives whose names are short. A name in a tar header has as many bytes as the header says, and
//! whoever reads the archive holds it in memory: an engine, or an image, could say any number.

use std::io::{self, Read};

/// A block of an archive, in bytes.
const BLOCK: usize = 512;
/// The longest name, and the most of other attributes, that an entry has, in bytes.
const LONGEST: u64 = 1 << 20;

/// An archive as it comes, up to a header that announces what is too long.
///
/// The headers are those of POSIX's pax and of GNU tar.
#[derive(Debug)]
pub struct TarNames<R> {
    archive: R,
    /// What is here of a header, or of the attributes of the next entry.
    block: Vec<u8>,
    state: State,
    /// How large the next entry is, if its attributes say so.
    size: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A header comes.
    Header,
    /// GNU's map of a file with holes continues in the next block.
    Sparse { size: u64 },
    /// Attributes of the next entry come: so many bytes, so many of them attributes.
    Attributes { left: u64, size: u64 },
    /// So many bytes of a file, or of a name, come.
    Content { left: u64 },
}

impl<R: Read> TarNames<R> {
    /// The same archive, with bounded names.
    pub fn new(archive: R) -> Self {
        Self {
            archive,
            block: Vec::new(),
            state: State::Header,
            size: None,
        }
    }

    fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let wanted = match self.state {
                State::Header | State::Sparse { .. } => (BLOCK - self.block.len()) as u64,
                State::Attributes { left, .. } | State::Content { left } => left,
            };
            let length = usize::try_from(wanted).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (taken, rest) = bytes.split_at(length);
            bytes = rest;
            let left = wanted - length as u64;
            match &mut self.state {
                State::Content { left: old } if left > 0 => *old = left,
                State::Content { .. } => self.state = State::Header,
                State::Attributes { left: old, size } => {
                    self.block.extend_from_slice(taken);
                    *old = left;
                    if left == 0 {
                        let size = usize::try_from(*size).unwrap_or(usize::MAX);
                        self.size = pax_size(&self.block[..size.min(self.block.len())]);
                        self.next(State::Header);
                    }
                }
                State::Header | State::Sparse { .. } => {
                    self.block.extend_from_slice(taken);
                    if left == 0 {
                        self.begin()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next(&mut self, state: State) {
        self.block.clear();
        self.state = match state {
            State::Content { left: 0 } | State::Attributes { left: 0, .. } => State::Header,
            state => state,
        };
    }

    /// A header, or a block of a map, is here.
    fn begin(&mut self) -> io::Result<()> {
        if let State::Sparse { size } = self.state {
            let goes_on = self.block[504] == 1;
            self.next(if goes_on {
                State::Sparse { size }
            } else {
                content(size)
            });
            return Ok(());
        }
        let kind = self.block[156];
        let written = number(&self.block[124..136]);
        let goes_on = self.block[482] == 1;
        let next = match kind {
            b'L' | b'K' | b'x' | b'X' | b'g' => {
                if written > LONGEST {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a name in the archive has {written} bytes"),
                    ));
                }
                let left = written.next_multiple_of(BLOCK as u64);
                let size = written;
                match kind {
                    b'x' | b'X' => State::Attributes { left, size },
                    _ => State::Content { left },
                }
            }
            _ => {
                let size = self.size.take().unwrap_or(written);
                match kind {
                    b'S' if goes_on => State::Sparse { size },
                    _ => content(size),
                }
            }
        };
        self.next(next);
        Ok(())
    }
}

fn content(size: u64) -> State {
    let left = size.checked_next_multiple_of(BLOCK as u64);
    State::Content {
        left: left.unwrap_or(u64::MAX),
    }
}

/// A number of a header: octal, or binary where the first bit says so.
fn number(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        let low = field[field.len() - 8..].iter();
        return low.fold(0, |number, byte| number << 8 | u64::from(*byte));
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let digits = digits.take_while(|byte| (b'0'..=b'7').contains(*byte));
    digits.fold(0, |number, digit| number << 3 | u64::from(digit - b'0'))
}

/// The size that pax attributes give the next entry: lines of `LENGTH NAME=VALUE`.
fn pax_size(attributes: &[u8]) -> Option<u64> {
    let mut rest = attributes;
    let mut size = None;
    while let Some(blank) = rest.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&rest[..blank]).ok()?.parse().ok()?;
        let record = rest.get(blank + 1..length)?;
        if let Some(value) = record.strip_prefix(b"size=") {
            let value = std::str::from_utf8(value).ok()?;
            size = value.trim_end().parse().ok().or(size);
        }
        rest = &rest[length..];
    }
    size
}

impl<R: Read> Read for TarNames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.archive.read(buffer)?;
        self.look(&buffer[..length])?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use tar::{Archive, Builder, EntryType, Header};

    use super::*;

    /// Reads as slowly as it may, or all at once.
    fn names(bytes: &[u8], piece: usize) -> io::Result<Vec<(String, u64)>> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(self.1).min(self.0.len());
                buffer[..length].copy_from_slice(&self.0[..length]);
                self.0 = &self.0[length..];
                Ok(length)
            }
        }
        let mut archive = Archive::new(TarNames::new(Pieces(bytes, piece)));
        let mut names = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?.display().to_string();
            names.push((name, io::copy(&mut entry, &mut io::sink())?));
        }
        Ok(names)
    }

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path("name").unwrap();
        header.set_cksum();
        header
    }

    #[test]
    fn an_archive_comes_as_it_is() {
        let mut builder = Builder::new(Vec::new());
        let long = "d/".repeat(300) + "end";
        for (name, size) in [("a", 0), ("b", 1), ("c", 512), (&long, 513), ("d", 100_000)] {
            let content = vec![b'L'; size];
            let mut header = Header::new_gnu();
            header.set_size(size as u64);
            builder
                .append_data(&mut header, name, content.as_slice())
                .unwrap();
        }
        builder
            .append_pax_extensions([("comment", "a b=c".as_bytes()), ("size", b"700")])
            .unwrap();
        builder
            .append(&header(EntryType::Regular, 0), [b'x'; 700].as_slice())
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        for piece in [1, 7, 512, 513, bytes.len()] {
            let expected = [
                ("a", 0),
                ("b", 1),
                ("c", 512),
                (long.as_str(), 513),
                ("d", 100_000),
                ("name", 700),
            ];
            let expected = expected.map(|(name, size)| (name.to_owned(), size));
            assert_eq!(names(&bytes, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn a_name_without_end_is_refused() {
        for kind in [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
        ] {
            let start = header(kind, 10 << 30);
            let archive = start.as_bytes().chain(io::repeat(b'x'));
            let mut archive = Archive::new(TarNames::new(archive));
            let error = archive.entries().unwrap().next().unwrap().err().unwrap();
            let said = "a name in the archive has 10737418240 bytes";
            assert!(format!("{error:?}").contains(said), "{kind:?}: {error:?}");
        }
    }
}
