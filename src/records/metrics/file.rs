//! Metrics in files that a program wrote.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Point;
use crate::model::number;

/// Deeper is no metric.
const DEEPEST: usize = 16;

/// Why a file, or a line of it, has no metrics.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum MetricFileError {
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, and not an object.
    #[error("it is not an object of numbers, as in {{\"accuracy\": 0.9}}")]
    NotAnObject,
}

/// The metrics of lines, and which lines have none.
#[derive(Debug, Default, PartialEq)]
pub struct MetricLines {
    /// The metrics, in the order of the lines.
    pub points: Vec<Point>,
    /// How many bytes were read: up to the end of the last line that is complete.
    pub bytes: usize,
    /// How many lines these are.
    pub lines: u64,
    /// The lines that have no metrics, by their number from 0, and why.
    pub broken: Vec<(u64, MetricFileError)>,
}

/// The metrics of a JSON object; those of an object in it have both names with a dot between. What is no
/// number is passed over.
///
/// # Errors
///
/// It is something else.
pub fn read_object(text: &[u8]) -> Result<Vec<Point>, MetricFileError> {
    let mut points = Vec::new();
    flatten("", &object(text)?, None, 0, &mut points);
    Ok(points)
}

/// The metrics of a text with an object on each line (`.jsonl`). The line's `step`, or else its `epoch`, says
/// how far the program was. A line that is broken costs no other; a last line without an end may still be
/// written, and is only read where `is_final` says that it is not.
#[must_use]
pub fn read_lines(text: &[u8], is_final: bool) -> MetricLines {
    let mut read = MetricLines::default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") && !is_final {
            break;
        }
        if !line.trim_ascii().is_empty() {
            match object(line.trim_ascii_end()) {
                Ok(object) => {
                    let step = ["step", "epoch"]
                        .into_iter()
                        .find_map(|key| Some((key, finite(object.get(key)?)?)));
                    flatten("", &object, step, 0, &mut read.points);
                }
                Err(MetricFileError::NotJson(reason)) => {
                    // It is line 1 of itself alone.
                    let reason = reason.replace(" at line 1 column ", " at column ");
                    let error = MetricFileError::NotJson(reason);
                    read.broken.push((read.lines, error));
                }
                Err(error) => read.broken.push((read.lines, error)),
            }
        }
        read.bytes += line.len();
        read.lines += 1;
    }
    read
}

fn object(text: &[u8]) -> Result<Map<String, Value>, MetricFileError> {
    // As PowerShell and some editors write files.
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let parsed = serde_json::from_slice(text).or_else(|error| match with_names(text) {
        Cow::Owned(text) => serde_json::from_slice(&text),
        Cow::Borrowed(_) => Err(error),
    });
    match parsed {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(MetricFileError::NotAnObject),
        Err(error) => Err(MetricFileError::NotJson(error.to_string())),
    }
}

/// Puts what Python's `json` writes for numbers that are not finite into quotes. Strings stay as they are.
fn with_names(text: &[u8]) -> Cow<'_, [u8]> {
    const LITERALS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let mut quoted = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    let mut is_string = false;
    while at < text.len() {
        let rest = &text[at..];
        at += match rest[0] {
            b'\\' if is_string => 2,
            b'"' => {
                is_string = !is_string;
                1
            }
            _ if is_string => 1,
            _ => match LITERALS.iter().find(|literal| rest.starts_with(literal)) {
                Some(literal) => {
                    quoted.extend_from_slice(&text[copied..at]);
                    quoted.push(b'"');
                    quoted.extend_from_slice(literal);
                    quoted.push(b'"');
                    copied = at + literal.len();
                    literal.len()
                }
                None => 1,
            },
        };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted.extend_from_slice(&text[copied..]);
    Cow::Owned(quoted)
}

/// The number that a value is; the names of those that are not finite included.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(name) => number::named(name),
        _ => None,
    }
}

fn finite(value: &Value) -> Option<f64> {
    number_of(value).filter(|number| number.is_finite())
}

fn flatten(
    prefix: &str,
    object: &Map<String, Value>,
    step: Option<(&str, f64)>,
    depth: usize,
    points: &mut Vec<Point>,
) {
    for (key, value) in object {
        if depth == 0 && step.is_some_and(|(name, _)| name == key) {
            continue;
        }
        let name = format!("{prefix}{key}");
        if let Value::Object(inner) = value {
            if depth < DEEPEST {
                flatten(&format!("{name}."), inner, step, depth + 1, points);
            }
        } else if let Some(value) = number_of(value) {
            points.push(Point {
                name,
                value,
                step: step.map(|(_, step)| step),
                attempt: None,
                time: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MetricFileError, MetricLines, Point, read_lines, read_object, with_names};

    fn short(points: &[Point]) -> Vec<(&str, String, Option<f64>)> {
        let points = points.iter();
        points
            .map(|point| (point.name.as_str(), point.value.to_string(), point.step))
            .collect()
    }

    fn value(name: &'static str, value: f64) -> (&'static str, String, Option<f64>) {
        (name, value.to_string(), None)
    }

    #[test]
    fn a_mark_of_the_order_of_bytes_is_no_error() {
        let points = read_object("\u{feff}{\"accuracy\": 0.5}".as_bytes()).unwrap();
        assert_eq!(points.len(), 1);
        let read = read_lines("\u{feff}{\"loss\": 1}\n{\"loss\": 2}\n".as_bytes(), true);
        assert_eq!((read.points.len(), read.broken.len()), (2, 0));
    }

    #[test]
    fn an_object_has_metrics() {
        let text = br#"{"accuracy": 0.875, "n": 10, "eval": {"loss": 1e-3, "by": {"a": -1}},
            "ok": true, "name": "x", "list": [1, 2], "none": null}"#;
        let points = read_object(text).unwrap();
        let expected = [
            value("accuracy", 0.875),
            value("n", 10.0),
            value("eval.loss", 1e-3),
            value("eval.by.a", -1.0),
        ];
        assert_eq!(short(&points), expected);
        assert_eq!(read_object(b"{}").unwrap(), []);
    }

    #[test]
    fn a_number_that_is_not_finite_costs_no_other() {
        // As Python's `json.dumps` writes it, and as JSON can have it.
        let text = br#"{"accuracy": 0.91, "auc": NaN, "a \"NaN\" \\": 1, "best": -Infinity,
            "by": {"worst":Infinity}, "list": [NaN], "is": "NaN", "note": "it is NaN"}"#;
        let points = read_object(text).unwrap();
        let expected = [
            value("accuracy", 0.91),
            value("auc", f64::NAN),
            value("a \"NaN\" \\", 1.0),
            value("best", f64::NEG_INFINITY),
            value("by.worst", f64::INFINITY),
            value("is", f64::NAN),
        ];
        assert_eq!(short(&points), expected);
    }

    #[test]
    fn strings_and_what_is_broken_stay_as_they_are() {
        for text in [r#"{"a": "NaN"}"#, r#"{"\"NaN": 1}"#, r#""\\", "#, "\"\\"] {
            assert_eq!(with_names(text.as_bytes()), text.as_bytes());
        }
        assert_eq!(read_object(b"[1]"), Err(MetricFileError::NotAnObject));
        for text in [
            "",
            "{",
            "NaN",
            "loss=1",
            r#"{"a": NaNo}"#,
            r#"{"a": --Infinity}"#,
            r#"{"a": nan}"#,
        ] {
            assert!(read_object(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn each_line_is_a_step() {
        let text = b"{\"step\": 1, \"loss\": 2}\n\n{\"loss\": 1, \"step\": 2, \"epoch\": 0.5}\r\n\
            {\"epoch\": 1, \"accuracy\": 0.5}\n{\"loss\": 0.5}\n{\"step\": NaN, \"loss\": 0.4}\n";
        let cut = b"{\"loss\": 0.";
        let read = read_lines(&[&text[..], cut].concat(), false);
        let step = |name, value: f64, step| (name, value.to_string(), Some(step));
        let mut expected = vec![
            step("loss", 2.0, 1.0),
            step("loss", 1.0, 2.0),
            step("epoch", 0.5, 2.0),
            step("accuracy", 0.5, 1.0),
            value("loss", 0.5),
            value("step", f64::NAN),
            value("loss", 0.4),
        ];
        assert_eq!(short(&read.points), expected);
        assert_eq!((read.bytes, read.lines), (text.len(), 6));
        assert_eq!(read.broken, []);
        // The rest is read when it is there.
        let rest = b"{\"loss\": 0.25}";
        assert_eq!(read_lines(rest, false), MetricLines::default());
        let read = read_lines(rest, true);
        expected = vec![value("loss", 0.25)];
        assert_eq!(short(&read.points), expected);
        assert_eq!((read.bytes, read.lines), (rest.len(), 1));
    }

    #[test]
    fn a_broken_line_costs_no_other() {
        let read = read_lines(b"{\"a\": 1}\n{\"b\n7\n{\"c\": NaN}\n{\"d\": 2", true);
        assert_eq!(short(&read.points), [value("a", 1.0), value("c", f64::NAN)]);
        let broken: Vec<_> = read.broken.iter().map(|(line, _)| *line).collect();
        assert_eq!(broken, [1, 2, 4]);
        assert_eq!(read.broken[1].1, MetricFileError::NotAnObject);
    }

    #[test]
    fn what_is_nested_without_end_is_passed_over() {
        let text = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert_eq!(read_object(text.as_bytes()).unwrap(), []);
        let text = "{\"a\":".repeat(100_000);
        assert!(read_object(text.as_bytes()).is_err());
    }
}
