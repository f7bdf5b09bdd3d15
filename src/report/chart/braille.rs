//! Charts in a terminal, of Braille's dots: two by four in each character.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::axis::Axis;
use super::{Chart, Curve, thinned};
use crate::report::printable;
use crate::report::words::figure;

/// The rows of a chart without its title and its lower edge.
const ROWS: usize = 10;
/// Narrower is no chart, wider is no easier to read.
const COLUMNS: std::ops::RangeInclusive<usize> = 20..=200;
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::Red,
    AnsiColor::Blue,
];

/// Charts below each other, so wide. Styled with ANSI escapes.
#[must_use]
pub fn draw(charts: &[Chart], columns: usize) -> String {
    let columns = columns.clamp(*COLUMNS.start(), *COLUMNS.end());
    let drawn: Vec<_> = charts
        .iter()
        .map(|chart| draw_one(chart, columns))
        .collect();
    drawn.join("\n")
}

fn draw_one(chart: &Chart, columns: usize) -> String {
    let points = || chart.curves.iter().flat_map(Curve::finite);
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    let mut text = format!("{bold}{}{bold:#}\n", cut(&chart.title, columns));
    if points().next().is_none() {
        text.push_str("nothing to draw\n");
        text.push_str(&legend(chart, columns));
        return text;
    }
    let across = Axis::around(points().map(|(x, _)| x));
    let up = Axis::around(points().map(|(_, y)| y));
    let labels = [
        (0, up.high),
        (ROWS / 2, f64::midpoint(up.low, up.high)),
        (ROWS - 1, up.low),
    ];
    let labels = labels.map(|(row, value)| (row, figure(value)));
    let margin = labels
        .iter()
        .map(|(_, label)| label.len())
        .max()
        .unwrap_or(0);
    let width = columns.saturating_sub(margin + 2).max(8);
    let mut canvas = Canvas::new(width);
    for (number, curve) in chart.curves.iter().enumerate() {
        for part in curve.parts() {
            canvas.curve(&thinned(part, 2 * width), number, &across, &up);
        }
    }
    for row in 0..ROWS {
        let label = labels.iter().find(|(at, _)| *at == row);
        let (label, edge) = match label {
            Some((_, label)) => (label.as_str(), '┤'),
            None => ("", '│'),
        };
        let line = canvas.row(row);
        let _ = writeln!(text, "{dim}{label:>margin$} {edge}{dim:#}{line}");
    }
    let [low, high] = match chart.midnight {
        Some(midnight) => across.ends(midnight),
        None => [across.low, across.high].map(figure),
    };
    // Where there is no room for both, the end matters more.
    let low = if low.len() + high.len() < width {
        low
    } else {
        String::new()
    };
    let middle = width.saturating_sub(low.len() + high.len());
    let x_label = cut(&chart.x_label, middle.saturating_sub(2));
    let _ = writeln!(text, "{dim}{:margin$} └{}{dim:#}", "", "─".repeat(width));
    let _ = writeln!(
        text,
        "{dim}{:margin$}  {low}{x_label:^middle$}{high}{dim:#}",
        ""
    );
    text + &legend(chart, columns)
}

/// The names of the curves with their last values, and what should be known of them.
fn legend(chart: &Chart, columns: usize) -> String {
    let mut text = String::new();
    for (number, curve) in chart.curves.iter().enumerate() {
        let style = color(number);
        let last = curve.last();
        let label = cut(&curve.label, columns.saturating_sub(last.len() + 5));
        let _ = writeln!(text, "{style}━━{style:#} {label}  {last}");
    }
    for note in &chart.notes {
        let _ = writeln!(text, "{}", cut(note, columns));
    }
    text
}

fn color(number: usize) -> Style {
    Style::new().fg_color(Some(COLORS[number % COLORS.len()].into()))
}

/// A text in so many columns.
fn cut(text: &str, columns: usize) -> String {
    let text = printable::line(text);
    if text.chars().count() <= columns {
        return text;
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns == 0 { kept } else { kept + "…" }
}

/// Dots, and of which curve the last in each character is.
struct Canvas {
    width: usize,
    cells: Vec<(u8, usize)>,
}

impl Canvas {
    fn new(width: usize) -> Self {
        let cells = vec![(0, 0); width * ROWS];
        Self { width, cells }
    }

    fn curve(&mut self, points: &[(f64, f64)], number: usize, across: &Axis, up: &Axis) {
        let (right, bottom) = (2 * self.width - 1, 4 * ROWS - 1);
        let place = |(x, y): &(f64, f64)| {
            (
                dot(across.place(*x), right),
                dot(1.0 - up.place(*y), bottom),
            )
        };
        let places: Vec<_> = points.iter().map(place).collect();
        if let [only] = places[..] {
            self.dot(only, number);
        }
        for pair in places.windows(2) {
            self.line(pair[0], pair[1], number);
        }
    }

    /// A line between two dots.
    fn line(&mut self, from: (usize, usize), to: (usize, usize), number: usize) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for step in 0..=steps {
            let between =
                |from: usize, to: usize| (from * (steps - step) + to * step + steps / 2) / steps;
            self.dot((between(from.0, to.0), between(from.1, to.1)), number);
        }
    }

    fn dot(&mut self, (x, y): (usize, usize), number: usize) {
        /// The bits of a character's dots (Unicode, "Braille Patterns"), by row and column.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let cell = &mut self.cells[y / 4 * self.width + x / 2];
        *cell = (cell.0 | BITS[y % 4][x % 2], number);
    }

    /// A row of characters, with no blanks at its end.
    fn row(&self, row: usize) -> String {
        let cells = &self.cells[row * self.width..(row + 1) * self.width];
        let used = cells.iter().rposition(|(bits, _)| *bits > 0);
        let cells = &cells[..used.map_or(0, |last| last + 1)];
        let mut text = String::new();
        for same in cells.chunk_by(|a, b| (a.0 == 0, a.1) == (b.0 == 0, b.1)) {
            let style = match same[0] {
                (0, _) => Style::new(),
                (_, number) => color(number),
            };
            let _ = write!(text, "{style}");
            text.extend(same.iter().map(|(bits, _)| match bits {
                0 => ' ',
                bits => char::from_u32(0x2800 + u32::from(*bits)).unwrap_or(' '),
            }));
            let _ = write!(text, "{style:#}");
        }
        text
    }
}

/// The dot at a place from 0 to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a terminal has few dots, and the place is not negative"
)]
fn dot(place: f64, last: usize) -> usize {
    ((place * last as f64).round() as usize).min(last)
}
