//! What a run wrote: `stdout.log`, `stderr.log`, and `log.index`, which says in which order and
//! when.
//!
//! The two files have the bytes of each stream and nothing else. The index is a list of entries of
//! 16 bytes: what was appended to which file, how much, when, and a checksum. Data is written before
//! the entries about it, so that after a crash a file may have more than the index says (the rest
//! is taken as one more piece), or, if the machine went down, less (what is not there is dropped
//! from the index). The files are what counts: whatever is wrong with the index, all their bytes are
//! shown, and [`LogReader::is_unordered`] says that their order and times are not known.

mod entry;
mod reader;
mod writer;

use std::path::{Path, PathBuf};

use crate::event::Stream;

pub use reader::{LogPiece, LogReader, LogSelection};
pub use writer::{LogWriter, Stored};

/// The streams in the order of their numbers.
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// A stream's number.
fn number(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// The file of a stream in a run's folder.
fn file(folder: &Path, stream: Stream) -> PathBuf {
    folder.join(match stream {
        Stream::Stdout => "stdout.log",
        Stream::Stderr => "stderr.log",
    })
}

fn index(folder: &Path) -> PathBuf {
    folder.join("log.index")
}

#[cfg(test)]
mod tests;
