//! What git has of the files of a work tree, and which of them are not as it has them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Repository, failed, output, records};

/// What lists files that are not as the index has them, and are not there.
pub(in crate::facts) const MODIFIED: [&str; 5] = ["ls-files", "-z", "-m", "-d", "--full-name"];

/// What git has of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its mode, as git writes it.
    pub mode: String,
    /// The object with its content; for a submodule, the commit.
    pub object: String,
}

impl Blob {
    fn of(mode: &str, object: &str) -> Option<Self> {
        (mode != "000000").then(|| Self {
            mode: mode.to_owned(),
            object: object.to_owned(),
        })
    }

    /// Whether it is another repository's commit.
    #[must_use]
    pub fn is_submodule(&self) -> bool {
        self.mode == "160000"
    }
}

/// A file that git tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// Its path from the top of the work tree.
    pub path: Vec<u8>,
    /// What the index has of it.
    pub blob: Blob,
    /// Whether git is configured not to look whether it changed.
    pub is_unwatched: bool,
}

impl Repository {
    /// What git answers at the top of the work tree, given what it reads.
    pub(super) fn tell(&self, args: &[&str], input: &[u8]) -> io::Result<Vec<u8>> {
        let mut given = tempfile::tempfile_in(self.own.path())?;
        given.write_all(input)?;
        given.rewind()?;
        let mut command = self.command(self.own.path());
        command.args(args).current_dir(&self.top).stdin(given);
        let output = command.output()?;
        match output.status.code() {
            // `check-ignore` ends with 1 where nothing is ignored.
            Some(0 | 1) => Ok(output.stdout),
            _ => Err(failed(args[0])),
        }
    }

    /// A listing of the folder's files, and of some others by their absolute paths.
    fn list(&self, args: &[&str], others: &[PathBuf]) -> io::Result<Vec<u8>> {
        let mut command = self.command(self.own.path());
        command.env("GIT_LITERAL_PATHSPECS", "1");
        output(command.args(args).args(["--", "."]).args(others))
    }

    /// The files that are tracked in the folder and among `others`.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn tracked(&self, others: &[PathBuf]) -> io::Result<Vec<Tracked>> {
        let listed = self.list(&["ls-files", "-z", "-s", "-v", "--full-name"], others)?;
        // `TAG MODE OBJECT STAGE<tab>PATH`
        let tracked = records(&listed).filter_map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t')?;
            let head = std::str::from_utf8(&line[..tab]).ok()?;
            let mut words = head.split(' ');
            let tag = words.next()?;
            Some(Tracked {
                path: line[tab + 1..].to_vec(),
                blob: Blob::of(words.next()?, words.next()?)?,
                is_unwatched: tag.starts_with(|c: char| c.is_lowercase()) || tag == "S",
            })
        });
        Ok(tracked.collect())
    }

    /// The submodules among tracked files whose work trees are there, by their place.
    #[must_use]
    pub fn submodules(&self, tracked: &[Tracked]) -> Vec<(Tracked, Self)> {
        let submodules = tracked.iter().filter(|file| file.blob.is_submodule());
        let opened = submodules.filter_map(|file| {
            let top = self.top.join(OsStr::from_bytes(&file.path));
            let submodule = match Self::open(&top) {
                Ok(submodule) => submodule?,
                Err(error) => {
                    tracing::info!("{}: {error}", top.display());
                    return None;
                }
            };
            (submodule.top == top).then(|| (file.clone(), submodule))
        });
        opened.collect()
    }

    /// The files whose index is not as a commit has them, in the folder and among `others`, and what the
    /// commit has.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn staged(
        &self,
        commit: &str,
        others: &[PathBuf],
    ) -> io::Result<Vec<(Vec<u8>, Option<Blob>)>> {
        let args = [
            "diff-index",
            "--cached",
            "-z",
            "--no-renames",
            "--no-abbrev",
            commit,
        ];
        let listed = self.list(&args, others)?;
        let mut records = records(&listed);
        let mut staged = Vec::new();
        // `:MODE MODE OBJECT OBJECT STATUS`, PATH
        while let (Some(head), Some(path)) = (records.next(), records.next()) {
            let head = String::from_utf8_lossy(head);
            let words: Vec<_> = head.trim_start_matches(':').split(' ').collect();
            let committed = match words[..] {
                [mode, _, object, ..] => Blob::of(mode, object),
                _ => None,
            };
            staged.push((path.to_vec(), committed));
        }
        Ok(staged)
    }

    /// The files that are not as the index has them, in the directory and among `others`; see
    /// `Repository::without_large_files`.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn modified(&self, others: &[PathBuf]) -> io::Result<Vec<Vec<u8>>> {
        let listed = self.list(&MODIFIED, others)?;
        let modified = records(&listed).map(<[u8]>::to_vec).collect();
        self.without_large_files(modified)
    }

    /// Those of some tracked files that are not as the index has them though it says not to look ("assume
    /// unchanged"); found out with a copy of the index.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub(in crate::facts) fn modified_unwatched(
        &self,
        paths: &[&[u8]],
        asked: &[PathBuf],
    ) -> io::Result<Vec<Vec<u8>>> {
        let index = self.own.path().join("watched-index");
        copy_with_time(&self.index, &index)?;
        let command = |args: &[&str]| {
            let mut command = self.command(self.own.path());
            command.env("GIT_INDEX_FILE", &index).args(args);
            command
        };
        let mut given = tempfile::tempfile_in(self.own.path())?;
        given.write_all(&paths.join(&0))?;
        given.rewind()?;
        let watch = ["update-index", "--no-assume-unchanged", "-z", "--stdin"];
        let mut watching = command(&watch);
        let watched = watching.current_dir(&self.top).stdin(given).output()?;
        if !watched.status.success() {
            return Err(failed(watch[0]));
        }
        let mut listing = command(&MODIFIED);
        listing.env("GIT_LITERAL_PATHSPECS", "1");
        let listed = output(listing.arg("--").args(asked))?;
        self.without_large_files(records(&listed).map(<[u8]>::to_vec).collect())
    }

    /// Those of some untracked paths that `.gitignore` leaves out.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn ignored(&self, paths: &[&[u8]]) -> io::Result<Vec<Vec<u8>>> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        // No path begins with a colon then, which would mean something else.
        let paths = paths.iter().map(|path| [b"./", *path].concat());
        let paths: Vec<_> = paths.collect();
        let answered = self.tell(&["check-ignore", "-z", "--stdin"], &paths.join(&0))?;
        let ignored = records(&answered).filter_map(|path| path.strip_prefix(b"./"));
        Ok(ignored.map(<[u8]>::to_vec).collect())
    }

    /// The sizes of objects in bytes, in their order; nothing for one that is not there.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn sizes(&self, objects: &[&str]) -> io::Result<Vec<Option<u64>>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let args = ["cat-file", "--batch-check=%(objectsize)"];
        let answered = self.tell(&args, objects.join("\n").as_bytes())?;
        let lines = String::from_utf8_lossy(&answered);
        Ok(lines.lines().map(|line| line.parse().ok()).collect())
    }
}

/// Copies an index, with its time: a file that changed no earlier than that is compared by content, as it may
/// have changed within the second in which the index was written (git's "racy git").
fn copy_with_time(index: &Path, copy: &Path) -> io::Result<()> {
    let mut index = File::open(index)?;
    let mut copy = File::create(copy)?;
    io::copy(&mut index, &mut copy)?;
    copy.set_modified(index.metadata()?.modified()?)
}
