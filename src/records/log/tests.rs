use std::fs;
use std::io::Write as _;
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{LogReader, LogSelection, LogWriter, Stored};
use crate::event::Stream::{self, Stderr, Stdout};
use crate::model::RunId;
use crate::records::{Record, RunFolder};

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
}

/// The pieces of a log, those of the same stream and time put together.
fn read(folder: &Path, selection: LogSelection) -> Vec<(Stream, i64, String)> {
    let mut reader = LogReader::open(folder, selection).unwrap();
    let mut pieces: Vec<(Stream, i64, String)> = Vec::new();
    let mut is_indexed = true;
    loop {
        let piece = if is_indexed {
            reader.read_more().unwrap()
        } else {
            reader.read_rest().unwrap()
        };
        let Some(piece) = piece else {
            if is_indexed {
                is_indexed = false;
                continue;
            }
            return pieces;
        };
        let time = piece.time.as_millisecond() - 1_700_000_000_000;
        let text = String::from_utf8_lossy(piece.bytes);
        match pieces.last_mut() {
            Some((stream, last, before)) if (*stream, *last) == (piece.stream, time) => {
                before.push_str(&text);
            }
            _ => pieces.push((piece.stream, time, text.into_owned())),
        }
    }
}

fn all(folder: &Path) -> Vec<(Stream, i64, String)> {
    read(folder, LogSelection::default())
}

fn text(folder: &Path, selection: LogSelection) -> String {
    let pieces = read(folder, selection);
    pieces.into_iter().map(|(_, _, text)| text).collect()
}

fn write(folder: &Path, pieces: &[(Stream, i64, &str)]) {
    let mut writer = LogWriter::open(folder, [0; 2]).unwrap();
    for (stream, time, text) in pieces {
        writer.append(*stream, text.as_bytes(), at(*time));
    }
}

fn pieces(pieces: &[(Stream, i64, &str)]) -> Vec<(Stream, i64, String)> {
    let owned = pieces.iter();
    owned
        .map(|(stream, time, text)| (*stream, *time, (*text).to_owned()))
        .collect()
}

#[test]
fn a_log_is_read_in_the_order_in_which_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = [
        (Stdout, 0, "a\n"),
        (Stderr, 1, "warning\n"),
        (Stdout, 2, "b"),
        (Stdout, 500, "\nc\n"),
    ];
    write(folder.path(), &written);
    assert_eq!(all(folder.path()), pieces(&written));
    let stored = fs::read_to_string(folder.path().join("stdout.log")).unwrap();
    assert_eq!(stored, "a\nb\nc\n");
    let only = LogSelection {
        stream: Some(Stderr),
        ..LogSelection::default()
    };
    assert_eq!(text(folder.path(), only), "warning\n");
}

#[test]
fn what_comes_at_once_is_one_entry() {
    let folder = tempfile::tempdir().unwrap();
    let written: Vec<_> = (0..30).map(|time| (Stdout, time, "line\n")).collect();
    write(folder.path(), &written);
    let lines = "line\n".repeat(10);
    let expected = [0, 10, 20].map(|time| (Stdout, time, lines.as_str()));
    assert_eq!(all(folder.path()), pieces(&expected));
    assert_eq!(
        fs::metadata(folder.path().join("log.index")).unwrap().len(),
        48
    );
}

#[test]
fn the_last_lines_are_those_that_ended_last() {
    let folder = tempfile::tempdir().unwrap();
    let tail = |written: &[(Stream, i64, &str)], lines: u64| {
        let folder = folder.path().join(format!("{lines}-{}", written.len()));
        fs::create_dir_all(&folder).unwrap();
        write(&folder, written);
        let shown = text(
            &folder,
            LogSelection {
                tail: Some(lines),
                ..LogSelection::default()
            },
        );
        fs::remove_dir_all(&folder).unwrap();
        shown
    };
    let plain = [(Stdout, 0, "a\nb\nc\n")];
    for (lines, expected) in [
        (0, ""),
        (1, "c\n"),
        (2, "b\nc\n"),
        (3, "a\nb\nc\n"),
        (9, "a\nb\nc\n"),
    ] {
        assert_eq!(tail(&plain, lines), expected, "{lines}");
    }
    let unended = [(Stdout, 0, "a\nb\nc")];
    for (lines, expected) in [(0, ""), (1, "c"), (2, "b\nc"), (3, "a\nb\nc")] {
        assert_eq!(tail(&unended, lines), expected, "{lines}");
    }
    let mixed = [
        (Stderr, 0, "e1\ne2 "),
        (Stdout, 20, "o1\no2\n"),
        (Stderr, 40, "end\n"),
        (Stdout, 60, "o3"),
    ];
    for (lines, expected) in [
        (1, "o3"),
        (2, "e2 end\no3"),
        (3, "e2 o2\nend\no3"),
        (4, "e2 o1\no2\nend\no3"),
        (5, "e1\ne2 o1\no2\nend\no3"),
    ] {
        assert_eq!(tail(&mixed, lines), expected, "{lines}");
    }
    let long = "x".repeat(100_000);
    let long = [
        (Stdout, 0, "a\n"),
        (Stdout, 20, long.as_str()),
        (Stdout, 40, "\nz\n"),
    ];
    assert_eq!(tail(&long, 1), "z\n");
    assert_eq!(tail(&long, 2).len(), 100_003);
    assert_eq!(tail(&long, 3).len(), 100_005);
}

#[test]
fn a_part_of_a_log_is_read_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let written = [
        (Stdout, 0, "a\n"),
        (Stdout, 100, "b\n"),
        (Stdout, 200, "c\n"),
        (Stdout, 300, "d\n"),
    ];
    write(folder.path(), &written);
    let selection = LogSelection {
        since: Some(at(100)),
        until: Some(at(200)),
        ..LogSelection::default()
    };
    assert_eq!(text(folder.path(), selection), "b\nc\n");
    let last = LogSelection {
        tail: Some(1),
        ..selection
    };
    assert_eq!(text(folder.path(), last), "c\n");
}

#[test]
fn a_log_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut reader = LogReader::open(folder.path(), LogSelection::default()).unwrap();
    assert!(reader.read_more().unwrap().is_none());
    let mut writer = LogWriter::open(folder.path(), [0; 2]).unwrap();
    for n in 0..100 {
        let line = format!("line {n}\n");
        writer.append(Stdout, line.as_bytes(), at(n));
        assert!(reader.read_more().unwrap().is_none());
        writer.flush();
        assert_eq!(reader.read_more().unwrap().unwrap().bytes, line.as_bytes());
    }
    assert!(reader.read_more().unwrap().is_none());
    assert!(reader.read_rest().unwrap().is_none());
}

/// Whatever a crash left of index and files, nothing that is in the files is lost or doubled, and
/// what is appended then comes after it.
#[test]
fn any_two_lengths_of_index_and_file_are_put_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let written = [
        (Stdout, 0, "one\n"),
        (Stderr, 20, "two\n"),
        (Stdout, 40, "three\n"),
        (Stderr, 60, "four\n"),
    ];
    write(folder.path(), &written);
    let files = ["log.index", "stdout.log", "stderr.log"];
    let whole = files.map(|name| fs::read(folder.path().join(name)).unwrap());
    for index in (0..=whole[0].len()).step_by(4) {
        for stdout in 0..=whole[1].len() {
            for stderr in [0, 2, 4, 7, whole[2].len()] {
                for (name, (bytes, length)) in
                    files.iter().zip(whole.iter().zip([index, stdout, stderr]))
                {
                    fs::write(folder.path().join(name), &bytes[..length]).unwrap();
                }
                let mut writer = LogWriter::open(folder.path(), [0; 2]).unwrap();
                writer.append(Stdout, b"after\n", at(80));
                writer.append(Stderr, b"last\n", at(100));
                drop(writer);
                let mut reader = LogReader::open(folder.path(), LogSelection::default()).unwrap();
                let mut streams = [Vec::new(), Vec::new()];
                while let Some(piece) = reader.read_more().unwrap() {
                    streams[super::number(piece.stream)].extend_from_slice(piece.bytes);
                }
                assert!(reader.read_rest().unwrap().is_none());
                let expected = [
                    [&whole[1][..stdout], b"after\n"].concat(),
                    [&whole[2][..stderr], b"last\n"].concat(),
                ];
                assert_eq!(streams, expected, "{index} {stdout} {stderr}");
            }
        }
    }
}

#[test]
fn an_index_of_garbage_loses_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[(Stdout, 0, "a\n"), (Stderr, 20, "e\n")]);
    fs::write(folder.path().join("log.index"), [0xff; 100]).unwrap();
    assert_eq!(text(folder.path(), LogSelection::default()), "a\ne\n");
    let last = LogSelection {
        tail: Some(1),
        ..LogSelection::default()
    };
    assert_eq!(text(folder.path(), last), "e\n");
    write(folder.path(), &[(Stdout, 40, "b\n")]);
    let texts: Vec<_> = all(folder.path())
        .into_iter()
        .map(|(_, _, text)| text)
        .collect();
    assert_eq!(texts, ["a\n", "e\n", "b\n"]);
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[test]
fn what_is_stored_of_an_attempt_is_reported_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let stored = |text: &str| Stored {
        bytes: text.len() as u64,
        sha256: sha256(text),
    };
    let mut writer = LogWriter::open(folder.path(), [0; 2]).unwrap();
    assert_eq!(writer.stored(Stdout).unwrap(), stored(""));
    writer.append(Stdout, b"one", at(0));
    assert_eq!(writer.stored(Stdout).unwrap(), stored("one"));
    writer.append(Stdout, b"two", at(20));
    assert_eq!(writer.stored(Stdout).unwrap(), stored("onetwo"));
    assert_eq!(writer.next_attempt(), [6, 0]);
    writer.append(Stdout, b"three", at(40));
    assert_eq!(writer.stored(Stdout).unwrap(), stored("three"));
    drop(writer);
    let mut writer = LogWriter::open(folder.path(), [6, 0]).unwrap();
    assert_eq!(writer.stored(Stdout).unwrap(), stored("three"));
    assert_eq!(writer.stored(Stderr).unwrap(), stored(""));
    let attempt = LogSelection {
        from: [6, 0],
        ..LogSelection::default()
    };
    assert_eq!(text(folder.path(), attempt), "three");
}

/// A file system of its own; nothing where this user can't have one.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "jobctl-test"]);
        let status = mount.arg(folder.path()).stderr(std::process::Stdio::null());
        let is_mounted = status.status().is_ok_and(|status| status.success());
        is_mounted.then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.path())
            .status();
    }
}

#[test]
fn a_full_disk_ends_the_log_and_not_the_job() {
    let Some(small) = Small::mount("size=3m") else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: needs root");
        return;
    };
    let folder = small.path();
    let run = RunFolder::new(RunId::new(at(0)), folder.to_owned());
    run.make_reserve().unwrap();
    let mut writer = LogWriter::open(folder, [0; 2]).unwrap();
    let line = [b'x'; 999];
    let line = [&line[..], b"\n"].concat();
    for n in 0..4000 {
        writer.append(Stdout, &line, at(n * 20));
        writer.append(Stderr, b"e\n", at(n * 20 + 10));
    }
    writer.flush();
    assert!(writer.trouble().is_some());
    assert_eq!(
        fs::metadata(folder.join("reserve")).unwrap().len(),
        512 << 10
    );

    let mut reader = LogReader::open(folder, LogSelection::default()).unwrap();
    let mut bytes = [0, 0];
    while let Some(piece) = reader.read_more().unwrap() {
        bytes[super::number(piece.stream)] += piece.bytes.len() as u64;
    }
    assert!(reader.read_rest().unwrap().is_none());
    assert!(reader.has_gap());
    let length = |name: &str| fs::metadata(folder.join(name)).unwrap().len();
    assert_eq!(bytes, [length("stdout.log"), length("stderr.log")]);
    assert!(bytes[0] > 1_000_000, "{bytes:?}");

    // Somebody else takes what is left; the record is written all the same.
    let mut other = fs::File::create(folder.join("other")).unwrap();
    while other.write_all(&[0; 4096]).is_ok() {}
    let record = Record::new(run.id(), at(0));
    run.write(&record).unwrap();
    assert_eq!(run.read().unwrap(), record);
    assert!(!folder.join("reserve").exists());

    fs::remove_file(folder.join("other")).unwrap();
    let from = writer.next_attempt();
    assert_eq!(from, bytes);
    writer.append(Stdout, b"the next attempt\n", at(0));
    writer.flush();
    assert!(writer.trouble().is_none());
    let attempt = LogSelection {
        from,
        ..LogSelection::default()
    };
    assert_eq!(text(folder, attempt), "the next attempt\n");
}

/// A log of both streams, and where each of its files is.
fn sample(folder: &Path) -> [Vec<u8>; 3] {
    let written = [
        (Stdout, 0, "one\n"),
        (Stderr, 20, "warning\n"),
        (Stdout, 40, "two "),
        (Stdout, 60, "three\n"),
        (Stderr, 80, "end\n"),
    ];
    write(folder, &written);
    ["log.index", "stdout.log", "stderr.log"].map(|name| fs::read(folder.join(name)).unwrap())
}

/// What is shown of each stream, and whether a warning says that order and times are not known.
fn shown(folder: &Path, selection: LogSelection) -> ([Vec<u8>; 2], bool) {
    let mut reader = LogReader::open(folder, selection).unwrap();
    let mut streams = [Vec::new(), Vec::new()];
    while let Some(piece) = reader.read_more().unwrap() {
        streams[super::number(piece.stream)].extend_from_slice(piece.bytes);
    }
    while let Some(piece) = reader.read_rest().unwrap() {
        streams[super::number(piece.stream)].extend_from_slice(piece.bytes);
    }
    (streams, reader.is_unordered())
}

#[test]
fn no_bit_of_an_index_hides_or_moves_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let [index, stdout, stderr] = sample(folder);
    let all = LogSelection::default();
    assert_eq!(
        shown(folder, all),
        ([stdout.clone(), stderr.clone()], false)
    );
    let now = LogSelection {
        since: Some(at(30)),
        until: Some(at(90)),
        ..all
    };
    let late = [b"two three\n".to_vec(), b"end\n".to_vec()];
    assert_eq!(shown(folder, now), (late.clone(), false));
    for bit in 0..index.len() * 8 {
        let mut flipped = index.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(folder.join("log.index"), flipped).unwrap();
        let files = [stdout.clone(), stderr.clone()];
        assert_eq!(shown(folder, all), (files.clone(), true), "bit {bit}");
        let (streams, is_reported) = shown(folder, now);
        assert!(is_reported, "bit {bit}");
        for (stream, late) in streams.iter().zip(&late) {
            assert!(stream.ends_with(late), "bit {bit}");
        }
        for lines in 0..6 {
            let tail = LogSelection {
                tail: Some(lines),
                ..all
            };
            let (streams, is_reported) = shown(folder, tail);
            assert!(is_reported, "bit {bit}, {lines} lines");
            let shown = streams.concat();
            let count = shown.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(count, lines.min(4), "bit {bit}, {lines} lines");
            for (stream, file) in streams.iter().zip(&files) {
                assert!(file.ends_with(stream), "bit {bit}, {lines} lines");
            }
        }
        // Whoever writes on does not hide it.
        write(folder, &[(Stdout, 200, "more\n")]);
        let more = [[&stdout[..], b"more\n"].concat(), stderr.clone()];
        assert_eq!(shown(folder, all), (more, true), "bit {bit}");
        fs::write(folder.join("stdout.log"), &stdout).unwrap();
    }
}

#[test]
fn an_index_without_its_end_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let [index, stdout, stderr] = sample(folder);
    for length in 0..index.len() {
        fs::write(folder.join("log.index"), &index[..length]).unwrap();
        let files = [stdout.clone(), stderr.clone()];
        let all = LogSelection::default();
        assert_eq!(shown(folder, all), (files, true), "{length}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_an_index_says_the_bytes_are_those_of_the_files(
        changes in proptest::collection::vec((0_usize..80, 0_u8..), 0..8),
        swapped in (0_usize..5, 0_usize..5),
        kept in 0_usize..=80,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let [index, stdout, stderr] = sample(folder.path());
        let mut entries: Vec<_> = index.chunks(16).collect();
        entries.swap(swapped.0, swapped.1);
        let mut changed = entries.concat();
        for (at, byte) in changes {
            changed[at] = byte;
        }
        changed.truncate(kept);
        fs::write(folder.path().join("log.index"), &changed).unwrap();
        let found = shown(folder.path(), LogSelection::default());
        proptest::prop_assert_eq!(found, ([stdout, stderr], changed != index));
    }
}

/// An index as the first version wrote it: without checksums.
fn first_version(entries: &[(i64, u32, u8)]) -> Vec<u8> {
    let entries = entries.iter().map(|(time, length, kind)| {
        let time = at(*time).as_millisecond().to_le_bytes();
        [&time[..], &length.to_le_bytes(), &[*kind, 0, 0, 0]].concat()
    });
    entries.collect::<Vec<_>>().concat()
}

#[test]
fn an_index_of_the_first_version_is_read_and_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("stdout.log"), "one\ntwo\n").unwrap();
    fs::write(folder.join("stderr.log"), "warning\n").unwrap();
    let index = first_version(&[(0, 4, 0), (20, 8, 1), (30, 0, 2), (40, 4, 0)]);
    fs::write(folder.join("log.index"), &index).unwrap();
    let mut expected = pieces(&[
        (Stdout, 0, "one\n"),
        (Stderr, 20, "warning\n"),
        (Stdout, 40, "two\n"),
    ]);
    assert_eq!(all(folder), expected);
    write(folder, &[(Stderr, 60, "more\n")]);
    expected.extend(pieces(&[(Stderr, 60, "more\n")]));
    assert_eq!(all(folder), expected);
    let (_, is_reported) = shown(folder, LogSelection::default());
    assert!(!is_reported);
    // It does not begin again.
    let mut mixed = fs::read(folder.join("log.index")).unwrap();
    mixed.extend(first_version(&[(80, 5, 0)]));
    fs::write(folder.join("log.index"), mixed).unwrap();
    assert!(shown(folder, LogSelection::default()).1);
}
