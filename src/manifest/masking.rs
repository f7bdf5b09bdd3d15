//! What looks like a secret is not shown.

use std::sync::LazyLock;

use regex::Regex;

/// Whether a variable's name says that its value is a secret (after BuildKit's
/// `SecretsUsedInArgOrEnv` check).
pub(crate) fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_word = |word: &str| name.split(['_', '-', '.']).any(|part| part == word);
    let is_public = is_word("public") || is_word("file") || is_word("path");
    let words = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "passwd",
        "password",
        "pword",
        "secret",
        "token",
    ];
    let pairs = ["api_key", "access_key", "private_key", "secret_key"];
    !is_public
        && (words.iter().any(|word| is_word(word)) || pairs.iter().any(|pair| name.contains(pair)))
}

/// A text as errors may show it: literal values under names that look like secrets are starred out,
/// byte by byte, so that offsets stay true. `value` is what people write who put a secret itself
/// under `secrets`. It works on lines, since a text that is not valid YAML
/// is shown too.
pub(super) fn masked(text: &str) -> String {
    static ENTRY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?P<name>[\w.-]+)["']?[ \t]*[:=][ \t]*(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'{}\[\]&*|>#](?:[^\n,}]*[^\s,}])?)"#,
        )
        .expect("the expression is valid")
    });
    let mut masked = String::with_capacity(text.len());
    let mut end = 0;
    for found in ENTRY.captures_iter(text) {
        let (Some(name), Some(value)) = (found.name("name"), found.name("value")) else {
            continue;
        };
        let is_key = text[..name.start()]
            .trim_end_matches(' ')
            .ends_with(['\n', '{', ',', '-']);
        let is_secret = looks_secret(name.as_str()) || (name.as_str() == "value" && is_key);
        if is_secret && !value.as_str().contains("${") {
            masked.push_str(&text[end..value.start()]);
            masked.extend(std::iter::repeat_n('*', value.len()));
            end = value.end();
        }
    }
    masked.push_str(&text[end..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::{looks_secret, masked};

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "HF_TOKEN",
            "DB_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "OPENAI_API_KEY",
            "TOKEN",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "TOKENIZER",
            "MAX_TOKENS",
            "SEED",
            "KEY",
            "PUBLIC_KEY",
            "TOKEN_FILE",
        ] {
            assert!(!looks_secret(name), "{name}");
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
            (
                "hf_token: { environment: X }",
                "hf_token: { environment: X }",
            ),
            ("MAX_TOKENS: 512", "MAX_TOKENS: 512"),
            ("x: { value: abc }", "x: { value: *** }"),
            (
                "X: # empty value: the caller's",
                "X: # empty value: the caller's",
            ),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
