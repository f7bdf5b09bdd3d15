//! What looks like a secret is not shown.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::node::{Kind, Node};
use crate::model::{Sensitive, starred_out};

/// A text as errors may show it: literal values under names that look like secrets, and values that
/// have the form of one, are masked, byte by byte, so that offsets stay true. `value` is what
/// people write who put a secret itself under `secrets`. It works on lines, since a text that is not
/// valid YAML is shown too.
pub(super) fn masked(text: &str) -> String {
    static ENTRY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?P<name>[\w.-]+)["']?[ \t]*[:=][ \t]*(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'{}\[\],&*|>#](?:[^\n,}]*[^\s,}])?)"#,
        )
        .expect("the expression is valid")
    });
    let sensitive = Sensitive::new(declared(text));
    let mut masked = text.as_bytes().to_vec();
    for found in ENTRY.captures_iter(text) {
        let (Some(name), Some(value)) = (found.name("name"), found.name("value")) else {
            continue;
        };
        let is_key = text[..name.start()]
            .trim_end_matches(' ')
            .ends_with(['\n', '{', ',', '-']);
        let plain = value.as_str().trim_matches(['"', '\'']);
        let is_secret = sensitive.names_secret(name.as_str(), plain)
            || matches!(name.as_str(), "webhook" | "value") && is_key;
        if is_secret && !value.as_str().contains("${") {
            hide(&mut masked, value.range());
        }
    }
    for span in sensitive.spans(text) {
        hide(&mut masked, span);
    }
    String::from_utf8_lossy(&masked).into_owned()
}

/// A masked text with the secrets masked that are seen only in the values themselves, once their quotes and
/// escapes are undone. `text` is as it was written.
pub(super) fn masked_values(text: &str, masked: &str, root: &Node) -> String {
    let mut values = Values {
        text,
        masked: masked.as_bytes().to_vec(),
        sensitive: Sensitive::new(declared(text)),
    };
    values.hide_within(root);
    String::from_utf8_lossy(&values.masked).into_owned()
}

/// The values of a tree, which are looked through for secrets.
struct Values<'a> {
    text: &'a str,
    masked: Vec<u8>,
    sensitive: Sensitive,
}

impl Values<'_> {
    fn hide_within(&mut self, node: &Node) {
        match &node.kind {
            Kind::Null | Kind::Broken => {}
            Kind::Scalar(text) => {
                let masked = self.sensitive.masked(&text.value).into_owned();
                self.hide(node.place(), &masked, &text.value);
            }
            Kind::List(items) => {
                let texts = items.iter().filter_map(|item| match &item.kind {
                    Kind::Scalar(text) => Some((item.place(), text.value.clone())),
                    _ => None,
                });
                let (places, words): (Vec<_>, Vec<_>) = texts.unzip();
                let masked = self.sensitive.masked_words(&words);
                for ((place, word), masked) in places.into_iter().zip(&words).zip(&masked) {
                    self.hide(place, masked, word);
                }
                for item in items {
                    self.hide_within(item);
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if let Kind::Scalar(text) = &value.kind
                        && self.sensitive.names_secret(&key.text, &text.value)
                        && !text.value.contains("${")
                    {
                        self.hide_all(value.place());
                    }
                    self.hide_within(value);
                }
            }
        }
    }

    /// Hides what is masked of a value: the very bytes where they are written as they are, and else all of
    /// the value.
    fn hide(&mut self, place: Range<usize>, masked: &str, value: &str) {
        if masked == value {
            return;
        }
        let written = &self.text[place.clone()];
        let secrets = starred_out(masked, value).unwrap_or_default();
        let spans: Vec<_> = secrets
            .iter()
            .flat_map(|secret| written.match_indices(*secret))
            .map(|(at, secret)| place.start + at..place.start + at + secret.len())
            .collect();
        let is_found = |secret: &&str| secret.is_empty() || written.contains(*secret);
        if secrets.is_empty() || !secrets.iter().all(is_found) {
            self.hide_all(place);
        } else {
            for span in spans {
                self.hide_all(span);
            }
        }
    }

    fn hide_all(&mut self, place: Range<usize>) {
        hide(&mut self.masked, place);
    }
}

/// Masks a place byte by byte; lines stay lines.
fn hide(masked: &mut [u8], place: Range<usize>) {
    let hidden = masked[place].iter_mut().filter(|byte| **byte != b'\n');
    hidden.for_each(|byte| *byte = b'*');
}

/// What stands under `sensitive`, whether the text is valid or not.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    static SENSITIVE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\bsensitive:(?<names>\s*\[[^\]]*\]|(?:\s*\n\s*-[^\n]*)+)")
            .expect("the expression is valid")
    });
    let names = SENSITIVE
        .captures_iter(text)
        .filter_map(|found| found.name("names"));
    let names = names.flat_map(|names| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        names.as_str().split(move |c| !is_inner(c))
    });
    names.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::{masked, masked_values};
    use crate::diagnostic::Source;
    use crate::manifest::yaml;

    #[test]
    fn secrets_behind_escapes_are_starred_out() {
        for (text, expected) in [
            (
                r#"X: "{\"password\": \"CANARY\"}""#,
                r#"X: "{\"password\": \"******\"}""#,
            ),
            (
                r#"X: "--password=CANARYa\\ CANARYb""#,
                "X: ******************************",
            ),
            (
                r#"X: '{"password": ["CANARY", "b"]}'"#,
                r#"X: '{"password": ***************}'"#,
            ),
            (
                r#"X: "{\"db\":{\"password\":12345678}}""#,
                r#"X: "{\"db\":{\"password\":**********""#,
            ),
            (
                "X: https://h/a?X-Amz-Signature=CANARY&x=1",
                "X: https://h/a?X-Amz-Signature=******&x=1",
            ),
            ("X: [a, --password, CANARY]", "X: [a, --password, ******]"),
            (
                "HF_TOKEN: |\n  CANARY\n  b\n",
                "HF_TOKEN: |\n  ******\n***\n",
            ),
            ("X: \"a\\tb\"", "X: \"a\\tb\""),
        ] {
            let source = Arc::new(Source {
                path: PathBuf::new(),
                text: text.to_owned(),
            });
            let root = yaml::parse(text, &source).unwrap();
            assert_eq!(masked_values(text, &masked(text), &root), expected);
        }
    }

    #[test]
    fn literal_secrets_are_starred_out() {
        for (text, expected) in [
            ("HF_TOKEN: abc", "HF_TOKEN: ***"),
            ("  - API_KEY=abc", "  - API_KEY=***"),
            (
                "{ DB_PASSWORD: \"a b\", X: 1 }",
                "{ DB_PASSWORD: *****, X: 1 }",
            ),
            ("HF_TOKEN: ${HF_TOKEN:-}", "HF_TOKEN: ${HF_TOKEN:-}"),
            ("HF_TOKEN:\nX: 1", "HF_TOKEN:\nX: 1"),
            ("HF_TOKEN: }", "HF_TOKEN: }"),
            ("{ HF_TOKEN: , LR: 1 }", "{ HF_TOKEN: , LR: 1 }"),
            (
                "hf_token: { environment: X }",
                "hf_token: { environment: X }",
            ),
            ("MAX_TOKENS: 512", "MAX_TOKENS: 512"),
            ("x: { value: abc }", "x: { value: *** }"),
            ("webhook: https://h/abc", "webhook: *************"),
            ("X: postgres://u:abc@h/d", "X: postgres://u:***@h/d"),
            ("[A=hf_abcdefghijklmnop]", "[A=*******************]"),
            (
                "X: |\n  -----BEGIN KEY-----\n  AAAA\n",
                "X: |\n  *******************\n******\n",
            ),
            ("sensitive: [ID]\nID: abc", "sensitive: [ID]\nID: ***"),
            ("sensitive:\n  - ID\nID: abc", "sensitive:\n  - ID\nID: ***"),
            (
                "X: # empty value: the caller's",
                "X: # empty value: the caller's",
            ),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
