//! What programs, engines and registries say, as it can be shown.
//!
//! Their words may redraw lines, colour them, or ring the bell. In a log that is noise, on a
//! terminal it would move what we draw.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// One line of it: without escapes and control characters, and only what was drawn last where the
/// line was drawn several times.
pub(super) fn line(said: &str) -> String {
    let drawn = said.split(['\r', '\n']).rev();
    let mut plain = drawn.map(plain);
    plain.find(|text| !text.is_empty()).unwrap_or_default()
}

/// The same for a text that may have several lines.
/// A text of others, with nothing in it that a terminal would act on.
#[must_use]
pub fn text(said: &str) -> String {
    let lines: Vec<_> = said.split('\n').map(line).collect();
    lines.join("\n")
}

/// A path on one line, whatever its bytes are: what is not text, and what a terminal would act on, is
/// escaped as in a string of Rust's.
pub(super) fn path(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                c if c.is_ascii_control() && !matches!(c, '\n' | '\r' | '\t') => {
                    let _ = write!(shown, "\\x{:02x}", u32::from(c));
                }
                c if is_unsafe(c) => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Control characters, and those that change the direction of what follows (Unicode, UAX #9).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text without escapes and control characters, and without blanks at its end.
fn plain(drawn: &str) -> String {
    let mut plain = String::with_capacity(drawn.len());
    for c in anstream::adapter::strip_str(drawn).to_string().chars() {
        match c {
            '\t' => plain.push_str("    "),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::{line, path, text};

    #[test]
    fn a_path_is_shown_on_one_line_whatever_its_bytes_are() {
        for (bytes, shown) in [
            (&b"a/b c"[..], "a/b c"),
            ("é 漢".as_bytes(), "é 漢"),
            (b"a\nb\tc\x1b[1m\x7f", "a\\nb\\tc\\x1b[1m\\x7f"),
            (b"caf\xe9\\", "caf\\xe9\\\\"),
            ("\u{202e}gnp\u{9b}".as_bytes(), "\\u{202e}gnp\\u{9b}"),
        ] {
            assert_eq!(path(OsStr::from_bytes(bytes).as_ref()), shown, "{bytes:?}");
        }
    }

    #[test]
    fn a_line_is_what_was_drawn_last() {
        for (said, shown) in [
            ("", ""),
            ("  Compiling job", "  Compiling job"),
            ("10 %\r50 %\r100 %", "100 %"),
            ("done\r", "done"),
            ("done\r\n", "done"),
            ("\u{1b}[1;32mok\u{1b}[0m", "ok"),
            ("\u{1b}[2K\u{1b}[1A\u{1b}[?25lup", "up"),
            ("\u{1b}]0;title\u{7}bell\u{7}", "bell"),
            ("50 %\r\u{1b}[K", "50 %"),
            ("a\tb", "a    b"),
            ("é 漢 \u{1f600}", "é 漢 \u{1f600}"),
            ("\u{9b}31mred", "31mred"),
        ] {
            assert_eq!(line(said), shown, "{said:?}");
        }
    }

    #[test]
    fn a_text_keeps_its_lines() {
        assert_eq!(text("a\r\n\u{1b}[1mb\u{1b}[0m\n\nc"), "a\nb\n\nc");
    }
}
