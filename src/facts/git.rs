//! What git says of a folder.

use std::path::Path;

use super::repository::{Repository, answer};
use crate::model::Version;

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
    let repository = Repository::open(folder)?;
    let questions = [
        ["rev-list", "-1", "--timestamp", "HEAD", "--", "."].as_slice(),
        &[
            "for-each-ref",
            "--points-at=HEAD",
            "--format=%(refname)",
            "refs/tags/v*",
        ],
    ];
    // They run side by side, as each takes some milliseconds.
    let [commit, tags] = questions.map(|args| repository.ask(args));
    let changes = CHANGES.map(|args| repository.ask(args));
    let text = |child| {
        Some(
            String::from_utf8_lossy(&answer(child)?)
                .trim_end()
                .to_owned(),
        )
    };
    let commit = text(commit)?;
    let (committed, revision) = commit.split_once(' ')?;
    let tags = text(tags).unwrap_or_default();
    let mut is_dirty = false;
    for change in changes {
        is_dirty |= !answer(change)?.is_empty();
    }
    Some(GitFacts {
        revision: revision.to_owned(),
        committed: committed.parse().ok()?,
        is_dirty: is_dirty || has_dirty_submodule(&repository),
        version: tags
            .lines()
            .filter_map(|tag| tag.strip_prefix("refs/tags/v")?.parse().ok())
            .max(),
        origin: repository.origin().map(without_credentials),
    })
}

/// What lists files that are not as they were committed, or new.
const CHANGES: [&[&str]; 2] = [
    &[
        "ls-files",
        "--modified",
        "--deleted",
        "--others",
        "--exclude-standard",
        "--directory",
        "--no-empty-directory",
        "--",
        ".",
    ],
    &["diff-index", "--cached", "--name-only", "HEAD", "--", "."],
];

/// Whether files of a submodule are not as they were committed: of those git looks at the commit alone.
fn has_dirty_submodule(repository: &Repository) -> bool {
    if !repository.top().join(".gitmodules").exists() {
        return false;
    }
    let submodules = repository.submodules(&repository.tracked(&[]).unwrap_or_default());
    submodules.iter().any(|(_, submodule)| {
        let changes = CHANGES.map(|args| submodule.ask(args));
        let is_dirty = changes.map(|change| answer(change).is_none_or(|text| !text.is_empty()));
        is_dirty.contains(&true) || has_dirty_submodule(submodule)
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

#[cfg(test)]
mod tests {
    use super::without_credentials;

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
}
