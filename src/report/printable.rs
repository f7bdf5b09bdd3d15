//! What programs, engines, registries, labels and names of files say, as it can be shown.
//!
//! Their words may redraw lines, colour them, ring the bell, or turn the direction of writing. In a
//! log that is noise; on a terminal it would move what we draw, or say what is not so.

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
#[must_use]
pub fn text(said: &str) -> String {
    let lines: Vec<_> = said.split('\n').map(line).collect();
    lines.join("\n")
}

/// A name that a job may have given, on one line: what a terminal would act on is escaped, so that no name
/// looks like another.
#[must_use]
pub fn name(name: &str) -> String {
    path(name.as_ref())
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
                c if is_acted_on(c) => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// The words of a command on one line, as bash reads them back: what a terminal or a CI system's log would act on is
/// escaped (`$'…'`), and nothing is lost.
pub(super) fn command(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let words = words.into_iter().map(|word| {
        let word = word.as_ref();
        let is_special = |c: char| !matches!(c, '\n' | '\t') && is_acted_on(c);
        if word.contains("##[") || word.contains(is_special) {
            escaped_word(word)
        } else {
            shell_words::quote(word).into_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn escaped_word(word: &str) -> String {
    let mut escaped = String::from("$'");
    for c in word.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            '\\' | '\'' => escaped.extend(['\\', c]),
            '#' => escaped.push_str("\\043"),
            c if is_acted_on(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(escaped, "\\{byte:03o}");
                }
            }
            c => escaped.push(c),
        }
    }
    escaped.push('\'');
    escaped
}

/// A result as it is laid out, with nothing in it that a terminal would act on.
#[must_use]
pub fn laid_out(result: &str) -> String {
    let plain = anstream::adapter::strip_str(result).to_string();
    let is_kept = |c: &char| matches!(c, '\n' | '\t') || !is_acted_on(*c);
    plain.chars().filter(is_kept).collect()
}

/// JSON, or YAML that quotes as JSON does, with escapes for what a terminal or a runner of GitHub's would act
/// on: it is in texts only, and means the same there.
#[must_use]
pub fn escaped(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    let mut rest = document.chars();
    while let Some(c) = rest.next() {
        let is_command = c == '#' && rest.as_str().starts_with("#[");
        if is_command || c != '\n' && is_acted_on(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The text of a file, in which everything has the place that it had.
pub(super) fn source(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => c,
        c if !is_acted_on(c) => c,
        c => match c.len_utf8() {
            1 => '?',
            2 => '¿',
            _ => char::REPLACEMENT_CHARACTER,
        },
    };
    text.chars().map(shown).collect()
}

/// A text without escapes and control characters, and without blanks at its end.
fn plain(drawn: &str) -> String {
    let mut plain = String::with_capacity(drawn.len());
    for c in anstream::adapter::strip_str(drawn).to_string().chars() {
        match c {
            '\t' => plain.push_str("    "),
            c if is_acted_on(c) => {}
            c => plain.push(c),
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Whether a terminal does something else with it than show it: control characters (C0 and C1),
/// separators of lines, and what turns the direction of writing (Unicode's UAX #9).
fn is_acted_on(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::{command, escaped, laid_out, line, path, source, text};

    #[test]
    fn a_command_is_read_back_as_it_was() {
        for (words, shown) in [
            (&["echo", "-n", "a b"][..], "echo -n 'a b'"),
            (&["a\nb\tc"], "'a\nb\tc'"),
            (&["a\rb"], "$'a\\rb'"),
            (&["it's\u{1b}[31m\\n"], "$'it\\'s\\033[31m\\\\n'"),
            (&["\u{202e}z"], "$'\\342\\200\\256z'"),
            (&["##[group]x"], "$'\\043\\043[group]x'"),
            (&["", "\u{7f}1"], "'' $'\\1771'"),
        ] {
            assert_eq!(command(words), shown);
            let line = format!("printf '%s\\0' {shown}");
            let read = std::process::Command::new("bash")
                .args(["-c", &line])
                .output();
            let expected: String = words.iter().flat_map(|word| [*word, "\0"]).collect();
            assert_eq!(read.unwrap().stdout, expected.as_bytes());
        }
    }

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
    fn no_name_looks_like_another() {
        let names = [
            "loss",
            "x\nloss",
            "x\rloss",
            "\u{1b}[1mloss",
            "\u{202e}loss",
        ];
        let shown = names.map(super::name);
        let expected = [
            "loss",
            "x\\nloss",
            "x\\rloss",
            "\\x1b[1mloss",
            "\\u{202e}loss",
        ];
        assert_eq!(shown, expected);
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
            ("\u{202e}txt.exe\u{2066}", "txt.exe"),
        ] {
            assert_eq!(line(said), shown, "{said:?}");
        }
    }

    #[test]
    fn a_text_keeps_its_lines() {
        assert_eq!(text("a\r\n\u{1b}[1mb\u{1b}[0m\n\nc"), "a\nb\n\nc");
    }

    const HOSTILE: &str = "a\u{1b}]0;x\u{7}\u{9b}2Jb\u{85}\u{202e}c\u{7f}";

    #[test]
    fn a_result_keeps_its_columns() {
        assert_eq!(laid_out("a  b\t c  \n\u{1b}[31m d\r\n"), "a  b\t c  \n d\n");
        assert_eq!(laid_out(HOSTILE), "a2Jbc");
    }

    #[test]
    fn a_document_means_what_it_meant() {
        let document = serde_json::json!({ HOSTILE: [HOSTILE, "é漢\n"] });
        let written = escaped(&format!("{document:#}"));
        let is_acting = |c: char| c != '\n' && super::is_acted_on(c);
        assert!(!written.contains(is_acting), "{written:?}");
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read, document);
        assert_eq!(
            escaped("[\"a##[error]# #[\"]"),
            "[\"a\\u0023#[error]# #[\"]"
        );
    }

    #[test]
    fn a_source_keeps_its_places() {
        let shown = source(HOSTILE);
        assert_eq!(shown.len(), HOSTILE.len());
        assert_eq!(shown.find('b'), HOSTILE.find('b'));
        assert!(!shown.contains(super::is_acted_on), "{shown:?}");
    }
}
