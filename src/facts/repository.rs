//! A repository, asked through a git directory of our own.
//!
//! git is never shown the user's git directory, only one of ours that borrows its objects, references
//! and index. So nothing that is configured there or for the user has a say (filters, hooks, monitors,
//! external programs of somebody else's repository), whoever owns it, and nothing is written to it. Of
//! the environment git gets PATH and no more.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(super) use self::command::{answer, git_with, records};
use self::command::{failed, git, no_git, output};
use self::directory::{
    check_common, check_files, check_link, check_rules_below, check_rules_for, git_directory,
    settings,
};
use super::read_small;

mod command;
mod directory;
mod large_files;
mod patch;

pub use self::patch::Edit;

/// What is borrowed of a git directory besides its objects; nothing of it is written to.
const BORROWED: [&str; 5] = ["refs", "packed-refs", "reftable", "shallow", "info"];
/// What lists files that are not as the index has them, and are not there.
pub(super) const MODIFIED: [&str; 5] = ["ls-files", "-z", "-m", "-d", "--full-name"];
/// No file that has a path, or the name of a reference, is larger.
const LARGEST_PATH: u64 = 64 << 10;

/// A repository with a work tree.
#[derive(Debug)]
pub struct Repository {
    /// The top of its work tree.
    top: PathBuf,
    /// The folder that is asked about.
    folder: PathBuf,
    /// The user's objects.
    objects: PathBuf,
    /// The user's index.
    index: PathBuf,
    /// The text of our configuration.
    settings: String,
    origin: Option<String>,
    /// Our git directory.
    own: tempfile::TempDir,
}

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
    /// The repository that a directory is in, if it is in one.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn open(folder: &Path) -> io::Result<Option<Self>> {
        let folder = folder.canonicalize()?;
        let Some((top, directory)) = find(&folder)? else {
            return Ok(None);
        };
        check_rules_for(&top, &folder)?;
        check_rules_below(&folder)?;
        let is_link = fs::symlink_metadata(top.join(".git")).is_ok_and(|file| !file.is_dir());
        let common = match read_small(&directory.join("commondir"), LARGEST_PATH) {
            Ok(text) => directory.join(OsStr::from_bytes(text.trim_ascii_end())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => directory.clone(),
            Err(error) => return Err(error),
        };
        check_common(&top, &directory, &common)?;
        if is_link {
            check_link(&top, &directory)?;
        }
        let (settings, origin) = settings(&common.join("config"));
        let repository = Self {
            top,
            folder,
            objects: common.join("objects"),
            index: directory.join("index"),
            settings,
            origin,
            own: tempfile::Builder::new().prefix("jobctl-git-").tempdir()?,
        };
        repository.borrow(&directory, &common)?;
        Ok(Some(repository))
    }

    /// The top of the work tree that a directory is in, if it is in one.
    ///
    /// # Errors
    ///
    /// It can't be read, or git could not read its rules for the directory.
    pub fn top_of(folder: &Path) -> io::Result<Option<PathBuf>> {
        let folder = folder.canonicalize()?;
        let Some((top, _)) = find(&folder)? else {
            return Ok(None);
        };
        check_rules_for(&top, &folder)?;
        Ok(Some(top))
    }

    /// Makes our git directory. What git would read of the user's has to be regular files (on a named pipe it
    /// would wait forever) within the repository.
    fn borrow(&self, directory: &Path, common: &Path) -> io::Result<()> {
        let own = self.own.path();
        self.make_directory(own)?;
        fs::remove_dir(own.join("refs"))?;
        let mut seen = HashSet::new();
        let within = common.canonicalize()?;
        let mut check = |path: &Path| check_files(path, &within, &mut seen);
        for config in [common.join("config"), directory.join("config.worktree")] {
            if config.exists() {
                check(&config)?;
            }
        }
        for name in BORROWED {
            if common.join(name).exists() {
                check(&common.join(name))?;
                symlink(common.join(name), own.join(name))?;
            }
        }
        check(&self.objects)?;
        if self.index.exists() {
            check(&self.index)?;
        }
        let head = read_small(&directory.join("HEAD"), LARGEST_PATH)?;
        fs::write(own.join("HEAD"), head)?;
        // An index may be in two parts.
        for entry in fs::read_dir(directory)?.flatten() {
            if entry.file_name().as_bytes().starts_with(b"sharedindex.") {
                check(&entry.path())?;
                symlink(entry.path(), own.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Makes a git directory with nothing in it but the way to the user's objects.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path.join("objects/info"))?;
        fs::create_dir(path.join("refs"))?;
        fs::write(path.join("HEAD"), "ref: refs/heads/none\n")?;
        fs::write(path.join("config"), &self.settings)?;
        let mut alternates = quoted(self.objects.as_os_str().as_bytes());
        alternates.push(b'\n');
        fs::write(path.join("objects/info/alternates"), alternates)
    }

    /// The top of the work tree.
    #[must_use]
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Whether the modes of its files say whether they are programs.
    #[must_use]
    pub fn has_modes(&self) -> bool {
        !self.settings.contains("filemode = false")
    }

    /// Where the repository comes from.
    pub(super) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Asks git something, about these paths if there are some; for its answer see [`answer`].
    pub(super) fn ask(&self, args: &[&str], paths: &[PathBuf]) -> io::Result<Child> {
        let mut command = self.command(self.own.path());
        command.args(args).stdin(Stdio::null());
        if !paths.is_empty() {
            command.env("GIT_LITERAL_PATHSPECS", "1");
            command.arg("--").args(paths);
        }
        command.stderr(Stdio::piped());
        command.spawn().map_err(no_git)
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = git();
        command
            .current_dir(&self.folder)
            .env("GIT_DIR", directory)
            .env("GIT_WORK_TREE", &self.top)
            .env("GIT_INDEX_FILE", &self.index)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    /// What git answers at the top of the work tree, given what it reads.
    fn tell(&self, args: &[&str], input: &[u8]) -> io::Result<Vec<u8>> {
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
    pub(super) fn modified_unwatched(
        &self,
        paths: &[&[u8]],
        asked: &[PathBuf],
    ) -> io::Result<Vec<Vec<u8>>> {
        let index = self.own.path().join("watched-index");
        fs::copy(&self.index, &index)?;
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
        let told = self.tell(&["check-ignore", "-z", "--stdin"], &paths.join(&0))?;
        let ignored = records(&told).filter_map(|path| path.strip_prefix(b"./"));
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
        let told = self.tell(&args, objects.join("\n").as_bytes())?;
        let lines = String::from_utf8_lossy(&told);
        Ok(lines.lines().map(|line| line.parse().ok()).collect())
    }
}

/// The work tree that a directory is in, by its top, and its git directory.
fn find(folder: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    for top in folder.ancestors() {
        if let Some(directory) = git_directory(top)? {
            return Ok(Some((top.to_owned(), directory)));
        }
    }
    Ok(None)
}

/// A path in quotes, as C has them.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            0x20..0x7f => text.push(*byte),
            _ => text.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::{Repository, quoted};

    fn pipe(path: &Path) {
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, fifo, 0o600.into(), 0).unwrap();
    }

    #[test]
    fn a_named_pipe_among_the_files_of_git_is_not_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let init = Command::new("git")
            .args(["init", "-q"])
            .current_dir(top.path())
            .status();
        assert!(init.unwrap().success());
        let directory = top.path().join(".git");
        assert!(Repository::open(top.path()).unwrap().is_some());
        for name in [
            "commondir",
            "config",
            "index",
            "info/exclude",
            "packed-refs",
            "shallow",
            "sharedindex.1",
            "refs/heads/main",
            "objects/info/alternates",
            "objects/pack/pack-1.idx",
        ] {
            let file = directory.join(name);
            let _ = fs::remove_file(&file);
            pipe(&file);
            assert!(Repository::open(top.path()).is_err(), "{name}");
            fs::remove_file(&file).unwrap();
        }
        // A link to a directory above is gone into once.
        std::os::unix::fs::symlink("..", directory.join("refs/heads/up")).unwrap();
        assert!(Repository::open(top.path()).unwrap().is_some());
        // One to another repository's objects is none of it.
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(other.path(), directory.join("objects/other")).unwrap();
        let error = Repository::open(top.path()).unwrap_err().to_string();
        assert!(error.contains("objects/other` leads out of "), "{error}");
        fs::remove_file(directory.join("objects/other")).unwrap();
        // So are files of the work tree that git reads.
        fs::create_dir_all(top.path().join("a/b")).unwrap();
        for rules in [".gitignore", "a/.gitignore", "a/b/.gitattributes"] {
            pipe(&top.path().join(rules));
            let error = Repository::open(&top.path().join("a")).unwrap_err();
            assert!(error.to_string().contains("it is no file"), "{error}");
            fs::remove_file(top.path().join(rules)).unwrap();
        }
        // And files of a submodule.
        let refs = top.path().join("a/module/.git/refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.with_file_name("HEAD"), "ref: refs/heads/main\n").unwrap();
        assert!(Repository::open(top.path()).unwrap().is_some());
        pipe(&refs.join("main"));
        assert!(Repository::open(top.path()).is_err());
        fs::remove_dir_all(&directory).unwrap();
        pipe(&directory);
        assert!(Repository::open(top.path()).is_err());
    }

    #[test]
    fn a_path_of_any_bytes_is_quoted() {
        assert_eq!(quoted(b"a b\"\\\n\xff"), br#""a b\"\\\012\377""#);
    }
}
