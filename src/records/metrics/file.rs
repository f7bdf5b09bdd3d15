//! Metrics in files that a program wrote.

use serde_json::{Map, Value};

use super::Point;

/// Deeper is no metric.
const DEEPEST: usize = 16;

/// Why a file has no metrics.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetricFileError {
    /// It is not JSON, or a line of it is not.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, and not an object.
    #[error("it is not an object of figures, as in {{\"accuracy\": 0.9}}")]
    NotAnObject,
    /// A figure is none.
    #[error("`{name}` is {value}: not a figure")]
    NotFinite {
        /// The metric.
        name: String,
        /// What it is.
        value: String,
    },
}

/// The figures of a file: an object on each line if its name ends with `.jsonl`, else one object.
///
/// # Errors
///
/// It is something else, or a figure is not finite.
pub fn read_file(name: &str, text: &[u8]) -> Result<Vec<Point>, MetricFileError> {
    match name.strip_suffix(".jsonl") {
        Some(_) => read_jsonl(text),
        None => read_object(text),
    }
}

/// The figures of a JSON object; those of an object in it have both names with a dot between.
/// What is no number is passed over, but a figure that is not finite is an error: it is what a
/// training that went wrong says.
fn read_object(text: &[u8]) -> Result<Vec<Point>, MetricFileError> {
    let mut points = Vec::new();
    match parse(text)? {
        Value::Object(object) => flatten("", &object, None, 0, &mut points)?,
        _ => return Err(MetricFileError::NotAnObject),
    }
    Ok(points)
}

/// The figures of a file with an object on each line. Its `step`, or else its `epoch`, says how far
/// the program was. A last line that was not written whole is passed over.
fn read_jsonl(text: &[u8]) -> Result<Vec<Point>, MetricFileError> {
    let mut points = Vec::new();
    let is_whole = text.ends_with(b"\n");
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object = match parse(line) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(MetricFileError::NotAnObject),
            Err(MetricFileError::NotJson(_)) if lines.peek().is_none() && !is_whole => break,
            Err(error) => return Err(error),
        };
        let step = ["step", "epoch"].into_iter().find_map(|key| {
            let step = object.get(key)?.as_f64().filter(|step| step.is_finite())?;
            Some((key, step))
        });
        flatten("", &object, step, 0, &mut points)?;
    }
    Ok(points)
}

/// Parses JSON; what Python writes for figures that are none is told as such.
fn parse(text: &[u8]) -> Result<Value, MetricFileError> {
    serde_json::from_slice(text).map_err(|error| {
        let text = String::from_utf8_lossy(text);
        let literal = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find_map(|literal| Some((literal, name_before(&text, literal)?)));
        match literal {
            Some((value, name)) => MetricFileError::NotFinite {
                name,
                value: value.to_owned(),
            },
            None => MetricFileError::NotJson(error.to_string()),
        }
    })
}

/// The key of the first value that is this literal.
fn name_before(text: &str, literal: &str) -> Option<String> {
    let mut from = 0;
    while let Some(at) = text[from..].find(literal) {
        let before = text[..from + at].trim_end().strip_suffix(':');
        let key = before.and_then(|before| before.trim_end().strip_suffix('"'));
        if let Some((_, name)) = key.and_then(|key| key.rsplit_once('"')) {
            return Some(name.to_owned());
        }
        from += at + literal.len();
    }
    None
}

fn flatten(
    prefix: &str,
    object: &Map<String, Value>,
    step: Option<(&str, f64)>,
    depth: usize,
    points: &mut Vec<Point>,
) -> Result<(), MetricFileError> {
    for (key, value) in object {
        if depth == 0 && step.is_some_and(|(name, _)| name == key) {
            continue;
        }
        let name = format!("{prefix}{key}");
        match value {
            Value::Number(number) => {
                let value = number.as_f64().filter(|value| value.is_finite());
                let Some(value) = value else {
                    let value = number.to_string();
                    return Err(MetricFileError::NotFinite { name, value });
                };
                points.push(Point {
                    name,
                    value,
                    step: step.map(|(_, step)| step),
                    time: None,
                });
            }
            Value::Object(inner) if depth < DEEPEST => {
                flatten(&format!("{name}."), inner, step, depth + 1, points)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MetricFileError, Point, read_file, read_jsonl, read_object};

    fn short(points: &[Point]) -> Vec<(&str, f64, Option<f64>)> {
        let points = points.iter();
        points
            .map(|point| (point.name.as_str(), point.value, point.step))
            .collect()
    }

    #[test]
    fn an_object_has_figures() {
        let text = br#"{"accuracy": 0.875, "n": 10, "eval": {"loss": 1e-3, "by": {"a": -1}},
            "ok": true, "name": "x", "list": [1, 2], "none": null}"#;
        let points = read_object(text).unwrap();
        let expected = [
            ("accuracy", 0.875, None),
            ("n", 10.0, None),
            ("eval.loss", 1e-3, None),
            ("eval.by.a", -1.0, None),
        ];
        assert_eq!(short(&points), expected);
        assert_eq!(read_object(b"{}").unwrap(), []);
    }

    #[test]
    fn figures_that_are_none_are_refused() {
        for (text, name, value) in [
            (r#"{"a": 1, "loss": NaN}"#, "loss", "NaN"),
            (r#"{"loss" : -Infinity}"#, "loss", "-Infinity"),
            (r#"{"x": "Infinity", "y": Infinity, "#, "y", "Infinity"),
        ] {
            let (name, value) = (name.to_owned(), value.to_owned());
            let error = MetricFileError::NotFinite { name, value };
            assert_eq!(read_object(text.as_bytes()), Err(error));
        }
        assert_eq!(read_object(b"[1]"), Err(MetricFileError::NotAnObject));
        for text in ["", "{", "NaN", "loss=1", r#"{"a": 1e999}"#] {
            let error = read_object(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, MetricFileError::NotJson(_)),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn each_line_is_a_step() {
        let text = b"{\"step\": 1, \"loss\": 2}\n\n{\"loss\": 1, \"step\": 2, \"epoch\": 0.5}\r\n\
            {\"epoch\": 1, \"accuracy\": 0.5}\n{\"loss\": 0.5}\n{\"loss\": 0.";
        let points = read_jsonl(text).unwrap();
        let expected = [
            ("loss", 2.0, Some(1.0)),
            ("loss", 1.0, Some(2.0)),
            ("epoch", 0.5, Some(2.0)),
            ("accuracy", 0.5, Some(1.0)),
            ("loss", 0.5, None),
        ];
        assert_eq!(short(&points), expected);
        assert!(read_jsonl(b"{\"a\": 1}\n{\"b\n{\"c\": 1}\n").is_err());
        assert_eq!(read_jsonl(b"1\n"), Err(MetricFileError::NotAnObject));
        assert_eq!(read_file("a/metrics.jsonl", text).unwrap(), points);
        assert!(read_file("a/metrics.json", text).is_err());
    }

    #[test]
    fn what_is_nested_without_end_is_passed_over() {
        let text = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert_eq!(read_object(text.as_bytes()).unwrap(), []);
        let text = "{\"a\":".repeat(100_000);
        assert!(read_object(text.as_bytes()).is_err());
    }
}
