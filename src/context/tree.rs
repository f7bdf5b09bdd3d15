//! A folder for tests.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{ContextError, Entry, Filter, Kind, Patterns, Skip, walk};

pub(super) struct Tree(TempDir);

impl Tree {
    /// Lines such as `a/`, `a/b`, `a/c -> b`, `a/d => a/b` (a hard link).
    pub(super) fn of(lines: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for line in lines {
            if let Some((path, target)) = line.split_once(" -> ") {
                symlink(target, tree.at(path)).unwrap();
            } else if let Some((path, target)) = line.split_once(" => ") {
                fs::hard_link(tree.at(target), tree.at(path)).unwrap();
            } else if let Some(path) = line.strip_suffix('/') {
                fs::create_dir_all(tree.at(path)).unwrap();
                tree.set_mode(path, 0o755);
            } else {
                tree.write(line, "");
            }
        }
        tree
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.root().join(OsStr::from_bytes(path.as_ref()))
    }

    pub(super) fn write(&self, path: impl AsRef<[u8]> + Copy, content: &str) {
        fs::write(self.at(path), content).unwrap();
        self.set_mode(path, 0o644);
    }

    pub(super) fn set_mode(&self, path: impl AsRef<[u8]>, mode: u32) {
        fs::set_permissions(self.at(path), Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn entries(&self, filter: &Filter) -> Vec<Entry> {
        walk(self.root(), filter, &mut |_, _| ())
            .collect::<Result<_, _>>()
            .unwrap()
    }

    /// The walk in the lines of [`Self::of`].
    pub(super) fn walk(&self, filter: &Filter) -> Result<Vec<String>, ContextError> {
        self.walk_with(filter, &mut |path, skip| panic!("{skip}: {path:?}"))
    }

    pub(super) fn walk_with(
        &self,
        filter: &Filter,
        on_skipped: &mut dyn FnMut(&[u8], Skip),
    ) -> Result<Vec<String>, ContextError> {
        walk(self.root(), filter, on_skipped)
            .map(|entry| entry.map(|entry| line(&entry)))
            .collect()
    }
}

fn line(entry: &Entry) -> String {
    let path = String::from_utf8_lossy(&entry.path);
    let link = String::from_utf8_lossy(entry.link.as_deref().unwrap_or_default());
    match entry.kind {
        Kind::Folder => format!("{path}/"),
        Kind::File => path.into_owned(),
        Kind::Symlink => format!("{path} -> {link}"),
        Kind::HardLink => format!("{path} => {link}"),
    }
}

pub(super) fn including(patterns: &[&str]) -> Filter {
    Filter {
        includes: patterns
            .iter()
            .map(|line| line.as_bytes().to_vec())
            .collect(),
        ..Filter::default()
    }
}

pub(super) fn excluding(patterns: &[&str]) -> Filter {
    Filter {
        excludes: Patterns::from_lines(patterns).unwrap(),
        ..Filter::default()
    }
}

pub(super) fn following(paths: &[&str]) -> Filter {
    Filter {
        follow: paths.iter().map(|line| line.as_bytes().to_vec()).collect(),
        ..Filter::default()
    }
}
