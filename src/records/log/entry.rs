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

/// An entry: 8 bytes of time, 4 of length, 1 of version and kind, 3 of checksum; little-endian.
///
/// The first version had no checksum but zeros. An index that was begun by it may go on with the
/// second, and not the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Milliseconds since 1970; nothing where neither time nor order are known.
    pub(super) time: Option<i64>,
    /// How many bytes.
    pub(super) length: u32,
    pub(super) kind: Kind,
}

/// What the second version adds to a kind. One bit that flips makes no kind of the first of it.
const CHECKED: u8 = 0x30;
/// Means that a time is not known.
const UNKNOWN: i64 = i64::MIN;

impl Entry {
    pub(super) const BYTES: usize = 16;

    /// The entry as it stands at a place of the index: after so many others.
    pub(super) fn encode(self, place: u64) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.time.unwrap_or(UNKNOWN).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        let kind = match self.kind {
            Kind::Bytes(Stream::Stdout) => 0,
            Kind::Bytes(Stream::Stderr) => 1,
            Kind::Gap => 2,
        };
        bytes[12] = CHECKED | kind;
        let sum = checksum(place, &bytes[..13]);
        bytes[13..].copy_from_slice(&sum);
        bytes
    }

    /// What bytes say that [`Checker`] has found to be an entry.
    pub(super) fn decode(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let kind = match rest[0] & !CHECKED {
            0 => Kind::Bytes(Stream::Stdout),
            1 => Kind::Bytes(Stream::Stderr),
            2 => Kind::Gap,
            _ => return None,
        };
        let time = i64::from_le_bytes(*time);
        Some(Self {
            time: (time != UNKNOWN).then_some(time),
            length: u32::from_le_bytes(*length),
            kind,
        })
    }
}

/// Goes through an index from its beginning, and tells how far it can be trusted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checker {
    place: u64,
    /// Whether there was an entry with a checksum.
    is_checked: bool,
}

impl Checker {
    /// The next entry; nothing where the bytes are none. What follows those is not to be trusted.
    pub(super) fn next(&mut self, bytes: [u8; Entry::BYTES]) -> Option<Entry> {
        let entry = Entry::decode(bytes)?;
        let is_sound = match bytes[12] & CHECKED {
            CHECKED => bytes[13..] == checksum(self.place, &bytes[..13]),
            // Nobody noted that nothing was written; a disk may have put zeros in an entry's place.
            0 => {
                let is_empty = entry.length == 0 && entry.kind != Kind::Gap;
                !self.is_checked && !is_empty && bytes[13..] == [0; 3]
            }
            _ => false,
        };
        if !is_sound {
            return None;
        }
        self.place += 1;
        self.is_checked |= bytes[12] & CHECKED == CHECKED;
        Some(entry)
    }
}

/// The CRC-24 of RFC 9580, section 6.1.1, of an entry and its place. It finds each bit that
/// flips; with the place, also entries that were moved.
fn checksum(place: u64, bytes: &[u8]) -> [u8; 3] {
    let place = place.to_le_bytes();
    let sum = place.iter().chain(bytes).fold(0xb7_04ce_u32, |sum, byte| {
        let [_, high, ..] = sum.to_be_bytes();
        (sum << 8 & 0xff_ffff) ^ TABLE[usize::from(byte ^ high)]
    });
    let [low, middle, high, _] = sum.to_le_bytes();
    [low, middle, high]
}

/// What each byte adds to the checksum.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut sum = byte << 16;
        let mut bit = 0;
        while bit < 8 {
            sum <<= 1;
            if sum & 0x100_0000 != 0 {
                sum ^= 0x186_4cfb;
            }
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // The catalogue's check value for CRC-24/OPENPGP is 0x21cf02, of "123456789".
        let place = u64::from_le_bytes(*b"12345678");
        assert_eq!(checksum(place, b"9"), [0x02, 0xcf, 0x21]);
    }
}
