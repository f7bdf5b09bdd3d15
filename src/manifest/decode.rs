//! [`Node`] → types, with all errors at once.
//!
//! A type that is read from the manifest implements [`Decode`]: it either becomes a value, or tells
//! the decoder what is wrong and becomes nothing. [`decode_table!`](crate::manifest::decode) writes
//! the implementation for a struct whose fields are the keys of a mapping.

mod elsewhere;
mod located;
mod table;

use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;

use super::Rule;
use super::node::{Key, Kind, Node, Text};
use super::suggest::nearest;
use crate::diagnostic::{Diagnostic, Source};
use crate::model::{Scalar, ValueError};

pub use located::{Entry, Located, Map, Names};
pub(crate) use table::Table;

/// A value that is read from a node.
pub(crate) trait Decode: Sized {
    /// The value, or nothing after having told the decoder why.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self>;
}

/// A value that is read from what may be under a key.
pub(crate) trait Field: Sized {
    /// What a missing key means; nothing if the key is required.
    fn absent() -> Option<Self>;

    /// What the key's value means.
    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self>;
}

/// Collects what is wrong while a tree is read.
pub(crate) struct Decoder<'a> {
    source: &'a Arc<Source>,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// The keys from the root to where the decoder is: `jobs`, `train`, `build`.
    path: Vec<String>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(source: &'a Arc<Source>, diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Self {
            source,
            diagnostics,
            path: Vec::new(),
        }
    }

    /// Where the decoder is, for people: `` in `jobs.train` ``.
    fn location(&self) -> String {
        location(&self.path)
    }

    /// Reads with one more key on the path.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let value = read(self);
        self.path.pop();
        value
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Puts a diagnostic at a place.
    pub(crate) fn place(
        &self,
        diagnostic: Diagnostic,
        span: Range<usize>,
        label: &str,
    ) -> Diagnostic {
        diagnostic.at(self.source, span, label)
    }

    /// Puts a diagnostic where a node is, its use too if that is elsewhere.
    pub(crate) fn at(&self, diagnostic: Diagnostic, node: &Node, label: &str) -> Diagnostic {
        let diagnostic = diagnostic.at(self.source, node.place(), label);
        match node.defined {
            Some(_) => diagnostic.related(node.span.clone(), "used here"),
            None => diagnostic,
        }
    }

    /// Says that a node is not of the kind that is needed here.
    pub(crate) fn expected(&mut self, node: &Node, expected: &str) {
        // The help has what it must be.
        let message = format!("can't be {}", node.describe());
        self.unfit(node, expected, &message, &format!("write {expected}"));
    }

    /// The same with a help of its own.
    fn expected_as(&mut self, node: &Node, expected: &str, help: &str) {
        let message = format!("must be {expected}, not {}", node.describe());
        self.unfit(node, expected, &message, help);
    }

    fn unfit(&mut self, node: &Node, expected: &str, message: &str, help: &str) {
        let (what, parent) = match self.path.split_last() {
            Some((last, parent)) => (format!("`{last}`"), location(parent)),
            None => ("the manifest".to_owned(), String::new()),
        };
        let diagnostic = match node.kind {
            Kind::Broken => return,
            Kind::Null => Rule::EmptyValue
                .error(format!("{what}{parent} has no value"))
                .help(format!("give it {expected}, or remove the key")),
            _ => Rule::WrongType
                .error(format!("{what}{parent} {message}"))
                .help(help),
        };
        let diagnostic = self.at(diagnostic, node, "");
        self.report(diagnostic);
    }

    /// The entries of a mapping, or nothing after an error.
    pub(crate) fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [(Key, Node)]> {
        let Kind::Map(entries) = &node.kind else {
            let help = "write `key: value` on lines of their own, or `{ key: value }`";
            self.expected_as(node, "a mapping", help);
            return None;
        };
        let mut seen: IndexMap<&str, &Key> = IndexMap::new();
        for (key, _) in entries {
            if let Some(first) = seen.get(key.text.as_str()) {
                let diagnostic = Rule::DuplicateKey
                    .error(format!(
                        "the key `{}` is given twice{}",
                        key.text,
                        self.location()
                    ))
                    .at(self.source, key.span.clone(), "the second one")
                    .related(first.span.clone(), "the first one")
                    .help("keep one of them: which of two would win is never clear");
                self.report(diagnostic);
            }
            seen.entry(&key.text).or_insert(key);
        }
        Some(entries)
    }

    /// The scalar, or nothing after an error.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n Text> {
        if let Kind::Scalar(text) = &node.kind {
            return Some(text);
        }
        self.expected(node, expected);
        None
    }

    /// Says that a scalar does not read as what it should be.
    pub(crate) fn invalid(&mut self, node: &Node, message: &str, help: String) {
        let key = self.path.last().cloned().unwrap_or_default();
        let diagnostic = Rule::InvalidValue
            .error(format!("`{key}`: {message}"))
            .help(help);
        let diagnostic = self.at(diagnostic, node, "");
        self.report(diagnostic);
    }

    /// Says what a value's parser said of it.
    pub(crate) fn unparsable<T: Scalar>(&mut self, node: &Node, error: ValueError) {
        let help = error
            .help
            .unwrap_or_else(|| format!("write {}", T::EXPECTED));
        self.invalid(node, &error.message, help);
    }
}

fn location(path: &[String]) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" in `{}`", path.join("."))
    }
}

/// `a`, `b` and `c` in backquotes.
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

/// Implements [`Decode`] for a struct whose fields are the keys of a mapping.
///
/// The struct literal that it writes makes a field that is left out a compile error.
macro_rules! decode_table {
    ($type:ident, $expected:literal, { $($field:ident),+ $(,)? }) => {
        impl $crate::manifest::decode::Decode for $type {
            fn decode(
                node: &$crate::manifest::node::Node,
                decoder: &mut $crate::manifest::decode::Decoder<'_>,
            ) -> Option<Self> {
                let mut table =
                    $crate::manifest::decode::Table::open(node, $expected, decoder)?;
                $(let $field = table.field(stringify!($field), decoder);)+
                table.close(decoder);
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}
pub(crate) use decode_table;

/// Implements [`Decode`] for an enum of words, with suggestions.
macro_rules! decode_words {
    ($type:ident, $expected:literal, { $($word:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::manifest::decode::Decode for $type {
            fn decode(
                node: &$crate::manifest::node::Node,
                decoder: &mut $crate::manifest::decode::Decoder<'_>,
            ) -> Option<Self> {
                match decoder.word(node, $expected, &[$($word),+])? {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use decode_words;

impl Decoder<'_> {
    /// One of a few words, or nothing after an error that suggests the nearest.
    pub(crate) fn word(
        &mut self,
        node: &Node,
        expected: &str,
        words: &[&'static str],
    ) -> Option<&'static str> {
        let text = self.text(node, expected)?;
        if let Some(word) = words.iter().copied().find(|word| *word == text.value) {
            return Some(word);
        }
        match nearest(&text.value, words.iter().copied()) {
            Some(word) => {
                let message = format!("must be {}", list(words).replace(" and ", " or "));
                self.invalid(node, &message, format!("did you mean `{word}`?"));
            }
            None => self.invalid(node, "this value is unknown", format!("write {expected}")),
        }
        None
    }
}

impl<T: Scalar> Decode for T {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.text(node, T::EXPECTED)?;
        match text.value.parse() {
            Ok(value) => Some(value),
            // What a variable held may be a secret, and the parser may quote it.
            Err(_) if text.is_interpolated => {
                let message = format!("with its variables put in, it is not {}", T::EXPECTED);
                decoder.invalid(node, &message, "check the variables".to_owned());
                None
            }
            Err(error) => {
                decoder.unparsable::<T>(node, error);
                None
            }
        }
    }
}

impl Decode for String {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Some(decoder.text(node, "a text")?.value.clone())
    }
}

impl Decode for bool {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        const EXPECTED: &str = "`true` or `false`";
        let text = decoder.text(node, EXPECTED)?;
        match text.value.as_str() {
            "true" | "True" | "TRUE" if text.is_plain => Some(true),
            "false" | "False" | "FALSE" if text.is_plain => Some(false),
            other => {
                let must = "must be `true` or `false`";
                let (message, help) = match other.to_lowercase().as_str() {
                    "yes" | "on" | "y" | "1" | "true" => (must, "write `true`"),
                    "no" | "off" | "n" | "0" | "false" => (must, "write `false`"),
                    _ => ("this is not a boolean", "write `true` or `false`"),
                };
                decoder.invalid(node, message, help.to_owned());
                None
            }
        }
    }
}

impl Decode for u32 {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        const EXPECTED: &str = "a whole number such as `2`";
        let text = decoder.text(node, EXPECTED)?;
        if let Ok(value) = text.value.parse() {
            return Some(value);
        }
        decoder.invalid(
            node,
            &format!("this is not a whole number from 0 to {}", u32::MAX),
            format!("write {EXPECTED}"),
        );
        None
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            let help = "write `[a, b]`, or a line that begins with `- ` for each";
            decoder.expected_as(node, "a list", help);
            return None;
        };
        let decoded: Vec<_> = items.iter().map(|item| T::decode(item, decoder)).collect();
        decoded.into_iter().collect()
    }
}

impl<T: Decode> Field for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, decoder).map(Some)
    }
}

impl<T: Decode> Field for Vec<T> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}
