//! Mappings whose keys are known.

use std::borrow::Cow;
use std::ops::Range;

use super::elsewhere::{anywhere, in_table};
use super::{Decoder, Field, list};
use crate::manifest::Rule;
use crate::manifest::node::{Key, Node};
use crate::manifest::suggest::nearest;

/// A mapping whose keys are known.
pub(crate) struct Table<'n> {
    entries: &'n [(Key, Node)],
    span: Range<usize>,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
    refused: Vec<&'static str>,
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
            refused: Vec::new(),
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

    /// Refuses a key that would have no effect, if it is there.
    pub(crate) fn refuse(&mut self, key: &'static str, help: &str, decoder: &mut Decoder<'_>) {
        self.refused.push(key);
        let found = self.entries.iter().find(|(entry, _)| entry.text == key);
        if let Some((entry, _)) = found {
            let diagnostic = Rule::NotSupported
                .error(format!("`{key}` is not supported yet"))
                .at(decoder.source, entry.place(), "")
                .help(help);
            decoder.report(diagnostic);
        }
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
            let text = key.text.as_str();
            if self.known.contains(&text) || self.refused.contains(&text) || key.is_extension() {
                continue;
            }
            // `cpus` of a job is compose's key, and not a slip of `gpus`.
            let placed = in_table(self.expected, text);
            let near = nearest(text, unused.iter().copied());
            let meant = near.filter(|_| placed.is_none());
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
                    let keys =
                        || format!("the keys of {} are {}", self.expected, list(&self.known));
                    let placed = placed.map(Cow::into_owned);
                    let placed = placed.or_else(|| anywhere(text).map(str::to_owned));
                    diagnostic.help(placed.unwrap_or_else(keys))
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
