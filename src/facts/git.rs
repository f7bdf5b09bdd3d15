//! What git says of a folder.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::model::Version;

/// The largest patch that is kept.
const LARGEST_PATCH: usize = 64 << 20;

/// What git says of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFacts {
    /// The commit that last changed something in the folder.
    pub revision: String,
    /// When that commit was made, in seconds since 1970.
    pub committed: u64,
    /// Whether something in the folder is not as it was committed.
    pub is_dirty: bool,
    /// The version that the newest commit is tagged with (`v1.2.3`), if it is.
    pub version: Option<Version>,
    /// Where the repository comes from, without credentials.
    pub origin: Option<String>,
}

/// Asks git about a folder. `None` if it is in no repository, nothing in it was ever committed, or
/// there is no git.
#[must_use]
pub fn git(folder: &Path) -> Option<GitFacts> {
    // Most folders are found to be in no repository without a process.
    folder
        .ancestors()
        .find(|ancestor| ancestor.join(".git").exists())?;
    let asked = [
        ["log", "-1", "--format=%H %ct", "--", "."].as_slice(),
        &["status", "--porcelain", "--", "."],
        &["tag", "--points-at", "HEAD", "--list", "v*"],
        &["config", "--get", "remote.origin.url"],
    ];
    // They run side by side, as each takes some milliseconds.
    let running: Vec<_> = asked.iter().map(|args| start(folder, args)).collect();
    let mut answers = running.into_iter().map(|child| {
        let output = child?.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned();
        output.status.success().then_some(text)
    });
    let commit = answers.next()??;
    let (revision, committed) = commit.split_once(' ')?;
    let is_dirty = !answers.next()??.is_empty();
    let tags = answers.next().flatten().unwrap_or_default();
    let origin = answers.next().flatten().filter(|url| !url.is_empty());
    Some(GitFacts {
        revision: revision.to_owned(),
        committed: committed.parse().ok()?,
        is_dirty,
        version: tags
            .lines()
            .filter_map(|tag| tag.strip_prefix('v')?.parse().ok())
            .max(),
        origin: origin.map(|url| without_credentials(&url)),
    })
}

/// What differs from the commit in a folder, new files among it, as `git apply` takes it. `None` if git
/// can't tell, or there is more of it than anybody would keep.
#[must_use]
pub fn git_patch(folder: &Path) -> Option<Vec<u8>> {
    // An index of its own, so that nobody's is touched.
    let index = tempfile::tempdir().ok()?;
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(args)
            .env("GIT_INDEX_FILE", index.path().join("index"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then_some(output.stdout)
    };
    git(&["read-tree", "HEAD"])?;
    git(&["add", "--all", "--", "."])?;
    let patch = git(&["diff", "--cached", "--binary", "HEAD", "--", "."])?;
    (patch.len() <= LARGEST_PATCH).then_some(patch)
}

fn start(folder: &Path, args: &[&str]) -> Option<std::process::Child> {
    Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(args)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

/// `https://user:token@host/path` is `https://host/path`.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn an_origin_has_no_credentials() {
        for (url, expected) in [
            ("https://u:p@h.example/r.git", "https://h.example/r.git"),
            ("https://t@h.example/r@x", "https://h.example/r@x"),
            ("https://h.example/r@x", "https://h.example/r@x"),
            ("git@h.example:r.git", "git@h.example:r.git"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }
}
