//! Lengths of time.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// A length of time as Go and compose write it: `90s`, `1h30m`, `1.5h`, `500ms`; also `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(std::time::Duration);

/// The units, the largest first, in nanoseconds.
const UNITS: [(&str, u64); 9] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

impl Duration {
    /// The length of time.
    #[must_use]
    pub fn get(self) -> std::time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.starts_with('-') && text != "-0" {
            return Err(ValueError::new("a length of time can't be negative")
                .help(format!("write `{}`", &text[1..])));
        }
        // As in Go, nothing needs no unit, and a sign may come first.
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if unsigned == "0" {
            return Ok(Self(std::time::Duration::ZERO));
        }
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        if unsigned.parse::<f64>().is_ok() && unsigned.chars().all(is_number) {
            return Err(ValueError::new("a length of time has a unit").help(format!(
                "write `{unsigned}s` for seconds, `{unsigned}m` for minutes"
            )));
        }
        let mut rest = unsigned;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let number_end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let (number, after) = rest.split_at(number_end);
            let unit_end = after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let size = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, nanoseconds)| *nanoseconds);
            let part = size
                .and_then(|size| nanoseconds(number, size))
                .ok_or_else(|| malformed(text))?;
            total = total.checked_add(part).ok_or_else(too_long)?;
            rest = after;
        }
        if unsigned.is_empty() {
            return Err(malformed(text));
        }
        Ok(Self(std::time::Duration::from_nanos(total)))
    }
}

/// A decimal number of a unit in nanoseconds; what is smaller than one is dropped, as in Go.
fn nanoseconds(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut part: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let part = u64::try_from(part * u128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

fn malformed(text: &str) -> ValueError {
    let error = ValueError::new("this is not a length of time");
    let words: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let short = [
        ("milliseconds", "ms"),
        ("seconds", "s"),
        ("second", "s"),
        ("secs", "s"),
        ("sec", "s"),
        ("minutes", "m"),
        ("minute", "m"),
        ("mins", "m"),
        ("min", "m"),
        ("hours", "h"),
        ("hour", "h"),
        ("hrs", "h"),
        ("days", "d"),
        ("day", "d"),
    ]
    .iter()
    .fold(words.to_lowercase(), |text, (long, short)| {
        text.replace(long, short)
    });
    if short != text && short.parse::<Duration>().is_ok() {
        return error.help(format!("write `{short}`"));
    }
    error.help("write numbers with units: `90s`, `1h30m`, `500ms`")
}

fn too_long() -> ValueError {
    ValueError::new("the length of time is too long").help("it is at most 213503 days")
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Scalar for Duration {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a length of time such as `90s` or `1h30m`";
    const PATTERN: &'static str =
        r"^[+-]?0$|^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(d|h|m|s|ms|us|µs|μs|ns))+$";
    const EXAMPLES: &'static [&'static str] = &["90s", "1h30m", "500ms"];
}

#[cfg(test)]
mod tests {
    use std::time::Duration as Std;

    use proptest::prelude::*;

    use super::Duration;

    #[test]
    fn units_add_up() {
        for (text, expected) in [
            ("0s", Std::ZERO),
            ("90s", Std::from_secs(90)),
            ("1h30m", Std::from_secs(5400)),
            ("1.5h", Std::from_secs(5400)),
            (".5s", Std::from_millis(500)),
            ("5.s", Std::from_secs(5)),
            ("500ms", Std::from_millis(500)),
            ("3h2m1s1ms1us1ns", Std::new(10_921, 1_001_001)),
            ("1µs", Std::from_micros(1)),
            ("1μs", Std::from_micros(1)),
            ("2d", Std::from_secs(172_800)),
            // docker/cli's `TestDurationOptSetAndValue`, and what else Go takes.
            ("300s", Std::from_secs(300)),
            ("0", Std::ZERO),
            ("+0", Std::ZERO),
            ("-0", Std::ZERO),
            ("+5s", Std::from_secs(5)),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().get(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_fix() {
        for (text, help) in [
            ("90", "write `90s` for seconds, `90m` for minutes"),
            ("2 hours", "write `2h`"),
            ("1 Day", "write `1d`"),
            ("", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("h", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("1x", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("+90", "write `90s` for seconds, `90m` for minutes"),
            ("-1s", "write `1s`"),
            ("-300s", "write `300s`"),
            ("+", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("++5s", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("inf", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("1h30", "write numbers with units: `90s`, `1h30m`, `500ms`"),
            ("1..5s", "write numbers with units: `90s`, `1h30m`, `500ms`"),
        ] {
            let error = text.parse::<Duration>().expect_err(text);
            assert_eq!(error.help.as_deref(), Some(help), "{text}");
        }
        assert!("99999999999999h".parse::<Duration>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same(nanoseconds in any::<u64>()) {
            let duration = Duration(Std::from_nanos(nanoseconds));
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.a-zµ ]{0,30}") {
            let _ = text.parse::<Duration>();
        }
    }
}
