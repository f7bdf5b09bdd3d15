//! Figures that a run tells: in its log, in files, and as they are kept.

mod file;
mod scan;
mod series;

use jiff::Timestamp;

pub use file::{MetricFileError, read_file};
pub use scan::MetricScanner;
pub use series::{MetricsWriter, series};

/// A figure at one moment. It is finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The metric.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// How far the program was, where it says so: a step or an epoch.
    pub step: Option<f64>,
    /// When it was told, where that is known.
    pub time: Option<Timestamp>,
}
