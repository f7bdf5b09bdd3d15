//! Docker's grammar (docker/cli, `pkg/kvfile`): the value is everything behind the `=`.
//!
//! A line is trimmed at its beginning and nowhere else. Empty lines, and those that begin with `#`,
//! are nothing. Go's and Rust's white space are the same (Unicode's `White_Space`).

use std::ops::Range;

use super::Rule;
use super::findings::Findings;

/// Reads all lines.
pub(super) fn parse(findings: &mut Findings<'_>) {
    let text = findings.text;
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        lines.push((start, content.strip_suffix('\r').unwrap_or(content)));
        start += line.len();
    }
    let mut index = 0;
    while let Some((start, line)) = lines.get(index) {
        let content = line.trim_start();
        let start = start + line.len() - content.len();
        index += 1;
        if let Some(at) = content.find('\r') {
            lone_carriage_return(findings, start + at);
        }
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        // Lines that belong to a quote are likely a secret's, and where it ends can't be told for
        // sure: nothing behind it is looked at.
        let sign = content.find('=').or_else(|| content.find(": "));
        let is_open = sign.is_some_and(|sign| {
            let value = content[sign + 1..].trim_start();
            is_closed_later(value, &lines[index..])
        });
        if is_open {
            index = lines.len();
        }
        let Some((name, value)) = content.split_once('=') else {
            alone(findings, start, content);
            continue;
        };
        let at = start..start + name.len();
        if name.is_empty() {
            let diagnostic = Rule::EnvSyntax
                .error("there is no name before the `=`")
                .help("write `NAME=value`, or begin the line with `#` if it is a comment");
            findings.report(diagnostic, start..start + 1);
        } else if name.contains([' ', '\t']) {
            blank_in_name(findings, start, name);
        } else if is_open {
            let shown = findings.shown(at.clone());
            let diagnostic = Rule::EnvQuote
                .error(format!("the quote of {shown} is closed on a later line"))
                .help("a value is on one line: take `format: compose`, or a file under `secrets`");
            findings.report(diagnostic, at.end + 1..at.end + 1 + value.len());
        } else {
            traps(findings, at.clone(), value);
            let place = at.start..at.end + 1 + value.len();
            findings.add(at, place, value.to_owned());
        }
    }
}

/// A line without `=`.
fn alone(findings: &mut Findings<'_>, start: usize, content: &str) {
    let at = start..start + content.len();
    if content.contains([' ', '\t']) {
        if strip_export(content).is_some() {
            blank_in_name(findings, start, content);
            return;
        }
        let diagnostic = Rule::EnvSyntax
            .error("the line has no `=`")
            .help("write `NAME=value`, or begin the line with `#` if it is a comment");
        findings.report(diagnostic, at);
        return;
    }
    findings.add_from_caller(at);
}

/// What is behind a shell's `export`.
fn strip_export(name: &str) -> Option<&str> {
    name.strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
}

/// A name that has blanks, and why people write one.
fn blank_in_name(findings: &mut Findings<'_>, start: usize, name: &str) {
    let at = start..start + name.len();
    let (message, help) = if strip_export(name).is_some() {
        findings.shown(start..start + "export".len());
        (
            "the line begins with `export`, which only shells know",
            "remove `export`, or take `format: compose`",
        )
    } else if name.trim_end_matches([' ', '\t']).contains([' ', '\t']) {
        (
            "the name of a variable can't contain a blank",
            "write `NAME=value`, or begin the line with `#` if it is a comment",
        )
    } else {
        findings.shown(start..start + name.trim_end().len());
        (
            "there is a blank before the `=`",
            "write `NAME=value`, without blanks around the `=`",
        )
    };
    findings.report(Rule::EnvSyntax.error(message).help(help), at);
}

/// Whether a value opens a quote that a later line closes; one that no line closes is an ordinary
/// letter.
fn is_closed_later(value: &str, next: &[(usize, &str)]) -> bool {
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return false;
    };
    !value[1..].contains(quote) && next.iter().any(|(_, line)| line.contains(quote))
}

/// What docker takes as a part of the value, and people seldom mean so.
fn traps(findings: &mut Findings<'_>, name: Range<usize>, value: &str) {
    let start = name.end + 1;
    if value.starts_with(['"', '\'']) {
        let shown = findings.shown(name.clone());
        let diagnostic = Rule::EnvQuote
            .warning(format!("the quotes are part of the value of {shown}"))
            .help("remove them, or take `format: compose`");
        findings.report(diagnostic, start..start + value.len());
    }
    let blank_before_hash = value
        .match_indices('#')
        .find(|(at, _)| value[..*at].ends_with([' ', '\t']));
    if let Some((at, _)) = blank_before_hash {
        let shown = findings.shown(name.clone());
        let diagnostic = Rule::EnvComment
            .warning(format!(
                "what looks like a comment is part of the value of {shown}"
            ))
            .help("put it on a line of its own, or take `format: compose`");
        findings.report(diagnostic, start + at..start + value.len());
    }
    let trimmed = value.trim_end();
    if trimmed.len() < value.len() && !value[trimmed.len()..].contains('\r') {
        let shown = findings.shown(name.clone());
        let diagnostic = Rule::EnvBlank
            .warning(format!(
                "the value of {shown} ends with blanks, which are kept"
            ))
            .help("remove them, or take `format: compose`");
        findings.report(diagnostic, start + trimmed.len()..start + value.len());
    }
    let leading = value.len() - value.trim_start().len();
    if leading > 0 && !trimmed.is_empty() {
        let shown = findings.shown(name);
        let diagnostic = Rule::EnvBlank
            .warning(format!(
                "the value of {shown} begins with blanks, which are kept"
            ))
            .help("remove them, or take `format: compose`");
        findings.report(diagnostic, start..start + leading);
    }
}

/// A line's end of old systems, which docker does not know.
pub(super) fn lone_carriage_return(findings: &mut Findings<'_>, at: usize) {
    let diagnostic = Rule::EnvLineEnd
        .warning("a carriage return without a line feed does not end the line")
        .help("end lines with a line feed: `tr '\\r' '\\n'`");
    findings.report(diagnostic, at..at + 1);
}

#[cfg(test)]
mod tests {
    use super::super::Unset;
    use super::super::tests::{read, table};
    use crate::manifest::schema::EnvFileFormat;

    #[test]
    fn a_value_is_what_docker_makes_of_it() {
        table(
            EnvFileFormat::Raw,
            &[
                ("", &[], &[]),
                ("\n  \n# A=1\n  # B=2\n", &[], &[]),
                ("A=1", &[("A", "1")], &[]),
                ("A=", &[("A", "")], &[]),
                ("A=b=c==", &[("A", "b=c==")], &[]),
                ("A-B.C=1", &[("A-B.C", "1")], &[]),
                ("ü=ö", &[("ü", "ö")], &[]),
                ("B=${A} $A", &[("B", "${A} $A")], &[]),
                (r"A=\n\t", &[("A", r"\n\t")], &[]),
                ("A=#b", &[("A", "#b")], &[]),
                ("  \t\u{a0}A=1", &[("A", "1")], &[]),
                ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")], &[]),
                ("A=1\nB=2\r", &[("A", "1"), ("B", "2")], &[]),
                ("\u{feff}A=1\nB=2", &[("A", "1"), ("B", "2")], &[]),
                ("SET\nEMPTY", &[("SET", "from caller"), ("EMPTY", "")], &[]),
                ("A=a b", &[("A", "a b")], &[]),
                ("A:B=1", &[("A:B", "1")], &[]),
            ],
        );
    }

    /// The rows of docker/cli's `kvfile` tests and of its `TestReadKVEnvStrings`. What docker leaves out because the
    /// user has not set it is an error here, unless that is allowed.
    #[test]
    fn files_are_what_docker_makes_of_them() {
        let allowed = |text: &str| read(EnvFileFormat::Raw, Unset::Allowed, text.as_bytes()).0;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            (
                "# comment=\nVAR=VAR_VALUE\nEMPTY_VAR=\nUNDEFINED_VAR\nSET\n",
                vec![
                    pair("VAR", "VAR_VALUE"),
                    pair("EMPTY_VAR", ""),
                    pair("SET", "from caller"),
                ],
            ),
            (
                "foo=bar\n    baz=quux\n# comment\n\n_foobar=foobaz\nwith.dots=working\n\
                 and_underscore=working too\n\n    \t  ",
                vec![
                    pair("foo", "bar"),
                    pair("baz", "quux"),
                    pair("_foobar", "foobaz"),
                    pair("with.dots", "working"),
                    pair("and_underscore", "working too"),
                ],
            ),
            ("", vec![]),
            (
                "Z1=z\nEMPTY_VAR=\nSET\nNO_SUCH_ENV\n",
                vec![
                    pair("Z1", "z"),
                    pair("EMPTY_VAR", ""),
                    pair("SET", "from caller"),
                ],
            ),
            ("Z2=z\nA2=a", vec![pair("Z2", "z"), pair("A2", "a")]),
            ("foo=bar\n    f   =quux\n", vec![]),
            ("first line\nanother invalid line", vec![]),
            (
                "# comment=\n=blank variable names are an error case\n",
                vec![],
            ),
        ] {
            assert_eq!(allowed(text), expected, "{text:?}");
        }
        // docker stops at lines of 64 KiB; Linux takes 128.
        let long = format!("foo={}", "a".repeat(64 * 1024 + 42));
        assert_eq!(allowed(&long).len(), 1);
    }

    #[test]
    fn what_is_seldom_meant_is_a_warning() {
        table(
            EnvFileFormat::Raw,
            &[
                ("A=\"x y\"", &[("A", "\"x y\"")], &["env-quote 1:3"]),
                ("A='x'", &[("A", "'x'")], &["env-quote 1:3"]),
                (
                    "A='tis\nB=1",
                    &[("A", "'tis"), ("B", "1")],
                    &["env-quote 1:3"],
                ),
                ("A=it's", &[("A", "it's")], &[]),
                ("A=1\rB=2", &[("A", "1\rB=2")], &["env-line-end 1:4"]),
                ("# old\rA=2", &[], &["env-line-end 1:6"]),
                ("A=1\r\r\n", &[("A", "1\r")], &["env-line-end 1:4"]),
                ("A=1  ", &[("A", "1  ")], &["env-blank 1:4"]),
                ("A=1\t\r\n", &[("A", "1\t")], &["env-blank 1:4"]),
                ("A=  ", &[("A", "  ")], &["env-blank 1:3"]),
                ("A= 1", &[("A", " 1")], &["env-blank 1:3"]),
                ("A=1 # c", &[("A", "1 # c")], &["env-comment 1:5"]),
                (
                    "A=1\nB=2\nA=3",
                    &[("A", "3"), ("B", "2")],
                    &["env-duplicate 3:1"],
                ),
                (
                    "A=1\nSET\nSET=2",
                    &[("A", "1"), ("SET", "2")],
                    &["env-duplicate 3:1"],
                ),
            ],
        );
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        table(
            EnvFileFormat::Raw,
            &[
                ("=1", &[], &["env-syntax 1:1"]),
                ("export A=1", &[], &["env-syntax 1:1"]),
                ("export A", &[], &["env-syntax 1:1"]),
                ("  A = 1", &[], &["env-syntax 1:3"]),
                ("A B=1", &[], &["env-syntax 1:1"]),
                ("A ", &[], &["env-syntax 1:1"]),
                ("some words", &[], &["env-syntax 1:1"]),
                (
                    "A=1\nB=2\n=3\nNONE",
                    &[],
                    &["env-syntax 3:1", "env-unset 4:1"],
                ),
                ("A=x\0y", &[], &["env-syntax 1:1"]),
                ("A\0", &[], &["env-syntax 1:1"]),
                ("NONE", &[], &["env-unset 1:1"]),
                ("A=\"one\n  two words\nthree\"\n=1", &[], &["env-quote 1:3"]),
                (
                    "export A=\"one\ntwo=\"\nB: 'x\ny=1\n'\n=1",
                    &[],
                    &["env-syntax 1:1"],
                ),
            ],
        );
    }
}
