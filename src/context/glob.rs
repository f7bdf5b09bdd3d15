//! One pattern, as moby reads it.
//!
//! moby checks a pattern with Go's `filepath.Match`, then matches with a regular expression that it
//! makes of it character by character. What that does to odd patterns (`**` before a name matches
//! in the middle of a name; `*` in brackets means something else) is kept, so the step through
//! Go's syntax of regular expressions is kept too.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

use super::pattern::PatternProblem;

/// How a pattern is matched; moby's four types.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// The path is the pattern.
    Exact,
    /// The path begins with the pattern less its `**`.
    Prefix,
    /// The path ends with the pattern less its `**`, or is it less `**/`.
    Suffix,
    /// A regular expression decides.
    Regex(Regex),
}

impl Shape {
    /// Reads a checked pattern.
    pub(super) fn of(pattern: &[u8]) -> Result<Self, PatternProblem> {
        let (form, expression) = go_expression(&text(pattern));
        Ok(match form {
            Form::Exact => Self::Exact,
            Form::Prefix => Self::Prefix,
            Form::Suffix => Self::Suffix,
            Form::Regex => Self::Regex(
                Regex::new(&rust_expression(&expression)?)
                    .map_err(|_| PatternProblem::TooComplex)?,
            ),
        })
    }

    /// Whether the pattern matches the whole path.
    pub(super) fn matches(&self, pattern: &[u8], path: &[u8]) -> bool {
        match self {
            Self::Exact => path == pattern,
            Self::Prefix => path.starts_with(&pattern[..pattern.len() - 2]),
            Self::Suffix => {
                let suffix = &pattern[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Self::Regex(regex) => regex.is_match(&text(path)),
        }
    }
}

/// The bytes as characters: each byte that is not UTF-8 is one replacement character, as in Go.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

/// The type of a pattern and, for [`Form::Regex`], its regular expression in Go's syntax.
fn go_expression(pattern: &str) -> (Form, String) {
    let mut form = Form::Exact;
    let mut expression = String::from("^");
    // Go's scanner skips a byte order mark.
    let mut rest = pattern
        .strip_prefix('\u{feff}')
        .unwrap_or(pattern)
        .chars()
        .peekable();
    let mut is_first = true;
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    expression.push_str("(.*/)?");
                    form = Form::Regex;
                } else if form == Form::Exact {
                    form = Form::Prefix;
                } else {
                    expression.push_str(".*");
                    form = Form::Regex;
                }
                if is_first {
                    form = Form::Suffix;
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                form = Form::Regex;
            }
            '?' => {
                expression.push_str("[^/]");
                form = Form::Regex;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => expression.extend(['\\', character]),
            '\\' => {
                expression.push('\\');
                if let Some(escaped) = rest.next() {
                    expression.push(escaped);
                    form = Form::Regex;
                }
            }
            '[' | ']' => {
                expression.push(character);
                form = Form::Regex;
            }
            character => expression.push(character),
        }
        is_first = false;
    }
    expression.push('$');
    (form, expression)
}

/// The same regular expression in Rust's syntax.
fn rust_expression(go: &str) -> Result<String, PatternProblem> {
    let mut expression = String::with_capacity(go.len() + 16);
    let mut rest = go.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '^' | '$' | '.' | '*' | '?' | '(' | ')' => expression.push(character),
            '[' => class(&mut rest, &mut expression)?,
            '\\' => match escape(&mut rest)? {
                Escape::Character(character) => push(&mut expression, character),
                Escape::Set(set) => expression.push_str(set),
            },
            character => push(&mut expression, character),
        }
    }
    Ok(expression)
}

/// One character by its number: nothing to escape, in brackets or not.
fn push(expression: &mut String, character: char) {
    if character.is_ascii_alphanumeric() {
        expression.push(character);
    } else {
        write!(expression, "\\x{{{:x}}}", u32::from(character)).expect("a String takes all");
    }
}

enum Escape {
    Character(char),
    Set(&'static str),
}

/// What follows a backslash in Go's syntax. Of its letters, those that stand for a place, a
/// property or a number are refused: moby takes some of them, but nobody means them in a path.
fn escape(rest: &mut Peekable<Chars<'_>>) -> Result<Escape, PatternProblem> {
    let character = rest.next().ok_or(PatternProblem::TrailingBackslash)?;
    Ok(match character {
        'a' => Escape::Character('\x07'),
        'f' => Escape::Character('\x0c'),
        'n' => Escape::Character('\n'),
        'r' => Escape::Character('\r'),
        't' => Escape::Character('\t'),
        'v' => Escape::Character('\x0b'),
        'd' => Escape::Set("[0-9]"),
        'D' => Escape::Set("[^0-9]"),
        's' => Escape::Set(r"[\t\n\f\r ]"),
        'S' => Escape::Set(r"[^\t\n\f\r ]"),
        'w' => Escape::Set("[0-9A-Za-z_]"),
        'W' => Escape::Set("[^0-9A-Za-z_]"),
        character if character.is_ascii() && !character.is_ascii_alphanumeric() => {
            Escape::Character(character)
        }
        character => return Err(PatternProblem::Escape(character)),
    })
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// What is in brackets, as Go reads it: no nesting, no operators.
fn class(rest: &mut Peekable<Chars<'_>>, expression: &mut String) -> Result<(), PatternProblem> {
    expression.push('[');
    if rest.next_if_eq(&'^').is_some() {
        expression.push('^');
    }
    let mut is_first = true;
    loop {
        if rest.next_if_eq(&']').is_some() {
            if !is_first {
                break;
            }
            range(rest, ']', expression)?;
        } else if let Some(name) = posix(rest.clone()) {
            if !POSIX.contains(&name.trim_start_matches('^')) || name.starts_with("^^") {
                return Err(PatternProblem::Brackets);
            }
            write!(expression, "[:{name}:]").expect("a String takes all");
            rest.nth(name.len() + 3);
        } else {
            match rest.next().ok_or(PatternProblem::Brackets)? {
                '\\' => match escape(rest)? {
                    Escape::Set(set) => expression.push_str(set),
                    Escape::Character(low) => range(rest, low, expression)?,
                },
                low => range(rest, low, expression)?,
            }
        }
        is_first = false;
    }
    expression.push(']');
    Ok(())
}

/// The name in `[:name:]`, if that comes next.
fn posix(mut rest: Peekable<Chars<'_>>) -> Option<String> {
    rest.next_if_eq(&'[')?;
    rest.next_if_eq(&':')?;
    let text: String = rest.collect();
    text.find(":]").map(|end| text[..end].to_owned())
}

/// A character in brackets that may begin a range.
fn range(
    rest: &mut Peekable<Chars<'_>>,
    low: char,
    expression: &mut String,
) -> Result<(), PatternProblem> {
    push(expression, low);
    let mut ahead = rest.clone();
    if ahead.next() != Some('-') || ahead.peek().is_none_or(|next| *next == ']') {
        return Ok(());
    }
    rest.next();
    let high = match rest.next().ok_or(PatternProblem::Brackets)? {
        '\\' => match escape(rest)? {
            Escape::Character(high) => high,
            Escape::Set(_) => return Err(PatternProblem::Brackets),
        },
        high => high,
    };
    if high < low {
        return Err(PatternProblem::Brackets);
    }
    expression.push('-');
    push(expression, high);
    Ok(())
}

#[cfg(test)]
mod tests;
