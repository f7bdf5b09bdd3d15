//! Sequences that are computed together, one after the other in one tensor: nothing is padded.

use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// Sequences of equal length that lie one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// The first one's first row.
    pub(crate) row: i64,
    /// The first one's number.
    pub(crate) sequence: i64,
    /// How many they are.
    pub(crate) count: i64,
    /// Tokens of each.
    pub(crate) length: i64,
}

/// Sequences of token ids, packed: row after row a token, sorted by their length.
#[derive(Debug)]
pub struct Batch {
    /// The tokens' ids, `[rows]`.
    pub ids: Tensor,
    /// Their places in their sequences, `[rows]`.
    pub(crate) positions: Tensor,
    /// The rows of the first tokens, `[sequences]`.
    pub(crate) firsts: Tensor,
    pub(crate) groups: Vec<Group>,
    /// Which of the sequences given is the first here, the second, …
    order: Vec<usize>,
}

impl Batch {
    /// Packs sequences. Their order within doesn't matter to the model, so that equal lengths come
    /// together, whose attention is then computed in one.
    #[must_use]
    pub fn new(sequences: &[&[u32]], device: Device) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&index| sequences[index].len());
        let mut ids = Vec::new();
        let mut positions = Vec::new();
        let mut firsts = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for (place, &index) in order.iter().enumerate() {
            let sequence = sequences[index];
            let length = sequence.len() as i64;
            let row = ids.len() as i64;
            firsts.push(row);
            match groups.last_mut() {
                Some(group) if group.length == length => group.count += 1,
                _ => groups.push(Group {
                    row,
                    sequence: place as i64,
                    count: 1,
                    length,
                }),
            }
            ids.extend(sequence.iter().map(|&id| i64::from(id)));
            positions.extend(0..length);
        }
        let tensor = |numbers: &[i64]| to_device(numbers, device);
        Self {
            ids: tensor(&ids),
            positions: tensor(&positions),
            firsts: tensor(&firsts),
            groups,
            order,
        }
    }

    /// How many sequences there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// `per_sequence`, which is in the order given, in the order here.
    #[must_use]
    pub fn arrange<T: Copy>(&self, per_sequence: &[T]) -> Vec<T> {
        self.order
            .iter()
            .map(|&index| per_sequence[index])
            .collect()
    }

    /// The mean of each sequence's rows, [sequences, hidden].
    pub(crate) fn means(&self, x: &Tensor) -> Tensor {
        let hidden = x.size()[1];
        let means: Vec<Tensor> = self
            .groups
            .iter()
            .map(|group| {
                x.narrow(0, group.row, group.count * group.length)
                    .view([group.count, group.length, hidden])
                    .mean_dim(1, false, x.kind())
            })
            .collect();
        Tensor::cat(&means, 0)
    }

    /// The batch of some of many sequences: those with these indexes, in their order.
    #[must_use]
    pub fn of(sequences: &[Vec<u32>], indexes: &[usize], device: Device) -> Self {
        let chosen: Vec<&[u32]> = indexes
            .iter()
            .map(|&index| sequences[index].as_slice())
            .collect();
        Self::new(&chosen, device)
    }

    /// Rows of `tensor`, one a sequence in the order here, in the order that was given.
    #[must_use]
    pub fn rows_as_given(&self, tensor: &Tensor) -> Vec<Vec<f32>> {
        let tensor = tensor.to_kind(Kind::Float).to_device(Device::Cpu);
        let mut rows = vec![Vec::new(); self.len()];
        for (place, &index) in self.order.iter().enumerate() {
            rows[index] =
                Vec::try_from(tensor.get(place as i64)).expect("a row of binary32 numbers");
        }
        rows
    }
}

/// Numbers as a tensor on a device. To a GPU they are copied from memory that the device reads by itself, so
/// that nothing waits for what it computes meanwhile.
pub fn to_device<T: Element>(numbers: &[T], device: Device) -> Tensor {
    let tensor = Tensor::from_slice(numbers);
    if device.is_cuda() {
        let pinned = tensor.pin_memory(device);
        pinned.internal_to_copy((pinned.kind(), device), true)
    } else {
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lengths_come_together() {
        let sequences: [&[u32]; 4] = [&[1, 2, 3], &[4, 5], &[6, 7, 8], &[9]];
        let batch = Batch::new(&sequences, Device::Cpu);
        let ids: Vec<i64> = Vec::try_from(&batch.ids).unwrap();
        assert_eq!(ids, [9, 4, 5, 1, 2, 3, 6, 7, 8]);
        let positions: Vec<i64> = Vec::try_from(&batch.positions).unwrap();
        assert_eq!(positions, [0, 0, 1, 0, 1, 2, 0, 1, 2]);
        assert_eq!(batch.groups.len(), 3);
        assert_eq!(
            batch.groups[2],
            Group {
                row: 3,
                sequence: 2,
                count: 2,
                length: 3
            }
        );
        assert_eq!(batch.arrange(&['a', 'b', 'c', 'd']), ['d', 'b', 'a', 'c']);
    }

    #[test]
    fn rows_come_back_as_given() {
        let sequences: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6]];
        let batch = Batch::new(&sequences, Device::Cpu);
        let rows = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]).view([3, 1]);
        assert_eq!(batch.rows_as_given(&rows), [[3.0], [1.0], [2.0]]);
    }
}
