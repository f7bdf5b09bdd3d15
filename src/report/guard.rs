//! Keeps a CI system from taking for its own what a job, a build or a registry says.
//!
//! GitHub's runner reads commands out of a step's output (actions/runner, `ActionCommand`): `::name …::` where a
//! line begins, blanks before it left out, and `##[name …]` anywhere; its page folds and colours by the latter.
//! GitLab folds by `section_start:TIME:NAME\r\e[0K` anywhere (`Gitlab::Regex.build_trace_section_regex`). A
//! backslash in what would be one makes it text. All else stays as it is, byte for byte.

use memchr::memchr3;

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
/// What GitLab's markers begin with, and what they end with.
const SECTIONS: [&[u8]; 2] = [b"section_start:", b"section_end:"];
const SECTION_END: &[u8] = b"\r\x1b[0K";

/// What one stream has said, as far as it matters for what comes.
#[derive(Debug)]
pub struct Guard {
    marks: Marks,
    /// What may yet become a command.
    held: Vec<u8>,
    /// Whether nothing but blanks is on the line.
    is_blank: bool,
    /// Whether one of GitLab's markers may have begun on the line.
    has_section: bool,
    /// Whether what was passed on last ends its line.
    is_ended: bool,
}

/// What text begins with.
enum Beginning {
    /// So many bytes that are no command.
    Text(usize),
    /// A command: its length, and where it is broken.
    Command(usize, usize),
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
            has_section: false,
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
                Marks::GitLab => self.gitlab(rest),
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
        (self.is_blank, self.has_section, self.is_ended) = (true, false, true);
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

    fn gitlab(&mut self, rest: &[u8]) -> Beginning {
        match memchr3(b's', b'\n', b'\r', rest) {
            None => Beginning::Text(rest.len()),
            Some(0) => match rest[0] {
                b'\n' => {
                    self.has_section = false;
                    Beginning::Text(1)
                }
                b'\r' if self.has_section && rest.starts_with(SECTION_END) => {
                    Beginning::Command(SECTION_END.len(), 0)
                }
                b'\r' if self.has_section && SECTION_END.starts_with(rest) => Beginning::Open,
                b's' if SECTIONS.iter().any(|section| rest.starts_with(section)) => {
                    self.has_section = true;
                    Beginning::Text(1)
                }
                b's' if SECTIONS.iter().any(|section| section.starts_with(rest)) => Beginning::Open,
                _ => Beginning::Text(1),
            },
            Some(at) => Beginning::Text(at),
        }
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
        for said in ["s", "section_", "section_start:", "::error::"] {
            assert_eq!(passed(Marks::GitLab, said), said, "{said:?}");
        }
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
        let end = "\r\u{1b}[0K";
        for section in [
            "section_start:1:a",
            "\u{1b}[0Ksection_end:1600445393032:NAME",
            "section_section_start:1:a[collapsed=true]",
            "50 %\rsection_start:1:a.b-c_d",
        ] {
            let said = format!("{section}{end}b\nc{end}");
            let shown = format!("{section}\\{end}b\nc{end}");
            assert_eq!(passed(Marks::GitLab, &said), shown);
        }
        for said in [
            "section_start:1:a\\r\\u001b[0K",
            "section_start:1:a\r\n",
            "section_start:1:a\r\u{1b}[0",
            "section_start:1:a\n\r\u{1b}[0K",
            "\r\u{1b}[0K50 %\r\u{1b}[0K60 %",
            "sections_end:1:a\r\u{1b}[0K",
        ] {
            assert_eq!(passed(Marks::GitLab, said), said);
        }
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
