//! The metrics of a run: in its log, in files, and as they are kept.

mod cursor;
mod file;
mod named;
mod scan;
mod series;

use jiff::Timestamp;

pub use cursor::{Cursor, Cursors};
pub use file::{MetricFileError, MetricLines, read_lines, read_object};
pub use scan::MetricScanner;
pub use series::{MetricsWriter, series};

/// A value of a metric at one moment. It may be NaN or infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The metric.
    pub name: String,
    /// The value.
    pub value: f64,
    /// How far the program was, where it says so: a step or an epoch, which is finite.
    pub step: Option<f64>,
    /// Which attempt of the run reported it, from 1, where that is known.
    pub attempt: Option<usize>,
    /// When it was reported, where that is known.
    pub time: Option<Timestamp>,
}
