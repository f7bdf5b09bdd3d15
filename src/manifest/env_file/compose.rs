//! Compose's grammar (compose-go, `dotenv`).
//!
//! A statement is `NAME=value` or `NAME: value`, with `export` in front or not, or a name alone.
//! Text behind a closing quote, which compose reads as the next statement, is an error here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use super::docker::lone_carriage_return;
use super::findings::Findings;
use super::{Rule, Unset};
use crate::manifest::interpolate::{Dialect, expand};
use crate::model::Secret;

/// Reads all statements.
pub(super) fn parse(findings: &mut Findings<'_>) {
    let mut parser = Parser {
        text: findings.text,
        at: 0,
    };
    while parser.skip_to_statement() {
        parser.statement(findings);
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// Where a value ends, and what it says.
struct Value {
    place: Range<usize>,
    /// What is put into the job, or a template of it.
    text: String,
    has_variables: bool,
    /// Whether the text is a piece of the file as it stands there.
    is_verbatim: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks, empty lines and comments; whether anything follows.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return !self.rest().is_empty();
            }
            self.skip_line();
        }
    }

    /// Skips the rest of the line.
    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest().find(|c| !is_blank(c));
        self.at += blanks.unwrap_or(self.rest().len());
    }

    fn statement(&mut self, findings: &mut Findings<'_>) {
        let after_export = self.rest().strip_prefix("export");
        if after_export.is_some_and(|rest| rest.starts_with(is_blank)) {
            self.at += "export".len();
            self.skip_blanks();
        }
        let start = self.at;
        let length = self.rest().find(['=', ':', '\n']);
        let length = length.unwrap_or(self.rest().len());
        let name = self.rest()[..length].trim_end();
        let at = start..start + name.len();
        let is_alone = self.rest()[length..].is_empty() || self.rest()[length..].starts_with('\n');
        if let Err((message, help)) = check_name(name, is_alone) {
            self.recover(length, is_alone);
            findings.report(
                Rule::EnvSyntax.error(message).help(help),
                at.start..at.end.max(at.start + 1),
            );
            return;
        }
        self.at += length;
        if is_alone {
            findings.add_from_caller(at);
            return;
        }
        self.at += 1;
        self.skip_blanks();
        let value = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote, &at, findings),
            _ => Some(self.unquoted(&at, findings)),
        };
        let Some(value) = value else {
            return;
        };
        if let Some(text) = expanded(&value, &at, findings) {
            findings.add(at, value.place, text);
        }
    }

    /// Goes on behind a name that is none; behind its value too, so that nothing of that is read
    /// as a name.
    fn recover(&mut self, length: usize, is_alone: bool) {
        self.at += length;
        if is_alone {
            return;
        }
        self.at += 1;
        self.skip_blanks();
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            let end = closing(self.rest(), quote);
            self.at = end.map_or(self.text.len(), |end| self.at + end + 1);
        }
        self.skip_line();
    }

    fn unquoted(&mut self, name: &Range<usize>, findings: &mut Findings<'_>) -> Value {
        let start = self.at;
        self.skip_line();
        let line = &self.text[start..self.at];
        let value = line.split(" #").next().unwrap_or_default().trim_end();
        if let Some(at) = value.find('\r') {
            lone_carriage_return(findings, start + at);
        }
        let hash = value.find('#');
        if hash.is_some_and(|at| at == 0 || value[..at].ends_with('\t')) {
            let shown = findings.shown(name.clone());
            let diagnostic = Rule::EnvComment
                .warning(format!(
                    "what looks like a comment is part of the value of {shown}"
                ))
                .help("put it on a line of its own, or a value and a blank before it");
            findings.report(diagnostic, start..start + value.len());
        }
        Value {
            place: start..start + value.len(),
            text: value.to_owned(),
            has_variables: true,
            is_verbatim: true,
        }
    }

    fn quoted(
        &mut self,
        quote: char,
        name: &Range<usize>,
        findings: &mut Findings<'_>,
    ) -> Option<Value> {
        let start = self.at;
        let Some(end) = closing(self.rest(), quote) else {
            let line = self.rest().find('\n').unwrap_or(self.rest().len());
            let shown = findings.shown(name.clone());
            let diagnostic = Rule::EnvQuote
                .error(format!("the quote of {shown} is not closed"))
                .help(format!(
                    "close it with {quote}, or write \\{quote} for the letter"
                ));
            findings.report(diagnostic, start..start + line);
            // Whatever follows may belong to the value.
            self.at = self.text.len();
            return None;
        };
        let inner = &self.rest()[1..end];
        self.at += end + 1;
        let place = start..self.at;
        self.skip_blanks();
        let behind = self.at;
        self.skip_line();
        let tail = self.text[behind..self.at].trim_end();
        if !tail.is_empty() && !tail.starts_with('#') {
            let shown = findings.shown(name.clone());
            let diagnostic = Rule::EnvSyntax
                .error(format!("something follows the closing quote of {shown}"))
                .help("put it into the quotes, or on a line of its own, or `#` in front of it");
            findings.report(diagnostic, behind..behind + tail.len());
            // The quote may have been closed too early: whatever follows may belong to the value.
            self.at = self.text.len();
            return None;
        }
        let text = unescape_quote(inner, quote);
        Some(if quote == '"' {
            Value {
                place,
                text: unescape(&text),
                has_variables: true,
                is_verbatim: false,
            }
        } else {
            Value {
                place,
                text,
                has_variables: false,
                is_verbatim: false,
            }
        })
    }
}

/// A blank that does not end a line, as Go code of compose has it.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}'
    )
}

/// What is wrong with a name, and how to fix it.
fn check_name(name: &str, is_alone: bool) -> Result<(), (&'static str, &'static str)> {
    let is_letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
    let comment = "write `NAME=value`, or begin the line with `#` if it is a comment";
    if name.is_empty() {
        return Err(("there is no name before the `=`", comment));
    }
    if name.chars().all(is_letter) {
        return Ok(());
    }
    if is_alone {
        return Err(("the line has no `=`", comment));
    }
    if name.chars().all(|c| is_letter(c) || is_blank(c)) {
        return Err(("the name of a variable can't contain a blank", comment));
    }
    Err((
        "the name of a variable has letters, digits, `_`, `.`, `-`, `[`, and `]` only",
        "write `NAME=value`, or take `format: raw`, which allows more",
    ))
}

/// Where the quote is closed that a text begins with. A quote behind a backslash does not count,
/// unless that backslash is itself behind one.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// A quote behind a backslash is the quote. Other backslashes stay.
fn unescape_quote(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(next)) => {
                chars.next();
                if next != quote {
                    out.push('\\');
                }
                out.push(next);
            }
            _ => out.push(c),
        }
    }
    out
}

/// What backslashes mean in double quotes: Go's escapes of one letter, `\0` with three octal
/// digits, and `\$`, which becomes `$$`. Others stay.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (replacement, length) = match behind.chars().next() {
            Some('a') => ('\u{7}', 1),
            Some('b') => ('\u{8}', 1),
            Some('f') => ('\u{c}', 1),
            Some('n') => ('\n', 1),
            Some('r') => ('\r', 1),
            Some('t') => ('\t', 1),
            Some('v') => ('\u{b}', 1),
            Some('"') => ('"', 1),
            Some('\\') => ('\\', 1),
            Some('$') => {
                out.push('$');
                ('$', 1)
            }
            Some('0') => match octal(&behind[1..]) {
                Some(c) => (c, 4),
                None => ('\\', 0),
            },
            _ => ('\\', 0),
        };
        out.push(replacement);
        rest = &behind[length..];
    }
    out.push_str(rest);
    out
}

/// The letter that three octal digits stand for, up to `377`.
fn octal(text: &str) -> Option<char> {
    let digits = text
        .get(..3)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    u8::from_str_radix(digits, 8).ok().map(char::from)
}

/// A value with its variables put in.
fn expanded(value: &Value, name: &Range<usize>, findings: &mut Findings<'_>) -> Option<String> {
    if !value.has_variables || !value.text.contains('$') {
        return Some(value.text.clone());
    }
    let dialect = match findings.reading.unset {
        Unset::Refused => Dialect::EnvFile,
        Unset::Allowed => Dialect::LenientEnvFile,
    };
    let caller = findings.reading.caller;
    let interpolated = RefCell::new(BTreeMap::new());
    let lookup = |name: &str| {
        let given = caller.get(name).or_else(|| findings.value(name));
        if let Some(value) = given {
            let value = Secret::new(value);
            interpolated.borrow_mut().insert(name.to_owned(), value);
        }
        given.map(str::to_owned)
    };
    let expanded = expand(&value.text, dialect, &lookup);
    findings.interpolated.extend(interpolated.into_inner());
    match expanded {
        Ok(text) => Some(text),
        Err(problems) => {
            let shown = findings.shown(name.clone());
            // Only where the text is as it is written are the places of the variables known.
            let reported = if value.is_verbatim { problems.len() } else { 1 };
            for problem in problems.into_iter().take(reported) {
                // The problem's own words have pieces of the value in them.
                let at = if value.is_verbatim {
                    value.place.start + problem.at.start..value.place.start + problem.at.end
                } else {
                    value.place.clone()
                };
                let (message, help) = match problem.rule {
                    Rule::UnsetVariable => (
                        format!("the value of {shown} needs a variable that is not set"),
                        "set it, give it a default (`${NAME:-value}`), or write `$$` for a dollar sign",
                    ),
                    _ => (
                        format!("the value of {shown} has a `$` that begins no variable"),
                        "write `${NAME}`, `${NAME:-default}`, or `$$` for a dollar sign",
                    ),
                };
                findings.report(problem.rule.error(message).help(help), at);
            }
            None
        }
    }
}

#[cfg(test)]
mod compose_go;
#[cfg(test)]
mod tests;
