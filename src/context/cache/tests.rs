use std::fs::{self, FileTimes, OpenOptions};
use std::path::PathBuf;

use super::{MOST_ABSENCES, StatCache};
use crate::context::tree::{Tree, excluding};
use crate::context::{Entry, Filter, digest};

/// A context and a folder for its cache.
struct Setup {
    tree: Tree,
    state: Tree,
}

impl Setup {
    fn new() -> Self {
        let tree = Tree::of(&["a", "b"]);
        tree.write("a", "one");
        tree.write("b", "two");
        Self {
            tree,
            state: Tree::of(&[]),
        }
    }

    fn path(&self) -> PathBuf {
        self.state.at("sub/stat")
    }

    /// A cache as if it were loaded a while from now, when what was just written has settled.
    fn load(&self) -> StatCache {
        let mut cache = StatCache::load(&self.path());
        let (seconds, nanos) = cache.loaded.unwrap();
        cache.loaded = Some((seconds + 10, nanos));
        cache
    }

    fn run(&self, cache: &mut StatCache) -> [u8; 32] {
        let filter = Filter::default();
        digest(self.tree.root(), &filter, cache).unwrap().sha256
    }

    fn entry(&self, path: &str) -> Entry {
        let entries = self.tree.entries(&Filter::default());
        let mut found = entries.into_iter();
        found.find(|entry| entry.path == path.as_bytes()).unwrap()
    }

    fn knows(&self, cache: &mut StatCache, path: &str) -> bool {
        cache.lookup(&self.entry(path)).is_some()
    }

    /// Replaces content of the same length and puts the modification time back.
    fn edit_slyly(&self, path: &str, content: &str) {
        let file = self.tree.at(path);
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, content).unwrap();
        let file = OpenOptions::new().write(true).open(file).unwrap();
        file.set_times(FileTimes::new().set_modified(modified))
            .unwrap();
    }
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let setup = Setup::new();
    let mut cache = setup.load();
    assert!(!setup.knows(&mut cache, "a"));
    let first = setup.run(&mut cache);
    cache.save().unwrap();

    let mut cache = setup.load();
    assert!(setup.knows(&mut cache, "a"));
    assert_eq!(setup.run(&mut cache), first);
    assert!(!cache.has_changed);

    setup.tree.write("a", "longer");
    assert!(!setup.knows(&mut cache, "a"));
    assert_ne!(setup.run(&mut cache), first);
}

#[test]
fn a_file_that_changed_just_before_it_was_read_is_not_trusted() {
    let setup = Setup::new();
    let mut cache = StatCache::load(&setup.path());
    setup.run(&mut cache);
    assert!(!setup.knows(&mut cache, "a"));
    cache.save().unwrap();
    let mut cache = setup.load();
    assert!(!setup.knows(&mut cache, "a"));
    setup.run(&mut cache);
    assert!(setup.knows(&mut cache, "a"));
}

#[test]
fn an_edit_that_keeps_size_and_time_is_noticed() {
    let setup = Setup::new();
    let mut cache = setup.load();
    let first = setup.run(&mut cache);
    cache.save().unwrap();
    setup.edit_slyly("a", "eno");
    assert_ne!(setup.run(&mut setup.load()), first);
}

#[test]
fn a_file_with_the_time_of_another_is_read() {
    let setup = Setup::new();
    let mut cache = setup.load();
    setup.run(&mut cache);
    fs::rename(setup.tree.at("b"), setup.tree.at("a")).unwrap();
    assert!(!setup.knows(&mut cache, "a"));
}

#[test]
fn a_damaged_or_foreign_cache_is_as_good_as_none() {
    let setup = Setup::new();
    let mut cache = setup.load();
    setup.run(&mut cache);
    cache.save().unwrap();
    let good = fs::read(setup.path()).unwrap();
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1;
        fs::write(setup.path(), &bad).unwrap();
        assert!(StatCache::load(&setup.path()).records.is_empty(), "{index}");
        fs::write(setup.path(), &good[..index]).unwrap();
        assert!(StatCache::load(&setup.path()).records.is_empty(), "{index}");
    }
    fs::write(setup.path(), &good).unwrap();
    assert_eq!(StatCache::load(&setup.path()).records.len(), 2);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(setup.state.at("sub")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(setup.state.root()).unwrap().count(), 1);
}

#[test]
fn a_file_that_another_filter_leaves_out_is_remembered_for_a_while() {
    let setup = Setup::new();
    let mut cache = setup.load();
    setup.run(&mut cache);
    cache.save().unwrap();
    for round in 0..=MOST_ABSENCES {
        let mut cache = setup.load();
        assert!(cache.records.contains_key(&b"a"[..]), "{round}");
        setup.tree.write("b", &"x".repeat(usize::from(round)));
        digest(setup.tree.root(), &excluding(&["a"]), &mut cache).unwrap();
        cache.save().unwrap();
    }
    let mut cache = setup.load();
    assert!(!cache.records.contains_key(&b"a"[..]));
    assert!(setup.knows(&mut cache, "b"));
}

#[test]
fn a_cache_that_cant_be_written_is_told_by_its_path() {
    let setup = Setup::new();
    fs::write(setup.state.at("sub"), "").unwrap();
    let mut cache = StatCache::load(&setup.path());
    setup.run(&mut cache);
    let error = cache.save().unwrap_err();
    let path = setup.path().display().to_string();
    assert!(
        error
            .to_string()
            .starts_with(&format!("can't write `{path}`: ")),
        "{error}"
    );
    assert!(StatCache::default().save().is_ok());
}

#[test]
fn a_file_is_known_under_all_its_names() {
    let setup = Setup::new();
    fs::hard_link(setup.tree.at("a"), setup.tree.at("c")).unwrap();
    let mut cache = StatCache::default();
    setup.run(&mut cache);
    let first = cache.known(&setup.entry("a"));
    assert!(first.is_some());
    assert_eq!(cache.known(&setup.entry("c")), first);
    // A name that has become another file's is not that of the old one.
    fs::remove_file(setup.tree.at("c")).unwrap();
    setup.tree.write("c", "new");
    assert_eq!(cache.known(&setup.entry("c")), None);
}

#[test]
fn nothing_but_a_file_of_its_own_is_a_cache() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let setup = Setup::new();
    let mut cache = setup.load();
    setup.run(&mut cache);
    cache.save().unwrap();
    let mode = fs::metadata(setup.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A link to a cache.
    let elsewhere = setup.state.at("elsewhere");
    fs::rename(setup.path(), &elsewhere).unwrap();
    let bytes = fs::read(&elsewhere).unwrap();
    symlink(&elsewhere, setup.path()).unwrap();
    let mut cache = setup.load();
    assert!(cache.records.is_empty());
    setup.run(&mut cache);
    cache.save().unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), bytes);
    assert!(setup.path().symlink_metadata().unwrap().is_file());

    // A named pipe that nobody writes to.
    fs::remove_file(setup.path()).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, setup.path(), fifo, 0o600.into(), 0).unwrap();
    assert!(setup.load().records.is_empty());

    // One whose size is that of no cache.
    fs::remove_file(setup.path()).unwrap();
    let large = fs::File::create(setup.path()).unwrap();
    large.set_len(super::LARGEST + 1).unwrap();
    assert!(setup.load().records.is_empty());

    // A directory that is a link.
    let outside = setup.state.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(setup.state.at("sub")).unwrap();
    symlink(&outside, setup.state.at("sub")).unwrap();
    let mut cache = StatCache::load(&setup.path());
    setup.run(&mut cache);
    assert!(cache.save().is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
