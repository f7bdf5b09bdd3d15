//! What a container wrote, told apart.
//!
//! Without a terminal the engine puts a head of eight bytes before each piece: which stream, three
//! zeros, and the piece's length (Docker Engine API, "Attach to a container"). With one, all bytes
//! are the terminal's.

use hyper::body::{Buf as _, Bytes};
use jiff::Timestamp;

use crate::engine::run::{Chunk, Stream};

/// The length of a frame's head.
const HEAD: usize = 8;
/// The longest stamp and the blank after it: `2026-11-25T04:36:46.123456789+00:00 `.
const STAMP: usize = 36;

/// Puts pieces of a connection, which are cut anywhere, into chunks.
#[derive(Debug)]
pub(super) struct Frames {
    /// What was received and is not yet told.
    pending: Bytes,
    state: State,
    is_stamped: bool,
    /// The stream and the time of the bytes that are told now.
    stream: Stream,
    time: Option<Timestamp>,
}

#[derive(Debug)]
enum State {
    /// A terminal's bytes, as they come.
    Raw,
    /// A terminal's bytes; what is here of a line's stamp.
    RawStamp(Vec<u8>),
    /// A terminal's bytes, up to the end of the line.
    RawLine,
    /// What is here of a frame's head.
    Head { bytes: [u8; HEAD], filled: usize },
    /// What is here of a frame's stamp, and how much of the frame is to come.
    Stamp { bytes: Vec<u8>, left: usize },
    /// How much of a frame is to come.
    Payload { left: usize },
    /// What is here of the engine's own words, and how many bytes are to come.
    Words { bytes: Vec<u8>, left: usize },
}

/// What there is in what was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Bytes of the container.
    Chunk(Chunk),
    /// More must be received.
    Nothing,
}

/// What is wrong with what was received.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The engine failed, and said so in the stream.
    #[error("{0}")]
    Said(String),
    /// These are no frames.
    #[error("its output is not in frames")]
    NoFrames,
}

/// The beginning of a frame.
const NO_HEAD: State = State::Head {
    bytes: [0; HEAD],
    filled: 0,
};

/// The longest words of an engine that are kept, in bytes.
const KEPT_WORDS: usize = 4096;

impl Frames {
    /// For a container with or without a terminal; `is_stamped` if each piece (with a terminal:
    /// each line) begins with its time.
    pub(super) fn new(tty: bool, is_stamped: bool) -> Self {
        Self {
            pending: Bytes::new(),
            state: match (tty, is_stamped) {
                (true, false) => State::Raw,
                (true, true) => State::RawStamp(Vec::new()),
                (false, _) => NO_HEAD,
            },
            is_stamped,
            stream: Stream::Stdout,
            time: None,
        }
    }

    /// Takes what was received; all that was there before must have been told.
    pub(super) fn receive(&mut self, bytes: Bytes) {
        debug_assert!(self.pending.is_empty(), "nothing is overwritten");
        self.pending = bytes;
    }

    /// Whether the stream may end here.
    pub(super) fn is_between(&self) -> bool {
        match &self.state {
            State::Raw | State::RawStamp(_) | State::RawLine => true,
            State::Head { filled, .. } => *filled == 0,
            State::Stamp { .. } | State::Payload { .. } | State::Words { .. } => false,
        }
    }

    /// The next bytes of the container, without copying them.
    pub(super) fn next(&mut self) -> Result<Found, FrameError> {
        while !self.pending.is_empty() {
            match &mut self.state {
                State::Raw => {
                    let bytes = std::mem::take(&mut self.pending);
                    return Ok(self.chunk(bytes));
                }
                State::RawStamp(stamp) => {
                    let wanted = STAMP - stamp.len();
                    take_stamp(&mut self.pending, stamp, wanted);
                    if let Some((time, rest)) = read_stamp(stamp, false) {
                        self.time = time;
                        self.state = State::RawLine;
                        if !rest.is_empty() {
                            return Ok(self.chunk(rest));
                        }
                    }
                }
                State::RawLine => {
                    let end = self.pending.iter().position(|byte| *byte == b'\n');
                    let length = end.map_or(self.pending.len(), |end| end + 1);
                    let bytes = self.pending.split_to(length);
                    if end.is_some() {
                        self.state = State::RawStamp(Vec::new());
                    }
                    return Ok(self.chunk(bytes));
                }
                State::Head { bytes, filled } => {
                    let length = self.pending.len().min(HEAD - *filled);
                    self.pending
                        .copy_to_slice(&mut bytes[*filled..*filled + length]);
                    *filled += length;
                    if *filled == HEAD {
                        let bytes = *bytes;
                        self.begin(bytes)?;
                    }
                }
                State::Stamp { bytes, left } => {
                    let before = bytes.len();
                    let wanted = (STAMP - before).min(*left);
                    take_stamp(&mut self.pending, bytes, wanted);
                    *left -= bytes.len() - before;
                    let left = *left;
                    if let Some((time, rest)) = read_stamp(bytes, left == 0) {
                        self.time = time;
                        self.state = payload(left);
                        if !rest.is_empty() {
                            return Ok(self.chunk(rest));
                        }
                    }
                }
                State::Payload { left } => {
                    let length = self.pending.len().min(*left);
                    let bytes = self.pending.split_to(length);
                    self.state = payload(*left - length);
                    return Ok(self.chunk(bytes));
                }
                State::Words { bytes, left } => {
                    let length = self.pending.len().min(*left);
                    let said = self.pending.split_to(length);
                    let room = KEPT_WORDS.saturating_sub(bytes.len());
                    bytes.extend_from_slice(&said[..length.min(room)]);
                    *left -= length;
                    if *left == 0 {
                        let said = String::from_utf8_lossy(bytes).trim().to_owned();
                        self.state = NO_HEAD;
                        return Err(FrameError::Said(said));
                    }
                }
            }
        }
        Ok(Found::Nothing)
    }

    /// A frame begins, with this head.
    fn begin(&mut self, head: [u8; HEAD]) -> Result<(), FrameError> {
        let [stream, 0, 0, 0, length @ ..] = head else {
            return Err(FrameError::NoFrames);
        };
        let left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        self.time = None;
        self.stream = match stream {
            // 0 is what was typed, shown again.
            0 | 1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => {
                self.state = State::Words {
                    bytes: Vec::new(),
                    left,
                };
                return if left == 0 {
                    Err(FrameError::Said("it does not say why".to_owned()))
                } else {
                    Ok(())
                };
            }
            _ => return Err(FrameError::NoFrames),
        };
        self.state = if self.is_stamped && left > 0 {
            State::Stamp {
                bytes: Vec::new(),
                left,
            }
        } else {
            payload(left)
        };
        Ok(())
    }

    fn chunk(&self, bytes: Bytes) -> Found {
        Found::Chunk(Chunk {
            stream: self.stream,
            bytes,
            time: self.time,
        })
    }
}

fn payload(left: usize) -> State {
    if left == 0 {
        NO_HEAD
    } else {
        State::Payload { left }
    }
}

/// Moves bytes up to and with a blank, and no more than so many.
fn take_stamp(from: &mut Bytes, stamp: &mut Vec<u8>, wanted: usize) {
    let within = &from[..from.len().min(wanted)];
    let blank = within.iter().position(|byte| *byte == b' ');
    let length = blank.map_or(within.len(), |blank| blank + 1);
    stamp.extend_from_slice(&from.split_to(length));
}

/// The time that a stamp says, and bytes that turn out to be none of it; `None` if more must come.
fn read_stamp(stamp: &mut Vec<u8>, is_whole: bool) -> Option<(Option<Timestamp>, Bytes)> {
    let text = stamp.strip_suffix(b" ");
    if text.is_none() && stamp.len() < STAMP && !is_whole {
        return None;
    }
    let time = text
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse().ok());
    let stamp = std::mem::take(stamp);
    let rest = match time {
        Some(_) => Bytes::new(),
        None => stamp.into(),
    };
    Some((time, rest))
}

#[cfg(test)]
mod tests;
