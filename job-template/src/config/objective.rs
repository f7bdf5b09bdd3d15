//! `BEST`: of which validation the model is kept.

use std::fmt;

/// A metric of the validation reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Share of the reviews that are labelled right.
    Accuracy,
    /// Mean cross-entropy.
    Loss,
    /// Mean of the labels' F1.
    MacroF1,
}

/// Which model is the best: `max accuracy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objective {
    /// What is compared.
    pub metric: Metric,
    /// Whether more is better.
    pub is_max: bool,
}

impl Objective {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_max = match words.first() {
            Some(&"max") => Some(true),
            Some(&"min") => Some(false),
            _ => None,
        };
        let metric = match words.get(1..).unwrap_or_default() {
            ["accuracy"] => Some(Metric::Accuracy),
            ["loss"] => Some(Metric::Loss),
            ["macro_f1"] => Some(Metric::MacroF1),
            _ => None,
        };
        let objective = is_max
            .zip(metric)
            .map(|(is_max, metric)| Self { metric, is_max });
        objective.ok_or_else(|| "max or min, and accuracy, loss or macro_f1".to_owned())
    }

    /// Whether `value` is better than `other`: equal ones are not.
    #[must_use]
    pub fn is_better(self, value: f64, other: f64) -> bool {
        if self.is_max {
            value > other
        } else {
            value < other
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
            Self::MacroF1 => "macro_f1",
        })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.is_max { "max" } else { "min" };
        write!(f, "{direction} {}", self.metric)
    }
}
