//! The instructions of a Dockerfile, as BuildKit's parser finds them (`frontend/dockerfile/parser`).

use std::ops::RangeInclusive;

use super::words::{Problem, end_words, json_words, raw_words, split_flags};

/// What versions of BuildKit disagree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HereDocuments {
    /// There are none: Engine 20.10.
    None,
    /// `<<WORD`: Engine 23 to 26.
    Adjacent,
    /// `<< WORD` as well.
    Spaced,
}

impl HereDocuments {
    /// All, the newest first.
    pub(super) const ALL: [Self; 3] = [Self::Spaced, Self::Adjacent, Self::None];
}

/// An instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    /// In capital letters.
    pub(super) keyword: String,
    /// What begins with `--`, without quotes.
    pub(super) flags: Vec<String>,
    /// What follows.
    pub(super) rest: String,
    /// All of it, in one line.
    pub(super) text: String,
    /// Its lines in the file, from 1, here-documents included.
    pub(super) lines: RangeInclusive<usize>,
}

/// The instructions of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) instructions: Vec<Instruction>,
    /// The character that joins lines and escapes characters.
    pub(super) escape: char,
    /// Why it is not certain that these are all.
    pub(super) problem: Option<Problem>,
}

/// The image that reads the Dockerfile, if it names one (`# syntax=`).
pub(super) fn syntax(text: &str) -> Option<String> {
    let text = without_mark(text);
    let mut lines = text.lines().peekable();
    lines.next_if(|line| line.starts_with("#!"));
    let first = lines.peek().map_or("", |line| line.trim_start());
    // Newer versions take it from `//` and from JSON as well.
    if first.starts_with("//") || first.starts_with('{') {
        return text.contains("syntax").then(|| first.trim().to_owned());
    }
    let found = lines.map_while(|line| directive(line, true));
    let mut found = found.filter(|(key, _)| key == "syntax");
    found.next().map(|(_, image)| image)
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// `# KEY=VALUE` at the very top, with the keys that there are. Older versions do not know `check`.
fn directive(line: &str, knows_check: bool) -> Option<(String, String)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    let value = value.trim();
    let is_known = matches!(key.as_str(), "syntax" | "escape") || (knows_check && key == "check");
    (is_known && !value.is_empty()).then(|| (key, value.to_owned()))
}

/// Reads the instructions.
pub(super) fn parse(text: &str, here: HereDocuments) -> Parsed {
    let mut parsed = Parsed {
        instructions: Vec::new(),
        escape: '\\',
        problem: None,
    };
    let text = without_mark(text);
    let knows_check = here == HereDocuments::Spaced;
    let directives = text.lines().map_while(|line| directive(line, knows_check));
    let mut seen = Vec::new();
    for (key, value) in directives {
        match value.as_str() {
            "`" | "\\" if key == "escape" => parsed.escape = if value == "`" { '`' } else { '\\' },
            _ if key == "escape" => parsed.problem = Some(Problem::Refused),
            _ => {}
        }
        if seen.contains(&key) {
            parsed.problem = Some(Problem::Refused);
        }
        seen.push(key);
    }
    let mut lines = text.lines().zip(1..);
    while let Some((line, first)) = lines.next() {
        let line = line.trim_start();
        if is_comment(line) {
            continue;
        }
        let (begun, mut is_continued) = continued(line, parsed.escape);
        let mut joined = begun.to_owned();
        let mut last = first;
        while is_continued && let Some((line, number)) = lines.next() {
            last = number;
            // Comments and empty lines between the parts of an instruction do not end it.
            if is_comment(line) || line.trim().is_empty() {
                continue;
            }
            let (part, more) = continued(line, parsed.escape);
            joined.push_str(part);
            is_continued = more;
        }
        let joined = joined.trim();
        if joined.is_empty() {
            continue;
        }
        let mut instruction = instruction(joined, parsed.escape, first..=last);
        if parsed.problem == Some(Problem::Refused) {
            parsed.instructions.push(instruction);
            continue;
        }
        match here_documents(&instruction, parsed.escape, here) {
            Ok(documents) => {
                for (end, is_chomped) in documents {
                    let mut ahead = lines.clone();
                    let found = ahead.find(|(line, _)| {
                        let line = line.trim_end_matches('\r');
                        let tabs: &[char] = if is_chomped { &['\t'] } else { &[] };
                        line.trim_start_matches(tabs) == end
                    });
                    match found {
                        Some((_, number)) => {
                            instruction.lines = first..=number;
                            lines = ahead;
                        }
                        None => parsed.problem = Some(Problem::Refused),
                    }
                }
            }
            Err(problem) => parsed.problem = Some(problem),
        }
        parsed.instructions.push(instruction);
    }
    parsed
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// A line without the character that joins it to the next, and whether it has one. One that is escaped
/// itself joins nothing.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(begun) if !begun.ends_with(escape) => (begun, true),
        _ => (line, false),
    }
}

fn instruction(text: &str, escape: char, lines: RangeInclusive<usize>) -> Instruction {
    let end = text.find(['\t', '\x0b', '\x0c', '\r', ' ']);
    let (keyword, rest) = text.split_at(end.unwrap_or(text.len()));
    let (flags, rest) = split_flags(rest, escape);
    Instruction {
        keyword: keyword.to_ascii_uppercase(),
        flags,
        rest: rest.trim().to_owned(),
        text: text.to_owned(),
        lines,
    }
}

/// The lines that end an instruction's here-documents, and whether tabs before them count for nothing.
fn here_documents(
    instruction: &Instruction,
    escape: char,
    here: HereDocuments,
) -> Result<Vec<(String, bool)>, Problem> {
    if here == HereDocuments::None || !instruction.text.contains("<<") {
        return Ok(Vec::new());
    }
    let inner;
    let (keyword, rest) = if instruction.keyword == "ONBUILD" {
        inner = self::instruction(&instruction.rest, escape, instruction.lines.clone());
        (&inner.keyword, &inner.rest)
    } else {
        (&instruction.keyword, &instruction.rest)
    };
    if !["RUN", "COPY", "ADD"].contains(&keyword.as_str()) || json_words(rest)?.is_some() {
        return Ok(Vec::new());
    }
    let words = match raw_words(&instruction.text, here == HereDocuments::Spaced) {
        Ok(words) => words,
        // What can't be split has none.
        Err(Problem::Refused) => return Ok(Vec::new()),
        Err(problem) => return Err(problem),
    };
    let mut documents = Vec::new();
    for word in words {
        documents.extend(here_document(&word, here)?);
    }
    Ok(documents)
}

/// The end of a here-document that a word begins: `<<WORD`, `<<-WORD`, `3<<WORD`.
fn here_document(word: &str, here: HereDocuments) -> Result<Option<(String, bool)>, Problem> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(end) = word.strip_prefix("<<") else {
        return Ok(None);
    };
    let chomped = end.strip_prefix('-');
    let end = chomped.unwrap_or(end);
    let end = if here == HereDocuments::Spaced {
        end.trim_start()
    } else {
        end
    };
    if end.is_empty() || end.contains('<') {
        return Ok(None);
    }
    match <[String; 1]>::try_from(end_words(end)?) {
        Ok([end]) => Ok(Some((end, chomped.is_some()))),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
