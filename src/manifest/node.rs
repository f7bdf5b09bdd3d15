//! A YAML document as a tree in which everything knows where it stands.

use std::ops::Range;

/// A value of the document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where it is used: byte range in the text. Empty for mappings and block lists.
    pub(crate) span: Range<usize>,
    /// Where it is defined, when it came through an alias (`*a`) or a merge (`<<`).
    pub(crate) defined: Option<Range<usize>>,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// `~`, `null` or nothing at all.
    Null,
    Scalar(Text),
    List(Vec<Node>),
    /// In the order of the file; a key can be there twice.
    Map(Vec<(Key, Node)>),
    /// Something is wrong with it that was said already.
    Broken,
}

/// A scalar as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    /// The text with quotes and escapes undone and variables put in.
    pub(crate) value: String,
    /// Not in quotes: may mean a number or a boolean.
    pub(crate) is_plain: bool,
    /// Variables were put in, so that the value may not be shown.
    pub(crate) is_interpolated: bool,
    /// The variables that the value names, in order.
    pub(crate) variables: Vec<String>,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
    pub(crate) defined: Option<Range<usize>>,
}

impl Node {
    /// What it is, in the user's words.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Null | Kind::Broken => "nothing",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Scalar(text) if !text.is_plain => "a text in quotes",
            Kind::Scalar(text) => match text.value.as_str() {
                "true" | "false" => "a boolean",
                value if value.parse::<f64>().is_ok() => "a number",
                _ => "a text",
            },
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The value of a key, if it is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Map(entries) = &self.kind else {
            return None;
        };
        let mut entries = entries.iter();
        entries.find_map(|(name, value)| (name.text == key).then_some(value))
    }

    /// The values of a list or a mapping.
    pub(crate) fn values(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Null | Kind::Scalar(_) | Kind::Broken => Vec::new(),
            Kind::List(items) => items.iter().collect(),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        }
    }

    /// The place an error about the value points at: where it is defined.
    pub(crate) fn place(&self) -> Range<usize> {
        self.defined.clone().unwrap_or_else(|| self.span.clone())
    }

    /// From the first to the last byte of the value, all that it contains included.
    pub(crate) fn extent(&self) -> Range<usize> {
        let mut extent = self.span.clone();
        let mut grow = |inner: Range<usize>| {
            extent = extent.start.min(inner.start)..extent.end.max(inner.end);
        };
        match &self.kind {
            Kind::Null | Kind::Scalar(_) | Kind::Broken => {}
            Kind::List(items) => items.iter().for_each(|item| grow(item.extent())),
            Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
                grow(key.span.clone());
                grow(value.extent());
            }),
        }
        extent
    }
}

impl Key {
    /// `x-…`: the user's own, not ours to understand.
    pub(crate) fn is_extension(&self) -> bool {
        self.text.starts_with("x-")
    }

    /// The place an error about the key points at.
    pub(crate) fn place(&self) -> Range<usize> {
        self.defined.clone().unwrap_or_else(|| self.span.clone())
    }
}
