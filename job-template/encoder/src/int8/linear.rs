//! A dense layer in int8: weights quantized once, rows of activations when they are computed.

use super::kernel::{Block, COLUMNS, Kernel, MAX_BYTE, ROWS, STEP};
use crate::math::ROUNDING;
use crate::parameters;
use crate::slices::to_vec;

/// The largest magnitude of a quantized weight. Not 128, so that negation is exact.
const MAX_WEIGHT: f32 = 127.0;

/// Quantized rows of activations: `number ≈ scale * (byte - zero)`, bytes from 0 to 127, with a scale and a zero point
/// per row.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Row after row, each padded to whole steps; the padding's weights are 0.
    bytes: Vec<[u8; STEP]>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    steps: usize,
}

impl Rows {
    /// Quantizes `x`, [rows, width], into this buffer.
    pub(super) fn quantize(&mut self, x: &[f32], width: usize) {
        self.steps = width.div_ceil(STEP);
        self.scales.clear();
        self.zeros.clear();
        let rows = x.chunks_exact(width);
        self.bytes.resize(rows.len() * self.steps, [0; STEP]);
        for (row, bytes) in rows.zip(self.bytes.chunks_exact_mut(self.steps)) {
            let (scale, zero) = quantize(row, &mut bytes.as_flattened_mut()[..width]);
            self.scales.push(scale);
            self.zeros.push(zero);
        }
    }
}

/// Quantizes a row; gives its scale and zero point.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn quantize(row: &[f32], bytes: &mut [u8]) -> (f32, i32) {
    const LANES: usize = 16;
    let max_byte = f32::from(MAX_BYTE);
    let (lanes, rest) = row.as_chunks::<LANES>();
    // The range includes 0, which is then exact.
    let (mut min, mut max) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for lanes in lanes {
        for (index, &number) in lanes.iter().enumerate() {
            min[index] = lesser(min[index], number);
            max[index] = greater(max[index], number);
        }
    }
    let min = min.iter().chain(rest).copied().fold(0.0, lesser);
    let max = max.iter().chain(rest).copied().fold(0.0, greater);
    let range = max - min;
    let (scale, inverse) = if range > 0.0 {
        (range / max_byte, max_byte / range)
    } else {
        (1.0, 1.0)
    };
    let zero = (-min * inverse).round_ties_even();
    for (byte, &number) in bytes.iter_mut().zip(row) {
        let scaled = lesser(greater(number * inverse + zero, 0.0), max_byte);
        *byte = (scaled + ROUNDING).to_bits() as u8;
    }
    (scale, zero as i32)
}

/// The processor's `minps`; `f32::min` costs more instructions for NaN.
fn lesser(left: f32, right: f32) -> f32 {
    if left < right { left } else { right }
}

/// The processor's `maxps`.
fn greater(left: f32, right: f32) -> f32 {
    if left > right { left } else { right }
}

/// A dense layer's quantized weight, and its bias in binary32.
#[derive(Debug)]
pub(super) struct Linear {
    kernel: Kernel,
    width: usize,
    /// Elements of a row of the output.
    pub(super) columns: usize,
    /// The weight, panel after panel, padded with 0 to whole panels and steps.
    blocks: Vec<Block>,
    finish: Vec<Finish>,
}

/// A panel's constants for dequantization.
#[derive(Debug, Clone)]
struct Finish {
    /// The sums of each column's weights, by which a row's zero point shifts the sums of products.
    weights: [i32; COLUMNS],
    scales: [f32; COLUMNS],
    bias: [f32; COLUMNS],
}

impl Linear {
    /// Quantizes a layer's weight: the largest magnitude of each output's weights becomes 127.
    pub(super) fn new(linear: &parameters::Linear) -> Self {
        let size = linear.weight.size();
        let (columns, width) = (size[0] as usize, size[1] as usize);
        let steps = width.div_ceil(STEP);
        let panels = columns.div_ceil(COLUMNS);
        let mut blocks = vec![Block([[0; STEP]; COLUMNS]); panels * steps];
        let padding = Finish {
            weights: [0; COLUMNS],
            scales: [0.0; COLUMNS],
            bias: [0.0; COLUMNS],
        };
        let mut finish = vec![padding; panels];
        let (weights, biases) = (to_vec(&linear.weight), to_vec(&linear.bias));
        let weights = weights.chunks_exact(width);
        for (index, (weights, bias)) in weights.zip(biases).enumerate() {
            let (panel, column) = (index / COLUMNS, index % COLUMNS);
            let max = weights
                .iter()
                .fold(0.0, |max, weight| weight.abs().max(max));
            let scale = if max > 0.0 { max / MAX_WEIGHT } else { 1.0 };
            let finish = &mut finish[panel];
            finish.scales[column] = scale;
            finish.bias[column] = bias;
            for (place, weight) in weights.iter().enumerate() {
                let byte = (weight / scale).round_ties_even() as i8;
                blocks[panel * steps + place / STEP].0[column][place % STEP] = byte;
                finish.weights[column] += i32::from(byte);
            }
        }
        Self {
            kernel: Kernel::fastest(),
            width,
            columns,
            blocks,
            finish,
        }
    }

    /// Writes the layer's output, [rows, columns].
    pub(super) fn apply(&self, rows: &Rows, into: &mut [f32]) {
        assert_eq!(
            rows.steps,
            self.width.div_ceil(STEP),
            "rows have the layer's input width"
        );
        assert_eq!(
            into.len(),
            rows.scales.len() * self.columns,
            "there is room for all columns of all rows"
        );
        let mut tile = [[0; COLUMNS]; ROWS];
        // A panel stays in the processor's nearest memory while all rows meet it.
        let panels = self.blocks.chunks_exact(rows.steps).zip(&self.finish);
        for (number, (panel, finish)) in panels.enumerate() {
            for (first, bytes) in rows.bytes.chunks(ROWS * rows.steps).enumerate() {
                self.kernel.tile(bytes, panel, &mut tile);
                let some = first * ROWS..rows.scales.len().min((first + 1) * ROWS);
                let results = into[some.start * self.columns..some.end * self.columns]
                    .chunks_exact_mut(self.columns)
                    .map(|row| &mut row[number * COLUMNS..]);
                let scales = rows.scales[some.clone()].iter().copied();
                let scales = scales.zip(rows.zeros[some].iter().copied());
                for ((into, sums), scale) in results.zip(&tile).zip(scales) {
                    finish_row(sums, finish, scale, into);
                }
            }
        }
    }
}

/// Writes the results of a panel's columns for a row; `into` may have more of them, or fewer.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn finish_row(sums: &[i32; COLUMNS], finish: &Finish, (scale, zero): (f32, i32), into: &mut [f32]) {
    let result = |column: usize| {
        let sum = sums[column] - zero * finish.weights[column];
        sum as f32 * (scale * finish.scales[column]) + finish.bias[column]
    };
    if let Some(into) = into.first_chunk_mut::<COLUMNS>() {
        for (column, into) in into.iter_mut().enumerate() {
            *into = result(column);
        }
    } else {
        for (column, into) in into.iter_mut().enumerate() {
            *into = result(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;
    use crate::random::tensor;

    fn layer(width: i64, columns: i64) -> parameters::Linear {
        parameters::Linear {
            weight: tensor(1, &[columns, width]),
            bias: tensor(2, &[columns]),
        }
    }

    fn applied(linear: &Linear, x: &[f32]) -> Vec<f32> {
        let mut rows = Rows::default();
        rows.quantize(x, linear.width);
        let mut into = vec![f32::NAN; x.len() / linear.width * linear.columns];
        linear.apply(&rows, &mut into);
        into
    }

    #[test]
    fn results_are_near_those_of_binary32() {
        for (rows, width, columns) in [(1, 7, 1), (8, 312, 48), (17, 384, 100), (3, 1536, 384)] {
            let layer = layer(width, columns);
            let x = tensor(3, &[rows, width]);
            let exact = layer.bias.addmm(&x, &layer.weight.tr());
            let ours = applied(&Linear::new(&layer), &to_vec(&x));
            let difference = Tensor::from_slice(&ours).view([rows, columns]) - &exact;
            let relative = difference.norm().double_value(&[]) / exact.norm().double_value(&[]);
            assert!(relative < 0.02, "{rows}, {width}, {columns}: {relative}");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_other_rows() {
        let linear = Linear::new(&layer(100, 70));
        let x = tensor(3, &[21, 100]);
        let x = to_vec(&x);
        let alone: Vec<f32> = x
            .chunks(100)
            .flat_map(|row| applied(&linear, row))
            .collect();
        assert_eq!(applied(&linear, &x), alone);
    }

    #[test]
    fn a_row_of_zeros_gives_the_bias() {
        let layer = layer(10, 50);
        let ours = applied(&Linear::new(&layer), &[0.0; 10]);
        assert_eq!(ours, to_vec(&layer.bias));
    }

    #[test]
    fn minimum_and_maximum_are_represented() {
        let mut bytes = [0; 4];
        let (scale, zero) = quantize(&[-1.0, 0.0, 0.5, 3.0], &mut bytes);
        let numbers = bytes.map(|byte| scale * (i32::from(byte) - zero) as f32);
        assert_eq!(bytes, [0, 32, 48, 127]);
        for (number, expected) in numbers.into_iter().zip([-1.0, 0.0, 0.5, 3.0]) {
            assert!((number - expected).abs() <= scale / 2.0 + 1e-6, "{number}");
        }
        assert_eq!(quantize(&[0.0; 4], &mut bytes), (1.0, 0));
        assert_eq!(quantize(&[2.0, 1.0, 2.0, 1.0], &mut bytes).1, 0);
    }
}
