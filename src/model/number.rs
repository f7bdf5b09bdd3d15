//! Numbers as programs print them, and as JSON has them.
//!
//! JSON has no way to write a number that is not finite. As in protobuf's JSON mapping it is a string here:
//! `"NaN"`, `"Infinity"`, `"-Infinity"`.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What the numbers are called that are not finite.
const NAMES: [(&str, f64); 3] = [
    ("NaN", f64::NAN),
    ("Infinity", f64::INFINITY),
    ("-Infinity", f64::NEG_INFINITY),
];

/// The name of a number that is not finite.
pub(crate) fn name(value: f64) -> Option<&'static str> {
    let is_same = |known: f64| known.total_cmp(&value).is_eq() || known.is_nan() && value.is_nan();
    let found = NAMES.iter().find(|(_, known)| is_same(*known));
    found.map(|(name, _)| *name)
}

/// The number of such a name.
pub(crate) fn named(name: &str) -> Option<f64> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}

/// A number in full: `0.30000000000000004`, `NaN`.
pub(crate) fn text(value: f64) -> String {
    name(value).map_or_else(|| value.to_string(), str::to_owned)
}

/// A number as JSON.
pub(crate) fn json(value: f64) -> Value {
    name(value).map_or_else(|| value.into(), Value::from)
}

/// A text that is one number and nothing else.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (value, rest) = prefix(text.trim())?;
    rest.is_empty().then_some(value)
}

/// The number that a text begins with, and what follows: whatever Rust, Python or JSON prints, digits that
/// are grouped (`1_000`, `1,234.5`) included. Nothing where it runs on as a word, a version or a time of day.
pub(crate) fn prefix(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let words = [
        ("infinity", f64::INFINITY),
        ("inf", f64::INFINITY),
        ("nan", f64::NAN),
    ];
    let word = words.into_iter().find_map(|(word, value)| {
        let start = unsigned.get(..word.len())?;
        let is_it = start.eq_ignore_ascii_case(word);
        is_it.then(|| (sign * value, &unsigned[word.len()..]))
    });
    let (value, rest) = match word {
        Some(found) => found,
        None => {
            let length = decimal(unsigned.as_bytes())?;
            let (digits, rest) = unsigned.split_at(length);
            let digits = digits.replace(['_', ','], "");
            (sign * digits.parse::<f64>().ok()?, rest)
        }
    };
    let mut after = rest.chars();
    let is_whole = match after.next() {
        // A version, a time or a date, or a number as some languages write it.
        Some('.' | ':' | '-' | ',' | '\'') => !after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(next) => !next.is_alphanumeric() && next != '_',
        None => true,
    };
    is_whole.then_some((value, rest))
}

/// How many bytes a decimal number at the start takes: `12`, `1.`, `.5`, `1.2e-05`, `1_000`, `1,234.5`.
fn decimal(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        let end = rest.iter().position(|byte| !byte.is_ascii_digit());
        end.unwrap_or(rest.len())
    };
    let is = |at: usize, wanted: u8| text.get(at) == Some(&wanted);
    let whole = digits(0);
    let mut at = whole;
    while whole > 0 && is(at, b'_') && digits(at + 1) > 0 {
        at += 1 + digits(at + 1);
    }
    // `0,5` and `5,25` are no groups of three.
    while (1..=3).contains(&whole) && text[0] != b'0' && is(at, b',') && digits(at + 1) == 3 {
        at += 4;
    }
    if is(at, b'.') && (whole > 0 || digits(at + 1) > 0) {
        at += 1 + digits(at + 1);
    }
    if at == 0 {
        return None;
    }
    if is(at, b'e') || is(at, b'E') {
        let sign = usize::from(is(at + 1, b'-') || is(at + 1, b'+'));
        let power = digits(at + 1 + sign);
        if power > 0 {
            at += 1 + sign + power;
        }
    }
    Some(at)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match name(*value) {
        Some(name) => serializer.serialize_str(name),
        None => serializer.serialize_f64(*value),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(NumberVisitor)
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    #[expect(clippy::cast_precision_loss, reason = "as any reader of JSON does")]
    fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "as any reader of JSON does")]
    fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        named(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Numbers by their names.
pub(crate) mod map {
    use std::collections::BTreeMap;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Number(#[serde(with = "super")] f64);

    pub(crate) fn serialize<S: Serializer>(
        numbers: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(numbers.iter().map(|(name, value)| (name, Number(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let numbers = BTreeMap::<String, Number>::deserialize(deserializer)?;
        Ok(numbers
            .into_iter()
            .map(|(name, Number(value))| (name, value))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{json, parse, prefix, text};

    /// Equal to the last bit, but for the many ways to write NaN.
    fn is_same(left: f64, right: f64) -> bool {
        left.to_bits() == right.to_bits() || left.is_nan() && right.is_nan()
    }

    #[test]
    fn what_python_prints_is_read() {
        // `repr`, `json.dumps`, and the formats e, g, G, `,`, `_`, + and #.0f.
        for (printed, value) in [
            ("1.2e-05", 1.2e-5),
            ("1.2E-05", 1.2e-5),
            ("+1.2e-05", 1.2e-5),
            ("1e+16", 1e16),
            ("1e+22", 1e22),
            ("-0.0", -0.0),
            ("5e-324", 5e-324),
            ("1.7976931348623157e+308", f64::MAX),
            ("3.", 3.0),
            (".5", 0.5),
            ("-3", -3.0),
            ("+1", 1.0),
            ("1_000", 1000.0),
            ("1_234_567.25", 1_234_567.25),
            ("1,234.5", 1234.5),
            ("-12,345,678", -12_345_678.0),
            ("nan", f64::NAN),
            ("+nan", f64::NAN),
            ("NAN", f64::NAN),
            ("NaN", f64::NAN),
            ("inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            let read = parse(printed).unwrap_or_else(|| panic!("{printed} is not read"));
            assert!(is_same(read, value), "{printed} is read as {read}");
        }
    }

    #[test]
    fn what_follows_a_number_is_not_part_of_it() {
        for (printed, value, rest) in [
            ("0.5, next", 0.5, ", next"),
            ("1.5]", 1.5, "]"),
            ("5. Next", 5.0, " Next"),
            ("85.0%", 85.0, "%"),
            ("3/10", 3.0, "/10"),
            ("inf}", f64::INFINITY, "}"),
        ] {
            assert_eq!(prefix(printed), Some((value, rest)), "{printed}");
        }
    }

    #[test]
    fn what_runs_on_is_no_number() {
        for printed in [
            "",
            "-",
            ".",
            "e5",
            "1.2.3",
            "12:30",
            "1,2",
            "5,2345",
            "0,123",
            "1.234,5",
            "1'000",
            "2024-01-01",
            "5s",
            "1e",
            "1_",
            "nano",
            "information",
            "None",
            "0x10",
            "1e5f",
            "１",
        ] {
            assert_eq!(parse(printed), None, "{printed}");
            assert_eq!(prefix(printed), None, "{printed}");
        }
    }

    #[test]
    fn what_is_not_finite_has_a_name_in_json() {
        for (value, name) in [
            (f64::NAN, "NaN"),
            (-f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!((json(value), text(value)), (name.into(), name.to_owned()));
        }
        assert_eq!(json(0.5), serde_json::json!(0.5));
        assert_eq!(text(0.1 + 0.2), "0.30000000000000004");
    }

    proptest! {
        #[test]
        fn what_rust_prints_is_read(value in any::<f64>(), whole in any::<i64>()) {
            for printed in [format!("{value}"), format!("{value:?}"), format!("{value:e}"),
                            format!("{value:E}"), format!("{value:+}"), text(value)] {
                let read = parse(&printed);
                prop_assert!(read.is_some_and(|read| is_same(read, value)), "{printed}: {read:?}");
            }
            let printed = serde_json::to_string(&value).unwrap();
            if value.is_finite() {
                prop_assert_eq!(parse(&printed).map(f64::to_bits), Some(value.to_bits()));
            }
            #[expect(clippy::cast_precision_loss, reason = "as the parser rounds it")]
            let expected = whole as f64;
            prop_assert_eq!(parse(&whole.to_string()), Some(expected));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.,:_eEinfaNI (%é]{0,24}") {
            if let Some((_, rest)) = prefix(&text) {
                prop_assert!(text.ends_with(rest) && rest.len() < text.len());
            }
        }
    }
}
