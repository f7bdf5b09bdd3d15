//! YAML text → [`Node`]. The only place that knows the YAML crate.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};

use super::Rule;
use super::node::{Key, Kind, Node, Text};
use crate::diagnostic::{Diagnostic, Source};

/// Values that aliases may stand for in all; a manifest of people's making has a few dozen.
const MAX_ALIASED_NODES: usize = 20_000;
/// Values and brackets in all.
const MAX_EVENTS: usize = 400_000;
/// Values within values.
const MAX_DEPTH: usize = 24;

/// Reads one document. `text` is what is parsed; `source` is what errors show.
pub(super) fn parse(text: &str, source: &Arc<Source>) -> Result<Node, Box<Diagnostic>> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_events: MAX_EVENTS,
            max_depth: MAX_DEPTH,
            max_documents: 2,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_ALIASED_NODES,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let raw: Spanned<Raw> = serde_yaml::from_str_with_options(text, options)
        .map_err(|error| Box::new(syntax_error(&error, text, source)))?;
    node(raw, text).map_err(|place| {
        Box::new(
            Rule::KeyNotText
                .error("a key is a list or a mapping")
                .at(source, place, "not a text")
                .help("write each key as a plain word followed by a colon"),
        )
    })
}

/// What serde sees; the texts of unquoted scalars are fetched from the source afterwards, since
/// serde has turned `1.10` into a number by then.
enum Raw {
    Null,
    Text(String),
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// Gives the tree its texts; fails with the place of a key that is no scalar.
fn node(raw: Spanned<Raw>, text: &str) -> Result<Node, Range<usize>> {
    let (span, defined) = places(&raw, text);
    let written = &text[defined.clone().unwrap_or_else(|| span.clone())];
    let kind = match raw.value {
        Raw::Null => Kind::Null,
        Raw::Text(value) => Kind::Scalar(Text {
            is_plain: !written.starts_with(['"', '\'', '|', '>']),
            value,
            is_interpolated: false,
            variables: Vec::new(),
        }),
        Raw::Typed(value) => Kind::Scalar(Text {
            is_plain: true,
            value: if written.starts_with(['"', '\'']) {
                value
            } else {
                written.trim_end().to_owned()
            },
            is_interpolated: false,
            variables: Vec::new(),
        }),
        Raw::List(items) => {
            let items: Result<_, _> = items.into_iter().map(|item| node(item, text)).collect();
            Kind::List(items?)
        }
        Raw::Map(raw_entries) => {
            let mut entries = Vec::with_capacity(raw_entries.len());
            for (key, value) in raw_entries {
                entries.push((self::key(key, text)?, node(value, text)?));
            }
            Kind::Map(entries)
        }
    };
    Ok(Node {
        span,
        defined,
        kind,
    })
}

fn key(raw: Spanned<Raw>, text: &str) -> Result<Key, Range<usize>> {
    let Node {
        span,
        defined,
        kind,
    } = node(raw, text)?;
    let written = match kind {
        Kind::Scalar(scalar) => scalar.value,
        Kind::Null => text[defined.clone().unwrap_or_else(|| span.clone())].to_owned(),
        Kind::List(_) | Kind::Map(_) | Kind::Broken => return Err(span),
    };
    Ok(Key {
        text: written,
        span,
        defined,
    })
}

/// Where a value is used, and where it is defined if that is elsewhere.
fn places(raw: &Spanned<Raw>, text: &str) -> (Range<usize>, Option<Range<usize>>) {
    let used = byte_range(raw.referenced, text);
    let defined = byte_range(raw.defined, text);
    let defined = (used != defined).then_some(defined);
    (used, defined)
}

/// The bytes that a location covers; scanner errors know line and column only.
fn byte_range(location: Location, text: &str) -> Range<usize> {
    let span = location.span();
    let start = span
        .byte_offset()
        .and_then(|offset| usize::try_from(offset).ok())
        .unwrap_or_else(|| offset_of(location, text));
    let length = span
        .byte_len()
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(0);
    let start = text.floor_char_boundary(start);
    let end = text.floor_char_boundary(start.saturating_add(length));
    let trailing = text[start..end].len() - text[start..end].trim_end().len();
    start..end - trailing
}

/// The byte offset of a location's line and column.
fn offset_of(location: Location, text: &str) -> usize {
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let start: usize = text
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    text[start..]
        .char_indices()
        .nth(column - 1)
        .map_or(text.len(), |(offset, _)| start + offset)
}

/// The crate's error in the user's words.
fn syntax_error(error: &serde_yaml::Error, text: &str, source: &Arc<Source>) -> Diagnostic {
    use serde_yaml::Error;

    let location = error.location();
    let place = location.map_or(0..0, |location| {
        let range = byte_range(location, text);
        let next = text[range.start..].chars().next().map_or(0, char::len_utf8);
        range.start..range.end.max(range.start + next)
    });
    let message = error.to_string();
    let message = message
        .split_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    match innermost(error) {
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => Rule::TooComplex
            .error("the file is too deeply nested, or its aliases stand for too much")
            .at(source, place, "here the limit is reached")
            .help(format!(
                "at most {MAX_DEPTH} levels, {MAX_EVENTS} values, and {MAX_ALIASED_NODES} \
                 values that aliases stand for"
            )),
        Error::MultipleDocuments { .. } => Rule::MultipleDocuments
            .error("the file has more than one YAML document")
            .at(source, place, "the second one begins here")
            .help("keep one document in the file: remove the `---` and what follows"),
        _ => {
            let line_start = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
            let line = text[line_start..].lines().next().unwrap_or_default();
            let indent = &line[..line.len() - line.trim_start().len()];
            let tab = indent.find('\t').map(|at| line_start + at);
            match tab {
                Some(tab) => Rule::YamlSyntax
                    .error("the line is indented with a tab")
                    .at(source, tab..tab + 1, "a tab")
                    .help("YAML is indented with spaces only: use two per level"),
                None => Rule::YamlSyntax
                    .error(format!("this is not valid YAML: {message}"))
                    .at(source, place.clone(), "")
                    .help(syntax_help(message, line, &text[..place.start])),
            }
        }
    }
}

/// The error itself, without the places that it was wrapped in.
fn innermost(mut error: &serde_yaml::Error) -> &serde_yaml::Error {
    while let serde_yaml::Error::AliasError { error: inner, .. } = error.without_snippet() {
        error = inner;
    }
    error.without_snippet()
}

/// The mend for the commonest mistakes, by what the scanner says of them.
fn syntax_help(message: &str, line: &str, before: &str) -> &'static str {
    let is_open = |open, close| before.matches(open).count() > before.matches(close).count();
    if message.contains("quote") {
        "close the text with the quote it begins with"
    } else if message.contains("anchor") {
        "define the value first with `&name`, then use it as `*name`"
    } else if message.contains("mapping values are not allowed") {
        "put a text that contains `: ` in quotes, or begin a nested mapping on its own line"
    } else if is_open('[', ']') || is_open('{', '}') {
        "close every `[` with `]` and every `{` with `}`"
    } else if line.trim_start().starts_with(['@', '`', '%']) || message.contains("character") {
        "put a text that begins with a special character in quotes"
    } else {
        "check the indentation of this line and the one before it"
    }
}
