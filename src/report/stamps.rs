//! Lines of a log with their times.

use crate::event::Stream;
use crate::records::log::LogPiece;

/// A piece of a log with the time before each line that begins in it. For each stream it is noted
/// whether the next piece begins a line.
#[must_use]
pub fn stamped(piece: &LogPiece<'_>, is_new_line: &mut [bool; 2]) -> Vec<u8> {
    let is_new_line = &mut is_new_line[usize::from(piece.stream == Stream::Stderr)];
    let stamp = format!("{:.3} ", piece.time);
    let mut stamped = Vec::with_capacity(piece.bytes.len() + 64);
    for line in piece.bytes.split_inclusive(|byte| *byte == b'\n') {
        if *is_new_line {
            stamped.extend(stamp.as_bytes());
        }
        stamped.extend(line);
        *is_new_line = line.ends_with(b"\n");
    }
    stamped
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn each_line_has_its_time_once() {
        let mut is_new_line = [true; 2];
        let mut text = Vec::new();
        for (second, bytes) in [(0, "one\ntw"), (1, "o\n"), (2, "three")] {
            let piece = LogPiece {
                stream: Stream::Stdout,
                time: Timestamp::from_second(second).unwrap(),
                bytes: bytes.as_bytes(),
            };
            text.extend(stamped(&piece, &mut is_new_line));
        }
        let expected = "1970-01-01T00:00:00.000Z one\n1970-01-01T00:00:00.000Z two\n\
                        1970-01-01T00:00:02.000Z three";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
