//! What git knows of a directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::address::without_credentials;
use super::repository::{MODIFIED, Repository, answer, git_with, records};
use crate::model::Version;

/// What git knows of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFacts {
    /// The commit that last changed something in the directory or a file that was asked about with it; the
    /// newest, if none ever did.
    pub revision: String,
    /// Whether nothing of that was ever committed.
    pub is_new: bool,
    /// When that commit was made, in seconds since 1970.
    pub committed: u64,
    /// Whether something of that is not as it was committed.
    pub is_dirty: bool,
    /// The version that the newest commit is tagged with (`v1.2.3`), if it is.
    pub version: Option<Version>,
    /// Where the repository comes from, without credentials.
    pub origin: Option<String>,
}

/// Why git knows nothing of a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGit {
    /// It is in no repository.
    #[error("it is in no git repository")]
    NoRepository,
    /// Nothing was ever committed there.
    #[error("nothing was ever committed in its git repository")]
    NoCommit,
    /// git can't be asked, or can't answer.
    #[error("git can't be asked about it: {0}")]
    Unknown(String),
}

impl From<io::Error> for NoGit {
    fn from(error: io::Error) -> Self {
        Self::Unknown(error.to_string())
    }
}

/// Asks git about a directory, and some files that may lie elsewhere.
///
/// # Errors
///
/// It knows nothing of the directory; why.
pub fn git(directory: &Path, files: &[PathBuf]) -> Result<GitFacts, NoGit> {
    let repository = Repository::open(directory)?.ok_or(NoGit::NoRepository)?;
    let asked = Asked::of(&repository, files)?;
    let questions = [
        NEWEST.as_slice(),
        &[
            "for-each-ref",
            "--points-at=HEAD",
            "--format=%(refname)",
            "refs/tags/v*",
        ],
    ];
    // They run side by side, as each takes some milliseconds.
    let [newest, tags] = questions.map(|args| repository.ask(args, &[]));
    let here = repository.ask(&NEWEST, &asked.paths);
    let changes = Changes::of(&repository, asked.paths);
    let text = |answer: Vec<u8>| String::from_utf8_lossy(&answer).trim_end().to_owned();
    let here = answer(here);
    let newest = match answer(newest) {
        Ok(newest) => text(newest),
        Err(_) if is_unborn(&repository) => return Err(NoGit::NoCommit),
        Err(error) => return Err(error.into()),
    };
    let (here, tags) = (text(here?), text(answer(tags)?));
    let is_new = here.is_empty();
    let commit = if is_new { &newest } else { &here };
    let (committed, revision) = commit.split_once(' ').unwrap_or_default();
    Ok(GitFacts {
        revision: revision.to_owned(),
        is_new,
        committed: committed
            .parse()
            .map_err(|_| NoGit::Unknown("its newest commit has no time".to_owned()))?,
        is_dirty: changes.found(&repository)? || asked.is_dirty,
        version: tags
            .lines()
            .filter_map(|tag| tag.strip_prefix("refs/tags/v")?.parse().ok())
            .max(),
        origin: repository.origin().and_then(without_credentials),
    })
}

/// The branch that a repository's work is merged into: its origin's, as it was when it was cloned; else the
/// one that is checked out.
#[must_use]
pub fn default_branch(repository: &Repository) -> Option<String> {
    let named = |reference: &str, folder: &str| {
        let name = answer(repository.ask(&["symbolic-ref", "--quiet", reference], &[])).ok()?;
        let name = String::from_utf8(name).ok()?;
        Some(name.trim_end().strip_prefix(folder)?.to_owned())
    };
    named("refs/remotes/origin/HEAD", "refs/remotes/origin/")
        .or_else(|| named("HEAD", "refs/heads/"))
}

/// What the user's own git says of a repository that somebody else owns, if it refuses to read it ("dubious
/// ownership"), and its fix.
///
/// Nothing of the repository is run before that, nor after it.
#[must_use]
pub fn refusal(directory: &Path) -> Option<(String, String)> {
    // On what is not to be read, git may wait forever.
    Repository::open(directory).ok()?;
    let configured = ["PATH", "HOME", "XDG_CONFIG_HOME", "SUDO_UID", "GIT_CONFIG*"];
    let mut command = git_with(&configured);
    command
        .current_dir(directory)
        .args(["rev-parse", "--git-dir"]);
    let output = command.output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines().map(str::trim);
    let message = lines.find(|line| line.contains("dubious ownership"))?;
    let fix = lines.find(|line| line.starts_with("git config "))?;
    let message = message.trim_start_matches("fatal: ");
    Some((message.to_owned(), fix.to_owned()))
}

const NEWEST: [&str; 4] = ["rev-list", "-1", "--timestamp", "HEAD"];

/// Whether nothing was ever committed: HEAD names a branch that is not there.
fn is_unborn(repository: &Repository) -> bool {
    let asked = |args: &[&str]| answer(repository.ask(args, &[])).is_ok();
    asked(&["symbolic-ref", "--quiet", "HEAD"])
        && !asked(&["rev-parse", "--quiet", "--verify", "HEAD"])
        && asked(&["for-each-ref", "--count=1"])
}

/// What a repository is asked about.
struct Asked {
    /// The directory and the files, as far as they are of the repository; of others, their place in it.
    paths: Vec<PathBuf>,
    /// Whether a file of another repository is not as it was committed there, or is of none.
    is_dirty: bool,
}

impl Asked {
    fn of(repository: &Repository, files: &[PathBuf]) -> io::Result<Self> {
        let mut asked = Self {
            paths: vec![PathBuf::from(".")],
            is_dirty: false,
        };
        for file in files {
            let Some(folder) = file.parent() else {
                continue;
            };
            match Repository::top_of(folder)? {
                Some(top) if top == repository.top() => asked.paths.push(file.clone()),
                Some(top) => {
                    // It may be a submodule: its commit is a file of this repository then.
                    if top.starts_with(repository.top()) {
                        asked.paths.push(top);
                    }
                    let other = Repository::open(folder)?.ok_or(io::ErrorKind::NotFound)?;
                    asked.is_dirty |= Changes::of(&other, vec![file.clone()])
                        .found(&other)
                        .unwrap_or(true);
                }
                None => asked.is_dirty = true,
            }
        }
        Ok(asked)
    }
}

/// What lists files that are not as they were committed, or new.
struct Changes {
    paths: Vec<PathBuf>,
    answers: [io::Result<std::process::Child>; 4],
}

impl Changes {
    fn of(repository: &Repository, paths: Vec<PathBuf>) -> Self {
        let questions = [
            MODIFIED.as_slice(),
            &[
                "ls-files",
                "--others",
                "--exclude-standard",
                "--directory",
                "--no-empty-directory",
            ],
            &["diff-index", "--cached", "--name-only", "HEAD"],
            &["ls-files", "-z", "-s", "-v", "--full-name"],
        ];
        let answers = questions.map(|args| repository.ask(args, &paths));
        Self { paths, answers }
    }

    /// Whether there are some.
    fn found(self, repository: &Repository) -> io::Result<bool> {
        let [modified, others, staged, listed] = self.answers;
        let (modified, others) = (answer(modified)?, answer(others)?);
        let (staged, listed) = (answer(staged)?, answer(listed)?);
        if !others.is_empty() || !staged.is_empty() {
            return Ok(true);
        }
        let modified = records(&modified).map(<[u8]>::to_vec).collect();
        if !repository.without_large_files(modified)?.is_empty() {
            return Ok(true);
        }
        // `TAG MODE OBJECT STAGE<tab>PATH`
        let listed = records(&listed).filter_map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t')?;
            Some((&line[..tab], &line[tab + 1..]))
        });
        let listed: Vec<_> = listed.collect();
        // A small letter marks those that git is configured not to look at.
        let unwatched = listed
            .iter()
            .filter(|(head, _)| head[0].is_ascii_lowercase());
        let unwatched: Vec<_> = unwatched.map(|(_, path)| *path).collect();
        if !unwatched.is_empty()
            && !repository
                .modified_unwatched(&unwatched, &self.paths)?
                .is_empty()
        {
            return Ok(true);
        }
        let mut submodules = listed.iter().filter(|(head, _)| is_submodule(head));
        Ok(submodules.any(|(_, path)| is_submodule_dirty(repository, path)))
    }
}

/// Whether an entry of the index is another repository's commit.
fn is_submodule(head: &[u8]) -> bool {
    head.get(2..)
        .is_some_and(|head| head.starts_with(b"160000 "))
}

/// Whether files of a submodule are not as they were committed, or were never checked out: of those git
/// looks at the commit alone.
fn is_submodule_dirty(repository: &Repository, path: &[u8]) -> bool {
    let place = repository.top().join(OsStr::from_bytes(path));
    if !place.is_dir() {
        // git says that it is gone, unless it is configured not to look.
        return false;
    }
    match Repository::open(&place) {
        Ok(Some(submodule)) if submodule.top() == place => {
            let changes = Changes::of(&submodule, vec![PathBuf::from(".")]);
            changes.found(&submodule).unwrap_or(true)
        }
        _ => true,
    }
}
