//! Go's `filepath.Match`: which patterns it takes, and which names match them.

use super::pattern::PatternProblem;

/// One step of a pattern in `filepath.Match` syntax.
enum Token {
    Byte(u8),
    AnyCharacter,
    AnyBytes,
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    /// How many bytes at the beginning of a name it matches; `*` any, so none.
    fn length_in(&self, name: &[u8]) -> Option<usize> {
        let (first, length) = match self {
            Self::AnyBytes => return Some(0),
            Self::Byte(byte) => return (name.first() == Some(byte)).then_some(1),
            Self::AnyCharacter | Self::Class { .. } => first_character(name)?,
        };
        let is_match = match self {
            Self::Class { is_negated, ranges } => {
                let mut ranges = ranges.iter();
                ranges.any(|(low, high)| (low..=high).contains(&&first)) != *is_negated
            }
            _ => true,
        };
        is_match.then_some(length)
    }
}

/// Whether moby takes the pattern: it matches `.` with Go's `filepath.Match`, which looks at what
/// stands between two `*` only if all before it matched.
pub(super) fn check(pattern: &[u8]) -> Result<(), PatternProblem> {
    let mut name = &b"."[..];
    let mut rest = pattern;
    while !rest.is_empty() {
        let (has_star, chunk, after) = chunk(rest);
        rest = after;
        let tokens = tokens(chunk)?;
        let starts = 0..=if has_star { name.len() } else { 0 };
        let left = starts
            .filter_map(|start| name_after(&tokens, &name[start..]))
            .find(|left| left.is_empty() || !rest.is_empty());
        match left {
            Some(left) => name = left,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Whether a pattern begins with `*`, what follows up to the next one, and the rest.
fn chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let pattern = &pattern[stars..];
    let (mut is_escaped, mut is_in_brackets) = (false, false);
    let end = pattern.iter().position(|byte| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match byte {
            b'\\' => is_escaped = is_plain,
            b'[' if is_plain => is_in_brackets = true,
            b']' if is_plain => is_in_brackets = false,
            _ => {}
        }
        is_plain && *byte == b'*' && !is_in_brackets
    });
    let (chunk, rest) = pattern.split_at(end.unwrap_or(pattern.len()));
    (stars > 0, chunk, rest)
}

/// What is left of a name after tokens without `*`, if they match its beginning.
fn name_after<'a>(tokens: &[Token], name: &'a [u8]) -> Option<&'a [u8]> {
    tokens
        .iter()
        .try_fold(name, |name, token| Some(&name[token.length_in(name)?..]))
}

fn tokens(pattern: &[u8]) -> Result<Vec<Token>, PatternProblem> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        tokens.push(match first {
            b'*' => Token::AnyBytes,
            b'?' => Token::AnyCharacter,
            b'\\' => {
                let (escaped, after) = rest
                    .split_first()
                    .ok_or(PatternProblem::TrailingBackslash)?;
                rest = after;
                Token::Byte(*escaped)
            }
            b'[' => {
                let is_negated = rest.first() == Some(&b'^');
                rest = &rest[usize::from(is_negated)..];
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.first() != Some(&b']') {
                    let low = class_character(&mut rest)?;
                    let mut high = low;
                    if rest.first() == Some(&b'-') {
                        rest = &rest[1..];
                        high = class_character(&mut rest)?;
                    }
                    ranges.push((low, high));
                }
                rest = &rest[1..];
                Token::Class { is_negated, ranges }
            }
            byte => Token::Byte(*byte),
        });
    }
    Ok(tokens)
}

/// One character in brackets; something has to follow it.
fn class_character(rest: &mut &[u8]) -> Result<char, PatternProblem> {
    if let Some(b'-' | b']') | None = rest.first() {
        return Err(PatternProblem::Brackets);
    }
    if rest.first() == Some(&b'\\') {
        *rest = &rest[1..];
    }
    let (character, length) = first_character(rest).ok_or(PatternProblem::Brackets)?;
    *rest = &rest[length..];
    if rest.is_empty() || (character == char::REPLACEMENT_CHARACTER && length == 1) {
        return Err(PatternProblem::Brackets);
    }
    Ok(character)
}

/// The first character and its length; a byte that is not UTF-8 is a replacement character.
fn first_character(bytes: &[u8]) -> Option<(char, usize)> {
    let window = &bytes[..bytes.len().min(4)];
    let chunk = window.utf8_chunks().next()?;
    Some(match chunk.valid().chars().next() {
        Some(character) => (character, character.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, 1),
    })
}

/// Whether a name without `/` matches a pattern, as Go's `filepath.Match` has it; a wrong pattern
/// matches nothing.
pub(super) fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let Ok(tokens) = tokens(pattern) else {
        return false;
    };
    let (mut token, mut at) = (0, 0);
    // Where to go on when the last `*` takes one byte more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            None if at == name.len() => return true,
            None => None,
            Some(Token::AnyBytes) => {
                retry = Some((token + 1, at));
                Some(0)
            }
            Some(token) => token.length_in(&name[at..]),
        };
        match (step, &mut retry) {
            (Some(length), _) => (token, at) = (token + 1, at + length),
            (None, Some((after, from))) if *from < name.len() => {
                *from += 1;
                (token, at) = (*after, *from);
            }
            (None, _) => return false,
        }
    }
}
