//! How fast records are listed, logs are kept, and secrets are starred out:
//! `cargo bench --bench records`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it is a report")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use jobctl::event::Stream;
use jobctl::model::{RunId, Secret};
use jobctl::records::log::{LogReader, LogSelection, LogWriter};
use jobctl::records::mask::Masker;
use jobctl::records::{Attempt, Record, State, Store};

const RUNS: i32 = 10_000;
const GIGABYTE: usize = 1_000_000_000;
const REPEATS: usize = 9;

fn main() {
    lists();
    logs();
    masks();
}

fn lists() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join(".jobctl"));
    for number in 0..RUNS {
        write(&store, &record(number));
    }
    let (first, count) = timed(|| store.summaries().unwrap().runs.len());
    println!("summaries of {count} runs, no index      {first:>10.1?}");
    let all = median(|| store.summaries().unwrap().runs.len());
    println!("summaries of {count} runs, indexed       {all:>10.1?}");
    let one = median(|| store.resolve("job-3~5", &[]).unwrap());
    println!("resolve a job's run                     {one:>10.1?}");
    let begun = median(|| store.begin(&record(0)).unwrap().folder);
    println!("begin a run                             {begun:>10.1?}");
}

fn logs() {
    let folder = tempfile::tempdir().unwrap();
    let line = b"step 1000/10000 loss=0.123456 accuracy=0.87 12.5 it/s                  \n";
    let block = line.repeat(32_768 / line.len());
    let now = Timestamp::UNIX_EPOCH;
    let (elapsed, written) = timed(|| {
        let mut writer = LogWriter::open(folder.path(), [0; 2]).unwrap();
        let mut written = 0;
        while written < GIGABYTE {
            writer.append(Stream::Stdout, &block, now);
            written += block.len();
        }
        written
    });
    println!(
        "write a log                             {}",
        rate(written, elapsed)
    );
    let read = || {
        let mut reader = LogReader::open(folder.path(), LogSelection::default()).unwrap();
        let mut count = 0;
        while let Some(piece) = reader.read_more().unwrap() {
            count += piece.bytes.len();
        }
        count
    };
    let (elapsed, count) = timed(read);
    println!(
        "read a log                              {}",
        rate(count, elapsed)
    );
    let (elapsed, stored) = timed(|| {
        let mut writer = LogWriter::open(folder.path(), [0; 2]).unwrap();
        writer.stored(Stream::Stdout).unwrap().bytes
    });
    println!(
        "digest of what is stored                {}",
        rate(usize::try_from(stored).unwrap(), elapsed)
    );
    let tail = LogSelection {
        tail: Some(100),
        ..LogSelection::default()
    };
    let elapsed = median(|| LogReader::open(folder.path(), tail).unwrap());
    println!("the last 100 lines                      {elapsed:>10.1?}");
}

fn masks() {
    let line = b"step 1000/10000 loss=0.123456 accuracy=0.87 12.5 it/s                  \n";
    let block = line.repeat(32_768 / line.len());
    for count in [0, 1, 10] {
        let secrets = (0..count).map(|n| Secret::new(format!("hf_{n}AbCdEfGhIjKlMnOpQrStUv")));
        let mut masker = Masker::new(&secrets.collect::<Vec<_>>());
        let (elapsed, shown) = timed(|| {
            let mut shown = 0;
            while shown < GIGABYTE {
                shown += masker.feed(&block).len();
            }
            shown
        });
        println!(
            "mask {count:>2} secrets                         {}",
            rate(shown, elapsed)
        );
    }
}

fn record(number: i32) -> Record {
    let created = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(number.into());
    Record {
        state: State::Finished,
        exit_code: Some(0),
        job: Some(format!("job-{}", number % 7)),
        started: Some(created),
        finished: Some(created),
        attempts: vec![Attempt {
            container: format!("jobctl-train-{number:08x}"),
            container_id: Some("0123456789abcdef".repeat(4)),
            ..Attempt::default()
        }],
        metrics: BTreeMap::from([
            ("accuracy".to_owned(), f64::from(number) / 10_000.0),
            ("loss".to_owned(), 1.0 / f64::from(number + 1)),
        ]),
        ..Record::new(RunId::new(created), created)
    }
}

/// As runs are that ended, but without waiting for the disk ten thousand times.
fn write(store: &Store, record: &Record) {
    if !store.path().exists() {
        store.begin(record).unwrap();
    }
    let folder = store.run(record.id).path().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    let json = serde_json::to_vec_pretty(record).unwrap();
    std::fs::write(folder.join("run.json"), json).unwrap();
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

fn median<T>(work: impl Fn() -> T) -> Duration {
    let mut times: Vec<_> = (0..REPEATS).map(|_| timed(&work).0).collect();
    times.sort_unstable();
    times[REPEATS / 2]
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn rate(bytes: usize, elapsed: Duration) -> String {
    format!("{:>6.0} MB/s", bytes as f64 / 1e6 / elapsed.as_secs_f64())
}
