//! What an image is made for: an operating system and a processor.

use std::fmt;
use std::str::FromStr;

use super::ValueError;

/// An operating system and a processor: `linux/amd64`, `linux/arm/v7`.
///
/// Read and compared as containerd's `platforms` package does it: `arm64` alone is Linux', `x86_64` and
/// `aarch64` are other names, and ARM's 64 bits are version 8 unless something else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

impl FromStr for Platform {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts: Vec<_> = text.split('/').collect();
        let is_word = |part: &&str| {
            let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            !part.is_empty() && part.chars().all(is_of_word)
        };
        let (os, architecture, variant) = match parts.as_slice() {
            parts if !parts.iter().all(is_word) => ("", "", ""),
            [architecture] => ("linux", *architecture, ""),
            [os, architecture] => (*os, *architecture, ""),
            [os, architecture, variant] => (*os, *architecture, *variant),
            _ => ("", "", ""),
        };
        if os.is_empty() {
            return Err(ValueError::new(format!("`{text}` is not a platform"))
                .help("write it as `linux/amd64` or `linux/arm64`"));
        }
        let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386" | "i686" | "x86", variant) => ("386", variant),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf" | "armv7l" | "armv8l", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel" | "armv6l", _) | ("arm", "6") => ("arm", "v6"),
            (architecture, variant) => (architecture, variant),
        };
        Ok(Self {
            os: os.to_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_platform_are_one() {
        // The pairs of containerd/platforms' table for `Parse` and `Normalize`.
        for (text, expected) in [
            ("amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("armhf", "linux/arm/v7"),
            ("armel", "linux/arm/v6"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("i386", "linux/386"),
            // As kernels name themselves, and engines after them.
            ("linux/i686", "linux/386"),
            ("linux/armv7l", "linux/arm/v7"),
            ("linux/armv6l", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
            ("s390x", "linux/s390x"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), expected, "{text}");
            assert_eq!(platform, expected.parse().unwrap(), "{text}");
        }
        for text in [
            "",
            "/",
            "linux/",
            "linux//v7",
            "linux/arm/v7/x",
            "linux/a b",
            "*",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
