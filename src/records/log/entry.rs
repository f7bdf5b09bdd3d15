//! An entry of `log.index`.

use crate::event::Stream;

/// What an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of a stream.
    Bytes(Stream),
    /// Here something was not written, as the disk was full.
    Gap,
}

/// An entry: 8 bytes of time, 4 of length, 1 of kind, 3 of nothing; little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Milliseconds since 1970.
    pub(super) time: i64,
    /// How many bytes.
    pub(super) length: u32,
    pub(super) kind: Kind,
}

impl Entry {
    pub(super) const BYTES: usize = 16;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.time.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12] = match self.kind {
            Kind::Bytes(Stream::Stdout) => 0,
            Kind::Bytes(Stream::Stderr) => 1,
            Kind::Gap => 2,
        };
        bytes
    }

    /// Nothing where the bytes are no entry.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let kind = match rest {
            [0, 0, 0, 0] => Kind::Bytes(Stream::Stdout),
            [1, 0, 0, 0] => Kind::Bytes(Stream::Stderr),
            [2, 0, 0, 0] => Kind::Gap,
            _ => return None,
        };
        Some(Self {
            time: i64::from_le_bytes(*time),
            length: u32::from_le_bytes(*length),
            kind,
        })
    }
}
