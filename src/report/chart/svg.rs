//! Charts as SVG: the same values give the same bytes.

use std::fmt::Write as _;

use super::axis::Axis;
use super::{Chart, Curve, thinned};

const WIDTH: u32 = 720;
const HEIGHT: u32 = 300;
const LEFT: u32 = 70;
const RIGHT: u32 = 16;
const TOP: u32 = 34;
const BOTTOM: u32 = 44;
/// The height of a line of the legend.
const LEGEND: u32 = 18;
/// Of curves: told apart also by those who see no red or no green (Okabe and Ito, 2008).
const COLORS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000",
];

/// Dashes of curves and gaps between, so that one curve is seen beneath another that equals it.
const DASHES: [&str; 4] = ["none", "8 6", "3 4", "12 4 3 4"];

/// Charts below each other.
#[must_use]
pub fn svg(charts: &[Chart]) -> String {
    let height: u32 = charts.iter().map(height_of).sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut top = 0;
    for chart in charts {
        let _ = writeln!(text, "<g transform=\"translate(0 {top})\">");
        draw(chart, &mut text);
        text.push_str("</g>\n");
        top += height_of(chart);
    }
    text.push_str("</svg>\n");
    text
}

fn height_of(chart: &Chart) -> u32 {
    let lines = chart.curves.len() + chart.notes.len();
    let lines = u32::try_from(lines).unwrap_or(u32::MAX);
    HEIGHT.saturating_add(lines.saturating_mul(LEGEND))
}

fn draw(chart: &Chart, text: &mut String) {
    let points = || chart.curves.iter().flat_map(Curve::finite);
    let plot = Plot {
        across: Axis::around(points().map(|(x, _)| x)),
        up: Axis::around(points().map(|(_, y)| y)),
    };
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let title = escaped(&chart.title);
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>"
    );
    for (value, label) in plot.up.marks(5) {
        let y = plot.y(value);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {y}H{right}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{y}\" dy=\"4\" text-anchor=\"end\">{label}</text>",
            LEFT - 6
        );
    }
    let marks = match chart.midnight {
        Some(midnight) => plot.across.times(8, midnight),
        None => plot.across.marks(8),
    };
    for (value, label) in marks {
        let x = plot.x(value);
        let _ = writeln!(
            text,
            "<path d=\"M{x} {bottom}v4\" stroke=\"#666666\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            bottom + 17
        );
    }
    let _ = writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#666666\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        u32::midpoint(LEFT, right),
        bottom + 35,
        escaped(&chart.x_label)
    );
    for (number, curve) in chart.curves.iter().enumerate() {
        plot.curve(curve, number, text);
    }
    let mut y = HEIGHT + 10;
    for (number, curve) in chart.curves.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let dashes = DASHES[number % DASHES.len()];
        let last = curve.last();
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {}h20\" stroke=\"{color}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"{y}\">{} ({last})</text>",
            y - 4,
            LEFT + 28,
            escaped(&curve.label)
        );
        y += LEGEND;
    }
    for note in &chart.notes {
        let note = escaped(note);
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"{y}\" font-style=\"italic\">{note}</text>"
        );
        y += LEGEND;
    }
}

/// Where values are drawn.
struct Plot {
    across: Axis,
    up: Axis,
}

impl Plot {
    fn x(&self, value: f64) -> String {
        let width = f64::from(WIDTH - LEFT - RIGHT);
        format!("{:.1}", f64::from(LEFT) + self.across.place(value) * width)
    }

    fn y(&self, value: f64) -> String {
        let height = f64::from(HEIGHT - TOP - BOTTOM);
        format!(
            "{:.1}",
            f64::from(HEIGHT - BOTTOM) - self.up.place(value) * height
        )
    }

    fn curve(&self, curve: &Curve, number: usize, text: &mut String) {
        let color = COLORS[number % COLORS.len()];
        let dashes = DASHES[number % DASHES.len()];
        let columns = usize::try_from(WIDTH).unwrap_or(usize::MAX);
        for part in curve.parts() {
            let places = thinned(part, columns);
            let places: Vec<_> = places
                .iter()
                .map(|(x, y)| format!("{},{}", self.x(*x), self.y(*y)))
                .collect();
            if let [(x, y)] = part {
                let (x, y) = (self.x(*x), self.y(*y));
                let _ = writeln!(
                    text,
                    "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{color}\"/>"
                );
                continue;
            }
            let _ = writeln!(
                text,
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" \
                 stroke-dasharray=\"{dashes}\" stroke-linejoin=\"round\" points=\"{}\"/>",
                places.join(" ")
            );
        }
    }
}

/// A text between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
