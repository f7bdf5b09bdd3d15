//! What git knows of a directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::address::without_credentials;
use super::repository::{LedElsewhere, MODIFIED, Repository, answer, git_with, records};
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
    /// Why the newest commit may have such a tag that is not here, if it has none here.
    pub missing_tags: Option<MissingTags>,
    /// Submodules in the directory that were never checked out.
    pub empty_submodules: Vec<EmptySubmodule>,
    /// Where the repository comes from, without credentials.
    pub origin: Option<String>,
}

/// Why a clone may not have all tags of its newest commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingTags {
    /// It is shallow (`git clone --depth`): CI systems fetch one commit, and nothing that leads to it.
    Shallow,
    /// It was made with `git clone --no-tags`, from this remote, and has no tag.
    NotFetched(String),
}

impl MissingTags {
    fn of(repository: &Repository) -> io::Result<Option<Self>> {
        if repository.is_shallow() {
            return Ok(Some(Self::Shallow));
        }
        let Some(remote) = repository.without_tags() else {
            return Ok(None);
        };
        // Who has some has fetched them since.
        let tags = answer(repository.ask(&["for-each-ref", "--count=1", "refs/tags"], &[]))?;
        Ok(tags.is_empty().then(|| Self::NotFetched(remote.to_owned())))
    }
}

/// A submodule that was never checked out: an empty directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmptySubmodule {
    /// The top of the work tree that it is a submodule of.
    pub top: PathBuf,
    /// Its path from there.
    pub path: PathBuf,
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
    /// Its `.git` leads to what may be another work tree's repository.
    #[error("git can't be asked about it: {message}")]
    Elsewhere {
        /// Where it leads.
        message: String,
        /// How to fix it.
        fix: String,
    },
    /// git lacks objects that it would fetch for the user.
    #[error("it is in a partial clone, which lacks objects that are needed: {0}")]
    Partial(String),
    /// git can't be asked, or can't answer.
    #[error("git can't be asked about it: {0}")]
    Unknown(String),
}

impl From<io::Error> for NoGit {
    fn from(error: io::Error) -> Self {
        let source = error.get_ref();
        match source.and_then(|source| source.downcast_ref::<LedElsewhere>()) {
            Some(found) => Self::Elsewhere {
                message: found.to_string(),
                fix: found.fix(),
            },
            None => Self::Unknown(error.to_string()),
        }
    }
}

/// Asks git about a directory, and some files that may lie elsewhere.
///
/// # Errors
///
/// It knows nothing of the directory; why.
pub fn git(directory: &Path, files: &[PathBuf]) -> Result<GitFacts, NoGit> {
    let repository = Repository::open(directory)?.ok_or(NoGit::NoRepository)?;
    facts(&repository, files).map_err(|error| match error {
        // Nothing is fetched for us.
        NoGit::Unknown(said) if repository.is_partial() => NoGit::Partial(said),
        error => error,
    })
}

fn facts(repository: &Repository, files: &[PathBuf]) -> Result<GitFacts, NoGit> {
    let asked = Asked::of(repository, files)?;
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
    let changes = Changes::of(repository, asked.paths);
    let text = |answer: Vec<u8>| String::from_utf8_lossy(&answer).trim_end().to_owned();
    let here = answer(here);
    let newest = match answer(newest) {
        Ok(newest) => text(newest),
        Err(_) if is_unborn(repository) => return Err(NoGit::NoCommit),
        Err(error) => return Err(error.into()),
    };
    let (here, tags) = (text(here?), text(answer(tags)?));
    let is_new = here.is_empty();
    let commit = if is_new { &newest } else { &here };
    let (committed, revision) = commit.split_once(' ').unwrap_or_default();
    let version = tags
        .lines()
        .filter_map(|tag| tag.strip_prefix("refs/tags/v")?.parse().ok())
        .max();
    let found = changes.found(repository)?;
    Ok(GitFacts {
        revision: revision.to_owned(),
        is_new,
        committed: committed
            .parse()
            .map_err(|_| NoGit::Unknown("its newest commit has no time".to_owned()))?,
        is_dirty: found.is_dirty || asked.is_dirty,
        missing_tags: match version {
            Some(_) => None,
            None => MissingTags::of(repository)?,
        },
        version,
        empty_submodules: found.empty_submodules,
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
                    asked.is_dirty |= !Changes::of(&other, vec![file.clone()])
                        .found(&other)
                        .is_ok_and(|found| !found.is_dirty);
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
    fn found(self, repository: &Repository) -> io::Result<Found> {
        let [modified, others, staged, listed] = self.answers;
        let (modified, others) = (answer(modified)?, answer(others)?);
        let (staged, listed) = (answer(staged)?, answer(listed)?);
        let mut found = Found {
            is_dirty: !others.is_empty() || !staged.is_empty(),
            empty_submodules: Vec::new(),
        };
        if !found.is_dirty {
            let modified = records(&modified).map(<[u8]>::to_vec).collect();
            found.is_dirty = !repository.without_large_files(modified)?.is_empty();
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
        if !found.is_dirty && !unwatched.is_empty() {
            let modified = repository.modified_unwatched(&unwatched, &self.paths)?;
            found.is_dirty = !modified.is_empty();
        }
        for (_, path) in listed.iter().filter(|(head, _)| is_submodule(head)) {
            found.add_submodule(repository, path);
        }
        Ok(found)
    }
}

/// What is not as it was committed.
struct Found {
    is_dirty: bool,
    empty_submodules: Vec<EmptySubmodule>,
}

impl Found {
    /// Adds what is not as it was committed in a submodule: of those git looks at the commit alone.
    fn add_submodule(&mut self, repository: &Repository, path: &[u8]) {
        let path = Path::new(OsStr::from_bytes(path));
        let place = repository.top().join(path);
        if !place.is_dir() {
            // git says that it is gone, unless it is configured not to look.
            return;
        }
        match Repository::open(&place) {
            Ok(Some(submodule)) if submodule.top() == place => {
                let changes = Changes::of(&submodule, vec![PathBuf::from(".")]);
                match changes.found(&submodule) {
                    Ok(found) => {
                        self.is_dirty |= found.is_dirty;
                        self.empty_submodules.extend(found.empty_submodules);
                    }
                    Err(_) => self.is_dirty = true,
                }
            }
            _ => {
                self.is_dirty = true;
                let is_empty =
                    fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_none());
                if is_empty {
                    self.empty_submodules.push(EmptySubmodule {
                        top: repository.top().to_owned(),
                        path: path.to_owned(),
                    });
                }
            }
        }
    }
}

/// Whether an entry of the index is another repository's commit.
fn is_submodule(head: &[u8]) -> bool {
    head.get(2..)
        .is_some_and(|head| head.starts_with(b"160000 "))
}
