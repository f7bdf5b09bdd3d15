//! Keeping a run's log.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::entry::{Checker, Entry, Kind};
use super::{STREAMS, file, index, number};
use crate::event::Stream;
use crate::records::durable;
use crate::records::folder::RESERVE;

/// What of the same stream comes within so many milliseconds is one entry.
const MERGED_MILLISECONDS: i64 = 10;
/// What is held in memory of each stream before it is written.
const BUFFER: usize = 256 << 10;
/// How many bytes of the index are held in memory.
const MOST_ENTRIES: usize = 64 << 10;
/// A writer that is killed leaves not more than that of a stream without entries.
const UNINDEXED: u64 = 1 << 20;

/// How much of a stream is stored, and what it is: what an engine's own log begins with, if the
/// two are of the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: [u8; 32],
}

/// Appends to a run's log.
///
/// It never fails: what can't be written is left out, and [`LogWriter::trouble`] says why. A job
/// is worth more than its log.
#[derive(Debug)]
pub struct LogWriter {
    folder: PathBuf,
    index: File,
    /// How many bytes the index has for certain.
    indexed: u64,
    entries: Vec<u8>,
    pending: Option<Entry>,
    streams: [Half; 2],
    trouble: Option<io::Error>,
}

/// One stream's file.
#[derive(Debug)]
struct Half {
    file: File,
    buffer: Vec<u8>,
    /// How many bytes the file has for certain.
    written: u64,
    /// Where the attempt began.
    from: u64,
    /// The digest from there to `hashed`.
    hasher: Sha256,
    hashed: u64,
}

impl LogWriter {
    /// Opens the log in a run's folder to append to it; makes it if there is none. What an
    /// interrupted writer left is put in order: nothing that was stored is lost.
    ///
    /// `from` says how many bytes of stdout.log and stderr.log were there before this attempt.
    ///
    /// # Errors
    ///
    /// The files can't be opened.
    pub fn open(folder: &Path, from: [u64; 2]) -> io::Result<Self> {
        let index = durable::append(&index(folder))?;
        let mut streams = [
            Half::open(folder, Stream::Stdout, from[0])?,
            Half::open(folder, Stream::Stderr, from[1])?,
        ];
        // On a full disk the job goes on without a log.
        let (indexed, trouble) = match repair(&index, &mut streams) {
            Ok(indexed) => (indexed, None),
            Err(error) => (0, Some(error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            index,
            indexed,
            entries: Vec::new(),
            pending: None,
            streams,
            trouble,
        })
    }

    /// Appends bytes that were written at that time.
    pub fn append(&mut self, stream: Stream, bytes: &[u8], time: Timestamp) {
        if self.trouble.is_some() || bytes.is_empty() {
            return;
        }
        let held = self.streams[number(stream)].buffer.len();
        if held + bytes.len() > BUFFER || self.entries.len() > MOST_ENTRIES {
            self.flush();
            if self.trouble.is_some() {
                return;
            }
        }
        let half = &mut self.streams[number(stream)];
        if bytes.len() <= BUFFER {
            half.buffer.extend_from_slice(bytes);
        } else if let Err(error) = half.put(bytes) {
            self.stop(error);
            return;
        }
        // An entry has less than 4 GB.
        for part in bytes.chunks(1 << 30) {
            self.note(Entry {
                time: Some(time.as_millisecond()),
                length: u32::try_from(part.len()).unwrap_or(u32::MAX),
                kind: Kind::Bytes(stream),
            });
        }
    }

    fn note(&mut self, entry: Entry) {
        if let Some(pending) = &mut self.pending {
            let elapsed = entry.time.zip(pending.time);
            let elapsed = elapsed.map(|(time, before)| time.saturating_sub(before));
            let is_near = elapsed.is_some_and(|time| (0..MERGED_MILLISECONDS).contains(&time));
            let sum = pending.length.checked_add(entry.length);
            if let Some(sum) = sum.filter(|_| is_near && entry.kind == pending.kind) {
                pending.length = sum;
                return;
            }
        }
        self.encode_pending();
        self.pending = Some(entry);
    }

    fn encode_pending(&mut self) {
        if let Some(entry) = self.pending.take() {
            let place = (self.indexed + self.entries.len() as u64) / Entry::BYTES as u64;
            self.entries.extend(entry.encode(place));
        }
    }

    /// Writes what is held in memory. Readers see it from then on; call it when nothing has come
    /// for a moment.
    pub fn flush(&mut self) {
        if self.trouble.is_some() {
            return;
        }
        if let Err(error) = self.try_flush() {
            self.stop(error);
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        for half in &mut self.streams {
            half.flush()?;
        }
        self.encode_pending();
        if !self.entries.is_empty() {
            self.index.write_all(&self.entries)?;
            self.indexed += self.entries.len() as u64;
            self.entries.clear();
        }
        Ok(())
    }

    /// Writes what is held in memory, and makes all of it durable.
    pub fn sync(&mut self) {
        self.flush();
        let files = self.streams.iter().map(|half| &half.file);
        for file in files.chain([&self.index]) {
            if let Err(error) = file.sync_data() {
                self.trouble.get_or_insert(error);
                return;
            }
        }
    }

    /// Why no more is written, if that is so: the disk is full, most often.
    #[must_use]
    pub fn trouble(&self) -> Option<&io::Error> {
        self.trouble.as_ref()
    }

    /// How much of a stream of this attempt is stored, and what it is. Reads it again once.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn stored(&mut self, stream: Stream) -> io::Result<Stored> {
        self.flush();
        self.streams[number(stream)].stored()
    }

    /// Begins the next attempt, and tries to write again if that had failed. Says how many bytes
    /// of stdout.log and stderr.log are there.
    pub fn next_attempt(&mut self) -> [u64; 2] {
        self.flush();
        if self.trouble.take().is_some() {
            match repair(&self.index, &mut self.streams) {
                Ok(indexed) => self.indexed = indexed,
                Err(error) => self.trouble = Some(error),
            }
        }
        for half in &mut self.streams {
            half.from = half.written;
            half.hashed = half.written;
            half.hasher = Sha256::new();
        }
        self.streams.each_ref().map(|half| half.written)
    }

    /// Gives up writing. Files and index are left so that they agree, with a mark at the end.
    fn stop(&mut self, error: io::Error) {
        // Half of the reserve is for these few bytes, half for the record.
        if let Ok(reserve) = durable::change(&self.folder.join(RESERVE))
            && let Ok(metadata) = reserve.metadata()
        {
            let _ = reserve.set_len(metadata.len() / 2);
        }
        for half in &mut self.streams {
            half.buffer = Vec::new();
        }
        self.encode_pending();
        let entries = std::mem::take(&mut self.entries);
        let mark = Entry {
            time: None,
            length: 0,
            kind: Kind::Gap,
        };
        // Part of the entries may be there, and they may tell of bytes that are not. If this fails
        // too, it is put in order when the log is next opened.
        let _ = self
            .index
            .set_len(self.indexed)
            .and_then(|()| self.index.write_all(&entries))
            .and_then(|()| repair(&self.index, &mut self.streams))
            .map(|indexed| self.indexed = indexed)
            .and_then(|()| {
                let place = self.indexed / Entry::BYTES as u64;
                self.index.write_all(&mark.encode(place))
            })
            .map(|()| self.indexed += Entry::BYTES as u64);
        self.trouble = Some(error);
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Half {
    fn open(folder: &Path, stream: Stream, from: u64) -> io::Result<Self> {
        let file = durable::append(&file(folder, stream))?;
        let written = file.metadata()?.len();
        let from = from.min(written);
        Ok(Self {
            file,
            buffer: Vec::new(),
            written,
            from,
            hasher: Sha256::new(),
            hashed: from,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.put(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn stored(&mut self) -> io::Result<Stored> {
        let mut buffer = vec![0; 64 << 10];
        while self.hashed < self.written {
            let left = usize::try_from(self.written - self.hashed).unwrap_or(usize::MAX);
            let wanted = left.min(buffer.len());
            let read = self.file.read_at(&mut buffer[..wanted], self.hashed)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hasher.update(&buffer[..read]);
            self.hashed += read as u64;
        }
        Ok(Stored {
            bytes: self.written - self.from,
            sha256: self.hasher.clone().finalize().into(),
        })
    }
}

/// Makes files and index agree. What a file has more is taken into the index; what the index has
/// more is dropped from it, which only a machine that went down leaves, and so is all from the first
/// entry on that can't be trusted. Says how long the index is then.
fn repair(index: &File, streams: &mut [Half; 2]) -> io::Result<u64> {
    for half in &mut *streams {
        half.written = half.file.metadata()?.len();
    }
    let length = index.metadata()?.len();
    let mut kept = 0;
    let mut seen = [0_u64; 2];
    let mut time = None;
    let mut order = STREAMS;
    let mut is_sound = true;
    let mut checker = Checker::default();
    let mut reader = BufReader::with_capacity(64 << 10, ReadAt { index, at: 0 });
    let mut bytes = [0; Entry::BYTES];
    while kept + Entry::BYTES as u64 <= length {
        reader.read_exact(&mut bytes)?;
        let Some(entry) = checker.next(bytes) else {
            is_sound = false;
            break;
        };
        if let Kind::Bytes(stream) = entry.kind {
            let number = number(stream);
            let left = streams[number].written - seen[number];
            time = entry.time;
            if u64::from(entry.length) > left {
                // Of this and of all that follow, only what is there is taken, below.
                if stream == Stream::Stderr {
                    order.reverse();
                }
                break;
            }
            seen[number] += u64::from(entry.length);
        }
        kept += Entry::BYTES as u64;
    }
    index.set_len(kept)?;
    let unindexed = STREAMS.map(|stream| streams[number(stream)].written - seen[number(stream)]);
    // What one stream has more came last, just before its writer was killed; of anything else
    // neither order nor time are known.
    let is_last = unindexed.contains(&0) && unindexed.iter().all(|bytes| *bytes <= UNINDEXED);
    let time = time.filter(|_| is_sound && is_last);
    let mut entries = Vec::new();
    for stream in order {
        let mut left = unindexed[number(stream)];
        while left > 0 {
            let length = u32::try_from(left).unwrap_or(1 << 30);
            left -= u64::from(length);
            let kind = Kind::Bytes(stream);
            let place = (kept + entries.len() as u64) / Entry::BYTES as u64;
            entries.extend(Entry { time, length, kind }.encode(place));
        }
    }
    (&*index).write_all(&entries)?;
    Ok(kept + entries.len() as u64)
}

/// A file that is read from a place of its own.
struct ReadAt<'a> {
    index: &'a File,
    at: u64,
}

impl io::Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.index.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
