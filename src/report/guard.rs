//! Keeps a CI system from taking for its own what a job, a build or a registry says.
//!
//! GitHub's runner reads commands out of a step's output (actions/runner, `ActionCommand`): `::name …::` where a
//! line begins, blanks before it left out, and `##[name …]` anywhere; its page folds and colours by the latter.
//! A backslash in what would be one makes it text. GitLab folds by `section_start:TIME:NAME\r\e[0K` anywhere
//! (`Gitlab::Regex.build_trace_section_regex`), whichever streams the parts come from; `\e[K` at its end erases
//! the same, and ends no marker. All else stays as it is, byte for byte.

use memchr::{memchr, memchr3};

use super::Marks;

/// The commands that GitHub's runner and its page know, whatever their case.
const COMMANDS: [&str; 20] = [
    "add-mask",
    "add-matcher",
    "add-path",
    "command",
    "debug",
    "echo",
    "end-action",
    "endgroup",
    "error",
    "group",
    "internal-set-repo-path",
    "notice",
    "remove-matcher",
    "save-state",
    "section",
    "set-env",
    "set-output",
    "start-action",
    "stop-commands",
    "warning",
];
/// The longest of them.
const LONGEST: usize = 22;
/// What GitLab's markers end with, and what means the same to a terminal.
const SECTION_END: &[u8] = b"\r\x1b[0K";
const LINE_ERASED: &[u8] = b"\r\x1b[K";
/// What makes .NET read all of a stream as UTF-16 or UTF-32, where it is the stream's beginning.
const ENCODINGS: [&[u8]; 3] = [b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"];

/// What one stream has said, as far as it matters for what comes.
#[derive(Debug)]
pub struct Guard {
    marks: Marks,
    /// What may yet become a command.
    held: Vec<u8>,
    /// Whether nothing but blanks is on the line.
    is_blank: bool,
    /// Whether nothing was said yet.
    is_first: bool,
    /// Whether what was passed on last ends its line.
    is_ended: bool,
}

/// What text begins with.
enum Beginning {
    /// So many bytes that are no command.
    Text(usize),
    /// A command: its length, and where it is broken.
    Command(usize, usize),
    /// The end of one of GitLab's markers.
    SectionEnd,
    /// What comes next decides.
    Open,
}

impl Guard {
    /// A stream that has said nothing yet.
    #[must_use]
    pub fn new(marks: Marks) -> Self {
        Self {
            marks,
            held: Vec::new(),
            is_blank: true,
            is_first: true,
            is_ended: true,
        }
    }

    /// What is passed on of some more bytes. A beginning that may become a command is held back.
    #[must_use]
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut said = std::mem::take(&mut self.held);
        said.extend_from_slice(bytes);
        let mut passed = Vec::with_capacity(said.len());
        let mut rest = said.as_slice();
        while !rest.is_empty() {
            let beginning = match self.marks {
                Marks::GitHub => self.github(rest),
                Marks::GitLab => gitlab(rest),
            };
            let length = match beginning {
                Beginning::Text(length) => {
                    passed.extend_from_slice(&rest[..length]);
                    length
                }
                Beginning::Command(length, at) => {
                    passed.extend_from_slice(&rest[..at]);
                    passed.push(b'\\');
                    passed.extend_from_slice(&rest[at..length]);
                    length
                }
                Beginning::SectionEnd => {
                    passed.extend_from_slice(LINE_ERASED);
                    SECTION_END.len()
                }
                Beginning::Open => {
                    self.held = rest.to_vec();
                    break;
                }
            };
            rest = &rest[length..];
        }
        if let Some(last) = passed.last() {
            self.is_ended = *last == b'\n';
        }
        passed
    }

    /// What is held back, and a line's end where the line has none: what is written next, past the guard,
    /// begins a line.
    #[must_use]
    pub fn end_line(&mut self) -> Vec<u8> {
        let mut rest = self.end();
        if !self.is_ended {
            rest.push(b'\n');
        }
        (self.is_blank, self.is_ended) = (true, true);
        rest
    }

    /// What is held back, where nothing more comes: it has become no command.
    #[must_use]
    pub fn end(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.held);
        if !rest.is_empty() {
            (self.is_blank, self.is_ended) = (false, false);
        }
        rest
    }

    fn github(&mut self, rest: &[u8]) -> Beginning {
        if self.is_first {
            if ENCODINGS
                .iter()
                .any(|mark| mark.len() > rest.len() && mark.starts_with(rest))
            {
                return Beginning::Open;
            }
            self.is_first = false;
            if let Some(mark) = ENCODINGS.iter().find(|mark| rest.starts_with(mark)) {
                return Beginning::Command(mark.len(), 0);
            }
        }
        if self.is_blank {
            // .NET trims what Unicode has for blanks; what is not ASCII is not looked at any closer.
            let blanks = rest.iter().take_while(|byte| !byte.is_ascii_graphic());
            let blanks = blanks.count();
            if blanks > 0 {
                return Beginning::Text(blanks);
            }
            let beginning = match rest.strip_prefix(b":") {
                Some(b"") => Beginning::Open,
                Some([b':', ..]) => command(rest, 2, 0, &[b" ", b"::"]),
                _ => Beginning::Text(0),
            };
            self.is_blank = matches!(beginning, Beginning::Open);
            return beginning;
        }
        match memchr3(b'#', b'\n', b'\r', rest) {
            None => Beginning::Text(rest.len()),
            Some(0) if rest[0] == b'#' => match rest {
                [b'#'] | [b'#', b'#'] => Beginning::Open,
                [b'#', b'#', b'[', ..] => match command(rest, 3, 3, &[b" ", b"]"]) {
                    Beginning::Text(_) => Beginning::Text(1),
                    beginning => beginning,
                },
                _ => Beginning::Text(1),
            },
            Some(0) => {
                self.is_blank = true;
                Beginning::Text(1)
            }
            Some(at) => Beginning::Text(at),
        }
    }
}

fn gitlab(rest: &[u8]) -> Beginning {
    match memchr(b'\r', rest) {
        None => Beginning::Text(rest.len()),
        Some(0) if rest.starts_with(SECTION_END) => Beginning::SectionEnd,
        Some(0) if SECTION_END.starts_with(rest) => Beginning::Open,
        Some(0) => Beginning::Text(1),
        Some(at) => Beginning::Text(at),
    }
}

/// A command whose name begins at `name`, is followed by one of `ends`, and is broken at `at`.
fn command(rest: &[u8], name: usize, at: usize, ends: &[&[u8]]) -> Beginning {
    let behind = &rest[name..];
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
    let length = behind.iter().take_while(is_part).count();
    let (word, behind) = behind.split_at(length);
    if length > LONGEST {
        return Beginning::Text(0);
    }
    let is_open = ends.iter().any(|end| end.starts_with(behind));
    let is_ended = ends.iter().any(|end| behind.starts_with(end));
    let mut known = COMMANDS.iter().map(|name| name.as_bytes());
    match (is_ended, is_open) {
        (true, _) if known.any(|name| name.eq_ignore_ascii_case(word)) => {
            Beginning::Command(name + length, at)
        }
        (false, true) => Beginning::Open,
        _ => Beginning::Text(0),
    }
}

/// A whole text without a command in it.
pub(super) fn harmless(marks: Marks, text: &str) -> String {
    let mut guard = Guard::new(marks);
    let mut bytes = guard.pass(text.as_bytes());
    bytes.extend(guard.end());
    // A backslash between two characters leaves both whole.
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of a text, however it is cut into pieces.
    fn passed(marks: Marks, said: &str) -> String {
        let whole = harmless(marks, said);
        for size in [1, 2, 3, 7] {
            let mut guard = Guard::new(marks);
            let mut pieces = Vec::new();
            for piece in said.as_bytes().chunks(size) {
                pieces.extend(guard.pass(piece));
                assert!(guard.held.len() <= LONGEST + 4, "{said:?}");
            }
            pieces.extend(guard.end());
            assert_eq!(
                String::from_utf8(pieces).unwrap(),
                whole,
                "{said:?} by {size}"
            );
        }
        whole
    }

    #[test]
    fn what_githubs_runner_takes_for_a_command_is_text() {
        for (said, shown) in [
            ("::error::x", "\\::error::x"),
            ("::set-output name=a::b", "\\::set-output name=a::b"),
            ("::ERROR file=a,line=1::x\n", "\\::ERROR file=a,line=1::x\n"),
            (
                " \t\u{a0}\u{3000}::add-mask::x",
                " \t\u{a0}\u{3000}\\::add-mask::x",
            ),
            ("\u{feff}::stop-commands::x", "\u{feff}\\::stop-commands::x"),
            (
                "a\n::group::b\r::endgroup::\r\n::debug::",
                "a\n\\::group::b\r\\::endgroup::\r\n\\::debug::",
            ),
            ("a ##[error]b", "a ##[\\error]b"),
            ("###[group]b", "###[\\group]b"),
            (
                "##[add-path ]/x##[Warning]",
                "##[\\add-path ]/x##[\\Warning]",
            ),
            (
                "##[section]a\n##[command]b",
                "##[\\section]a\n##[\\command]b",
            ),
            (
                "::internal-set-repo-path::x",
                "\\::internal-set-repo-path::x",
            ),
            ("::::error::x", "::::error::x"),
        ] {
            assert_eq!(passed(Marks::GitHub, said), shown, "{said:?}");
        }
    }

    #[test]
    fn what_no_runner_takes_for_a_command_stays_as_it_is() {
        for said in [
            "",
            ":",
            "::",
            "::err",
            "##",
            "##[",
            "a ::error::x",
            "::std::vector<int> a;",
            ": :error::x",
            "::errors::x",
            "\\::error::x",
            "## [error]",
            "##[x]",
            "##[errors]",
            "# a\n## b\n",
            "\u{1b}[31m::error::\u{1b}[0m",
            "::aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa::",
            "漢\u{1f600}",
        ] {
            assert_eq!(passed(Marks::GitHub, said), said, "{said:?}");
        }
        assert_eq!(passed(Marks::GitLab, "::error::"), "::error::");
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let bytes: Vec<u8> = (0..=255).cycle().take(2000).collect();
        for marks in [Marks::GitHub, Marks::GitLab] {
            let mut guard = Guard::new(marks);
            assert_eq!(guard.pass(&bytes), bytes);
        }
    }

    #[test]
    fn gitlabs_sections_are_text() {
        for said in [
            "section_start:1:a\r\u{1b}[0Kb",
            "\u{1b}[0Ksection_end:1600445393032:NAME\r\u{1b}[0K",
            "section_start:1:a[collapsed=true]\r\u{1b}[0Kb\r\r\u{1b}[0K",
        ] {
            let shown = said.replace("\r\u{1b}[0K", "\r\u{1b}[K");
            assert_eq!(passed(Marks::GitLab, said), shown);
        }
        for said in [
            "section_start:1:a\\r\\u001b[0K",
            "a\r\n",
            "a\r\u{1b}[0",
            "\r\u{1b}[K50 %",
        ] {
            assert_eq!(passed(Marks::GitLab, said), said);
        }
    }

    #[test]
    fn a_stream_is_not_read_in_another_encoding() {
        for begins in ENCODINGS {
            let said = [begins, b":\0:\0e\0"].concat();
            let mut guard = Guard::new(Marks::GitHub);
            let mut passed = guard.pass(&said[..1]);
            passed.extend(guard.pass(&said[1..]));
            assert_eq!(passed, [b"\\", said.as_slice()].concat());
            assert_eq!(guard.pass(&said), said);
        }
        let mut guard = Guard::new(Marks::GitHub);
        assert_eq!(guard.pass(b"\0"), b"");
        assert_eq!(guard.pass(b"\0a"), b"\0\0a");
    }

    #[test]
    fn what_is_written_past_the_guard_begins_a_line() {
        let mut guard = Guard::new(Marks::GitHub);
        assert_eq!(guard.end_line(), b"");
        assert_eq!(guard.pass(b"a\n"), b"a\n");
        assert_eq!(guard.end_line(), b"");
        assert_eq!(guard.pass(b"50 %\n  ::err"), b"50 %\n  ");
        assert_eq!(guard.end_line(), b"::err\n");
        assert_eq!(guard.pass(b"or::x"), b"or::x");
        assert_eq!(guard.pass(b"\n::error::x"), b"\n\\::error::x");
    }
}
