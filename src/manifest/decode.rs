//! [`Node`] → types, with all errors at once.
//!
//! A type that is read from the manifest implements [`Decode`]: it either becomes a value, or tells
//! the decoder what is wrong and becomes nothing. [`decode_table!`](crate::manifest::decode) writes
//! the implementation for a struct whose fields are the keys of a mapping.

use std::hash::Hash;
use std::ops::{Deref, Range};
use std::sync::Arc;

use indexmap::IndexMap;

use super::Rule;
use super::node::{Key, Kind, Node, Text};
use super::suggest::nearest;
use crate::diagnostic::{Diagnostic, Source};
use crate::model::{Name, Scalar, ValueError};

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
        self.expected_as(node, expected, &format!("write {expected}"));
    }

    /// The same with a help of its own.
    fn expected_as(&mut self, node: &Node, expected: &str, help: &str) {
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
                .error(format!(
                    "{what}{parent} must be {expected}, not {}",
                    node.describe()
                ))
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

/// A mapping whose keys are known.
pub(crate) struct Table<'n> {
    entries: &'n [(Key, Node)],
    span: Range<usize>,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
    expected: &'static str,
}

impl<'n> Table<'n> {
    pub(crate) fn open(
        node: &'n Node,
        expected: &'static str,
        decoder: &mut Decoder<'_>,
    ) -> Option<Self> {
        let entries = decoder.map(node)?;
        let span = entries
            .first()
            .map_or_else(|| node.place(), |(key, _)| key.place());
        Some(Self {
            entries,
            span,
            known: Vec::new(),
            missing: Vec::new(),
            expected,
        })
    }

    /// The value of a key. A value that can't be read counts as absent where it may be.
    pub(crate) fn field<T: Field>(
        &mut self,
        key: &'static str,
        decoder: &mut Decoder<'_>,
    ) -> Option<T> {
        self.known.push(key);
        match self.entries.iter().find(|(entry, _)| entry.text == key) {
            Some((_, node)) => decoder
                .within(key, |decoder| T::present(node, decoder))
                .or_else(T::absent),
            None => {
                let value = T::absent();
                if value.is_none() {
                    self.missing.push(key);
                }
                value
            }
        }
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry.text == key)
    }

    /// Says which keys are unknown and which are missing.
    pub(crate) fn close(mut self, decoder: &mut Decoder<'_>) {
        let unused: Vec<_> = self
            .known
            .iter()
            .copied()
            .filter(|key| !self.has(key))
            .collect();
        for (key, _) in self.entries {
            if self.known.contains(&key.text.as_str()) || key.is_extension() {
                continue;
            }
            let meant = nearest(&key.text, unused.iter().copied());
            // A key that is misspelt is not missing as well.
            self.missing.retain(|missing| Some(*missing) != meant);
            let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
            let mut diagnostic = Rule::UnknownKey
                .error(format!("unknown key `{}`{}", key.text, decoder.location()))
                .at(decoder.source, key.place(), label);
            if key.defined.is_some() {
                diagnostic = diagnostic.related(key.span.clone(), "used here");
            }
            decoder.report(match meant {
                Some(meant) => diagnostic.help(format!("write `{meant}`")),
                None => {
                    if let Some(elsewhere) = elsewhere(&key.text) {
                        diagnostic = diagnostic.help(elsewhere);
                    }
                    let keys = list(&self.known);
                    diagnostic.help(format!("the keys of {} are {keys}", self.expected))
                }
            });
        }
        self.close_missing(decoder);
    }

    /// Says which keys are missing.
    pub(crate) fn close_missing(self, decoder: &mut Decoder<'_>) {
        for key in self.missing {
            let diagnostic = Rule::MissingKey
                .error(format!("`{key}` is missing{}", decoder.location()))
                .at(decoder.source, self.span.clone(), "in this mapping")
                .help(format!("add `{key}:`"));
            decoder.report(diagnostic);
        }
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

/// Words from compose, docker and Kubernetes whose meaning has another name or place here.
fn elsewhere(key: &str) -> Option<&'static str> {
    Some(match key {
        "env" | "envs" | "variables" => "variables are set under `environment`",
        "depends_on" | "dependencies" => "what a job needs first goes under `needs`",
        "cmd" | "args" | "script" | "run" => "what the container runs is the job's `command`",
        "mem_limit" | "memory" | "mem" | "cpus" | "cpu" | "shm_size" | "shm-size" => {
            "`cpus`, `memory` and `shm_size` go under the job's `resources`"
        }
        "deploy" | "devices" | "device_ids" => "GPUs are asked for with the job's `gpus`",
        "retries" | "attempts" | "restart" => "write `retry: { attempts: 2 }` in the job",
        "container_name" => "a run's container is named by jobctl; the job's key is its name",
        "services" => "a job that stays up is a job with `service: true`",
        "value" => "a secret is never written down here: name a variable or a file that has it",
        _ => return None,
    })
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
        let message = format!("must be {}", list(words).replace(" and ", " or "));
        let help = nearest(&text.value, words.iter().copied()).map_or_else(
            || format!("write {expected}"),
            |word| format!("did you mean `{word}`?"),
        );
        self.invalid(node, &message, help);
        None
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Located<T> {
    value: T,
    span: Range<usize>,
}

impl<T> Located<T> {
    pub(crate) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// The byte range of the value in the file: where it is used, if it came through an alias.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Equality is of the values: where they stand is no part of what they say.
impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Decode> Decode for Located<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Some(Self {
            value: T::decode(node, decoder)?,
            span: node.span.clone(),
        })
    }
}

/// A value under a key that the user chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<K, V> {
    /// The key, and where it stands.
    pub key: Located<K>,
    /// The value.
    pub value: V,
    /// From the key to the end of the value, in bytes.
    pub extent: Range<usize>,
}

/// A mapping whose keys the user chose, in the order of the file.
pub type Map<K, V> = IndexMap<K, Entry<K, V>>;

/// What the user named.
pub type Names<V> = Map<Name, V>;

impl<K: Scalar + Clone + Eq + Hash, V: Decode> Decode for Map<K, V> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let entries = decoder.map(node)?;
        let mut map = Self::new();
        for (key, node) in entries.iter().filter(|(key, _)| !key.is_extension()) {
            let value = decoder.within(&key.text, |decoder| V::decode(node, decoder));
            let name: Option<Located<K>> = decoder.key(key);
            if let (Some(name), Some(value)) = (name, value) {
                let extent = node.extent();
                map.entry(name.value.clone()).or_insert(Entry {
                    extent: key.span.start.min(extent.start)..key.span.end.max(extent.end),
                    key: name,
                    value,
                });
            }
        }
        Some(map)
    }
}

impl Decoder<'_> {
    /// A key that the user chose, or nothing after an error.
    pub(crate) fn key<K: Scalar>(&mut self, key: &Key) -> Option<Located<K>> {
        match key.text.parse() {
            Ok(value) => Some(Located {
                value,
                span: key.span.clone(),
            }),
            Err(error) => {
                let diagnostic = Rule::InvalidValue
                    .error(format!(
                        "the key `{}`{}: {error}",
                        key.text,
                        self.location()
                    ))
                    .at(self.source, key.place(), "")
                    .help(
                        error
                            .help
                            .unwrap_or_else(|| format!("write {}", K::EXPECTED)),
                    );
                self.report(diagnostic);
                None
            }
        }
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
                let help = match other.to_lowercase().as_str() {
                    "yes" | "on" | "y" | "1" | "true" => "write `true`",
                    "no" | "off" | "n" | "0" | "false" => "write `false`",
                    _ => "write `true` or `false`",
                };
                decoder.invalid(node, "must be `true` or `false`", help.to_owned());
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
            "must be a whole number",
            format!("write {EXPECTED}, at most {}", u32::MAX),
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

impl<K: Scalar + Clone + Eq + Hash, V: Decode> Field for Map<K, V> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}

impl<T: Decode> Field for Located<T> {
    fn absent() -> Option<Self> {
        None
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}
