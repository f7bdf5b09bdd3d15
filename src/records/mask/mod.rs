//! Secrets taken out of what programs write.

mod forms;

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use crate::model::Secret;

/// What stands for a secret.
const STARS: &[u8] = b"***";

/// Takes known values out of one stream of bytes, however it is cut into pieces.
///
/// A value is found as it is, and as base64 (alone or within a longer text), percent-encoded, or
/// escaped as in JSON. What has fewer than [`Masker::SHORTEST`] bytes is not looked for: it is in
/// every text. Of the input only as much is held back as may be the beginning of a value, so that
/// a prompt is not kept from whoever waits for it.
#[derive(Debug, Clone)]
pub struct Masker {
    /// Nothing where there is nothing to look for.
    search: Option<Search>,
    /// The end of what came, which may be the beginning of a value.
    held: Vec<u8>,
    /// How many bytes of that belong to a value that was found.
    covered: usize,
    /// Whether what was given out last was stars.
    is_masking: bool,
}

#[derive(Clone)]
struct Search {
    automaton: AhoCorasick,
    /// What is looked for, sorted.
    forms: Vec<Vec<u8>>,
    longest: usize,
}

impl Masker {
    /// The length of the shortest value that is masked, in bytes.
    pub const SHORTEST: usize = 4;

    /// A masker of those values, for one stream.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            forms::add(secret.expose(), &mut forms);
        }
        forms.sort_unstable();
        forms.dedup();
        Self {
            search: Search::of(forms),
            held: Vec::new(),
            covered: 0,
            is_masking: false,
        }
    }

    /// Takes in what was written, and gives out what can be shown of it by now.
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(search) = &self.search else {
            return Cow::Borrowed(bytes);
        };
        let mut input = Cow::Borrowed(bytes);
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            input = Cow::Owned(std::mem::take(&mut self.held));
        }
        let end = search.undecided(&input);
        let found = search.found(&input);
        if found.is_empty() && self.covered == 0 && end == input.len() {
            self.is_masking &= input.is_empty();
            return input;
        }
        let shown = self.show(&input, &found, end);
        self.held = input[end..].to_vec();
        Cow::Owned(shown)
    }

    /// Gives out what was held back: nothing more will come.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let found = match &self.search {
            Some(search) => search.found(&held),
            None => Vec::new(),
        };
        self.show(&held, &found, held.len())
    }

    /// The input up to `end`, with each run of bytes that belong to values as stars.
    fn show(&mut self, input: &[u8], found: &[Range<usize>], end: usize) -> Vec<u8> {
        let mut shown = Vec::with_capacity(end);
        let mut at = 0;
        let mut covered = 0;
        for range in std::iter::once(&(0..self.covered)).chain(found) {
            let start = range.start.min(end);
            if start > at {
                shown.extend_from_slice(&input[at..start]);
                self.is_masking = false;
                at = start;
            }
            covered = covered.max(range.end);
            let upto = range.end.min(end);
            if upto > at {
                if !self.is_masking {
                    shown.extend_from_slice(STARS);
                }
                self.is_masking = true;
                at = upto;
            }
        }
        if end > at {
            shown.extend_from_slice(&input[at..end]);
            self.is_masking = false;
        }
        self.covered = covered.saturating_sub(end);
        shown
    }
}

impl Search {
    fn of(forms: Vec<Vec<u8>>) -> Option<Self> {
        let longest = forms.iter().map(Vec::len).max()?;
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms)
            .expect("secrets are far below four billion bytes");
        Some(Self {
            automaton,
            forms,
            longest,
        })
    }

    /// The values in an input, by where they begin; they may overlap. Of those that begin at the
    /// same place, the longest.
    fn found(&self, input: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(next) = self.automaton.find(Input::new(input).range(from..)) {
            found.push(next.range());
            from = next.start() + 1;
        }
        found
    }

    /// Where the longest end begins that may go on as a value.
    fn undecided(&self, input: &[u8]) -> usize {
        let first = input.len().saturating_sub(self.longest - 1);
        let may_begin = |at: &usize| {
            let end = &input[*at..];
            let next = self.forms.partition_point(|form| form.as_slice() <= end);
            self.forms
                .get(next)
                .is_some_and(|form| form.starts_with(end))
        };
        (first..input.len()).find(may_begin).unwrap_or(input.len())
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Search({} forms)", self.forms.len())
    }
}

#[cfg(test)]
mod tests;
