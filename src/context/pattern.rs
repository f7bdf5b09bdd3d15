//! The patterns of a `.dockerignore` file, as moby's `patternmatcher` reads them.

use super::glob::Shape;
use super::name_pattern;
use super::path::{clean, trim};

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: the pattern `{pattern}` {problem}")]
pub struct PatternError {
    /// The line's number, from 1.
    pub line: usize,
    /// The line's pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: PatternProblem,
}

impl PatternError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self.problem {
            PatternProblem::LoneException => {
                "write what is to be kept after the `!`, or delete the line".to_owned()
            }
            PatternProblem::Brackets => {
                "write `[a-z]` or `[^a-z]`; a `[` in a name is written `\\[`".to_owned()
            }
            PatternProblem::TrailingBackslash => "a `\\` in a name is written `\\\\`".to_owned(),
            PatternProblem::Escape(character) => format!("write `{character}` without the `\\`"),
            PatternProblem::TooComplex => "split it into several lines".to_owned(),
        }
    }
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// A `!` and nothing else.
    #[error("has nothing after the `!`")]
    LoneException,
    /// Brackets that do not close, are empty, or hold a wrong range.
    #[error("has brackets that make no sense")]
    Brackets,
    /// A backslash with nothing after it.
    #[error("ends with a `\\`")]
    TrailingBackslash,
    /// A backslash before what needs none.
    #[error("has a `\\` before `{0}`")]
    Escape(char),
    /// More than the matcher can hold.
    #[error("is too long")]
    TooComplex,
}

/// The patterns of a `.dockerignore` file, in order; the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    list: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Cleaned, without the `!`.
    text: Vec<u8>,
    /// Whether it had a `!`.
    is_exception: bool,
    shape: Shape,
}

/// What each pattern found about a folder, for its children.
///
/// As the match information of `MatchesUsingParentResults` in moby's `patternmatcher`.
#[derive(Debug, Clone, Default)]
pub struct Inherited(Vec<bool>);

impl Patterns {
    /// Reads the text of a `.dockerignore` file: one pattern a line; lines that begin with `#` are
    /// comments; white space around a pattern does not count, nor does a leading `/`; `!` makes an
    /// exception.
    ///
    /// # Errors
    ///
    /// The first line that is no pattern.
    pub fn parse_ignore_file(text: &[u8]) -> Result<Self, PatternError> {
        Self::read(ignore_file_lines(text))
    }

    /// Reads patterns as BuildKit sends them and as jobctl adds them. An empty one counts for
    /// nothing.
    ///
    /// # Errors
    ///
    /// The first that is no pattern, with its place from 1 as the line.
    pub fn from_lines<I, S>(lines: I) -> Result<Self, PatternError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<[u8]>,
    {
        let numbered = (1..).zip(lines);
        Self::read(numbered.map(|(number, line)| (number, line.as_ref().to_vec())))
    }

    fn read(lines: impl IntoIterator<Item = (usize, Vec<u8>)>) -> Result<Self, PatternError> {
        let mut list = Vec::new();
        for (line, text) in lines {
            let text = trim(&text);
            if !text.is_empty() {
                let pattern = Pattern::new(clean(text));
                list.push(pattern.map_err(|problem| PatternError {
                    line,
                    pattern: String::from_utf8_lossy(text).into_owned(),
                    problem,
                })?);
            }
        }
        Ok(Self { list })
    }

    /// These patterns and then others, which decide where both match.
    #[must_use]
    pub fn followed_by(mut self, others: Self) -> Self {
        self.list.extend(others.list);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a path, with `/` and without a leading one, or a folder that it is in, matches.
    ///
    /// As `MatchesOrParentMatches` in moby's `patternmatcher`.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        if path == b"." {
            return false;
        }
        let mut is_matched = false;
        for pattern in &self.list {
            if pattern.is_exception == is_matched
                && (pattern.matches(path) || folders(path).any(|folder| pattern.matches(folder)))
            {
                is_matched = !pattern.is_exception;
            }
        }
        is_matched
    }

    /// Whether a path matches, given what was found about its folder ([`Inherited::default`] at
    /// the top of the context). As `MatchesUsingParentResults` in moby's `patternmatcher`.
    #[must_use]
    pub fn matches_in(&self, path: &[u8], folder: &Inherited) -> bool {
        self.evaluate(path, folder, |_, _| ())
    }

    /// As [`Self::matches_in`], for a folder: also what its children inherit.
    #[must_use]
    pub fn matches_folder_in(&self, path: &[u8], folder: &Inherited) -> (bool, Inherited) {
        let mut found = vec![false; self.list.len()];
        let is_matched = self.evaluate(path, folder, |index, is_match| found[index] = is_match);
        (is_matched, Inherited(found))
    }

    /// A pattern that could not change the outcome is not asked, here as in moby: so a child may
    /// be judged differently than by [`Self::matches`] where a `!` names a folder above it.
    fn evaluate(
        &self,
        path: &[u8],
        folder: &Inherited,
        mut found: impl FnMut(usize, bool),
    ) -> bool {
        let mut is_matched = false;
        for (index, pattern) in self.list.iter().enumerate() {
            let mut is_match = folder.0.get(index).copied().unwrap_or(false);
            if !is_match {
                if pattern.is_exception != is_matched {
                    continue;
                }
                is_match = pattern.matches(path)
                    || (folder.0.is_empty() && folders(path).any(|folder| pattern.matches(folder)));
            }
            found(index, is_match);
            if is_match {
                is_matched = !pattern.is_exception;
            }
        }
        is_matched
    }

    /// Whether something inside a folder that matches might yet not match, because of a `!` that
    /// comes after the last pattern that matched the folder. If not, it can be skipped whole.
    #[must_use]
    pub fn may_except_inside(&self, path: &[u8], found: &Inherited) -> bool {
        let decisive = (0..self.list.len())
            .rev()
            .find(|index| found.0.get(*index) == Some(&true) && !self.list[*index].is_exception);
        self.list
            .iter()
            .skip(decisive.map_or(0, |index| index + 1))
            .any(|pattern| pattern.is_exception && pattern.may_match_inside(path))
    }

    /// Whether something inside a folder that does not match might yet match.
    #[must_use]
    pub fn may_match_inside(&self, path: &[u8]) -> bool {
        self.list
            .iter()
            .any(|pattern| !pattern.is_exception && pattern.may_match_inside(path))
    }
}

impl Pattern {
    fn new(mut text: Vec<u8>) -> Result<Self, PatternProblem> {
        let is_exception = text.first() == Some(&b'!');
        if is_exception {
            text.remove(0);
            if text.is_empty() {
                return Err(PatternProblem::LoneException);
            }
        }
        name_pattern::check(&text)?;
        Ok(Self {
            shape: Shape::of(&text)?,
            text,
            is_exception,
        })
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.shape.matches(&self.text, path)
    }

    /// Every match begins with what stands before the first special character.
    fn may_match_inside(&self, folder: &[u8]) -> bool {
        let inside = [folder, b"/"].concat();
        if matches!(self.shape, Shape::Exact) {
            return self.text.starts_with(&inside);
        }
        let is_special = |byte: &u8| b"*?[]\\^".contains(byte);
        let length = self.text.iter().position(is_special);
        let start = &self.text[..length.unwrap_or(self.text.len())];
        start.starts_with(&inside) || inside.starts_with(start)
    }
}

/// The folders that a path is in, from the top.
fn folders(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(slash, _)| &path[..slash])
}

/// The patterns of an ignore file with their line numbers, in the form that moby's `ignorefile`
/// gives them.
fn ignore_file_lines(text: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    (1..)
        .zip(text.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| line.first() != Some(&b'#'))
        .filter_map(|(number, line)| {
            let line = trim(line);
            let (mark, pattern) = match line.split_first()? {
                (b'!', pattern) => (&b"!"[..], trim(pattern)),
                _ => (&b""[..], line),
            };
            if pattern.is_empty() {
                return Some((number, mark.to_vec()));
            }
            let pattern = clean(pattern);
            let pattern = match pattern.strip_prefix(b"/") {
                Some(relative) if !relative.is_empty() => relative,
                _ => &pattern,
            };
            Some((number, [mark, pattern].concat()))
        })
}

#[cfg(test)]
mod tests;
