//! How a row of parameters is worked on: piece by piece, and word by word where it is the table of words.

use std::ops::Range;

use tch::Tensor;

use crate::model::Slot;
use crate::parallel::numbers;

/// Numbers of a piece, about.
const PIECE: usize = 1 << 16;

/// All pieces. They are the unit of sums too, so that these don't depend on threads.
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    /// What is known of the rows of words; nothing before the first step, or where there are no words.
    words: Vec<Word>,
}

/// Numbers that are worked on together, all of one parameter.
pub(super) struct Piece {
    pub(super) numbers: Range<usize>,
    pub(super) decays: bool,
    /// For the table of words: which of them these are.
    words: Option<Range<usize>>,
}

/// What is known of a word's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It never had a gradient.
    New,
    /// It had one, but has none in this step.
    Known,
    /// It has one.
    Present,
}

impl Pieces {
    /// Those of the parameters at `slots`, which lie one after the other.
    pub(super) fn of(slots: &[Slot]) -> Self {
        let start = slots.first().map_or(0, |slot| slot.offset);
        let pieces = slots
            .iter()
            .flat_map(|slot| of_slot(slot, (slot.offset - start) as usize));
        Self {
            pieces: pieces.collect(),
            words: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// A piece, and its parts word by word; one part, which is present, if it isn't of words.
    pub(super) fn get(&self, index: usize) -> (&Piece, impl Iterator<Item = (Word, Range<usize>)>) {
        let piece = &self.pieces[index];
        let words = piece
            .words
            .clone()
            .map_or(&[Word::Present][..], |words| &self.words[words]);
        let (start, width) = (piece.numbers.start, piece.numbers.len() / words.len());
        let ranges = (start..)
            .step_by(width)
            .map(move |start| start..start + width);
        (piece, words.iter().copied().zip(ranges))
    }

    /// Notes which words have a gradient in the next step; none told: all. The first time, `mean` and
    /// `square`, the optimizer's memory, tell which had one before.
    pub(super) fn note(&mut self, present: Option<&Tensor>, [mean, square]: [&Tensor; 2]) {
        if self.words.is_empty() {
            self.words = self.remembered([numbers(mean), numbers(square)]);
        }
        for word in &mut self.words {
            *word = match (present, *word) {
                (None, _) => Word::Present,
                (Some(_), Word::Present) => Word::Known,
                (Some(_), word) => word,
            };
        }
        if let Some(present) = present {
            let ids: Vec<i64> = Vec::try_from(present).expect("ids are integers");
            for id in ids {
                self.words[id as usize] = Word::Present;
            }
        }
    }

    fn remembered(&self, memory: [&[f32]; 2]) -> Vec<Word> {
        let mut known = Vec::new();
        for piece in &self.pieces {
            let Some(words) = &piece.words else { continue };
            let width = piece.numbers.len() / words.len();
            let [means, squares] = memory.map(|row| row[piece.numbers.clone()].chunks_exact(width));
            known.extend(means.zip(squares).map(|(mean, square)| {
                if mean.iter().chain(square).all(|number| *number == 0.0) {
                    Word::New
                } else {
                    Word::Known
                }
            }));
        }
        known
    }
}

/// A parameter's pieces; it begins at `start`.
fn of_slot(slot: &Slot, start: usize) -> impl Iterator<Item = Piece> {
    let (len, decays) = (slot.len() as usize, slot.decays());
    let width = slot.is_words().then(|| slot.shape[1] as usize);
    // Whole rows of words.
    let size = width.map_or(PIECE, |width| PIECE.div_ceil(width) * width);
    (0..len).step_by(size).map(move |first| {
        let range = first..len.min(first + size);
        Piece {
            numbers: start + range.start..start + range.end,
            decays,
            words: width.map(|width| range.start / width..range.end / width),
        }
    })
}
