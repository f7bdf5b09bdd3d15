//! Metrics in a log.

use std::collections::BTreeMap;

use crate::model::{MetricPattern, ValueError};

/// No line that people read is longer, and what is longer is not looked through.
const LONGEST_LINE: usize = 64 << 10;

/// Finds metrics in one stream of a log, line by line. A bar of progress that is drawn again and
/// again on one line (`\r`) is a line each time.
#[derive(Debug, Clone)]
pub struct MetricScanner {
    patterns: Vec<(String, MetricPattern)>,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    is_too_long: bool,
}

impl MetricScanner {
    /// A scanner for those patterns, by the metric's name.
    ///
    /// # Errors
    ///
    /// One is not a pattern.
    pub fn new(patterns: &BTreeMap<String, String>) -> Result<Self, ValueError> {
        let patterns = patterns.iter();
        let parsed = patterns.map(|(name, pattern)| Ok((name.clone(), pattern.parse()?)));
        Ok(Self {
            patterns: parsed.collect::<Result<_, ValueError>>()?,
            line: Vec::new(),
            is_too_long: false,
        })
    }

    /// Takes in what was written, and gives out the figures in the lines that are whole by now.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<(String, f64)> {
        let mut found = Vec::new();
        if self.patterns.is_empty() {
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

    /// The figures in the last line, which has no end.
    pub fn finish(&mut self) -> Vec<(String, f64)> {
        let mut found = Vec::new();
        let line = std::mem::take(&mut self.line);
        self.look(&line, &mut found);
        self.line = line;
        self.line.clear();
        self.is_too_long = false;
        found
    }

    fn look(&self, line: &[u8], found: &mut Vec<(String, f64)>) {
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
        for (name, pattern) in &self.patterns {
            let figures = pattern.regex().captures_iter(&text);
            let figures = figures.filter_map(|groups| groups.get(1)?.as_str().trim().parse().ok());
            let finite = figures.filter(|figure: &f64| figure.is_finite());
            found.extend(finite.map(|figure| (name.clone(), figure)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{LONGEST_LINE, MetricScanner};

    fn scanner() -> MetricScanner {
        let patterns = [
            ("loss", r"loss[=:]\s*([-+0-9.einfa]+)"),
            ("rate", r"([0-9.]+) ?it/s"),
        ];
        let patterns: BTreeMap<_, _> = patterns.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        MetricScanner::new(&patterns).unwrap()
    }

    fn found(text: &[u8], piece: usize) -> Vec<(String, f64)> {
        let mut scanner = scanner();
        let mut found = Vec::new();
        for piece in text.chunks(piece) {
            found.extend(scanner.feed(piece));
        }
        found.extend(scanner.finish());
        found
    }

    #[test]
    fn figures_are_found_however_a_log_is_cut() {
        let bar = "\r 10%|\u{1b}[32m█\u{1b}[0m | 3.5 it/s, loss=0.9\r 20%|██| 4 it/s, loss=8e-1";
        let text = format!(
            "step 1 lo\u{1b}[1mss\u{1b}[0m=1.5\r\nnothing\nloss: -2\nloss=nan\nloss=inf\nloss=1.2.3\n{bar}"
        );
        let expected = [
            ("loss", 1.5),
            ("loss", -2.0),
            ("loss", 0.9),
            ("rate", 3.5),
            ("loss", 0.8),
            ("rate", 4.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(found(text.as_bytes(), piece), expected, "{piece}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut text = vec![b'x'; LONGEST_LINE + 1];
        text.extend(b" loss=1\nloss=2\n");
        for piece in [1000, text.len()] {
            assert_eq!(found(&text, piece), [("loss".to_owned(), 2.0)]);
        }
        let mut scanner = scanner();
        for _ in 0..100 {
            scanner.feed(&[b'x'; 10_000]);
        }
        assert!(scanner.line.len() <= LONGEST_LINE);
    }

    #[test]
    fn what_is_no_text_is_looked_through() {
        assert_eq!(
            found(b"\xff\xfe loss=1 \x00\n", 3),
            [("loss".to_owned(), 1.0)]
        );
    }
}
