//! Conditions on metrics.

use std::fmt;
use std::str::FromStr;

use super::{MetricName, Scalar, ValueError};

/// Conditions that all must hold: `accuracy >= 0.8 and loss <= promoted.loss + 0.01`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate(Vec<Condition>);

/// One condition on one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The metric.
    pub metric: MetricName,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub bound: Bound,
}

/// How a metric is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `<=`
    AtMost,
    /// `<`
    Below,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// What a metric is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A number.
    Constant(f64),
    /// A metric of the promoted run, and what is added to it.
    Promoted(MetricName, f64),
}

impl Gate {
    /// The conditions, all of which must hold.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.0
    }
}

impl Comparison {
    /// The longer signs first, as the shorter are their beginnings.
    const SIGNS: [(&'static str, Self); 6] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    /// As it is written: `>=`.
    #[must_use]
    pub fn sign(self) -> &'static str {
        let found = Self::SIGNS.iter().find(|(_, known)| *known == self);
        found.map_or("", |(sign, _)| sign)
    }

    /// Whether it holds between two numbers; with NaN nothing holds, `!=` included.
    #[must_use]
    pub fn holds(self, value: f64, bound: f64) -> bool {
        #[expect(clippy::float_cmp, reason = "equality is what was asked for")]
        match self {
            Self::AtLeast => value >= bound,
            Self::Above => value > bound,
            Self::AtMost => value <= bound,
            Self::Below => value < bound,
            Self::Equal => value == bound,
            Self::NotEqual => !value.is_nan() && !bound.is_nan() && value != bound,
        }
    }
}

/// What is said of anything that is no gate.
const HELP: &str = "write `METRIC >= NUMBER`, or `METRIC >= promoted.METRIC - NUMBER`; join several \
                    with `and`";

impl FromStr for Gate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.split(" and ")
            .map(condition)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn condition(text: &str) -> Result<Condition, ValueError> {
    let text = text.trim();
    if let Some(wrong) = ["=>", "=<"].into_iter().find(|wrong| text.contains(wrong)) {
        let right: String = wrong.chars().rev().collect();
        return Err(ValueError::new(format!("`{wrong}` is not a comparison"))
            .help(format!("write `{}`", text.replace(wrong, &right))));
    }
    let found = Comparison::SIGNS
        .iter()
        .find_map(|(sign, comparison)| Some((text.split_once(sign)?, *comparison)));
    let Some(((metric, bound), comparison)) = found else {
        return Err(ValueError::new("there is no comparison").help(HELP));
    };
    Ok(Condition {
        metric: metric.trim().parse()?,
        comparison,
        bound: self::bound(bound.trim())?,
    })
}

fn bound(text: &str) -> Result<Bound, ValueError> {
    let Some(promoted) = text.strip_prefix("promoted.") else {
        return number(text).map(Bound::Constant);
    };
    // With blanks around it, as `-` may be part of a metric's name.
    let signed = [(" + ", 1.0), (" - ", -1.0)]
        .iter()
        .find_map(|(sign, factor)| Some((promoted.split_once(sign)?, *factor)));
    match signed {
        Some(((metric, offset), factor)) => Ok(Bound::Promoted(
            metric.trim().parse()?,
            factor * number(offset.trim())?,
        )),
        None => Ok(Bound::Promoted(promoted.parse()?, 0.0)),
    }
}

fn number(text: &str) -> Result<f64, ValueError> {
    let starts = text
        .trim_start_matches(['-', '+'])
        .starts_with(|c: char| c.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number: &f64| starts && number.is_finite())
        .ok_or_else(|| ValueError::new(format!("`{text}` is not a number")).help(HELP))
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" and ")?;
            }
            write!(f, "{condition}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = self.comparison.sign();
        write!(f, "{} {sign} {}", self.metric, self.bound)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(number) => write!(f, "{number}"),
            Self::Promoted(metric, offset) if *offset > 0.0 => {
                write!(f, "promoted.{metric} + {offset}")
            }
            Self::Promoted(metric, offset) if *offset < 0.0 => {
                write!(f, "promoted.{metric} - {}", -offset)
            }
            Self::Promoted(metric, _) => write!(f, "promoted.{metric}"),
        }
    }
}

impl Scalar for Gate {
    const NAME: &'static str = "Gate";
    const EXPECTED: &'static str = "a condition such as `accuracy >= 0.8`";
    const PATTERN: &'static str = "(>=|<=|==|!=|>|<)";
    const EXAMPLES: &'static [&'static str] =
        &["accuracy >= 0.8", "accuracy >= promoted.accuracy - 0.005"];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Comparison, Gate};

    #[test]
    fn gates_are_written_as_they_are_read() {
        for (text, expected) in [
            ("accuracy >= 0.80", "accuracy >= 0.8"),
            ("accuracy>=0.8", "accuracy >= 0.8"),
            ("loss < 1e-3", "loss < 0.001"),
            ("a == 1 and b != -2", "a == 1 and b != -2"),
            (
                "accuracy >= promoted.accuracy - 0.005",
                "accuracy >= promoted.accuracy - 0.005",
            ),
            (
                "eval/f1-micro > promoted.eval/f1-micro",
                "eval/f1-micro > promoted.eval/f1-micro",
            ),
            (
                "loss <= promoted.loss + 0.01",
                "loss <= promoted.loss + 0.01",
            ),
        ] {
            let gate: Gate = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(gate.to_string(), expected);
            assert_eq!(gate.to_string().parse::<Gate>(), Ok(gate));
        }
    }

    #[test]
    fn what_is_no_gate_is_refused() {
        for (text, message) in [
            ("", "there is no comparison"),
            ("accuracy", "there is no comparison"),
            ("accuracy => 0.8", "`=>` is not a comparison"),
            ("accuracy >= high", "`high` is not a number"),
            ("accuracy >= nan", "`nan` is not a number"),
            ("accuracy >= 1e999", "`1e999` is not a number"),
            ("accuracy >= ", "`` is not a number"),
            (">= 1", "this is not the name of a metric"),
            ("a >= 1 and", "`1 and` is not a number"),
            ("a >= promoted.", "this is not the name of a metric"),
        ] {
            let error = text.parse::<Gate>().expect_err(text);
            assert_eq!(error.message, message, "{text}");
            assert!(error.help.is_some(), "{text}");
        }
    }

    #[test]
    fn nothing_holds_of_nan() {
        for (_, comparison) in Comparison::SIGNS {
            assert!(!comparison.holds(f64::NAN, 1.0));
            assert!(!comparison.holds(1.0, f64::NAN));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z>=<! .0-9+-]{0,40}") {
            if let Ok(gate) = text.parse::<Gate>() {
                prop_assert_eq!(gate.to_string().parse::<Gate>(), Ok(gate));
            }
        }
    }
}
