use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{ContextDigest, digest};
use crate::context::tree::{Tree, excluding};
use crate::context::{ContextError, Filter, Kind, Skip, StatCache};

fn sha256(tree: &Tree) -> [u8; 32] {
    of(tree, &mut StatCache::default()).sha256
}

fn of(tree: &Tree, cache: &mut StatCache) -> ContextDigest {
    digest(tree.root(), &Filter::default(), cache).unwrap()
}

fn set_modified(tree: &Tree, path: &str, time: SystemTime) {
    let file = OpenOptions::new().write(true).open(tree.at(path)).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

#[test]
fn a_digest_counts_files_bytes_and_what_was_left_out() {
    let tree = Tree::of(&["a/", "a/x", "b", "c => b", "d -> b"]);
    tree.write("a/x", "12");
    tree.write("b", "345");
    let pipe = rustix::fs::Mode::from_bits_truncate(0o600);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, tree.at("p"), fifo, pipe, 0).unwrap();
    let found = of(&tree, &mut StatCache::default());
    assert_eq!(
        (found.files, found.bytes, found.skipped),
        (3, 5, vec![(b"p".to_vec(), Skip::Fifo)])
    );
}

/// Every way to change a context, each against the same tree.
#[test]
fn any_change_of_what_is_copied_changes_the_digest() {
    type Change = (&'static str, fn(&Tree));
    let changes: [Change; 14] = [
        ("content", |tree| fs::write(tree.at("a/x"), "two").unwrap()),
        ("mode", |tree| tree.set_mode("a/x", 0o755)),
        ("a directory's mode", |tree| tree.set_mode("a", 0o700)),
        ("name", |tree| {
            fs::rename(tree.at("a/x"), tree.at("a/y")).unwrap();
        }),
        ("place", |tree| {
            fs::rename(tree.at("a/x"), tree.at("x")).unwrap();
        }),
        ("new file", |tree| tree.write("new", "")),
        ("new directory", |tree| {
            fs::create_dir(tree.at("new")).unwrap();
        }),
        ("removed", |tree| fs::remove_file(tree.at("b")).unwrap()),
        ("target", |tree| {
            fs::remove_file(tree.at("link")).unwrap();
            symlink("a", tree.at("link")).unwrap();
        }),
        ("link to file", |tree| {
            fs::remove_file(tree.at("link")).unwrap();
            tree.write("link", "b");
        }),
        ("file to link", |tree| {
            fs::remove_file(tree.at("b")).unwrap();
            symlink("a/x", tree.at("b")).unwrap();
        }),
        ("file to directory", |tree| {
            fs::remove_file(tree.at("b")).unwrap();
            fs::create_dir(tree.at("b")).unwrap();
        }),
        ("hard link to copy", |tree| {
            fs::remove_file(tree.at("hard")).unwrap();
            fs::copy(tree.at("b"), tree.at("hard")).unwrap();
        }),
        ("swap", |tree| {
            tree.write("a/x", "b");
            tree.write("b", "one");
        }),
    ];
    let tree = || {
        let tree = Tree::of(&["a/", "a/x", "b", "hard => b", "link -> b"]);
        tree.write("a/x", "one");
        tree.write("b", "b");
        tree
    };
    let mut seen = vec![("nothing", sha256(&tree()))];
    for (name, change) in changes {
        let tree = tree();
        change(&tree);
        let found = sha256(&tree);
        for (other, digest) in &seen {
            assert_ne!(found, *digest, "{name} and {other}");
        }
        seen.push((name, found));
    }
}

#[test]
fn an_extended_attribute_counts() {
    let tree = Tree::of(&["a"]);
    let before = sha256(&tree);
    let flags = rustix::fs::XattrFlags::empty();
    match rustix::fs::setxattr(tree.at("a"), "user.note", b"1", flags) {
        // Not every file system has them.
        Err(rustix::io::Errno::NOTSUP) => {}
        set => {
            set.unwrap();
            assert_ne!(sha256(&tree), before);
        }
    }
}

#[test]
fn times_and_the_order_of_creation_do_not_count() {
    let first = Tree::of(&["a/", "a/x", "b", "c -> a"]);
    let second = Tree::of(&["c -> a", "b", "a/", "a/x"]);
    set_modified(&second, "b", long_ago());
    assert_eq!(sha256(&first), sha256(&second));
}

#[test]
fn a_filter_counts_through_what_it_leaves_alone() {
    let tree = Tree::of(&["a", "b/", "b/c"]);
    let with = |lines: &[&str]| {
        let filter = excluding(lines);
        digest(tree.root(), &filter, &mut StatCache::default()).unwrap()
    };
    let all = with(&[]);
    assert_ne!(with(&["b"]).sha256, all.sha256);
    assert_eq!(with(&["none"]), all);
    fs::remove_dir_all(tree.at("b")).unwrap();
    assert_eq!(with(&["b"]), with(&[]));
}

#[test]
fn an_unreadable_file_is_told_by_name() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let tree = Tree::of(&["a"]);
    tree.set_mode("a", 0);
    let error = digest(tree.root(), &Filter::default(), &mut StatCache::default()).unwrap_err();
    assert!(matches!(error, ContextError::Unreadable { .. }));
    let path = tree.at("a").display().to_string();
    assert_eq!(
        error.help(),
        format!(
            "make it readable (`chmod u+r {path}`, for a directory `u+rx`), or leave it out of the \
             build with a line in .dockerignore"
        )
    );
}

#[test]
fn many_files_are_read_in_any_order_and_digested_in_theirs() {
    let tree = Tree::of(&["d/"]);
    for number in 0..300 {
        tree.write(&format!("d/{number}"), &"x".repeat(number * 7));
    }
    let mut cache = StatCache::default();
    let found = of(&tree, &mut cache);
    let entries = tree.entries(&Filter::default());
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        let content = cache.known(entry).unwrap();
        let bytes = fs::read(tree.at(&entry.path)).unwrap();
        assert_eq!(content, <[u8; 32]>::from(Sha256::digest(bytes)));
    }
    assert_eq!(found, of(&tree, &mut cache));
    assert_eq!(found.files, 300);
}

fn content() -> impl Strategy<Value = Vec<(String, String, bool)>> {
    let file = ("[ab]{1,2}(/[ab]{1,2}){0,2}", "[xy]{0,3}", any::<bool>());
    prop::collection::vec(file, 0..6)
}

/// Makes files as far as their names allow, in the given order.
fn build(files: &[(String, String, bool)]) -> Tree {
    let tree = Tree::of(&[]);
    for (path, content, is_executable) in files {
        let at = tree.at(path);
        if fs::create_dir_all(at.parent().unwrap()).is_ok() && fs::write(at, content).is_ok() {
            tree.set_mode(path, if *is_executable { 0o755 } else { 0o644 });
        }
    }
    tree
}

/// A tree as text: an oracle for equality that knows nothing of digests.
fn listing(tree: &Tree) -> Vec<String> {
    let entries = tree.entries(&Filter::default());
    let line = |entry: &crate::context::Entry| {
        let content = fs::read(tree.at(&entry.path)).unwrap_or_default();
        format!(
            "{:?} {:?} {:o} {content:?}",
            entry.path, entry.kind, entry.mode
        )
    };
    entries.iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn digests_are_equal_exactly_for_equal_trees(first in content(), second in content()) {
        let trees = (build(&first), build(&second));
        prop_assert_eq!(
            sha256(&trees.0) == sha256(&trees.1),
            listing(&trees.0) == listing(&trees.1)
        );
        let again = build(&first);
        for entry in again.entries(&Filter::default()) {
            if let Ok(file) = File::open(again.at(&entry.path)) {
                file.set_times(FileTimes::new().set_modified(long_ago())).unwrap();
            }
        }
        prop_assert_eq!(sha256(&trees.0), sha256(&again));
    }
}
