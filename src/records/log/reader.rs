//! Reading a run's log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::entry::{Checker, Entry, Kind};
use super::{STREAMS, file, index, number};
use crate::event::Stream;
use crate::records::durable;

/// How much of a stream is read at once, and how much of the index.
const BLOCK: usize = 64 << 10;

/// Which part of a log is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSelection {
    /// One stream alone.
    pub stream: Option<Stream>,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only until then.
    pub until: Option<Timestamp>,
    /// Only so many of the last lines. Each stream has its own lines; those are the last that
    /// ended last.
    pub tail: Option<u64>,
    /// Only what comes after so many bytes of stdout.log and of stderr.log: an attempt's.
    pub from: [u64; 2],
}

/// A piece of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPiece<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// When, to within 10 ms; where that is not known, the last time that is.
    pub time: Timestamp,
    /// The bytes: part of a line, or several lines.
    pub bytes: &'a [u8],
}

/// Reads a log in the order in which it was written.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    index: Option<File>,
    /// How far the index was read.
    at: u64,
    /// What was read of it ahead, and how much of that was used.
    ahead: Vec<u8>,
    used: usize,
    checker: Checker,
    files: [Option<File>; 2],
    /// How long each file is at least.
    lengths: [u64; 2],
    /// How far each stream was gone through.
    positions: [u64; 2],
    /// Nothing before is of interest.
    starts: [u64; 2],
    current: Option<Current>,
    selection: LogSelection,
    /// The last time that is known.
    time: Timestamp,
    /// Whether the index can't be trusted from where it was read to.
    is_damaged: bool,
    is_unordered: bool,
    has_gap: bool,
    buffer: Vec<u8>,
}

/// An entry of which not all was given out.
#[derive(Debug, Clone, Copy)]
struct Current {
    stream: Stream,
    time: Option<i64>,
    left: u64,
}

impl LogReader {
    /// Opens the log in a run's folder, whether it is there already or not.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn open(folder: &Path, selection: LogSelection) -> io::Result<Self> {
        let mut reader = Self {
            folder: folder.to_owned(),
            index: None,
            at: 0,
            ahead: Vec::new(),
            used: 0,
            checker: Checker::default(),
            files: [None, None],
            lengths: [0; 2],
            positions: [0; 2],
            starts: selection.from,
            current: None,
            selection,
            time: Timestamp::UNIX_EPOCH,
            is_damaged: false,
            is_unordered: false,
            has_gap: false,
            buffer: vec![0; BLOCK],
        };
        reader.open_files()?;
        if let Some(lines) = selection.tail {
            let tail = reader.tail(lines)?;
            for (start, tail) in reader.starts.iter_mut().zip(tail) {
                *start = tail.max(*start);
            }
        }
        Ok(reader)
    }

    /// The next piece; nothing where none is there yet. Ask again for what is written meanwhile.
    ///
    /// From where the index can't be trusted, it is what the files have: all of it, as nobody knows
    /// when it was written.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn read_more(&mut self) -> io::Result<Option<LogPiece<'_>>> {
        self.open_files()?;
        loop {
            if let Some(current) = self.current
                && let Some((current, read)) = self.read(current)?
            {
                return Ok(Some(self.piece(current, read)));
            }
            if self.is_damaged {
                return self.read_rest();
            }
            let Some(entry) = self.entry()? else {
                return Ok(None);
            };
            match entry.kind {
                Kind::Gap => self.has_gap = true,
                Kind::Bytes(stream) if self.has(stream, entry.length.into())? => {
                    self.time = entry.time.map_or(self.time, time);
                    self.is_unordered |= entry.time.is_none();
                    self.current = Some(Current {
                        stream,
                        time: entry.time,
                        left: entry.length.into(),
                    });
                }
                Kind::Bytes(_) => self.is_damaged = true,
            }
        }
    }

    /// The next piece of what the index does not tell of, once [`Self::read_more`] has nothing
    /// and nobody writes any more.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn read_rest(&mut self) -> io::Result<Option<LogPiece<'_>>> {
        for stream in STREAMS {
            let left = self
                .length(stream)?
                .saturating_sub(self.positions[number(stream)]);
            self.is_unordered |= left > 0;
            let time = None;
            let current = Current { stream, time, left };
            if let Some((current, read)) = self.read(current)? {
                self.current = None;
                return Ok(Some(self.piece(current, read)));
            }
        }
        Ok(None)
    }

    /// Whether order and times of some of what was read so far are not known, as the index is
    /// damaged or lacks its end.
    #[must_use]
    pub fn is_unordered(&self) -> bool {
        self.is_unordered || self.is_damaged
    }

    /// Whether something is missing in what was read so far, as the disk was full.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.has_gap
    }

    fn piece(&self, current: Current, read: usize) -> LogPiece<'_> {
        LogPiece {
            stream: current.stream,
            time: self.time,
            bytes: &self.buffer[..read],
        }
    }

    /// Reads some of an entry into the buffer; nothing where nothing of it is left or of interest.
    fn read(&mut self, mut current: Current) -> io::Result<Option<(Current, usize)>> {
        let number = number(current.stream);
        let is_wanted = self.is_wanted(current.stream, current.time);
        let skipped = match self.starts[number].saturating_sub(self.positions[number]) {
            _ if !is_wanted => current.left,
            before => before.min(current.left),
        };
        self.positions[number] += skipped;
        current.left -= skipped;
        let wanted = usize::try_from(current.left).unwrap_or(BLOCK).min(BLOCK);
        let read = match &self.files[number] {
            Some(file) if wanted > 0 => {
                file.read_at(&mut self.buffer[..wanted], self.positions[number])?
            }
            _ => 0,
        };
        self.positions[number] += read as u64;
        current.left -= read as u64;
        self.current = (current.left > 0 && read > 0).then_some(current);
        Ok((read > 0).then_some((current, read)))
    }

    /// What is of an unknown time may be of any.
    fn is_wanted(&self, stream: Stream, time: Option<i64>) -> bool {
        let LogSelection { since, until, .. } = self.selection;
        let is_since = |since: Timestamp| time.is_none_or(|time| time >= since.as_millisecond());
        let is_until = |until: Timestamp| time.is_none_or(|time| time <= until.as_millisecond());
        self.selection.stream.is_none_or(|only| only == stream)
            && since.is_none_or(is_since)
            && until.is_none_or(is_until)
    }

    /// Whether a file has so many bytes more, as it has if an entry of the index is right.
    fn has(&mut self, stream: Stream, bytes: u64) -> io::Result<bool> {
        let number = number(stream);
        let end = self.positions[number].saturating_add(bytes);
        if end > self.lengths[number] {
            self.lengths[number] = self.length(stream)?;
        }
        Ok(end <= self.lengths[number])
    }

    /// The next entry of the index.
    fn entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(bytes) = self.ahead[self.used..].first_chunk::<{ Entry::BYTES }>() {
                self.used += Entry::BYTES;
                let entry = self.checker.next(*bytes);
                self.is_damaged = entry.is_none();
                if self.is_damaged {
                    self.used = self.ahead.len();
                }
                // Whoever opens the log to write puts a damaged index in order.
                return Ok(entry);
            }
            let Some(index) = &self.index else {
                return Ok(None);
            };
            self.at += self.used as u64;
            self.used = 0;
            self.ahead.resize(BLOCK, 0);
            let read = index.read_at(&mut self.ahead, self.at)?;
            self.ahead.truncate(read - read % Entry::BYTES);
            if self.ahead.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Opens what was not there before.
    fn open_files(&mut self) -> io::Result<()> {
        if self.index.is_none() {
            self.index = existing(&index(&self.folder))?;
        }
        for stream in STREAMS {
            let place = &mut self.files[number(stream)];
            if place.is_none() {
                *place = existing(&file(&self.folder, stream))?;
            }
        }
        Ok(())
    }

    fn length(&self, stream: Stream) -> io::Result<u64> {
        match &self.files[number(stream)] {
            Some(file) => Ok(file.metadata()?.len()),
            None => Ok(0),
        }
    }

    /// Where the last lines begin in each stream.
    fn tail(&self, lines: u64) -> io::Result<[u64; 2]> {
        let mut search = Search {
            left: lines,
            streams: [Backwards::default(), Backwards::default()],
        };
        let lengths = [self.length(Stream::Stdout)?, self.length(Stream::Stderr)?];
        let mut entries = Entries::of(self.index.as_ref())?;
        let mut ends = entries.check(lengths)?;
        // What the index does not tell of comes last.
        for stream in STREAMS.into_iter().rev() {
            let length = lengths[number(stream)];
            let is_selected = self.selection.stream.is_none_or(|only| only == stream);
            let half = &mut search.streams[number(stream)];
            half.is_found = !is_selected;
            let end = ends[number(stream)];
            if is_selected && let Some(file) = self.files[number(stream)].as_ref() {
                search.look(number(stream), file, end..length.max(end))?;
            }
        }
        entries.backwards(|entry| {
            let Kind::Bytes(stream) = entry.kind else {
                return Ok(true);
            };
            let number = number(stream);
            let end = ends[number];
            ends[number] -= u64::from(entry.length);
            if let Some(file) = &self.files[number]
                && self.is_wanted(stream, entry.time)
            {
                search.look(number, file, ends[number]..end)?;
            }
            Ok(search.streams.iter().any(|half| !half.is_found))
        })?;
        Ok(search.streams.map(|half| half.start))
    }
}

/// The search for the beginning of the last lines.
struct Search {
    /// How many are still to be found.
    left: u64,
    streams: [Backwards; 2],
}

/// How far one stream was gone through from its end.
#[derive(Default)]
struct Backwards {
    is_begun: bool,
    is_found: bool,
    start: u64,
}

impl Search {
    /// Looks for the ends of lines in a range of a stream, from its end.
    fn look(&mut self, number: usize, file: &File, range: std::ops::Range<u64>) -> io::Result<()> {
        let mut buffer = vec![0; BLOCK];
        let mut end = range.end;
        while end > range.start && !self.streams[number].is_found {
            let begin = end.saturating_sub(BLOCK as u64).max(range.start);
            let length = usize::try_from(end - begin).unwrap_or(BLOCK);
            let block = &mut buffer[..length];
            file.read_exact_at(block, begin)?;
            if !std::mem::replace(&mut self.streams[number].is_begun, true)
                && block.last() != Some(&b'\n')
            {
                self.line_ends(number, end);
            }
            let newlines = block.iter().enumerate().rev();
            for (at, _) in newlines.filter(|(_, byte)| **byte == b'\n') {
                if self.streams[number].is_found {
                    break;
                }
                self.line_ends(number, begin + at as u64 + 1);
            }
            end = begin;
        }
        Ok(())
    }

    fn line_ends(&mut self, number: usize, at: u64) {
        if self.left > 0 {
            self.left -= 1;
        } else {
            let half = &mut self.streams[number];
            half.is_found = true;
            half.start = at;
        }
    }
}

/// The entries of an index, as they are now.
struct Entries<'a> {
    index: Option<&'a File>,
    count: u64,
}

impl<'a> Entries<'a> {
    fn of(index: Option<&'a File>) -> io::Result<Self> {
        let length = match index {
            Some(index) => index.metadata()?.len(),
            None => 0,
        };
        let count = length / Entry::BYTES as u64;
        Ok(Self { index, count })
    }

    /// Drops all from the first entry on that can't be trusted, with files of those lengths. How
    /// much of each stream the others tell of.
    fn check(&mut self, lengths: [u64; 2]) -> io::Result<[u64; 2]> {
        let mut ends = [0; 2];
        let mut checker = Checker::default();
        let mut at = 0;
        while at < self.count {
            for bytes in self.block(at, (self.count - at).min(ENTRIES))? {
                let Some(entry) = checker.next(bytes) else {
                    self.count = at;
                    return Ok(ends);
                };
                if let Kind::Bytes(stream) = entry.kind {
                    let end = ends[number(stream)] + u64::from(entry.length);
                    if end > lengths[number(stream)] {
                        self.count = at;
                        return Ok(ends);
                    }
                    ends[number(stream)] = end;
                }
                at += 1;
            }
        }
        Ok(ends)
    }

    /// Goes on for as long as it is told to.
    fn backwards(&self, mut each: impl FnMut(Entry) -> io::Result<bool>) -> io::Result<()> {
        let mut at = self.count;
        while at > 0 {
            let count = at.min(ENTRIES);
            at -= count;
            let block = self.block(at, count)?;
            for entry in block.into_iter().rev().filter_map(Entry::decode) {
                if !each(entry)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn block(&self, at: u64, count: u64) -> io::Result<Vec<[u8; Entry::BYTES]>> {
        let Some(index) = self.index else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * Entry::BYTES];
        index.read_exact_at(&mut bytes, at * Entry::BYTES as u64)?;
        Ok(bytes.as_chunks().0.to_vec())
    }
}

/// So many entries are read at once.
const ENTRIES: u64 = (BLOCK / Entry::BYTES) as u64;

fn existing(path: &Path) -> io::Result<Option<File>> {
    match durable::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
