//! Metrics in a log.

use std::collections::{BTreeMap, BTreeSet};

use super::Point;
use super::named::NameFinder;
use crate::model::{MetricPattern, ValueError, number};

/// No line that people read is longer, and what is longer is not looked through.
const LONGEST_LINE: usize = 64 << 10;

/// Finds metrics in one stream of a log, line by line. A bar of progress that is drawn again and
/// again on one line (`\r`) is a line each time.
#[derive(Debug, Clone)]
pub struct MetricScanner {
    metrics: Vec<(String, Finder)>,
    step_pattern: Option<MetricPattern>,
    /// The step that was found last.
    step: Option<f64>,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    is_too_long: bool,
}

/// How a metric is found.
#[derive(Debug, Clone)]
enum Finder {
    /// By its name.
    Name(Box<NameFinder>),
    /// By a regular expression whose group is the value.
    Pattern(MetricPattern),
}

impl MetricScanner {
    /// A scanner for metrics that are found by their names, for those that have a pattern, and for the pattern
    /// of the step.
    ///
    /// # Errors
    ///
    /// One is not a pattern.
    pub fn new(
        names: &BTreeSet<String>,
        patterns: &BTreeMap<String, String>,
        step: Option<&str>,
    ) -> Result<Self, ValueError> {
        let named = names
            .iter()
            .map(|name| Ok((name.clone(), Finder::Name(Box::new(NameFinder::new(name))))));
        let matched = patterns
            .iter()
            .map(|(name, pattern)| Ok((name.clone(), Finder::Pattern(pattern.parse()?))));
        Ok(Self {
            metrics: named.chain(matched).collect::<Result<_, ValueError>>()?,
            step_pattern: step.map(str::parse).transpose()?,
            step: None,
            line: Vec::new(),
            is_too_long: false,
        })
    }

    /// Takes in what was written, and gives out the metrics in the lines that are whole by now.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Point> {
        let mut found = Vec::new();
        if self.metrics.is_empty() {
            return found;
        }
        let mut parts = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
        while let Some(part) = parts.next() {
            let is_whole = parts.peek().is_some();
            if is_whole && self.line.is_empty() && !self.is_too_long {
                self.look(part, &mut found);
                continue;
            }
            self.is_too_long |= self.line.len() + part.len() > LONGEST_LINE;
            if self.is_too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            if is_whole {
                found.extend(self.finish());
            }
        }
        found
    }

    /// The metrics in the last line, which has no end.
    pub fn finish(&mut self) -> Vec<Point> {
        let mut found = Vec::new();
        let line = std::mem::take(&mut self.line);
        self.look(&line, &mut found);
        self.line = line;
        self.line.clear();
        self.is_too_long = false;
        found
    }

    /// Begins with the first line of an attempt.
    pub fn restart(&mut self) {
        self.line.clear();
        self.is_too_long = false;
        self.step = None;
    }

    fn look(&mut self, line: &[u8], found: &mut Vec<Point>) {
        if line.is_empty() || line.len() > LONGEST_LINE {
            return;
        }
        let stripped;
        let plain = if line.contains(&0x1b) {
            stripped = anstream::adapter::strip_bytes(line).into_vec();
            &stripped
        } else {
            line
        };
        let text = String::from_utf8_lossy(plain);
        let step = self.step_pattern.as_ref();
        let step = step.and_then(|pattern| matches(pattern, &text).find(|step| step.is_finite()));
        self.step = step.or(self.step);
        let mut add = |name: &String, value| {
            found.push(Point {
                name: name.clone(),
                value,
                step: self.step,
                attempt: None,
                time: None,
            });
        };
        for (name, finder) in &self.metrics {
            match finder {
                Finder::Name(finder) => finder.values(&text).for_each(|value| add(name, value)),
                Finder::Pattern(pattern) => {
                    matches(pattern, &text).for_each(|value| add(name, value));
                }
            }
        }
    }
}

/// The values of a pattern in a line.
fn matches<'t>(pattern: &'t MetricPattern, text: &'t str) -> impl Iterator<Item = f64> + 't {
    let groups = pattern.regex().captures_iter(text);
    groups.filter_map(|groups| number::parse(groups.get(1)?.as_str()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{LONGEST_LINE, MetricScanner};
    use crate::model::number;

    fn scanner(step: Option<&str>) -> MetricScanner {
        let patterns = [
            ("loss", r"loss[=:]\s*([-+0-9.einfa]+)"),
            ("rate", r"([0-9.]+) ?it/s"),
        ];
        let patterns: BTreeMap<_, _> = patterns.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let names = BTreeSet::from(["acc".to_owned()]);
        MetricScanner::new(&names, &patterns, step).unwrap()
    }

    fn found(text: &[u8], piece: usize, step: Option<&str>) -> Vec<String> {
        let mut scanner = scanner(step);
        let mut found = Vec::new();
        for piece in text.chunks(piece) {
            found.extend(scanner.feed(piece));
        }
        found.extend(scanner.finish());
        let found = found.into_iter().map(|point| {
            let step = point.step.map_or(String::new(), |step| format!(" @{step}"));
            format!("{} {}{step}", point.name, number::text(point.value))
        });
        found.collect()
    }

    #[test]
    fn metrics_are_found_however_a_log_is_cut() {
        let bar = "\r 10%|\u{1b}[32m█\u{1b}[0m | 3.5 it/s, loss=0.9\r 20%|██| 4 it/s, loss=8e-1";
        let text = format!(
            "step 1 lo\u{1b}[1mss\u{1b}[0m=1.5\r\nnothing\nloss: -2 acc=\u{1b}[1m0.5\u{1b}[0m\n\
             loss=nan\nloss=inf\nloss=1.2.3\n{bar}"
        );
        let expected = [
            "loss 1.5",
            "acc 0.5",
            "loss -2",
            "loss NaN",
            "loss Infinity",
            "loss 0.9",
            "rate 3.5",
            "loss 0.8",
            "rate 4",
        ];
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(found(text.as_bytes(), piece, None), expected, "{piece}");
        }
    }

    #[test]
    fn a_step_counts_for_its_line_and_those_after_it() {
        let text = "acc=0\nstep 1\nacc=1 loss=1\nacc=2 step 2\nstep nan acc=3\n\
                    \r step 1_000 acc=4\r step 1,001 acc=5\n";
        let expected = [
            "acc 0",
            "acc 1 @1",
            "loss 1 @1",
            "acc 2 @2",
            "acc 3 @2",
            "acc 4 @1000",
            "acc 5 @1001",
        ];
        for piece in [1, 5, 1000] {
            let step = Some(r"step (\S+)");
            assert_eq!(found(text.as_bytes(), piece, step), expected, "{piece}");
        }
        let mut scanner = scanner(Some(r"step (\S+)"));
        scanner.feed(b"step 7\nacc=");
        scanner.restart();
        assert_eq!(scanner.feed(b"1 acc=2\n")[0].step, None);
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut text = vec![b'x'; LONGEST_LINE + 1];
        text.extend(b" loss=1\nloss=2\n");
        for piece in [1000, text.len()] {
            assert_eq!(found(&text, piece, None), ["loss 2"]);
        }
        let mut scanner = scanner(None);
        for _ in 0..100 {
            scanner.feed(&[b'x'; 10_000]);
        }
        assert!(scanner.line.len() <= LONGEST_LINE);
    }

    #[test]
    fn what_is_no_text_is_looked_through() {
        assert_eq!(found(b"\xff\xfe loss=1 \x00\n", 3, None), ["loss 1"]);
    }
}
