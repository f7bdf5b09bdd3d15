//! Tags and digests of images.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Scalar, ValueError};

/// The longest tag.
const MAX_LENGTH: usize = 128;

/// A tag of an image: letters, digits, `_`, `.`, `-`, at most 128; not `.` or `-` first
/// (distribution-spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_next = |c: char| is_first(c) || matches!(c, '.' | '-');
        let message = if text.is_empty() {
            "the tag is empty".to_owned()
        } else if let Some(c) = text.chars().find(|c| !is_next(*c)) {
            format!("a tag can't contain {c:?}")
        } else if !text.starts_with(is_first) {
            "a tag begins with a letter, a digit or `_`".to_owned()
        } else if text.len() > MAX_LENGTH {
            format!("a tag has at most {MAX_LENGTH} characters")
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(ValueError::new(message).help("use letters, digits, `_`, `.` and `-`: `1.2.3-rc.1`"))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Tag {
    const NAME: &'static str = "Tag";
    const EXPECTED: &'static str = "a tag such as `1.2.3`";
    const PATTERN: &'static str = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";
    const EXAMPLES: &'static [&'static str] = &["1.2.3", "latest"];
}

/// The algorithms of digests that engines know, and how many digits they have (opencontainers/go-digest).
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// The digest of a content: `sha256:` and 64 hexadecimal digits, or another algorithm
/// (image-spec, "Digests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The SHA-256 of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};

        Self::from(<[u8; 32]>::from(Sha256::digest(bytes)))
    }

    /// The digest without its algorithm.
    #[must_use]
    pub fn encoded(&self) -> &str {
        self.0
            .split_once(':')
            .map_or(&self.0, |(_, encoded)| encoded)
    }

    /// The whole digest.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl TryFrom<String> for Digest {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<[u8; 32]> for Digest {
    /// A SHA-256.
    fn from(bytes: [u8; 32]) -> Self {
        let mut text = String::from("sha256:");
        for byte in bytes {
            // Writing to a text can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

impl FromStr for Digest {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |message: &str| {
            Err(ValueError::new(message).help("write `sha256:` and 64 hexadecimal digits"))
        };
        let Some((algorithm, hex)) = text.split_once(':') else {
            return refuse("a digest names its algorithm");
        };
        let Some((_, length)) = ALGORITHMS.iter().find(|(known, _)| *known == algorithm) else {
            return refuse("this is not the name of a digest's algorithm that engines know");
        };
        if !hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return refuse("a digest has lower-case hexadecimal digits only");
        }
        if hex.len() != *length {
            return refuse("the digest has the wrong length");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Digest {
    const NAME: &'static str = "Digest";
    const EXPECTED: &'static str = "a digest: `sha256:` and 64 hexadecimal digits";
    const PATTERN: &'static str = "^sha(256:[a-f0-9]{64}|384:[a-f0-9]{96}|512:[a-f0-9]{128})$";
    const EXAMPLES: &'static [&'static str] =
        &["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"];
}

#[cfg(test)]
mod tests {
    use super::{Digest, Scalar as _, Tag};

    #[test]
    fn tags_are_short_words() {
        for text in ["latest", "1.2.3", "_a", "A-b.C_d", &"a".repeat(128)] {
            assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
        }
        for text in ["", ".a", "-a", "a+b", "a b", "a/b", &"a".repeat(129)] {
            assert!(text.parse::<Tag>().is_err(), "{text}");
        }
    }

    #[test]
    fn digests_have_the_length_of_their_algorithm() {
        assert!(Digest::EXAMPLES[0].parse::<Digest>().is_ok());
        assert!(
            format!("sha512:{}", "a".repeat(128))
                .parse::<Digest>()
                .is_ok()
        );
        for text in ["", "sha256", "sha256:", "sha256:abc", ":abc", "+:abc"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        for algorithm in ["invaliddigest", "x+y.z", "SHA256", "md5"] {
            let text = format!("{algorithm}:{}", "f".repeat(64));
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(
            format!("sha256:{}", "A".repeat(64))
                .parse::<Digest>()
                .is_err()
        );
    }
}
