//! `runs.index`: the summaries of runs that are over, so that lists need not read each record.
//!
//! It is a cache and nothing more: which runs there are is told by their folders, and an entry
//! counts only while `run.json` is the very file that it was made of. One that is missing,
//! damaged or old costs time and changes nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use super::durable;
use super::summary::Summary;
use crate::model::RunId;

/// The first line. A later format has another, and this version makes the file anew.
const HEADER: &str = "jobctl.runs.index/2";
/// A line's checksum and the blank after it.
const CHECKSUM: usize = 9;

/// Which file a record is: one that is written again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    size: i64,
    /// Seconds and nanoseconds.
    modified: (i64, u64),
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) summary: Summary,
}

/// What the file has.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: HashMap<RunId, Entry>,
    lines: usize,
    is_damaged: bool,
}

impl Index {
    /// Reads what can be read.
    pub(super) fn read(path: &Path) -> Self {
        let Ok(bytes) = durable::read(path) else {
            return Self::damaged();
        };
        let mut lines = bytes.split(|byte| *byte == b'\n');
        if lines.next() != Some(HEADER.as_bytes()) {
            return Self::damaged();
        }
        let mut index = Self::default();
        for line in lines.filter(|line| !line.is_empty()) {
            index.lines += 1;
            match decode(line) {
                Some(entry) => {
                    index.entries.insert(entry.summary.id, entry);
                }
                None => index.is_damaged = true,
            }
        }
        index
    }

    fn damaged() -> Self {
        Self {
            is_damaged: true,
            ..Self::default()
        }
    }

    /// Keeps what was found out: added at the end; or, where much of the file is of no use any
    /// more, all of it anew.
    pub(super) fn keep(&self, path: &Path, used: &[Entry], found: &[Entry]) -> io::Result<()> {
        let is_wasteful = self.lines > 2 * used.len() + 100;
        if self.is_damaged || is_wasteful {
            return rewrite(path, used.iter().chain(found));
        }
        if found.is_empty() {
            return Ok(());
        }
        append(path, found)
    }
}

fn rewrite<'a>(path: &Path, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
    let mut bytes = format!("{HEADER}\n").into_bytes();
    for entry in entries {
        bytes.extend(encode(entry)?);
    }
    durable::write_cache(path, &bytes)
}

fn append(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut file = durable::append(path)?;
    if file.try_lock().is_err() {
        // Whoever has it adds the same.
        return Ok(());
    }
    let mut bytes = Vec::new();
    if !ends_a_line(&mut file)? {
        bytes.push(b'\n');
    }
    for entry in entries {
        bytes.extend(encode(entry)?);
    }
    file.write_all(&bytes)
}

/// Whether the last who wrote was not killed in the middle of a line.
fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn encode(entry: &Entry) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let mut line = format!("{:08x} ", checksum(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Option<Entry> {
    let (sum, json) = line.split_at_checked(CHECKSUM)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    (u32::from_str_radix(sum, 16).ok()? == checksum(json)).then_some(())?;
    serde_json::from_slice(json).ok()
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
