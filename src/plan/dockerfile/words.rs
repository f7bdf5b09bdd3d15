//! The words of a Dockerfile: how BuildKit splits them, and what it puts for variables
//! (`frontend/dockerfile/parser` and `frontend/dockerfile/shell`).

use std::iter::Peekable;
use std::str::Chars;

/// Why a word has no value here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// BuildKit refuses it.
    Refused,
    /// Only BuildKit knows it, or its versions differ.
    Unknown,
}

/// How deep variables may be nested, and how long what they become may be; beyond, it is not read here.
const DEEPEST: usize = 64;
const LONGEST: usize = 1 << 20;

/// What is known of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    Set(String),
    Unset,
    /// Only the engine knows it.
    Unknown,
}

/// The variables that a word may name.
pub(super) type Variables<'a> = dyn Fn(&str) -> Variable + 'a;

/// Puts values for variables and takes quotes and escapes away.
pub(super) fn expand(
    text: &str,
    escape: char,
    variables: &Variables<'_>,
) -> Result<String, Problem> {
    let mut lexer = Lexer::new(text, escape, variables);
    Ok(lexer.until(None, false)?.text)
}

/// The words of a line with their quotes and escapes, in which here-documents are looked for. With
/// `joins_blanks`, blanks after `<<` belong to the word.
pub(super) fn raw_words(text: &str, joins_blanks: bool) -> Result<Vec<String>, Problem> {
    let mut lexer = Lexer::new(text, '\\', &|_| Variable::Unset);
    lexer.keeps_quotes = true;
    lexer.keeps_unset = true;
    lexer.joins_blanks = joins_blanks;
    Ok(lexer.until(None, true)?.words())
}

/// The words after `<<`, without quotes, variables as they are.
pub(super) fn end_words(text: &str) -> Result<Vec<String>, Problem> {
    let mut lexer = Lexer::new(text, '\\', &|_| Variable::Unset);
    lexer.keeps_unset = true;
    Ok(lexer.until(None, false)?.words())
}

/// Text as it comes out, as a whole and in words.
#[derive(Default)]
struct Lexed {
    text: String,
    done: Vec<String>,
    word: String,
    is_in_word: bool,
}

impl Lexed {
    fn plain(&mut self, c: char) {
        self.text.push(c);
        self.split(c);
    }

    fn split(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
            self.is_in_word = true;
        } else if self.is_in_word && !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
            self.is_in_word = false;
        }
    }

    /// Text whose blanks split nothing.
    fn whole(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
        self.is_in_word = true;
    }

    /// A variable's value, whose blanks split.
    fn value(&mut self, text: &str) {
        self.text.push_str(text);
        text.chars().for_each(|c| self.split(c));
    }

    fn words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    variables: &'a Variables<'a>,
    keeps_quotes: bool,
    /// Whether a variable that is not set stays as it is.
    keeps_unset: bool,
    joins_blanks: bool,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, escape: char, variables: &'a Variables<'a>) -> Self {
        Self {
            rest: text.chars().peekable(),
            escape,
            variables,
            keeps_quotes: false,
            keeps_unset: false,
            joins_blanks: false,
            depth: 0,
        }
    }

    /// Reads up to a character, which must come, or to the end.
    fn until(&mut self, stop: Option<char>, keeps_escapes: bool) -> Result<Lexed, Problem> {
        let mut lexed = Lexed::default();
        while let Some(c) = self.rest.next() {
            if lexed.text.len() > LONGEST {
                return Err(Problem::Unknown);
            }
            match c {
                _ if Some(c) == stop => return Ok(lexed),
                '\'' => {
                    let text = self.single_quoted()?;
                    lexed.whole(&text);
                }
                '"' => {
                    let text = self.double_quoted(keeps_escapes)?;
                    lexed.whole(&text);
                }
                '$' => {
                    let text = self.variable()?;
                    lexed.value(&text);
                }
                '<' if self.joins_blanks && self.rest.peek() == Some(&'<') => {
                    let mut text = String::from('<');
                    text.extend(self.rest.next());
                    while let Some(blank) = self.rest.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                        text.push(blank);
                    }
                    lexed.whole(&text);
                }
                _ if c == self.escape => {
                    if keeps_escapes {
                        lexed.whole(c.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(escaped) = self.rest.next() {
                        lexed.whole(escaped.encode_utf8(&mut [0; 4]));
                    }
                }
                _ => lexed.plain(c),
            }
        }
        match stop {
            Some(_) => Err(Problem::Refused),
            None => Ok(lexed),
        }
    }

    fn single_quoted(&mut self) -> Result<String, Problem> {
        let mut text = self.quote('\'');
        loop {
            match self.rest.next().ok_or(Problem::Refused)? {
                '\'' => return Ok(text + &self.quote('\'')),
                c => text.push(c),
            }
        }
    }

    fn double_quoted(&mut self, keeps_escapes: bool) -> Result<String, Problem> {
        let mut text = self.quote('"');
        loop {
            match self.rest.next().ok_or(Problem::Refused)? {
                '"' => return Ok(text + &self.quote('"')),
                '$' if text.len() > LONGEST => return Err(Problem::Unknown),
                '$' => text.push_str(&self.variable()?),
                c if c == self.escape => {
                    if keeps_escapes {
                        text.push(c);
                    }
                    let escape = self.escape;
                    let escaped = |next: &char| matches!(next, '"' | '$') || *next == escape;
                    match self.rest.next_if(escaped) {
                        Some(next) => text.push(next),
                        None if self.rest.peek().is_some() => text.push(c),
                        None => {}
                    }
                }
                c => text.push(c),
            }
        }
    }

    fn quote(&self, quote: char) -> String {
        if self.keeps_quotes {
            quote.to_string()
        } else {
            String::new()
        }
    }

    /// What follows a dollar.
    fn variable(&mut self) -> Result<String, Problem> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return match self.lookup(&name)? {
                None if self.keeps_unset => Ok(format!("${name}")),
                value => Ok(value.unwrap_or_default()),
            };
        }
        if let None | Some('{' | '}' | ':') = self.rest.peek() {
            return Err(Problem::Refused);
        }
        let name = self.name();
        let mut form = String::new();
        let mut modifier = self.rest.next().ok_or(Problem::Refused)?;
        if modifier == ':' {
            form.push(':');
            modifier = self.rest.next().ok_or(Problem::Refused)?;
        }
        form.push(modifier);
        match form.as_str() {
            "}" => match self.lookup(&name)? {
                None if self.keeps_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            ":-" | ":+" | ":?" | "-" | "+" | "?" => {
                self.depth += 1;
                if self.depth > DEEPEST {
                    return Err(Problem::Unknown);
                }
                let word = self.until(Some('}'), false)?.text;
                self.depth -= 1;
                let value = self.lookup(&name)?;
                if value.is_none() && self.keeps_unset {
                    return Ok(format!("${{{name}{form}{word}}}"));
                }
                // With a colon, what is empty is not set.
                let value = value.filter(|value| !form.starts_with(':') || !value.is_empty());
                match (modifier, value) {
                    ('-', value) => Ok(value.unwrap_or(word)),
                    ('+', Some(_)) => Ok(word),
                    ('+', None) => Ok(String::new()),
                    (_, value) => value.ok_or(Problem::Refused),
                }
            }
            // Older versions refuse these.
            "#" | "%" | "/" => Err(Problem::Unknown),
            _ => Err(Problem::Refused),
        }
    }

    /// A variable's name: letters, digits, `_`; or a number, or one of the shell's own.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    fn lookup(&self, name: &str) -> Result<Option<String>, Problem> {
        match (self.variables)(name) {
            Variable::Set(value) => Ok(Some(value)),
            Variable::Unset => Ok(None),
            Variable::Unknown => Err(Problem::Unknown),
        }
    }
}

/// The flags that an instruction begins with, without their quotes, and what follows them.
pub(super) fn split_flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = flag(rest, escape);
        rest = after.trim_start();
        // Nothing after this is a flag.
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

fn flag(text: &str, escape: char) -> (String, &str) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (flag, &text[at..]),
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => flag.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => flag.push(c),
        }
    }
    (flag, "")
}

/// The words of `ARG`, with their quotes.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // At the end it escapes nothing.
            if let Some(escaped) = chars.next() {
                word.extend([c, escaped]);
            }
            continue;
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The words of an instruction that are split at blanks, whatever quotes say.
pub(super) fn blank_words(text: &str) -> Vec<&str> {
    let words = text.split(['\t', '\x0b', '\x0c', '\r', ' ']);
    words.filter(|word| !word.is_empty()).collect()
}

/// An instruction's JSON form: `None` if it is none, and refused if not all in it are strings.
pub(super) fn json_words(text: &str) -> Result<Option<Vec<String>>, Problem> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let word = |value: serde_json::Value| match value {
        serde_json::Value::String(word) => Ok(word),
        _ => Err(Problem::Refused),
    };
    values
        .into_iter()
        .map(word)
        .collect::<Result<_, _>>()
        .map(Some)
}

#[cfg(test)]
mod tests;
