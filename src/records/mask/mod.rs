//! Secrets taken out of what programs write.

mod forms;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use self::forms::Forms;
use crate::model::Secret;

/// What stands for a secret.
const STARS: &[u8] = b"***";

/// Takes known values out of one stream of bytes, however it is cut into pieces.
///
/// A value is found as it is, line by line, and as base64 (alone or within a longer text, in lines of
/// any length), percent-encoded, escaped as in JSON, or quoted as for a shell. What has fewer than
/// [`Masker::SHORTEST`] bytes is not looked for: it is in every text. Of the input only as much is held back as may be the beginning of a value, so that
/// a prompt is not kept from whoever waits for it.
#[derive(Debug, Clone)]
pub struct Masker {
    /// Nothing where there is nothing to look for.
    search: Option<Arc<Search>>,
    /// The end of what came, which may be the beginning of a value.
    held: Vec<u8>,
    /// How many bytes of that were given out all the same.
    shown: usize,
    /// How many bytes of that belong to a value that was found.
    covered: usize,
    /// Whether what was given out last was stars.
    is_masking: bool,
}

/// What is looked for in a text, and in the text with its lines joined.
#[derive(Debug)]
struct Search {
    plain: Words,
    joined: Option<Words>,
}

struct Words {
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
        let mut forms = Forms::default();
        for secret in secrets {
            forms.add(secret.expose());
        }
        let search = Words::of(forms.plain).map(|plain| Search {
            plain,
            joined: Words::of(forms.joined),
        });
        Self {
            search: search.map(Arc::new),
            held: Vec::new(),
            shown: 0,
            covered: 0,
            is_masking: false,
        }
    }

    /// A whole text with its secrets masked.
    #[must_use]
    pub fn masked(&self, text: &str) -> String {
        let mut masker = Self {
            search: self.search.clone(),
            held: Vec::new(),
            shown: 0,
            covered: 0,
            is_masking: false,
        };
        let mut shown = masker.feed(text.as_bytes()).into_owned();
        shown.extend(masker.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Whether a text is one of the values, or has one of so many bytes at least in it, or a part of one
    /// that is looked for.
    #[must_use]
    pub fn finds(&self, text: &str, least_bytes: usize) -> bool {
        let search = self.search.as_ref();
        search.is_some_and(|search| {
            let found = search.look(text.as_bytes()).found;
            found
                .iter()
                .any(|range| range.len() >= least_bytes || range.len() == text.len())
        })
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
        let Look { found, end, kept } = search.look(&input);
        let is_news = self.shown == 0 && self.covered == 0;
        if found.is_empty() && is_news && kept == input.len() {
            self.is_masking &= input.is_empty();
            return input;
        }
        let shown = self.show(&input, &found, end);
        self.held = input[kept..].to_vec();
        self.shown = end - kept;
        self.covered += self.shown * usize::from(self.covered > 0);
        Cow::Owned(shown)
    }

    /// Gives out what was held back: nothing more will come.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let found = match &self.search {
            Some(search) => search.look(&held).found,
            None => Vec::new(),
        };
        self.show(&held, &found, held.len())
    }

    /// The input up to `end`, with each run of bytes that belong to values as stars.
    fn show(&mut self, input: &[u8], found: &[Range<usize>], end: usize) -> Vec<u8> {
        let mut shown = Vec::with_capacity(end);
        let mut at = std::mem::take(&mut self.shown);
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
    fn look(&self, input: &[u8]) -> Look {
        let mut found = self.plain.found(input);
        let mut end = self.plain.undecided(input).unwrap_or(input.len());
        let mut kept = end;
        if let Some(words) = &self.joined {
            let joined = Joined::of(input);
            let place =
                |range: Range<usize>| joined.place(range.start)..joined.place(range.end - 1) + 1;
            found.extend(words.found(&joined.text).into_iter().map(place));
            found.sort_unstable_by_key(|range| (range.start, range.end));
            if let Some(at) = words.undecided(&joined.text) {
                kept = kept.min(joined.place(at));
                // A line that ends like the beginning of a value by chance is shown to its end.
                let is_short = joined.text.len() - at < Masker::SHORTEST;
                if !(joined.is_open && is_short) {
                    end = end.min(kept);
                }
            }
        }
        Look { found, end, kept }
    }
}

/// What is found in an input.
struct Look {
    /// The values, by where they begin; they may overlap.
    found: Vec<Range<usize>>,
    /// Up to where it can be shown.
    end: usize,
    /// Where the longest end begins that may go on as a value.
    kept: usize,
}

/// A text without the ends of lines, and the blanks behind them, that are within base64.
struct Joined<'a> {
    text: Cow<'a, [u8]>,
    /// Where lines are joined, and how many bytes are left out up to there.
    joints: Vec<(usize, usize)>,
    /// Whether it ends with a line, which the next one may go on.
    is_open: bool,
}

impl<'a> Joined<'a> {
    fn of(input: &'a [u8]) -> Self {
        let mut text = Vec::new();
        let mut joints = Vec::new();
        let (mut from, mut at) = (0, 0);
        while let Some(end) = memchr::memchr(b'\n', &input[at..]) {
            let end = at + end;
            let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
            let blanks = input[end + 1..].iter();
            let blanks = blanks
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count();
            at = end + 1 + blanks;
            let goes_on = input.get(at).copied().is_none_or(is_base64);
            if ends_in_base64(line) && goes_on && line.len() >= from {
                text.extend_from_slice(&input[from..line.len()]);
                joints.push((text.len(), at - text.len()));
                from = at;
            }
        }
        // The end of a line may itself be cut.
        let rest = &input[from..];
        if let Some(line) = rest.strip_suffix(b"\r").filter(|line| ends_in_base64(line)) {
            text.extend_from_slice(line);
            joints.push((text.len(), input.len() - text.len()));
            from = input.len();
        }
        let is_open = !joints.is_empty() && from == input.len();
        let text = if joints.is_empty() {
            Cow::Borrowed(input)
        } else {
            text.extend_from_slice(&input[from..]);
            Cow::Owned(text)
        };
        Self {
            text,
            joints,
            is_open,
        }
    }

    /// Where a byte of it is in the text.
    fn place(&self, at: usize) -> usize {
        let joint = self.joints.partition_point(|(joint, _)| *joint <= at);
        let left_out = joint.checked_sub(1).map_or(0, |joint| self.joints[joint].1);
        at + left_out
    }
}

fn ends_in_base64(line: &[u8]) -> bool {
    line.last().copied().is_some_and(is_base64)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

impl Words {
    fn of(mut forms: Vec<Vec<u8>>) -> Option<Self> {
        forms.sort_unstable();
        forms.dedup();
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

    /// What is found in an input, by where it begins. Of what begins at the same place, the longest.
    fn found(&self, input: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(next) = self.automaton.find(Input::new(input).range(from..)) {
            found.push(next.range());
            from = next.start() + 1;
        }
        found
    }

    /// Where the longest end begins that may go on as one of them.
    fn undecided(&self, input: &[u8]) -> Option<usize> {
        let first = input.len().saturating_sub(self.longest - 1);
        let may_begin = |at: &usize| {
            let end = &input[*at..];
            let next = self.forms.partition_point(|form| form.as_slice() <= end);
            self.forms
                .get(next)
                .is_some_and(|form| form.starts_with(end))
        };
        (first..input.len()).find(may_begin)
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Words({} forms)", self.forms.len())
    }
}

#[cfg(test)]
mod tests;
