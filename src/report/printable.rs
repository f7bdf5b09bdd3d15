//! What programs, engines and registries say, as it can be shown.
//!
//! Their words may redraw lines, colour them, or ring the bell. In a log that is noise, on a
//! terminal it would move what we draw.

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
    use super::{line, text};

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
