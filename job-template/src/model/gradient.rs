//! The gradient of a step, of one micro-batch or the sum over several.

use bert_encoder::to_device;
use tch::{Kind, Tensor};

/// The gradient of the parameters that are trained. On a CPU, a micro-batch writes the rows of its own words only:
/// those of others are of earlier steps.
pub(super) struct StepGradient {
    /// That of the last micro-batch, `[numbers]`.
    last: Tensor,
    /// The sum over several, binary32 `[numbers]`; none as long as no step has several.
    sum: Option<Tensor>,
    /// Micro-batches of this step so far.
    micro_batches: usize,
    /// Their words; none where all parameters have a gradient.
    word_ids: Option<Vec<i64>>,
    /// How many words there are, and the width of each one's vector: those of the first parameters.
    word_shape: [i64; 2],
}

impl StepGradient {
    /// Micro-batches write to `last`.
    pub(super) fn new(last: Tensor, word_shape: [i64; 2]) -> Self {
        Self {
            last,
            sum: None,
            micro_batches: 0,
            word_ids: None,
            word_shape,
        }
    }

    /// To be called before each micro-batch's backward pass.
    pub(super) fn keep(&mut self) {
        if self.micro_batches == 1 {
            let sum = self.sum.get_or_insert_with(|| {
                Tensor::zeros(self.last.size(), (Kind::Float, self.last.device()))
            });
            sum.copy_(&self.last);
        }
    }

    /// To be called after each, with its words.
    pub(super) fn add(&mut self, word_ids: Option<Vec<i64>>) {
        self.micro_batches += 1;
        match &self.sum {
            Some(sum) if self.micro_batches > 1 => {
                let mut sum = sum.shallow_clone();
                if let Some(ids) = word_ids {
                    self.add_words(&sum, &distinct(ids));
                    sum = self.without_words(&sum);
                    sum += self.without_words(&self.last);
                } else {
                    sum += &self.last;
                }
            }
            _ => self.word_ids = word_ids,
        }
    }

    /// Adds the rows of the last micro-batch's words.
    fn add_words(&mut self, sum: &Tensor, ids: &[i64]) {
        let rows = self.word_rows(sum);
        let known = distinct(self.word_ids.take().unwrap_or_default());
        let is_new = |id: &&i64| known.binary_search(id).is_err();
        let new: Vec<i64> = ids.iter().filter(is_new).copied().collect();
        let index = |ids: &[i64]| to_device(ids, sum.device());
        let _ = rows.shallow_clone().index_fill_(0, &index(&new), 0.0);
        let added = self.word_rows(&self.last).index_select(0, &index(ids));
        // Each row is there once, so that the order of the additions doesn't matter.
        let _ = rows
            .shallow_clone()
            .index_add_(0, &index(ids), &added.to_kind(Kind::Float));
        self.word_ids = Some(distinct([known, new].concat()));
    }

    /// What the step learns from, `[numbers]`.
    pub(super) fn flat(&self) -> &Tensor {
        match &self.sum {
            Some(sum) if self.micro_batches > 1 => sum,
            _ => &self.last,
        }
    }

    /// The same without what is of earlier steps: where the encoder is trained, the ids of the words, `[ids]`, and
    /// their gradients, `[ids, hidden]`; then those of all other parameters, `[numbers]`.
    pub(super) fn parts(&self) -> Vec<Tensor> {
        let flat = self.flat();
        let Some(ids) = self.word_ids.clone().map(distinct) else {
            return vec![flat.shallow_clone()];
        };
        let ids = to_device(&ids, flat.device());
        let rows = self.word_rows(flat).index_select(0, &ids);
        vec![ids, rows, self.without_words(flat)]
    }

    /// Ends the step, and gives the ids of its words.
    pub(super) fn finish(&mut self) -> Option<Vec<i64>> {
        self.micro_batches = 0;
        self.word_ids.take()
    }

    /// The word embeddings' part of `flat`, `[words, hidden]`.
    fn word_rows(&self, flat: &Tensor) -> Tensor {
        let [words, hidden] = self.word_shape;
        flat.narrow(0, 0, words * hidden).view(self.word_shape)
    }

    /// The other part.
    fn without_words(&self, flat: &Tensor) -> Tensor {
        let [words, hidden] = self.word_shape;
        flat.narrow(0, words * hidden, flat.size()[0] - words * hidden)
    }
}

/// The same numbers, each once, in ascending order.
fn distinct(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of 4 words with 2 numbers each, and 3 other numbers.
    #[test]
    fn a_sum_has_nothing_of_words_that_no_micro_batch_has() {
        let last = Tensor::from_slice(&[9.0_f32; 11]);
        let mut gradient = StepGradient::new(last.shallow_clone(), [4, 2]);
        let write = |rows: &[(i64, f32)], rest: f32| {
            for &(row, number) in rows {
                let _ = last.narrow(0, row * 2, 2).fill_(f64::from(number));
            }
            let _ = last.narrow(0, 8, 3).fill_(f64::from(rest));
        };
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.view(-1)).unwrap();
        for _ in 0..2 {
            let micro_batches: [(&[(i64, f32)], f32); 3] = [
                (&[(0, 1.0), (2, 2.0)], 1.0),
                (&[(3, 4.0), (2, 8.0)], 10.0),
                (&[(3, 16.0)], 100.0),
            ];
            for (rows, rest) in micro_batches {
                gradient.keep();
                write(rows, rest);
                // A word may occur several times.
                let ids = rows.iter().chain(rows).map(|(row, _)| *row);
                gradient.add(Some(ids.collect()));
            }
            let [ids, rows, rest] = &gradient.parts()[..] else {
                panic!("ids, rows and the rest")
            };
            assert_eq!(Vec::<i64>::try_from(ids).unwrap(), [0, 2, 3]);
            assert_eq!(numbers(rows), [1.0, 1.0, 10.0, 10.0, 20.0, 20.0]);
            assert_eq!(numbers(rest), [111.0; 3]);
            assert_eq!(numbers(gradient.flat())[4..8], [10.0, 10.0, 20.0, 20.0]);
            assert_eq!(gradient.finish(), Some(vec![0, 2, 3]));
        }
        // A step of one is what was written.
        gradient.keep();
        write(&[(1, 5.0)], 7.0);
        gradient.add(Some(vec![1, 1]));
        assert_eq!(gradient.flat().data_ptr(), last.data_ptr());
        assert_eq!(gradient.finish(), Some(vec![1, 1]));
    }
}
