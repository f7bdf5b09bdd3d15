//! Values with their place in the file, and mappings whose keys the user chose.

use std::hash::Hash;
use std::ops::{Deref, Range};

use indexmap::IndexMap;

use super::{Decode, Decoder, Field};
use crate::manifest::Rule;
use crate::manifest::node::{Key, Node};
use crate::model::{Name, Scalar};

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
