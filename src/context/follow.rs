//! Where symbolic links lead, as fsutil's `FollowLinks` finds it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::ContextError;
use super::name_pattern::name_matches;
use super::path::{clean, folder, from_bytes, join, name};

/// The include patterns together with the followed paths and all that their links lead to; empty
/// if all is included.
pub(super) fn with_followed(
    root: &Path,
    includes: &[Vec<u8>],
    follow: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, ContextError> {
    let mut all = includes.to_vec();
    if !follow.is_empty()
        && let Some(targets) = follow_links(root, follow)?
    {
        all.extend(targets);
        return Ok(without_nested(all).unwrap_or_default());
    }
    Ok(all)
}

/// The paths and all that their symbolic links lead to, without what lies below another one of
/// them; `None` if that is the whole context. Links that leave the context are followed inside it,
/// as if it were the root of the file system.
pub(super) fn follow_links(
    root: &Path,
    paths: &[Vec<u8>],
) -> Result<Option<Vec<Vec<u8>>>, ContextError> {
    let mut resolved = BTreeSet::new();
    let mut pending: Vec<Vec<u8>> = paths.iter().rev().cloned().collect();
    while let Some(path) = pending.pop() {
        let path = join(b".", &path);
        let mut current = b".".to_vec();
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        while let Some(part) = parts.next() {
            current = join(&current, part);
            let targets = targets(root, &current)?;
            if targets.is_empty() {
                if parts.peek().is_none() {
                    resolved.insert(current.clone());
                }
            } else {
                let rest: Vec<&[u8]> = parts.by_ref().collect();
                if resolved.insert(current.clone()) {
                    let rest = rest.join(&b'/');
                    pending.extend(targets.iter().rev().map(|target| join(target, &rest)));
                }
            }
        }
    }
    Ok(without_nested(resolved.into_iter().collect()))
}

/// The targets of a symbolic link, or of those that a wildcard in the last part matches.
fn targets(root: &Path, path: &[u8]) -> Result<Vec<Vec<u8>>, ContextError> {
    // Outside the context nothing is read.
    if path == b"." || path == b".." || path.starts_with(b"../") {
        return Ok(Vec::new());
    }
    if !has_wildcards(name(path)) {
        return Ok(target(root, path)?.into_iter().collect());
    }
    let parent = folder(path);
    let unreadable = |source| ContextError::unreadable(root, &parent, source);
    let listing = match fs::read_dir(root.join(from_bytes(&parent))) {
        Ok(listing) => listing,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let file_name = entry.map_err(unreadable)?.file_name();
        if name_matches(name(path), file_name.as_bytes()) {
            found.extend(target(root, &join(&parent, file_name.as_bytes()))?);
        }
    }
    found.sort();
    Ok(found)
}

/// Where a symbolic link leads, from the top of the context; nothing if it is none.
fn target(root: &Path, path: &[u8]) -> Result<Option<Vec<u8>>, ContextError> {
    match fs::read_link(root.join(from_bytes(path))) {
        Ok(link) => {
            let link = clean(link.as_os_str().as_bytes());
            Ok(Some(if link.starts_with(b"/") {
                link
            } else {
                join(b"/", &join(&folder(path), &link))
            }))
        }
        // What is no symbolic link gives EINVAL.
        Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(ContextError::unreadable(root, path, error)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn has_wildcards(name: &[u8]) -> bool {
    let mut is_escaped = false;
    name.iter().any(|byte| {
        let is_wildcard = !is_escaped && b"*?[".contains(byte);
        is_escaped = !is_escaped && *byte == b'\\';
        is_wildcard
    })
}

/// The paths without those below the one kept before them; `None` if one is the top.
fn without_nested(paths: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(paths.len());
    for path in paths {
        if path == b"." {
            return None;
        }
        let last = kept.last().map(Vec::as_slice).unwrap_or_default();
        let is_below = path
            .strip_prefix(last)
            .is_some_and(|rest| rest.starts_with(b"/"));
        if !is_below {
            kept.push(path);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::follow_links;
    use crate::context::tree::Tree;

    fn follow(tree: &Tree, paths: &[&str]) -> Option<Vec<String>> {
        let paths: Vec<_> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let found = follow_links(tree.root(), &paths).unwrap()?;
        Some(
            found
                .into_iter()
                .map(|path| String::from_utf8(path).unwrap())
                .collect(),
        )
    }

    /// The cases of fsutil's `followlinks` tests.
    #[test]
    fn links_are_followed_within_the_context() {
        let check = |tree: &Tree, paths: &[&str], expected: &[&str]| {
            assert_eq!(follow(tree, paths).unwrap(), expected, "{paths:?}");
        };
        let tree = Tree::of(&[
            "dir/",
            "dir/foo",
            "dir/l1 -> foo",
            "l2 -> dir/l1",
            "bar",
            "baz",
        ]);
        check(&tree, &["l2", "bar"], &["bar", "dir/foo", "dir/l1", "l2"]);

        for up in ["foo/bar -> ../", "foo/bar -> ../../../"] {
            let tree = Tree::of(&["dir/", "dir/l1 -> /foo/bar/baz", "foo/", up, "baz"]);
            check(&tree, &["dir/l1"], &["baz", "dir/l1", "foo/bar"]);
        }

        let tree = Tree::of(&[
            "dir/",
            "foo/",
            "dir/l1 -> /foo/bar1",
            "dir/l2 -> /foo/bar2",
            "dir/anotherlink -> /foo/bar3",
            "foo/bar2 -> ../baz",
            "foo/bar1",
            "foo/bar3",
            "baz",
        ]);
        check(
            &tree,
            &["dir/l*"],
            &["baz", "dir/l*", "foo/bar1", "foo/bar2"],
        );
        check(&tree, &["dir"], &["dir"]);
        check(&tree, &["dir", "dir/*link"], &["dir", "foo/bar3"]);
    }

    #[test]
    fn loops_end() {
        let tree = Tree::of(&["l1 -> l1", "l3 -> l2", "l2 -> l3", "deep -> deep/er"]);
        assert_eq!(follow(&tree, &["l1", "l3"]).unwrap(), ["l1", "l2", "l3"]);
        assert_eq!(follow(&tree, &["deep"]).unwrap(), ["deep"]);
    }

    #[test]
    fn what_is_not_there_stays_as_it_is() {
        let tree = Tree::of(&[]);
        assert_eq!(
            follow(&tree, &["foo/bar/baz", "bar/baz"]).unwrap(),
            ["bar/baz", "foo/bar/baz"]
        );
        assert_eq!(follow(&tree, &["."]), None);
        assert_eq!(follow(&tree, &["f*/foo/t*"]).unwrap(), ["f*/foo/t*"]);
        assert_eq!(follow(&tree, &["../*/etc"]).unwrap(), ["../*/etc"]);
        assert_eq!(follow(&tree, &["a/.."]), None);
    }

    #[test]
    fn what_lies_below_another_path_is_not_told_twice() {
        let tree = Tree::of(&["dir/", "dir/l1 -> /foo", "dir/l2 -> /", "foo/", "foo/bar"]);
        assert_eq!(
            follow(&tree, &["none/bar/baz", "none/bar"]).unwrap(),
            ["none/bar"]
        );
        assert_eq!(
            follow(&tree, &["dir/l1", "foo/bar"]).unwrap(),
            ["dir/l1", "foo"]
        );
        assert_eq!(follow(&tree, &["dir/l2", "foo", "foo/bar"]), None);
    }
}
