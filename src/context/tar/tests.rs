use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{TarTimes, headers, write_tar};
use crate::context::tree::{Tree, excluding};
use crate::context::{ContextError, Entry, Filter, walk};

const EPOCH: TarTimes = TarTimes(1_700_000_000);

fn stream(root: &Path) -> Result<Vec<u8>, ContextError> {
    let mut bytes = Vec::new();
    let filter = Filter::default();
    let entries = walk(root, &filter, &mut |_, _| ()).collect::<Vec<_>>();
    write_tar(root, entries, &mut bytes, EPOCH)?;
    Ok(bytes)
}

/// Every entry as `kind path link mode size content`, after checks of what all have in common.
fn read(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), EPOCH.0);
        assert_eq!(header.username().unwrap(), Some(""));
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        lines.push(format!(
            "{:?} {} {} {:o} {} {content}",
            header.entry_type(),
            entry.path_bytes().escape_ascii(),
            entry.link_name_bytes().unwrap_or_default().escape_ascii(),
            header.mode().unwrap(),
            entry.size(),
        ));
    }
    lines
}

#[test]
fn every_kind_of_entry_comes_back() {
    let tree = Tree::of(&["a/", "a/run.sh", "a/link -> ../b", "b", "c => b"]);
    tree.write("a/run.sh", "echo");
    tree.set_mode("a/run.sh", 0o755);
    tree.write("b", &"x".repeat(512));
    let bytes = stream(tree.root()).unwrap();
    assert_eq!(bytes.len() % 512, 0);
    assert_eq!(
        read(&bytes),
        [
            "Directory a/  755 0 ".to_owned(),
            "Symlink a/link ../b 777 0 ".to_owned(),
            "Regular a/run.sh  755 4 echo".to_owned(),
            format!("Regular b  644 512 {}", "x".repeat(512)),
            "Link c b 644 0 ".to_owned(),
        ]
    );
}

#[test]
fn long_names_and_names_that_are_not_ascii_come_back_whole() {
    let (exact, long) = ("e".repeat(100), "l".repeat(101));
    let tree = Tree::of(&[&exact, &long]);
    fs::write(tree.at(b"\xff\xc3\xa9"), "").unwrap();
    symlink(tree.at(&long), tree.at("s")).unwrap();
    let target = tree.at(&long);
    let lines = read(&stream(tree.root()).unwrap());
    assert_eq!(
        lines,
        [
            format!("Regular {exact}  644 0 "),
            format!("Regular {long}  644 0 "),
            format!("Symlink s {} 777 0 ", target.display()),
            format!("Regular {}  644 0 ", r"\xff\xc3\xa9"),
        ]
    );
}

#[test]
fn sizes_from_8_gib_are_in_a_pax_header() {
    let tree = Tree::of(&["big"]);
    let mut entry = tree.entries(&Filter::default()).remove(0);
    entry.size = 1 << 33;
    let bytes = headers(&entry, EPOCH);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut entries = archive.entries().unwrap();
    let big = entries.next().unwrap().unwrap();
    assert_eq!(big.size(), 1 << 33);
    assert_eq!(&bytes[512..512 + 19], b"19 size=8589934592\n");
    entry.size -= 1;
    assert_eq!(headers(&entry, EPOCH).len(), 512);
}

#[test]
fn the_bytes_do_not_depend_on_times_or_the_order_of_creation() {
    let lines = ["a/", "a/x", "b", "c"];
    let first = Tree::of(&lines);
    let second = Tree::of(&["c", "b", "a/", "a/x"]);
    for line in ["a/x", "b", "c"] {
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let file = OpenOptions::new()
            .write(true)
            .open(second.at(line))
            .unwrap();
        file.set_modified(long_ago).unwrap();
    }
    assert_eq!(
        stream(first.root()).unwrap(),
        stream(second.root()).unwrap()
    );
    first.set_mode("b", 0o755);
    assert_ne!(
        stream(first.root()).unwrap(),
        stream(second.root()).unwrap()
    );
}

#[test]
fn a_sparse_file_is_its_bytes() {
    let tree = Tree::of(&["sparse"]);
    let file = File::create(tree.at("sparse")).unwrap();
    file.set_len(3 << 20).unwrap();
    let bytes = stream(tree.root()).unwrap();
    assert_eq!(bytes.len(), (3 << 20) + 3 * 512);
    assert!(bytes[512..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_that_shrank_grew_or_went_is_an_error_that_names_it() {
    let entries = |tree: &Tree| -> Vec<Result<Entry, ContextError>> {
        let entries = tree.entries(&excluding(&[]));
        entries.into_iter().map(Ok).collect()
    };
    for change in [Some("ab"), Some("abcd"), None] {
        let tree = Tree::of(&["log"]);
        tree.write("log", "abc");
        let before = entries(&tree);
        match change {
            Some(content) => tree.write("log", content),
            None => fs::remove_file(tree.at("log")).unwrap(),
        }
        let error = write_tar(tree.root(), before, Vec::new(), EPOCH).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`{}` changed while it was read", tree.at("log").display())
        );
    }
}

/// Appends to a file as soon as its first bytes, which are no header, arrive.
struct Meddler(File);

impl Write for Meddler {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > 512 {
            self.0.write_all(b"more")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_grows_in_mid_read_is_an_error() {
    let tree = Tree::of(&["log"]);
    tree.write("log", &"x".repeat(1 << 20));
    let entries = tree.entries(&Filter::default());
    let log = OpenOptions::new()
        .append(true)
        .open(tree.at("log"))
        .unwrap();
    let error = write_tar(
        tree.root(),
        entries.into_iter().map(Ok),
        Meddler(log),
        EPOCH,
    );
    assert!(matches!(error, Err(ContextError::Changed { .. })));
}

#[test]
fn whoever_stops_taking_the_stream_is_told_apart_from_the_disk() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tree = Tree::of(&["a"]);
    let entries = tree.entries(&Filter::default()).into_iter().map(Ok);
    let error = write_tar(tree.root(), entries, Closed, EPOCH);
    assert!(matches!(error, Err(ContextError::Send(_))));
}
