//! How flat parameters are worked on: block by block, and row by row in the word embeddings.

use std::ops::Range;

use tch::Tensor;

use crate::parameters::Slot;

/// Numbers of a block, about.
const BLOCK: usize = 1 << 16;

/// All blocks. They are the unit of sums too, so that these don't depend on threads.
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// What is known of each row of the word embeddings; nothing before the first step, or where there
    /// are none.
    embedding_rows: Vec<EmbeddingRow>,
}

/// Numbers that are worked on together, all of one parameter.
pub(super) struct Block {
    pub(super) range: Range<usize>,
    pub(super) decays: bool,
    /// Of the word embeddings: which rows these are.
    rows: Option<Range<usize>>,
}

/// What is known of a row of the word embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmbeddingRow {
    /// It never had a gradient.
    Untouched,
    /// It had one, but has none in this step.
    MomentumOnly,
    /// It has one.
    HasGradient,
}

impl Blocks {
    /// Those of the parameters at `slots`, which lie one after the other.
    pub(super) fn of(slots: &[Slot]) -> Self {
        let start = slots.first().map_or(0, |slot| slot.offset);
        let blocks = slots
            .iter()
            .flat_map(|slot| of_slot(slot, (slot.offset - start) as usize));
        Self {
            blocks: blocks.collect(),
            embedding_rows: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Where the blocks lie.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        self.iter().map(|block| block.range.clone()).collect()
    }

    /// A block, and its rows, by their places in the block. One that has a gradient, if it isn't of the word
    /// embeddings.
    pub(super) fn get(
        &self,
        index: usize,
    ) -> (&Block, impl Iterator<Item = (EmbeddingRow, Range<usize>)>) {
        let block = &self.blocks[index];
        let rows = block
            .rows
            .clone()
            .map_or(&[EmbeddingRow::HasGradient][..], |rows| {
                &self.embedding_rows[rows]
            });
        let width = block.range.len() / rows.len();
        let ranges = (0..).step_by(width).map(move |start| start..start + width);
        (block, rows.iter().copied().zip(ranges))
    }

    /// Notes which rows of the word embeddings have a gradient in the next step; without `word_ids`, all. The
    /// first time, the optimizer's moments say which had one before.
    pub(super) fn note(&mut self, word_ids: Option<&Tensor>, moments: [&[f32]; 2]) {
        if self.embedding_rows.is_empty() {
            self.embedding_rows = self.rows_by_moments(moments);
        }
        for row in &mut self.embedding_rows {
            *row = match (word_ids, *row) {
                (None, _) => EmbeddingRow::HasGradient,
                (Some(_), EmbeddingRow::HasGradient) => EmbeddingRow::MomentumOnly,
                (Some(_), row) => row,
            };
        }
        if let Some(word_ids) = word_ids {
            let ids: Vec<i64> = Vec::try_from(word_ids).expect("ids are integers");
            for id in ids {
                self.embedding_rows[id as usize] = EmbeddingRow::HasGradient;
            }
        }
    }

    fn rows_by_moments(&self, moments: [&[f32]; 2]) -> Vec<EmbeddingRow> {
        let mut known = Vec::new();
        for block in &self.blocks {
            let Some(rows) = &block.rows else { continue };
            let width = block.range.len() / rows.len();
            let [first, second] =
                moments.map(|moment| moment[block.range.clone()].chunks_exact(width));
            known.extend(first.zip(second).map(|(first, second)| {
                if first.iter().chain(second).all(|number| *number == 0.0) {
                    EmbeddingRow::Untouched
                } else {
                    EmbeddingRow::MomentumOnly
                }
            }));
        }
        known
    }
}

/// A parameter's blocks; it begins at `start`.
fn of_slot(slot: &Slot, start: usize) -> impl Iterator<Item = Block> {
    let (len, decays) = (slot.len() as usize, slot.decays());
    let width = slot.is_word_embeddings().then(|| slot.shape[1] as usize);
    // Whole rows of the word embeddings.
    let size = width.map_or(BLOCK, |width| BLOCK.div_ceil(width) * width);
    (0..len).step_by(size).map(move |first| {
        let range = first..len.min(first + size);
        Block {
            range: start + range.start..start + range.end,
            decays,
            rows: width.map(|width| range.start / width..range.end / width),
        }
    })
}
