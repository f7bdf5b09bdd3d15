//! A repository, asked through a git directory of our own.
//!
//! git is never shown the user's git directory, only one of ours that borrows its objects, references
//! and index. So nothing that is configured there or for the user has a say (filters, hooks, monitors,
//! external programs of somebody else's repository), whoever owns it, and nothing is written to it. Of
//! the environment git gets PATH and no more.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(super) use self::command::{answer, git_with, records};
use self::command::{failed, git, no_git, output};
pub(super) use self::directory::LedElsewhere;
use self::directory::{
    Settings, check_common, check_files, check_link, check_rules_below, check_rules_for,
    git_directory, settings,
};
pub(super) use self::files::MODIFIED;
use super::read_small;

mod command;
mod directory;
mod files;
mod large_files;
mod patch;

pub use self::files::{Blob, Tracked};
pub use self::patch::Edit;

/// What is borrowed of a git directory besides its objects; nothing of it is written to.
const BORROWED: [&str; 5] = ["refs", "packed-refs", "reftable", "shallow", "info"];
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
    settings: Settings,
    /// Our git directory.
    own: tempfile::TempDir,
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
        let settings = settings(&common.join("config"));
        let repository = Self {
            top,
            folder,
            objects: common.join("objects"),
            index: directory.join("index"),
            settings,
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
        fs::write(path.join("config"), &self.settings.text)?;
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
        !self.settings.text.contains("filemode = false")
    }

    /// Where the repository comes from.
    pub(super) fn origin(&self) -> Option<&str> {
        self.settings.origin.as_deref()
    }

    /// Whether older commits are not here (`git clone --depth`).
    pub(super) fn is_shallow(&self) -> bool {
        let file = fs::metadata(self.own.path().join("shallow"));
        file.is_ok_and(|file| file.len() > 0)
    }

    /// A remote whose tags are not fetched.
    pub(super) fn without_tags(&self) -> Option<&str> {
        self.settings.without_tags.as_deref()
    }

    /// Whether objects may not be here, as git fetches them when it needs them.
    pub(super) fn is_partial(&self) -> bool {
        self.settings.is_partial
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
