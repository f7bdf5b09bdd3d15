//! The range of a chart, and where its marks are.

use crate::report::words::figure;

/// A range that is drawn; `low` is below `high`, both are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Larger figures have no room for anything above them.
const LARGEST: f64 = 1e300;

impl Axis {
    /// The range of some values; around a single one, or none, some range.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|value| value.is_finite());
        let range = values.fold(None, |range: Option<(f64, f64)>, value| {
            let value = value.clamp(-LARGEST, LARGEST);
            let (low, high) = range.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (low, high) = range.unwrap_or((0.0, 1.0));
        // What differs in the last bits only has no marks between.
        if high - low > high.abs().max(low.abs()) * 1e-9 {
            return Self { low, high };
        }
        let around = if low == 0.0 { 1.0 } else { low.abs() / 10.0 };
        Self {
            low: low - around,
            high: high + around,
        }
    }

    /// Where a value is, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
    }

    /// About so many round values, with their texts.
    pub(super) fn marks(&self, count: usize) -> Vec<(f64, String)> {
        #[expect(clippy::cast_precision_loss, reason = "a chart has few marks")]
        let rough = (self.high / 2.0 - self.low / 2.0) * 2.0 / count.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999_999);
        let step = step.unwrap_or(rough);
        let mut marks = Vec::new();
        let mut number = (self.low / step).ceil();
        while marks.len() <= 2 * count && number * step <= self.high {
            let value = if number == 0.0 { 0.0 } else { number * step };
            marks.push((value, figure(value)));
            number += 1.0;
        }
        marks
    }
}
