//! Paths as bytes with `/` separators, as Go's `path/filepath` treats them on Unix.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The bytes as a path of this system's.
pub(super) fn from_bytes(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The shortest equal path: no `.`, no inner `..`, no doubled or trailing `/`; `.` for nothing.
///
/// As Go's `filepath.Clean`.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let is_rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (is_rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Two paths joined and cleaned; an empty one adds nothing. As Go's `filepath.Join`.
pub(super) fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    match (first.is_empty(), second.is_empty()) {
        (true, true) => Vec::new(),
        (true, false) => clean(second),
        (false, true) => clean(first),
        (false, false) => clean(&[first, b"/", second].concat()),
    }
}

/// The folder of a cleaned path, `.` for none. As Go's `filepath.Dir`.
pub(super) fn folder(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => clean(&path[..=slash]),
        None => b".".to_vec(),
    }
}

/// The last part of a path.
pub(super) fn name(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => &path[slash + 1..],
        None => path,
    }
}

/// The text without white space (Unicode's) at both ends. As Go's `bytes.TrimSpace`.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let Some(length) = (1..=3).find(|n| is_space(text.get(..*n))) {
        text = &text[length..];
    }
    while let Some(length) =
        (1..=3).find(|n| is_space(text.len().checked_sub(*n).map(|start| &text[start..])))
    {
        text = &text[..text.len() - length];
    }
    text
}

/// Whether the bytes are exactly one character of white space. All of them have at most 3 bytes.
fn is_space(bytes: Option<&[u8]>) -> bool {
    bytes
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .is_some_and(|text| {
            let mut characters = text.chars();
            characters.next().is_some_and(char::is_whitespace) && characters.next().is_none()
        })
}

#[cfg(test)]
mod tests {
    use super::{clean, folder, join, name, trim};

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("//", "/"),
            ("a", "a"),
            ("a/", "a"),
            ("./a", "a"),
            ("a//b/./c/", "a/b/c"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("/a/../..", "/"),
            ("!../a", "!../a"),
        ] {
            let cleaned = clean(path.as_bytes());
            assert_eq!(String::from_utf8(cleaned).unwrap(), expected, "{path}");
        }
        assert_eq!(join(b"", b""), b"");
        assert_eq!(join(b".", b"a"), b"a");
        assert_eq!(join(b"a", b""), b"a");
        assert_eq!(join(b"/", b"../a"), b"/a");
        assert_eq!(
            (folder(b"a"), folder(b"a/b/c")),
            (b".".to_vec(), b"a/b".to_vec())
        );
        assert_eq!((name(b"a"), name(b"a/b")), (&b"a"[..], &b"b"[..]));
    }

    #[test]
    fn white_space_is_unicodes() {
        assert_eq!(trim(b" \t a b \r\x0b"), b"a b");
        assert_eq!(trim("\u{a0}\u{2003}a\u{85}".as_bytes()), b"a");
        assert_eq!(trim(b" \xff "), b"\xff");
        assert_eq!(trim(b"  "), b"");
    }
}
