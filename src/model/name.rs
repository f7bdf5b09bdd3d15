//! Names that users give: jobs, images, inputs, outputs, secrets.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// The longest name: what a DNS label, and with it a Kubernetes object, may have.
const MAX_LENGTH: usize = 63;

/// A name: lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
///
/// It becomes part of image names, whose grammar this is (distribution's `reference`, `path-component`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_edge(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_inner(c: char) -> bool {
    is_edge(c) || matches!(c, '_' | '.' | '-')
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::new("a name can't be empty"));
        }
        let wrong = text.chars().find(|c| !is_inner(*c));
        let separator = separators(text).find(|found| !is_separator(found));
        let message = match wrong {
            Some(c) if c.is_ascii_uppercase() => "a name is lower-case".to_owned(),
            Some(c) => format!("a name can't contain {c:?}"),
            None if !(text.starts_with(is_edge) && text.ends_with(is_edge)) => {
                "a name begins and ends with a letter or a digit".to_owned()
            }
            None if text.len() > MAX_LENGTH => {
                format!("a name has at most {MAX_LENGTH} characters")
            }
            None if separator.is_some() => format!(
                "`{}` can't separate the parts of a name",
                separator.unwrap_or_default()
            ),
            None => return Ok(Self(text.to_owned())),
        };
        let error = ValueError::new(message);
        Err(match cleaned(text) {
            Some(name) => error.help(format!("write `{name}`")),
            None => error,
        })
    }
}

/// What is between the letters and digits of a name.
fn separators(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_edge).filter(|found| !found.is_empty())
}

/// Whether the parts of an image's name may be separated so.
fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

/// The nearest name to a text, if anything is left of it.
fn cleaned(text: &str) -> Option<String> {
    let lower: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if is_inner(c) { c } else { '-' })
        .take(MAX_LENGTH)
        .collect();
    let mut name = lower.trim_matches(|c| !is_edge(c)).to_owned();
    let shorter = |name: &str| {
        let wrong = separators(name).find(|found| !is_separator(found))?;
        Some(name.replace(wrong, &wrong[..1]))
    };
    while let Some(shorter) = shorter(&name) {
        name = shorter;
    }
    (!name.is_empty()).then_some(name)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Name {
    const NAME: &'static str = "Name";
    const EXPECTED: &'static str = "a name such as `train`";
    const PATTERN: &'static str = "^(?=.{1,63}$)[a-z0-9]+((\\.|__?|-+)[a-z0-9]+)*$";
    const EXAMPLES: &'static [&'static str] = &["train", "hf_token", "gpu-large"];
}

/// The name of an environment variable: any text without `=`, blank, tab, line feed and NUL, as
/// docker has it (docker/cli, `pkg/kvfile`). Other blanks, such as U+00A0, are taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvName(String);

impl EnvName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::new("the variable has no name").help("write `NAME=value`"));
        }
        match text
            .chars()
            .find(|c| matches!(c, '=' | ' ' | '\t' | '\n' | '\0'))
        {
            None => Ok(Self(text.to_owned())),
            Some(c) => {
                let name: String = text
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                    .collect();
                Err(
                    ValueError::new(format!("a variable's name can't contain {c:?}"))
                        .help(format!("write `{}`", name.trim_matches('_'))),
                )
            }
        }
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for EnvName {
    const NAME: &'static str = "EnvName";
    const EXPECTED: &'static str = "the name of a variable such as `SEED`";
    const PATTERN: &'static str = "^[^= \\t\\n\\u0000]+$";
    const EXAMPLES: &'static [&'static str] = &["SEED", "HF_TOKEN"];
}

#[cfg(test)]
mod tests {
    use super::{EnvName, Name};
    use crate::model::ImageRef;

    #[test]
    fn names_are_lower_case_words() {
        for text in [
            "a",
            "train",
            "hf_token",
            "a-b.c_d",
            "a__b",
            "a---b",
            "0",
            &"a".repeat(63),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        for (text, message, help) in [
            ("", "a name can't be empty", None),
            ("Train", "a name is lower-case", Some("write `train`")),
            ("my job", "a name can't contain ' '", Some("write `my-job`")),
            (
                "-a-",
                "a name begins and ends with a letter or a digit",
                Some("write `a`"),
            ),
            (
                "a..b",
                "`..` can't separate the parts of a name",
                Some("write `a.b`"),
            ),
            (
                "a___b",
                "`___` can't separate the parts of a name",
                Some("write `a_b`"),
            ),
            (
                "a._b-.c",
                "`._` can't separate the parts of a name",
                Some("write `a.b-c`"),
            ),
            ("A..B", "a name is lower-case", Some("write `a.b`")),
            ("é", "a name can't contain 'é'", None),
        ] {
            let error = text.parse::<Name>().expect_err(text);
            assert_eq!(
                (error.message.as_str(), error.help.as_deref()),
                (message, help)
            );
        }
        assert!("a".repeat(64).parse::<Name>().is_err());
    }

    #[test]
    fn every_name_can_be_part_of_an_images() {
        for text in ["a--b", "a_b.c", "a__b", "0"] {
            assert!(text.parse::<Name>().is_ok() && text.parse::<ImageRef>().is_ok());
        }
        for text in ["a..b", "a___b", "a._b", "a.-b", "a_-b"] {
            assert!(text.parse::<Name>().is_err() && text.parse::<ImageRef>().is_err());
        }
    }

    #[test]
    fn variables_may_have_dots_and_dashes() {
        for text in ["SEED", "a.b-c", "_", "ü", "a\u{a0}b"] {
            assert!(text.parse::<EnvName>().is_ok(), "{text}");
        }
        for text in ["", "A B", "A=B", "A\tB", "A\nB", "A\0"] {
            assert!(text.parse::<EnvName>().is_err(), "{text}");
        }
    }
}
