//! Full disks, and writers that are killed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jobctl::event::Stream;
use jobctl::records::log::{LogReader, LogSelection, LogWriter};
use jobctl::records::{State, Store};

use super::{at, record};
use crate::support::{Bench, is_root, skipped, wait_for};

#[test]
fn a_run_is_refused_where_its_record_has_no_room() {
    if !is_root("a_run_is_refused_where_its_record_has_no_room") {
        return;
    }
    let bench = Bench::new();
    let folder = bench.path().join("small");
    fs::create_dir(&folder).unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "jobctl-test"])
            .arg(&folder);
        mount.output().is_ok_and(|output| output.status.success())
    };
    let begin = |options: &str| {
        if !mount(options) {
            skipped(
                "a_run_is_refused_where_its_record_has_no_room",
                "can't mount",
            );
            return None;
        }
        let begun = Store::new(folder.join(".jobctl")).begin(&record("train", 0));
        let is_empty = fs::read_dir(&folder).unwrap().next().is_none();
        let said = begun.map(drop).map_err(|error| error.to_string());
        Command::new("umount").arg(&folder).status().unwrap();
        assert!(is_empty, "{said:?}");
        said.err()
    };
    let place = folder.join(".jobctl");
    let place = place.display();
    let Some(full) = begin("size=16m") else {
        return;
    };
    assert_eq!(
        full,
        format!(
            "there is too little room for a run's record in `{place}`: 16 MB are free, 64 MB are needed"
        )
    );
    assert_eq!(
        begin("size=100m,nr_inodes=20").unwrap(),
        format!("there are no inodes left for a run's record in `{place}`")
    );
    assert_eq!(
        begin("size=100m,ro").unwrap(),
        format!("a run's record can't be kept in `{place}`: the file system is read-only")
    );
}

/// Begins runs and keeps logs until it is killed.
fn write_for_ever(folder: &Path) {
    for second in 0.. {
        let mut record = record("train", second);
        let store = Store::new(folder.to_owned());
        let run = store.begin(&record).unwrap();
        let mut log = LogWriter::open(run.folder.path(), [0; 2]).unwrap();
        for number in 0..200 {
            let line = format!("{number}\n");
            for stream in [Stream::Stdout, Stream::Stderr] {
                log.append(stream, line.as_bytes(), at(second + number));
            }
            log.flush();
            if number % 50 == 0 {
                record.warnings.push(line);
                run.folder.write(&record).unwrap();
            }
        }
        if second > 0 && second % 3 == 0 {
            store.remove(record.id).unwrap();
            continue;
        }
        record.state = State::Finished;
        run.folder.write(&record).unwrap();
        store.summaries().unwrap();
    }
}

/// After a crash every record is whole and nobody's, and every log goes on where it ended.
fn assert_whole(folder: &Path) {
    let store = Store::new(folder.to_owned());
    let listing = store.summaries().unwrap();
    assert!(listing.unread.is_empty(), "{:?}", listing.unread);
    let expected: Vec<_> = (0..200).map(|number| format!("{number}\n")).collect();
    let expected = expected.concat();
    for run in &listing.runs {
        let folder = store.run(run.id);
        assert!(!folder.is_locked().unwrap());
        drop(LogWriter::open(folder.path(), [0; 2]).unwrap());
        let mut reader = LogReader::open(folder.path(), LogSelection::default()).unwrap();
        let mut streams = [String::new(), String::new()];
        while let Some(piece) = reader.read_more().unwrap() {
            streams[usize::from(piece.stream == Stream::Stderr)]
                .push_str(std::str::from_utf8(piece.bytes).unwrap());
        }
        for (text, name) in streams.iter().zip(["stdout.log", "stderr.log"]) {
            assert!(expected.starts_with(text), "{text}");
            let stored = fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(*text, stored);
            assert!(run.state != State::Finished || *text == expected);
        }
    }
}

#[test]
fn a_writer_that_is_killed_leaves_whole_records() {
    const VICTIM: &str = "JOBCTL_TEST_VICTIM";
    if let Some(folder) = std::env::var_os(VICTIM) {
        write_for_ever(Path::new(&folder));
    }
    let bench = Bench::new();
    let folder = bench.path().join("state");
    let times = match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 1_000,
        None => 20,
    };
    for time in 0..times {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "records::faults::a_writer_that_is_killed_leaves_whole_records",
            ])
            .env(VICTIM, &folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| folder.join("runs").is_dir());
        // At another moment each time.
        std::thread::sleep(Duration::from_micros(time * 7_919 % 50_000));
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert_whole(&folder);
        fs::remove_dir_all(&folder).unwrap();
    }
}
