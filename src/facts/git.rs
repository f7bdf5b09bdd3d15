//! What git knows of a directory.

use std::io;
use std::path::Path;

use super::repository::{MODIFIED, Repository, answer, git_with, records};
use crate::model::Version;

/// What git knows of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFacts {
    /// The commit that last changed something in the directory; the newest, if none ever did.
    pub revision: String,
    /// Whether nothing in the directory was ever committed.
    pub is_new: bool,
    /// When that commit was made, in seconds since 1970.
    pub committed: u64,
    /// Whether something in the directory is not as it was committed.
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

/// Asks git about a directory.
///
/// # Errors
///
/// It knows nothing; why.
pub fn git(directory: &Path) -> Result<GitFacts, NoGit> {
    let repository = Repository::open(directory)?.ok_or(NoGit::NoRepository)?;
    let questions = [
        NEWEST_HERE.as_slice(),
        &NEWEST,
        &[
            "for-each-ref",
            "--points-at=HEAD",
            "--format=%(refname)",
            "refs/tags/v*",
        ],
    ];
    // They run side by side, as each takes some milliseconds.
    let [here, newest, tags] = questions.map(|args| repository.ask(args));
    let changes = Changes::of(&repository);
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
        is_dirty: changes.found(&repository)? || has_dirty_submodule(&repository),
        version: tags
            .lines()
            .filter_map(|tag| tag.strip_prefix("refs/tags/v")?.parse().ok())
            .max(),
        origin: repository.origin().map(without_credentials),
    })
}

/// The branch that a repository's work is merged into: its origin's, as it was when it was cloned; else the
/// one that is checked out.
#[must_use]
pub fn default_branch(repository: &Repository) -> Option<String> {
    let named = |reference: &str, folder: &str| {
        let name = answer(repository.ask(&["symbolic-ref", "--quiet", reference])).ok()?;
        let name = String::from_utf8(name).ok()?;
        Some(name.trim_end().strip_prefix(folder)?.to_owned())
    };
    named("refs/remotes/origin/HEAD", "refs/remotes/origin/")
        .or_else(|| named("HEAD", "refs/heads/"))
}

/// What the user's own git says of a repository that somebody else owns, if it refuses to read it ("dubious
/// ownership"), and its fix.
///
/// Nothing of the repository is read before that, nor run after it.
#[must_use]
pub fn refusal(directory: &Path) -> Option<(String, String)> {
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
const NEWEST_HERE: [&str; 6] = ["rev-list", "-1", "--timestamp", "HEAD", "--", "."];

/// Whether nothing was ever committed: HEAD names a branch that is not there.
fn is_unborn(repository: &Repository) -> bool {
    let asked = |args: &[&str]| answer(repository.ask(args)).is_ok();
    asked(&["symbolic-ref", "--quiet", "HEAD"])
        && !asked(&["rev-parse", "--quiet", "--verify", "HEAD"])
        && asked(&["for-each-ref", "--count=1"])
}

/// What lists files that are not as they were committed, or new.
struct Changes([io::Result<std::process::Child>; 4]);

impl Changes {
    fn of(repository: &Repository) -> Self {
        let questions = [
            MODIFIED.as_slice(),
            &[
                "ls-files",
                "--others",
                "--exclude-standard",
                "--directory",
                "--no-empty-directory",
                "--",
                ".",
            ],
            &["diff-index", "--cached", "--name-only", "HEAD", "--", "."],
            &["ls-files", "-z", "-v", "--full-name", "--", "."],
        ];
        Self(questions.map(|args| repository.ask(args)))
    }

    /// Whether there are some.
    fn found(self, repository: &Repository) -> io::Result<bool> {
        let [modified, others, staged, listed] = self.0;
        let (modified, others) = (answer(modified)?, answer(others)?);
        let (staged, listed) = (answer(staged)?, answer(listed)?);
        if !others.is_empty() || !staged.is_empty() {
            return Ok(true);
        }
        let modified = records(&modified).map(<[u8]>::to_vec).collect();
        if !repository.without_large_files(modified)?.is_empty() {
            return Ok(true);
        }
        // A small letter marks those that git is configured not to look at.
        let unwatched = records(&listed).filter(|line| line[0].is_ascii_lowercase());
        let unwatched: Vec<_> = unwatched.filter_map(|line| line.get(2..)).collect();
        Ok(!unwatched.is_empty() && !repository.modified_unwatched(&unwatched)?.is_empty())
    }
}

/// Whether files of a submodule are not as they were committed: of those git looks at the commit alone.
fn has_dirty_submodule(repository: &Repository) -> bool {
    if !repository.top().join(".gitmodules").exists() {
        return false;
    }
    let submodules = repository.submodules(&repository.tracked(&[]).unwrap_or_default());
    submodules.iter().any(|(_, submodule)| {
        let changes = Changes::of(submodule).found(submodule);
        changes.unwrap_or(true) || has_dirty_submodule(submodule)
    })
}

/// `https://user:token@host/path` is `https://host/path`. A password may contain `/` and `@`, so that all
/// up to the last `@` is cut off, unless the address clearly begins with its host.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let is_host = !authority.contains('@')
        && authority
            .split_once(':')
            .is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    match rest.rsplit_once('@') {
        Some((_, address)) if !is_host => format!("{scheme}://{address}"),
        _ => url.to_owned(),
    }
}

/// The address that something is fetched from, without what may let one in: credentials, and a query.
#[must_use]
pub fn shown_address(url: &str) -> String {
    let address = url.split('?').next().unwrap_or(url);
    without_credentials(address)
}

#[cfg(test)]
mod tests {
    use super::{shown_address, without_credentials};

    #[test]
    fn an_origin_has_no_credentials() {
        for (url, expected) in [
            ("https://u:p@h.example/r.git", "https://h.example/r.git"),
            ("https://u:p/q@h.example/r.git", "https://h.example/r.git"),
            ("https://u:p@q/r@h.example/r", "https://h.example/r"),
            ("https://t@h.example/r", "https://h.example/r"),
            ("https://h.example:80/r@x", "https://h.example:80/r@x"),
            ("https://h.example/r@x", "https://h.example/r@x"),
            ("git@h.example:r.git", "git@h.example:r.git"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        let url = "https://u:p@h.example/f?signature=x";
        assert_eq!(shown_address(url), "https://h.example/f");
    }
}
