//! How fast inputs are hashed the first time and the second, beside SHA-256 and the disk alone:
//! `INPUT_BYTES=10000000000 cargo bench --bench inputs` (1 GB, if it is not set).
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it is a report")]
#![expect(clippy::disallowed_methods, reason = "it reads its own environment")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use jobctl::context::{Filter, StatCache, digest, file_content};
use sha2::{Digest as _, Sha256};

/// Files of a directory, in directories of so many.
const FILES: usize = 50_000;
const A_DIRECTORY: usize = 500;
/// What changed so shortly before it was read is read once more.
const SETTLED: Duration = Duration::from_millis(2_500);

fn main() {
    let bytes = std::env::var("INPUT_BYTES").map_or(1_000_000_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir_in("target").unwrap();
    let file = folder.path().join("input");
    write(&file, bytes);
    let many = folder.path().join("many");
    for number in 0..FILES {
        let path = many.join(format!("{}/{number}", number / A_DIRECTORY));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, number.to_string()).unwrap();
    }
    std::thread::sleep(SETTLED);

    let mut buffer = vec![0; 256 << 10];
    report(
        "read the file",
        bytes,
        timed(|| read(&file, &mut buffer, |_| {})),
    );
    let mut hasher = Sha256::new();
    report(
        "SHA-256 of as many bytes",
        bytes,
        timed(|| {
            for _ in 0..bytes.div_ceil(buffer.len() as u64) {
                hasher.update(&buffer);
            }
        }),
    );
    let cache = folder.path().join("file.stat");
    for pass in ["first", "second"] {
        report(
            &format!("a file as an input, {pass}"),
            bytes,
            timed(|| {
                let mut cache = StatCache::load(&cache);
                file_content(&file, &mut cache).unwrap();
                cache.save().unwrap();
            }),
        );
    }
    let cache = folder.path().join("many.stat");
    for pass in ["first", "second"] {
        report(
            &format!("{FILES} files as an input, {pass}"),
            0,
            timed(|| {
                let mut cache = StatCache::load(&cache);
                digest(&many, &Filter::default(), &mut cache).unwrap();
                cache.save().unwrap();
            }),
        );
    }
}

fn write(path: &Path, bytes: u64) {
    let mut block = vec![0; 1 << 20];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut block)
        .unwrap();
    let mut file = File::create(path).unwrap();
    let mut left = bytes;
    while left > 0 {
        let length = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(length).unwrap()])
            .unwrap();
        left -= length;
    }
    file.sync_all().unwrap();
}

fn read(path: &Path, buffer: &mut [u8], mut each: impl FnMut(&[u8])) {
    let mut file = File::open(path).unwrap();
    loop {
        match file.read(buffer) {
            Ok(0) => return,
            Ok(length) => each(&buffer[..length]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(what: &str, bytes: u64, elapsed: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let rate = bytes as f64 / elapsed.as_secs_f64() / 1e6;
    let rate = if bytes > 0 {
        format!("{rate:>8.0} MB/s")
    } else {
        String::new()
    };
    println!("{what:<40}{:>10.1} ms {rate}", elapsed.as_secs_f64() * 1e3);
}
