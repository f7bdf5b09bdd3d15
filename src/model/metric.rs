//! Metrics: their names, and how they are found in a log.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

use super::{Scalar, ValueError};

/// The name of a metric: a letter or `_`, then letters, digits, `_`, `.`, `-`, `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetricName(String);

impl MetricName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MetricName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_next = |c: char| is_first(c) || c.is_ascii_digit() || matches!(c, '.' | '-' | '/');
        if text.starts_with(is_first) && text.chars().all(is_next) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new("this is not the name of a metric")
            .help("begin with a letter or `_`; letters, digits, `_`, `.`, `-` and `/` may follow"))
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for MetricName {
    const NAME: &'static str = "MetricName";
    const EXPECTED: &'static str = "the name of a metric such as `accuracy`";
    const PATTERN: &'static str = "^[A-Za-z_][A-Za-z0-9_./-]*$";
    const EXAMPLES: &'static [&'static str] = &["accuracy", "eval/loss"];
}

/// A regular expression that finds a metric in a line of a log: its one group is the value.
#[derive(Debug, Clone)]
pub struct MetricPattern(Regex);

impl MetricPattern {
    /// The expression.
    #[must_use]
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl FromStr for MetricPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let regex = Regex::new(text).map_err(|error| {
            // The crate draws the expression over several lines; its last line says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            let reason = reason.trim().trim_start_matches("error: ").to_owned();
            ValueError::new(format!("this is not a regular expression: {reason}"))
                .help("the syntax is that of Rust's `regex`: no look-around, no back-references")
        })?;
        match regex.captures_len() - 1 {
            1 => Ok(Self(regex)),
            0 => Err(ValueError::new("the pattern has no group for the value")
                .help(r"put the value in a group: `loss ([-+.\w]+)`; or name the metric alone, as in `log: [loss]`")),
            groups => Err(ValueError::new(format!(
                "the pattern has {groups} groups, but the value is in one"
            ))
            .help("make the others non-capturing: `(?:…)`")),
        }
    }
}

impl PartialEq for MetricPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for MetricPattern {}

impl fmt::Display for MetricPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Scalar for MetricPattern {
    const NAME: &'static str = "MetricPattern";
    const EXPECTED: &'static str = r"a regular expression with one group such as `loss ([-+.\w]+)`";
    const PATTERN: &'static str = r"\(";
    const EXAMPLES: &'static [&'static str] = &[r"loss ([-+.\w]+)", "step ([0-9]+)"];
}

#[cfg(test)]
mod tests {
    use super::MetricPattern;

    #[test]
    fn a_pattern_has_one_group() {
        for (text, message) in [
            ("loss=[0-9.]+", "the pattern has no group for the value"),
            (
                "(a)(b)",
                "the pattern has 2 groups, but the value is in one",
            ),
            ("(", "this is not a regular expression: unclosed group"),
        ] {
            let error = text.parse::<MetricPattern>().expect_err(text);
            assert_eq!(error.message, message);
        }
        assert!(
            "(?:train|eval) loss=([0-9.]+)"
                .parse::<MetricPattern>()
                .is_ok()
        );
    }
}
