//! What looks like a secret is not shown.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::model::Sensitive;

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
    let mut hide = |span: Range<usize>| {
        let hidden = masked[span].iter_mut().filter(|byte| **byte != b'\n');
        hidden.for_each(|byte| *byte = b'*');
    };
    for found in ENTRY.captures_iter(text) {
        let (Some(name), Some(value)) = (found.name("name"), found.name("value")) else {
            continue;
        };
        let is_key = text[..name.start()]
            .trim_end_matches(' ')
            .ends_with(['\n', '{', ',', '-']);
        let is_secret = sensitive.is_name(name.as_str())
            || matches!(name.as_str(), "webhook" | "value") && is_key;
        if is_secret && !value.as_str().contains("${") {
            hide(value.range());
        }
    }
    for span in sensitive.spans(text) {
        hide(span);
    }
    String::from_utf8_lossy(&masked).into_owned()
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
    use super::masked;

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
