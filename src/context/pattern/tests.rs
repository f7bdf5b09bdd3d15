use proptest::prelude::*;

use super::{Inherited, PatternProblem, Patterns, ignore_file_lines};

fn patterns(lines: &[&str]) -> Patterns {
    Patterns::from_lines(lines).unwrap()
}

/// Judges a path as a walk does: from the top, each folder on what the one above it found.
fn matches_stepwise(patterns: &Patterns, path: &str) -> bool {
    let mut inherited = Inherited::default();
    for (slash, _) in path.match_indices('/') {
        (_, inherited) = patterns.matches_folder_in(&path.as_bytes()[..slash], &inherited);
    }
    patterns.matches_in(path.as_bytes(), &inherited)
}

fn check(lines: &[&str], path: &str, expected: bool) {
    let patterns = patterns(lines);
    let found = [
        patterns.matches(path.as_bytes()),
        matches_stepwise(&patterns, path),
        patterns.matches_in(path.as_bytes(), &Inherited::default()),
    ];
    assert_eq!(found, [expected; 3], "{lines:?} {path}");
}

/// The rows of the match table of moby's `patternmatcher`: with its `exact` and `inexact` both a
/// match, for a path below one that matches does so too.
#[test]
fn mobys_table_of_single_patterns_holds() {
    const WHEEL: &str = "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl";
    for (pattern, paths) in [
        ("**", &["file", "file/", "/", "dir/file", "dir/file/"][..]),
        ("**/", &["file", "file/", "/", "dir/file", "dir/file/"]),
        ("**/**", &["dir/file", "dir/file/"]),
        (
            "dir/**",
            &["dir/file", "dir/file/", "dir/dir2/file", "dir/dir2/file/"],
        ),
        ("**/dir", &["dir", "dir/file"]),
        ("**/dir2/*", &["dir/dir2/file", "dir/dir2/file/"]),
        ("**/dir2/**", &["dir/dir2/dir3/file", "dir/dir2/dir3/file/"]),
        ("**file", &["file", "dir/file", "dir/dir/file"]),
        ("**/file", &["dir/file", "dir/dir/file"]),
        ("**/file*", &["dir/dir/file", "dir/dir/file.txt"]),
        ("**/file*txt", &["dir/dir/file.txt"]),
        ("**/file*.txt", &["dir/dir/file.txt"]),
        ("**/file*.txt*", &["dir/dir/file.txt"]),
        ("**/**/*.txt", &["dir/dir/file.txt", "file.txt"]),
        ("**/*.txt", &["file.txt"]),
        (
            "a**/*.txt",
            &["a/file.txt", "a/dir/file.txt", "a/dir/dir/file.txt"],
        ),
        ("a/*.txt", &["a/file.txt"]),
        ("a/*.txt**", &["a/file.txt"]),
        ("a[b-d]e", &["ace"]),
        ("a[^b-d]e", &["aze"]),
        (".*", &[".foo"]),
        ("abc.def", &["abc.def"]),
        ("abc?def", &["abcZdef"]),
        (
            "**/foo/bar",
            &["foo/bar", "dir/foo/bar", "dir/dir2/foo/bar"],
        ),
        ("abc/**", &["abc/def", "abc/def/ghi"]),
        ("**/.foo", &[".foo"]),
        ("a(b)c/def", &["a(b)c/def"]),
        ("a.|)$(}+{bc", &["a.|)$(}+{bc"]),
        (WHEEL, &[WHEEL]),
        ("dist/*.whl", &[WHEEL]),
        (r"a\\", &[r"a\"]),
        (r"a\*b", &["a*b"]),
    ] {
        for path in paths {
            check(&[pattern], path, true);
        }
    }
    for (pattern, path) in [
        ("**/**/*.txt2", "dir/dir/file.txt"),
        ("a/*.txt", "a/dir/file.txt"),
        ("a[b-d]e", "ae"),
        ("a[b-d]e", "aae"),
        (".*", "foo"),
        ("abc.def", "abcdef"),
        ("abc.def", "abcZdef"),
        ("abc?def", "abcdef"),
        ("abc/**", "abc"),
        ("**/.foo", "bar.foo"),
        ("a(b)c/def", "a(b)c/xyz"),
    ] {
        check(&[pattern], path, false);
    }
}

/// The rows of Go's own `filepath.Match` table that moby runs, with its results: a path below a
/// match is one.
#[test]
fn gos_table_holds() {
    for (pattern, path, expected) in [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "abc", true),
        ("a*", "ab/c", true),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        (r"a\*b", "a*b", true),
        (r"a\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("a[^a][^a][^a]b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        (r"[\]a]", "]", true),
        (r"[\-]", "-", true),
        (r"[x\-]", "x", true),
        (r"[x\-]", "-", true),
        (r"[x\-]", "z", false),
        (r"[\-x]", "x", true),
        (r"[\-x]", "-", true),
        (r"[\-x]", "a", false),
        ("*x", "xxx", true),
    ] {
        check(&[pattern], path, expected);
    }
    for pattern in [
        "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[",
    ] {
        let error = Patterns::from_lines([pattern]).expect_err(pattern);
        assert_eq!(error.problem, PatternProblem::Brackets, "{pattern}");
    }
    let error = Patterns::from_lines(["\\"]).expect_err("a backslash");
    assert_eq!(error.problem, PatternProblem::TrailingBackslash);
}

/// moby's and the docker CLI's cases with several patterns.
#[test]
fn the_last_pattern_that_matches_decides() {
    for (lines, path, expected) in [
        (&["*"][..], "fileutils.go", true),
        (&["*.go"], "fileutils.go", true),
        (&["!fileutils.go", "*.go"], "fileutils.go", true),
        (&["*.go", "!fileutils.go"], "fileutils.go", false),
        (&["docs", "!docs/README.md"], "docs/README.md", false),
        (&["docs/", "!docs/README.md"], "docs/README.md", false),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "  !docs/README.md"], "docs/README.md", false),
        (&["docs", "!docs/README.md  "], "docs/README.md", false),
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (
            &["**", "!util/docker/web", "util/docker/web/foo"],
            "util/docker/web/foo",
            true,
        ),
        (&["**", "!dist/a-1.0+g0.whl"], "dist/a-1.0+g0.whl", false),
        (&["**", "!dist/*.whl"], "dist/a-1.0+g0.whl", false),
        (&[], "any/path/there", false),
        (&["", " "], "a", false),
        (
            &["foo", "!foo/bar", "foo/bar/baz", "!foo/bar/baz/x"],
            "foo/bar/baz/x",
            false,
        ),
        (
            &["foo", "!foo/bar", "foo/bar/baz", "!foo/bar/baz/x"],
            "foo/bar/baz/y",
            true,
        ),
    ] {
        check(lines, path, expected);
    }
    assert!(!patterns(&["*", "*.go"]).matches(b"."));
    assert!(patterns(&["", " \t"]).is_empty());
}

#[test]
fn an_exception_for_a_folder_above_counts_only_where_no_walk_came_by() {
    let patterns = patterns(&["foo/bar", "!foo"]);
    assert!(!patterns.matches(b"foo/bar"));
    assert!(matches_stepwise(&patterns, "foo/bar"));
}

/// The text of moby's `ignorefile` test, and what else its format has.
#[test]
fn an_ignore_file_is_read_line_by_line() {
    let lines = |text: &[u8]| -> Vec<(usize, String)> {
        ignore_file_lines(text)
            .map(|(number, line)| (number, String::from_utf8_lossy(&line).into_owned()))
            .collect()
    };
    let line = |number, text: &str| (number, text.to_owned());
    assert_eq!(lines(b""), []);
    let text = b"test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n\
                 ! /inverted/abs/path\n!\n! ";
    assert_eq!(
        lines(text),
        [
            line(1, "test1"),
            line(2, "test2"),
            line(3, "a/file/here"),
            line(5, "lastfile"),
            line(7, "!inverted/abs/path"),
            line(8, "!"),
            line(9, "!"),
        ]
    );
    assert_eq!(
        lines(b"\xef\xbb\xbf#c\r\n  a/ \r\n #b\n/\n./c/../d//e\n\xef\xbb\xbfx\n!./y\n"),
        [
            line(2, "a"),
            line(3, "#b"),
            line(4, "/"),
            line(5, "d/e"),
            line(6, "\u{feff}x"),
            line(7, "!y"),
        ]
    );
}

#[test]
fn a_wrong_line_is_told_by_its_number() {
    let error = |text: &str| {
        let error = Patterns::parse_ignore_file(text.as_bytes()).expect_err(text);
        format!("{error}\nhelp: {}", error.help())
    };
    assert_eq!(
        error("a\n\n!\n"),
        "line 3: the pattern `!` has nothing after the `!`\n\
         help: write what is to be kept after the `!`, or delete the line"
    );
    assert_eq!(
        error("# c\n![a\n"),
        "line 2: the pattern `![a` has brackets that make no sense\n\
         help: write `[a-z]` or `[^a-z]`; a `[` in a name is written `\\[`"
    );
    assert_eq!(
        error("a\\"),
        "line 1: the pattern `a\\` ends with a `\\`\nhelp: a `\\` in a name is written `\\\\`"
    );
    assert_eq!(
        error("\\q"),
        "line 1: the pattern `\\q` has a `\\` before `q`\nhelp: write `q` without the `\\`"
    );
}

#[test]
fn a_folder_is_skipped_whole_if_no_later_exception_reaches_into_it() {
    let may_except = |lines: &[&str], folder: &str| {
        let patterns = patterns(lines);
        let (is_matched, found) =
            patterns.matches_folder_in(folder.as_bytes(), &Inherited::default());
        assert!(is_matched, "{lines:?} {folder}");
        patterns.may_except_inside(folder.as_bytes(), &found)
    };
    assert!(!may_except(&["a"], "a"));
    assert!(may_except(&["a", "!a/b"], "a"));
    assert!(may_except(&["a", "!**/b"], "a"));
    assert!(may_except(&["a", "!a?*"], "a"));
    assert!(!may_except(&["!**/b", "a"], "a"));
    assert!(!may_except(&["a", "!b*/c"], "a"));
    assert!(!may_except(&["a", "!ab"], "a"));
    assert!(patterns(&["a/b"]).may_match_inside(b"a"));
    assert!(patterns(&["*/b"]).may_match_inside(b"a"));
    assert!(!patterns(&["a/b", "!c/d"]).may_match_inside(b"c"));
}

/// A pattern of letters, `/`, `?`, `*` and `**` against a path, character by character.
fn naive(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let after_slashes = (0..path.len()).filter(|at| path[*at] == b'/');
            rest.is_empty()
                || naive(rest, path)
                || after_slashes
                    .map(|at| &path[at + 1..])
                    .any(|path| naive(rest, path))
        }
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/');
            (0..=end.unwrap_or(path.len())).any(|at| naive(rest, &path[at..]))
        }
        [b'?', rest @ ..] => {
            path.first().is_some_and(|byte| *byte != b'/') && naive(rest, &path[1..])
        }
        [byte, rest @ ..] => path.first() == Some(byte) && naive(rest, &path[1..]),
    }
}

/// The last pattern that matches a path or a folder above it.
fn naive_matches(lines: &[String], path: &str) -> bool {
    let mut is_matched = false;
    for line in lines {
        let pattern = line.trim_start_matches('!');
        let one = |path: &str| match pattern.strip_prefix("**") {
            // moby compares the end of the path here, even within a name.
            Some(rest) if !rest.contains(['*', '?']) => {
                path.ends_with(rest) || rest.strip_prefix('/') == Some(path)
            }
            _ => naive(pattern.as_bytes(), path.as_bytes()),
        };
        let folders = path.match_indices('/').map(|(slash, _)| &path[..slash]);
        if one(path) || folders.into_iter().any(one) {
            is_matched = !line.starts_with('!');
        }
    }
    is_matched
}

fn line() -> impl Strategy<Value = String> {
    // Cleaned, so that the reference need not clean.
    let part = prop::sample::select(vec![
        "a", "b", "ab", "*", "**", "?", "a*", "*b", "a?", "**a", "a**", "*a*",
    ]);
    (any::<bool>(), prop::collection::vec(part, 1..4)).prop_map(|(is_exception, parts)| {
        format!("{}{}", if is_exception { "!" } else { "" }, parts.join("/"))
    })
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,3}", 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #[test]
    fn matching_agrees_with_a_naive_reading(
        lines in prop::collection::vec(line(), 1..5),
        path in path(),
    ) {
        let patterns = Patterns::from_lines(&lines).unwrap();
        prop_assert_eq!(patterns.matches(path.as_bytes()), naive_matches(&lines, &path));
    }

    #[test]
    fn without_exceptions_a_walk_judges_as_a_single_question_does(
        lines in prop::collection::vec(line(), 1..5),
        path in path(),
    ) {
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_start_matches('!')).collect();
        let patterns = patterns(&lines);
        prop_assert_eq!(
            matches_stepwise(&patterns, &path),
            patterns.matches(path.as_bytes())
        );
    }

    #[test]
    fn what_is_skipped_whole_has_nothing_to_keep(
        lines in prop::collection::vec(line(), 1..5),
        path in path(),
    ) {
        let patterns = Patterns::from_lines(&lines).unwrap();
        let mut inherited = Inherited::default();
        for (slash, _) in path.match_indices('/') {
            let folder = &path.as_bytes()[..slash];
            let (is_matched, found) = patterns.matches_folder_in(folder, &inherited);
            if is_matched && !patterns.may_except_inside(folder, &found) {
                prop_assert!(matches_stepwise(&patterns, &path), "{}", String::from_utf8_lossy(folder));
            }
            if !is_matched && !patterns.may_match_inside(folder) {
                prop_assert!(!matches_stepwise(&patterns, &path), "{}", String::from_utf8_lossy(folder));
            }
            inherited = found;
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        text in prop::collection::vec(prop_oneof![
            prop::sample::select(b"ab/*?[]^-!\\.#: \n\r\xef\xbb\xbf\xff".to_vec()),
            any::<u8>(),
        ], 0..40),
        path in prop::collection::vec(prop_oneof![
            prop::sample::select(b"ab/*.\xff\xc3\xa9".to_vec()),
            any::<u8>(),
        ], 0..20),
    ) {
        if let Ok(patterns) = Patterns::parse_ignore_file(&text) {
            let (_, found) = patterns.matches_folder_in(&path, &Inherited::default());
            let _ = (
                patterns.matches(&path),
                patterns.may_except_inside(&path, &found),
                patterns.may_match_inside(&path),
            );
        }
        let _ = crate::context::name_pattern::name_matches(&text, &path);
    }
}
