//! The range of a chart, and where its marks are.

use jiff::{SignedDuration, Timestamp};

use crate::report::words::figure;

/// A range that is drawn; `low` is below `high`, both are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Steps between marks of time, in seconds.
const TIMES: [f64; 19] = [
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1800.0,
    3600.0,
    7200.0,
    10_800.0,
    21_600.0,
    43_200.0,
    DAY,
    2.0 * DAY,
];
const DAY: f64 = 86_400.0;

/// Larger values have no room for anything above them.
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

    /// About so many times of day, with their texts; the axis has the seconds since a midnight.
    pub(super) fn times(&self, count: usize, midnight: Timestamp) -> Vec<(f64, String)> {
        #[expect(clippy::cast_precision_loss, reason = "a chart has few marks")]
        let rough = (self.high - self.low) / count.max(1) as f64;
        let step = TIMES.into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or_else(|| (rough / DAY).ceil() * DAY);
        let mut marks = Vec::new();
        let mut number = (self.low / step).ceil();
        while marks.len() <= 2 * count && number * step <= self.high {
            let value = number * step;
            marks.push((value, self.time(value, midnight, step)));
            number += 1.0;
        }
        marks
    }

    /// The times of day at both ends.
    pub(super) fn ends(&self, midnight: Timestamp) -> [String; 2] {
        let step = (self.high - self.low) / 10.0;
        [self.low, self.high].map(|value| self.time(value, midnight, step))
    }

    /// A time as precise as marks need it that are so many seconds apart.
    fn time(&self, value: f64, midnight: Timestamp, step: f64) -> String {
        let is_one_day = self.high < (self.low / DAY).floor() * DAY + DAY;
        let form = match step {
            DAY.. => "%Y-%m-%d",
            60.0.. if is_one_day => "%H:%M",
            60.0.. => "%m-%d %H:%M",
            _ => "%H:%M:%S",
        };
        let time =
            midnight.checked_add(SignedDuration::try_from_secs_f64(value).unwrap_or_default());
        time.unwrap_or(midnight).strftime(form).to_string()
    }
}
