use super::{Form, Shape, go_expression};
use crate::context::PatternProblem;
use crate::context::name_pattern::{check, name_matches};

/// The rows of the compile table of moby's `patternmatcher`.
#[test]
fn a_pattern_is_a_regular_expression_only_where_it_has_to_be() {
    for (pattern, form, expression) in [
        ("*", Form::Regex, "^[^/]*$"),
        ("file*", Form::Regex, "^file[^/]*$"),
        ("*file", Form::Regex, "^[^/]*file$"),
        ("a*/b", Form::Regex, "^a[^/]*/b$"),
        ("**", Form::Suffix, ""),
        ("**/**", Form::Regex, "^(.*/)?.*$"),
        ("dir/**", Form::Prefix, ""),
        ("**/dir", Form::Suffix, ""),
        ("**/dir2/*", Form::Regex, "^(.*/)?dir2/[^/]*$"),
        ("**/dir2/**", Form::Regex, "^(.*/)?dir2/.*$"),
        ("**file", Form::Suffix, ""),
        ("**/file*txt", Form::Regex, "^(.*/)?file[^/]*txt$"),
        ("**/**/*.txt", Form::Regex, r"^(.*/)?(.*/)?[^/]*\.txt$"),
        ("a[b-d]e", Form::Regex, "^a[b-d]e$"),
        (".*", Form::Regex, r"^\.[^/]*$"),
        ("abc.def", Form::Exact, ""),
        ("abc?def", Form::Regex, "^abc[^/]def$"),
        ("**/foo/bar", Form::Suffix, ""),
        ("a(b)c/def", Form::Exact, ""),
        ("a.|)$(}+{bc", Form::Exact, ""),
        ("a-1.0rc3.dev36+g08acad9-py3.whl", Form::Exact, ""),
    ] {
        let (actual, text) = go_expression(pattern);
        assert_eq!(actual, form, "{pattern}");
        if form == Form::Regex {
            assert_eq!(text, expression, "{pattern}");
        }
    }
}

#[test]
fn brackets_and_escapes_mean_what_they_mean_in_go() {
    let matches = |pattern: &str, path: &str| {
        check(pattern.as_bytes()).unwrap();
        let shape = Shape::of(pattern.as_bytes()).unwrap();
        shape.matches(pattern.as_bytes(), path.as_bytes())
    };
    for (pattern, path, expected) in [
        ("[!a]", "!", true),
        ("[!a]", "b", false),
        ("[^a]", "/", true),
        ("a[&&b]", "a&", true),
        ("a[~~b]", "a~", true),
        ("[[:digit:]]", "7", true),
        ("[[:^digit:]x]", "x", true),
        ("[[a]", "[", true),
        ("[a*]", "aa]", true),
        ("[a*]", "a", false),
        ("[a?]", "/]", true),
        ("[.]", "x", false),
        ("[.]", ".", true),
        (r"[\d]", "7", true),
        (r"\d", "7", true),
        (r"\d", "d", false),
        (r"\D", "d", true),
        (r"\w\s", "a ", true),
        (r"\_\-", "_-", true),
        (r"[\t-\r]", "\n", true),
        ("a^b?", "a^bc", false),
        ("a^b", "a^b", true),
        ("~#&-?", "~#&-x", true),
        ("*.é", "x.é", true),
        ("a*[-_]", "ax-", true),
        ("a*[]b]", "ax]", true),
        (r"a*\", "ax$y", true),
        (r"a*\", "ax", false),
        ("\u{feff}?", "a", true),
    ] {
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }
    for (pattern, problem) in [
        ("[z-a]", PatternProblem::Brackets),
        ("[Local-Only]", PatternProblem::Brackets),
        ("[[:no:]]", PatternProblem::Brackets),
        ("[[:digit:]", PatternProblem::Brackets),
        (r"[a-\d]", PatternProblem::Brackets),
        (r"\q", PatternProblem::Escape('q')),
        (r"\7", PatternProblem::Escape('7')),
        (r"\é", PatternProblem::Escape('é')),
    ] {
        assert_eq!(check(pattern.as_bytes()), Ok(()), "{pattern}");
        let error = Shape::of(pattern.as_bytes()).expect_err(pattern);
        assert_eq!(error, problem, "{pattern}");
    }
}

#[test]
fn a_byte_that_is_not_utf_8_is_one_character() {
    let matches = |pattern: &[u8], path: &[u8]| {
        let shape = Shape::of(pattern).unwrap();
        shape.matches(pattern, path)
    };
    assert!(matches(b"?", b"\xff"));
    assert!(!matches(b"?", b"\xe2\x98"));
    assert!(matches(b"??", b"\xe2\x98"));
    assert!(matches(b"*.x", b"\xff.x"));
    assert!(matches(b"a\xff", b"a\xff"));
    assert!(!matches(b"a\xff", b"a\xfe"));
    assert!(matches(b"**/\xff", b"a/\xff"));
}

#[test]
fn one_name_is_matched_as_go_does() {
    for (pattern, name, expected) in [
        ("l*", "l1", true),
        ("l*", "al", false),
        ("*link", "anotherlink", true),
        ("*a*b", "xaxxb", true),
        ("*a*b", "xaxxbc", false),
        ("?", "é", true),
        ("??", "é", false),
        ("[^a-c]x", "dx", true),
        ("[^a-c]x", "bx", false),
        (r"\*", "*", true),
        (r"\*", "x", false),
        ("[a*]", "*", true),
        ("", "", true),
        ("*", "", true),
        ("[", "[", false),
    ] {
        let actual = name_matches(pattern.as_bytes(), name.as_bytes());
        assert_eq!(actual, expected, "{pattern} {name}");
    }
}
