//! YAML that every reader takes for the same.

use std::fmt::Write as _;

use serde_json::Value;

/// A document. Texts are written as JSON writes them, which YAML reads as they are (YAML 1.2, 1.3
/// "Relation to JSON"), so that none of them is taken for a number or a date.
pub(super) fn yaml(document: &Value) -> String {
    let mut text = String::new();
    write(document, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let _ = write!(text, "{indent}{}:", self::key(key));
                below(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = write!(text, "{indent}-");
                below(item, depth, text);
            }
        }
        scalar => {
            let _ = writeln!(text, "{indent}{scalar}");
        }
    }
}

/// What stands behind a key or a hyphen: on the same line if it fits there.
fn below(value: &Value, depth: usize, text: &mut String) {
    let is_flat = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items
            .iter()
            .all(|item| !item.is_object() && !item.is_array()),
        _ => true,
    };
    if is_flat {
        let _ = writeln!(text, " {value}");
    } else {
        text.push('\n');
        write(value, depth + 1, text);
    }
}

/// A key without quotes, where it can't be taken for anything else.
fn key(key: &str) -> String {
    let is_word = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let is_other = matches!(
        key,
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
    );
    if is_word && !is_other {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let document = json!({
            "a": { "no": "no", "b": [], "c": {}, "d": [1, "x: y"], "A": null },
            "list": [{ "type": "bind", "deep": { "e": 1.5 } }, "two\n\"lines\"", true],
        });
        let text = yaml(&document);
        assert_eq!(
            text,
            "a:\n  \"no\": \"no\"\n  b: []\n  c: {}\n  d: [1,\"x: y\"]\n  \"A\": null\nlist:\n  -\n    \
             type: \"bind\"\n    deep:\n      e: 1.5\n  - \"two\\n\\\"lines\\\"\"\n  - true\n"
        );
    }
}
