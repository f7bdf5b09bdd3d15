use std::fs;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, Mode, mknodat};

use super::{Filter, walk};
use crate::context::tree::{Tree, excluding, following, including};
use crate::context::{ContextError, Kind, Patterns, Skip};

#[test]
fn siblings_come_by_name_and_children_after_their_folder() {
    let tree = Tree::of(&["b", "a/", "a/z", "a-b", "a.c/", "a.c/x", "B", "é", "empty/"]);
    assert_eq!(
        tree.walk(&Filter::default()).unwrap(),
        ["B", "a/", "a/z", "a-b", "a.c/", "a.c/x", "b", "empty/", "é"]
    );
}

/// The rows of fsutil's include tests.
#[test]
fn a_path_is_included_with_the_folders_above_it() {
    let tree = Tree::of(&["bar/", "bar/foo", "foo2"]);
    for (pattern, expected) in [
        ("bar", &["bar/", "bar/foo"][..]),
        ("bar/foo", &["bar/", "bar/foo"]),
        ("b*", &["bar/", "bar/foo"]),
        ("bar/f*", &["bar/", "bar/foo"]),
        ("bar/g*", &[]),
        ("f*", &["foo2"]),
        ("b*/f*", &["bar/", "bar/foo"]),
        ("b*/foo", &["bar/", "bar/foo"]),
        ("b*/", &["bar/", "bar/foo"]),
        ("**", &["bar/", "bar/foo", "foo2"]),
    ] {
        let found = tree.walk(&including(&[pattern])).unwrap();
        assert_eq!(found, expected, "{pattern}");
    }
}

/// The rows of fsutil's tests of `**`.
#[test]
fn two_stars_include_at_any_depth() {
    let tree = Tree::of(&[
        "a/b/baz/",
        "a/b/bar/",
        "a/b/bar/foo",
        "a/b/bar/fop",
        "bar/",
        "bar/foo",
        "baz/",
        "foo2",
        "foo/bar/",
        "foo/bar/bee",
    ]);
    let deep = ["a/", "a/b/", "a/b/bar/", "a/b/bar/foo", "a/b/bar/fop"];
    let bar = ["bar/", "bar/foo"];
    let foo = ["foo/", "foo/bar/", "foo/bar/bee"];
    for (pattern, expected) in [
        (
            "**",
            [&deep[..], &["a/b/baz/"], &bar, &["baz/"], &foo, &["foo2"]].concat(),
        ),
        ("**/bar", [&deep[..], &bar, &foo].concat()),
        ("**/bar/foo", [&deep[..4], &bar].concat()),
        (
            "**/b*",
            [&deep[..], &["a/b/baz/"], &bar, &["baz/"], &foo].concat(),
        ),
        ("**/bar/f*", [&deep[..], &bar].concat()),
        ("**/bar/g*", vec![]),
        ("**/f*", [&deep[..], &bar, &foo, &["foo2"]].concat()),
        ("**/b*/f*", [&deep[..], &bar].concat()),
        ("**/b*/foo", [&deep[..4], &bar].concat()),
        ("**/foo/**", foo.to_vec()),
        ("**/baz", vec!["a/", "a/b/", "a/b/baz/", "baz/"]),
    ] {
        let found = tree.walk(&including(&[pattern])).unwrap();
        assert_eq!(found, expected, "{pattern}");
    }
}

/// fsutil's tests of excludes, and a filter of both kinds.
#[test]
fn an_excluded_folder_comes_if_something_in_it_does() {
    let tree = Tree::of(&["bar", "foo/", "foo2", "foo/bar2", "foo/x/", "foo/x/y"]);
    for (lines, expected) in [
        (&["foo*", "!foo/bar2"][..], &["bar", "foo/", "foo/bar2"][..]),
        (
            &["foo", "!foo/x/y"],
            &["bar", "foo/", "foo/x/", "foo/x/y", "foo2"],
        ),
        (
            &["foo", "!**/y"],
            &["bar", "foo/", "foo/x/", "foo/x/y", "foo2"],
        ),
        (&["foo", "!foo/none"], &["bar", "foo2"]),
        (&["!foo/bar2", "foo"], &["bar", "foo2"]),
        (&["**", "!foo2"], &["foo2"]),
        (&["*"], &[]),
    ] {
        let found = tree.walk(&excluding(lines)).unwrap();
        assert_eq!(found, expected, "{lines:?}");
    }
    let both = Filter {
        excludes: Patterns::from_lines(["**/y"]).unwrap(),
        ..including(&["foo"])
    };
    assert_eq!(tree.walk(&both).unwrap(), ["foo/", "foo/bar2", "foo/x/"]);
    assert_eq!(
        tree.walk(&including(&["foo", "!**/x"])).unwrap(),
        ["foo/", "foo/bar2"]
    );
}

/// fsutil's tests of followed links in a walk.
#[test]
fn followed_links_bring_their_targets() {
    let tree = Tree::of(&[
        "bar",
        "foo/",
        "foo/l1 -> /baz/one",
        "foo/l2 -> /baz/two",
        "baz/",
        "baz/one",
        "baz/two -> ../bax",
        "bax",
        "bay",
    ]);
    assert_eq!(
        tree.walk(&following(&["foo/l*", "bar"])).unwrap(),
        [
            "bar",
            "bax",
            "baz/",
            "baz/one",
            "baz/two -> ../bax",
            "foo/",
            "foo/l1 -> /baz/one",
            "foo/l2 -> /baz/two",
        ]
    );
    let tree = Tree::of(&["foo -> .", "bar", "bax", "bay/", "bay/baz"]);
    assert_eq!(
        tree.walk(&following(&["foo"])).unwrap(),
        ["bar", "bax", "bay/", "bay/baz", "foo -> ."]
    );
}

#[test]
fn a_second_name_of_a_file_is_a_hard_link_to_the_first_one_sent() {
    let tree = Tree::of(&["b", "a => b", "c/", "c/d => b", "e"]);
    fs::write(tree.at("b"), "12345").unwrap();
    assert_eq!(
        tree.walk(&Filter::default()).unwrap(),
        ["a", "b => a", "c/", "c/d => a", "e"]
    );
    assert_eq!(
        tree.walk(&excluding(&["a"])).unwrap(),
        ["b", "c/", "c/d => b", "e"]
    );
    let sizes: Vec<_> = tree
        .entries(&Filter::default())
        .iter()
        .map(|entry| (entry.kind, entry.size, entry.stamp.size))
        .collect();
    assert_eq!(sizes[..2], [(Kind::File, 5, 5), (Kind::HardLink, 0, 5)]);
}

#[test]
fn sockets_pipes_and_devices_are_left_out_and_told() {
    let tree = Tree::of(&["a", "no/"]);
    let _socket = UnixListener::bind(tree.at("socket")).unwrap();
    let mode = Mode::from_bits_truncate(0o600);
    for path in ["pipe", "no/pipe"] {
        mknodat(CWD, tree.at(path), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    let mut skipped = Vec::new();
    let found = tree
        .walk_with(&excluding(&["no"]), &mut |path, skip| {
            skipped.push((path.to_vec(), skip));
        })
        .unwrap();
    assert_eq!(found, ["a"]);
    assert_eq!(
        skipped,
        [
            (b"pipe".to_vec(), Skip::Fifo),
            (b"socket".to_vec(), Skip::Socket)
        ]
    );
}

#[test]
fn names_need_not_be_utf_8_or_short() {
    let long = "x".repeat(255);
    let tree = Tree::of(&["a/", &long]);
    fs::write(tree.at(b"a/\xff\n"), "").unwrap();
    let paths: Vec<_> = tree
        .entries(&Filter::default())
        .into_iter()
        .map(|entry| entry.path)
        .collect();
    assert_eq!(
        paths,
        [b"a".to_vec(), b"a/\xff\n".to_vec(), long.into_bytes()]
    );
}

#[test]
fn modes_keep_set_user_set_group_and_sticky() {
    let tree = Tree::of(&["a", "b/"]);
    tree.set_mode("a", 0o4751);
    tree.set_mode("b", 0o1777);
    let modes: Vec<_> = tree
        .entries(&Filter::default())
        .iter()
        .map(|entry| entry.mode)
        .collect();
    assert_eq!(modes, [0o4751, 0o1777]);
}

#[test]
fn the_context_has_to_be_a_folder_that_is_there() {
    let tree = Tree::of(&["file", "link -> .", "a -> loop", "loop -> a"]);
    let first = |path: &str| {
        let root = tree.at(path);
        let filter = Filter::default();
        walk(&root, &filter, &mut |_, _| ()).next().unwrap()
    };
    assert!(matches!(first("none"), Err(ContextError::Missing { .. })));
    assert!(matches!(
        first("file"),
        Err(ContextError::NotAFolder { .. })
    ));
    assert!(matches!(first("a"), Err(ContextError::Unreadable { .. })));
    assert!(first("link").is_ok());
}

#[test]
fn a_wrong_include_pattern_is_an_error() {
    let tree = Tree::of(&["a"]);
    let error = tree.walk(&including(&["a", "["])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2: the pattern `[` has brackets that make no sense"
    );
}

/// The rows of fsutil's test of permissions.
#[test]
fn an_unreadable_folder_is_an_error_unless_it_is_excluded() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let tree = Tree::of(&["foo/bar/"]);
    tree.set_mode("foo/bar", 0);
    let expected = format!("can't read `{}`: ", tree.at("foo/bar").display());
    for filter in [Filter::default(), excluding(&["**/bar", "!foo/bar"])] {
        let error = tree.walk(&filter).unwrap_err();
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.help().contains(".dockerignore"), "{}", error.help());
    }
    for filter in [
        excluding(&["**/bar"]),
        excluding(&["**/bar", "!foo/bar/baz"]),
        including(&["foo", "!**/bar"]),
    ] {
        assert_eq!(tree.walk(&filter).unwrap(), ["foo/"], "{filter:?}");
    }
    tree.set_mode("foo/bar", 0o755);
}
