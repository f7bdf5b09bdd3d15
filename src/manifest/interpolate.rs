//! `${VARIABLE}` in values, as compose has it (compose-spec, "Interpolation").
//!
//! | written | becomes |
//! |---|---|
//! | `${A}` | the value of `A`; an error if it is not set |
//! | `${A:-word}`, `${A-word}` | `word` if `A` is unset or empty / unset |
//! | `${A:+word}`, `${A+word}` | `word` if `A` is set and not empty / set, else nothing |
//! | `${A:?text}`, `${A?text}` | an error with `text` if `A` is unset or empty / unset |
//! | `$$` | `$` |
//!
//! Words may contain variables again. A `$` before anything but a letter, `_`, `{` or `$` is
//! itself, so that regular expressions need no escapes; compose's `$A` is refused in `jobs.yaml`,
//! with the fix, and taken in env files.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::Rule;
use super::node::{Kind, Node};
use crate::diagnostic::{Diagnostic, Source};

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deeply words may contain variables: nobody writes more, and a stack has an end.
const MAX_DEPTH: usize = 32;

/// Who wrote a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `jobs.yaml`: a variable has braces, and must be set.
    Manifest,
    /// Compose's env files: braces may be left out; a variable must be set.
    EnvFile,
    /// Compose's env files as compose reads them: a variable that is not set is empty.
    LenientEnvFile,
}

/// What is wrong with a template, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) rule: Rule,
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Puts variables into all values of a tree; keys and what stands under `x-…` keys are left alone.
pub(super) fn interpolate(
    node: &mut Node,
    lookup: Lookup<'_>,
    source: &Arc<Source>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let place = node.place();
    match &mut node.kind {
        Kind::Null | Kind::Broken => {}
        Kind::Scalar(text) if text.value.contains('$') => {
            let names = RefCell::new(Vec::new());
            let noting = |name: &str| {
                names.borrow_mut().push(name.to_owned());
                lookup(name)
            };
            let expanded = expand(&text.value, Dialect::Manifest, &noting);
            match expanded {
                Ok(expanded) => {
                    text.variables = names.into_inner();
                    text.is_interpolated = text.value.contains("${");
                    text.value = expanded;
                }
                Err(problems) => {
                    for problem in problems {
                        let span = place_in(&source.text[place.clone()], &text.value, &problem.at)
                            .map_or(place.clone(), |at| {
                                place.start + at.start..place.start + at.end
                            });
                        let diagnostic = problem.rule.error(problem.message);
                        diagnostics.push(diagnostic.at(source, span, "").help(problem.help));
                    }
                    node.kind = Kind::Broken;
                }
            }
        }
        Kind::Scalar(_) => {}
        Kind::List(items) => {
            for item in items {
                interpolate(item, lookup, source, diagnostics);
            }
        }
        Kind::Map(entries) => {
            for (_, value) in entries.iter_mut().filter(|(key, _)| !key.is_extension()) {
                interpolate(value, lookup, source, diagnostics);
            }
        }
    }
}

/// Where a part of a text stands in the text's written form, which may have quotes and escapes.
fn place_in(written: &str, text: &str, part: &Range<usize>) -> Option<Range<usize>> {
    let nth = text[..part.start].matches('$').count();
    let (start, _) = written.match_indices('$').nth(nth)?;
    written[start..]
        .starts_with(&text[part.clone()])
        .then(|| start..start + part.len())
}

/// Puts variables into a template.
///
/// # Errors
///
/// Where it is malformed, or every variable that it needs and that is not set.
pub(crate) fn expand(
    template: &str,
    dialect: Dialect,
    lookup: Lookup<'_>,
) -> Result<String, Vec<Problem>> {
    let mut expander = Expander {
        template,
        at: 0,
        depth: 0,
        dialect,
        lookup,
        unset: Vec::new(),
    };
    match expander.words() {
        Ok(text) if expander.unset.is_empty() => Ok(text),
        Ok(_) => Err(expander.unset),
        Err(malformed) => Err(vec![malformed]),
    }
}

struct Expander<'a> {
    template: &'a str,
    at: usize,
    /// How many words it is in.
    depth: usize,
    dialect: Dialect,
    lookup: Lookup<'a>,
    /// The variables so far that must be set and are not.
    unset: Vec<Problem>,
}

impl Expander<'_> {
    fn rest(&self) -> &str {
        &self.template[self.at..]
    }

    /// Text and variables up to the end.
    fn words(&mut self) -> Result<String, Problem> {
        let mut out = String::new();
        while let Some(next) = self.rest().chars().next() {
            let after = &self.rest()[next.len_utf8()..];
            match next {
                '$' if after.starts_with('$') => {
                    out.push('$');
                    self.at += 2;
                }
                '$' if after.starts_with('{') => out.push_str(&self.variable()?),
                '$' if after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                    let name = &after[..name_length(after)];
                    if self.dialect != Dialect::Manifest {
                        let (name, start) = (name.to_owned(), self.at);
                        self.at += 1 + name.len();
                        let value = (self.lookup)(&name);
                        out.push_str(&self.set(&name, start, value));
                        continue;
                    }
                    return Err(Problem {
                        rule: Rule::VariableSyntax,
                        at: self.at..self.at + 1 + name.len(),
                        message: format!("`${name}` is written without braces"),
                        help: format!(
                            "write `${{{name}}}` for the variable, `$${name}` for a dollar sign"
                        ),
                    });
                }
                _ => {
                    out.push(next);
                    self.at += next.len_utf8();
                }
            }
        }
        Ok(out)
    }

    /// One `${…}`.
    fn variable(&mut self) -> Result<String, Problem> {
        let start = self.at;
        self.at += "${".len();
        let name = self.rest()[..name_length(self.rest())].to_owned();
        self.at += name.len();
        let operator = [":-", ":+", ":?", "-", "+", "?", "}"]
            .into_iter()
            .find(|operator| self.rest().starts_with(operator));
        let (Some(operator), false) = (operator, name.is_empty()) else {
            return Err(self.malformed(start));
        };
        self.at += operator.len();
        let value = (self.lookup)(&name);
        if operator == "}" {
            return Ok(self.set(&name, start, value));
        }
        let (word, unset_in_word) = self.word(start)?;
        let value = value.filter(|value| !(operator.starts_with(':') && value.is_empty()));
        match (operator.trim_start_matches(':'), value) {
            ("+", None) => Ok(String::new()),
            ("-" | "?", Some(value)) => Ok(value),
            ("?", None) if unset_in_word.is_empty() => {
                let colon = if word.is_empty() { "" } else { ": " };
                self.unset.push(Problem {
                    rule: Rule::UnsetVariable,
                    at: start..self.at,
                    message: format!("the variable `{name}` is required{colon}{word}"),
                    help: format!("set it: `export {name}=…`"),
                });
                Ok(String::new())
            }
            _ => {
                self.unset.extend(unset_in_word);
                Ok(word)
            }
        }
    }

    /// The value of a variable that must be set, and that ends here.
    fn set(&mut self, name: &str, start: usize, value: Option<String>) -> String {
        if value.is_none() && self.dialect != Dialect::LenientEnvFile {
            self.unset.push(Problem {
                rule: Rule::UnsetVariable,
                at: start..self.at,
                message: format!("the variable `{name}` is not set"),
                help: format!("set it, or give it a default: `${{{name}:-value}}`"),
            });
        }
        value.unwrap_or_default()
    }

    /// The word behind an operator, up to its brace, and the variables in it that are not set, which
    /// matters only if the word is used.
    fn word(&mut self, start: usize) -> Result<(String, Vec<Problem>), Problem> {
        let begin = self.at;
        let end = self.word_end().ok_or_else(|| self.malformed(start))?;
        if self.depth == MAX_DEPTH {
            return Err(Problem {
                rule: Rule::VariableSyntax,
                at: start..end + 1,
                message: format!("more than {MAX_DEPTH} variables are within each other"),
                help: "take the innermost ones out".to_owned(),
            });
        }
        let mut inner = Expander {
            template: &self.template[..end],
            at: begin,
            depth: self.depth + 1,
            dialect: self.dialect,
            lookup: self.lookup,
            unset: Vec::new(),
        };
        let word = inner.words()?;
        self.at = end + 1;
        Ok((word, inner.unset))
    }

    /// Where the brace stands that closes the word which begins here. Braces in it come in pairs, with a `$`
    /// in front or not: `${A:-{"b": 1}}`.
    fn word_end(&self) -> Option<usize> {
        let mut depth = 0_usize;
        let bytes = self.template.as_bytes();
        let mut at = self.at;
        while at < bytes.len() {
            match bytes[at] {
                b'{' => depth += 1,
                b'}' if depth == 0 => return Some(at),
                b'}' => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        None
    }

    fn malformed(&self, start: usize) -> Problem {
        let end = self.template[start..]
            .find('}')
            .map_or(self.template.len(), |at| start + at + 1);
        Problem {
            rule: Rule::VariableSyntax,
            at: start..end,
            message: "this is not a variable".to_owned(),
            help: "write `${NAME}`, `${NAME:-default}`, or `$${` for a dollar sign and a brace"
                .to_owned(),
        }
    }
}

/// How many bytes of a variable's name a text begins with.
fn name_length(text: &str) -> usize {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c| !is_name(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests;
