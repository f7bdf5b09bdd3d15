//! Charts of metrics: in a terminal, and as SVG.

mod axis;
mod braille;
mod png;
mod svg;

use jiff::Timestamp;

use super::words::figure;

pub use braille::draw;
pub use png::{PngError, png};
pub use svg::svg;

/// Curves of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The metric.
    pub title: String,
    /// What is along the lower edge.
    pub x_label: String,
    /// Where that is the time of day: when (UTC) it is 0.
    pub midnight: Option<Timestamp>,
    /// What should be known of the curves, a line each.
    pub notes: Vec<String>,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A line through points.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is of.
    pub label: String,
    /// The points, in the order in which they are joined. Those that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// The points that can be drawn.
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        let points = self.points.iter().copied();
        points.filter(|(x, y)| x.is_finite() && y.is_finite())
    }

    /// The last value in words.
    fn last(&self) -> String {
        let last = self.points.last();
        last.map_or("no values".to_owned(), |(_, y)| figure(*y))
    }

    /// The parts between gaps.
    fn parts(&self) -> impl Iterator<Item = &[(f64, f64)]> {
        let parts = self.points.split(|(x, y)| !x.is_finite() || !y.is_finite());
        parts.filter(|part| !part.is_empty())
    }
}

/// Of points along a line of so many columns, those that make a difference: in each column the
/// first, the lowest, the highest and the last.
fn thinned(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    if points.len() <= 4 * columns {
        return points.to_vec();
    }
    let size = points.len().div_ceil(columns);
    let mut thinned = Vec::with_capacity(4 * columns);
    for group in points.chunks(size) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let at = |point: Option<&(f64, f64)>| {
            let point = point?;
            group.iter().position(|other| other == point)
        };
        let mut kept: Vec<_> = [
            Some(0),
            at(group.iter().min_by(by_value)),
            at(group.iter().max_by(by_value)),
            Some(group.len() - 1),
        ]
        .into_iter()
        .flatten()
        .collect();
        kept.sort_unstable();
        kept.dedup();
        thinned.extend(kept.into_iter().map(|at| group[at]));
    }
    thinned
}

#[cfg(test)]
mod tests;
