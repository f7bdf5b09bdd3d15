//! Versions of images.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, Tag, ValueError};

/// A version by Semantic Versioning 2.0.0, to the letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(semver::Version);

impl Version {
    /// The version's parts.
    #[must_use]
    pub fn semver(&self) -> &semver::Version {
        &self.0
    }

    /// Whether it comes before a release: `1.0.0-rc.1`, or anything with `SNAPSHOT` in it.
    #[must_use]
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty() || self.0.build.contains("SNAPSHOT")
    }

    /// The version as an image's tag: `+`, which a tag can't have, becomes `_`.
    ///
    /// # Errors
    ///
    /// The version is longer than a tag may be.
    pub fn image_tag(&self) -> Result<Tag, ValueError> {
        self.0.to_string().replace('+', "_").parse()
    }
}

impl From<semver::Version> for Version {
    fn from(version: semver::Version) -> Self {
        Self(version)
    }
}

impl FromStr for Version {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = match semver::Version::parse(text) {
            Ok(version) => return Ok(Self(version)),
            Err(error) => error,
        };
        let error = ValueError::new(format!("this is not a version by SemVer: {error}"));
        Err(match meant(text) {
            Some(version) => error.help(format!("did you mean `{version}`?")),
            None => error.help("write MAJOR.MINOR.PATCH: `1.2.0`, `1.2.0-rc.1`"),
        })
    }
}

/// The version that was meant, where two or one numbers, a `v`, or leading zeros are all that is
/// wrong.
fn meant(text: &str) -> Option<semver::Version> {
    let text = text.trim().trim_start_matches(['v', 'V']);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut numbers: Vec<u64> = numbers
        .split('.')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    if numbers.len() > 3 {
        return None;
    }
    numbers.resize(3, 0);
    let [major, minor, patch] = numbers[..] else {
        return None;
    };
    semver::Version::parse(&format!("{major}.{minor}.{patch}{rest}")).ok()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scalar for Version {
    const NAME: &'static str = "Version";
    const EXPECTED: &'static str = "a version such as `1.2.0`";
    // The expression that semver.org suggests, without its groups' names.
    const PATTERN: &'static str = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$";
    const EXAMPLES: &'static [&'static str] = &["1.2.0", "2.0.0-rc.1"];
}

#[cfg(test)]
mod tests {
    use super::{Scalar as _, Version};

    /// The lists that semver.org publishes beside its regular expression.
    const VALID: &str = "0.0.4 1.2.3 10.20.30 1.1.2-prerelease+meta 1.1.2+meta \
        1.1.2+meta-valid 1.0.0-alpha 1.0.0-beta 1.0.0-alpha.beta 1.0.0-alpha.beta.1 \
        1.0.0-alpha.1 1.0.0-alpha0.valid 1.0.0-alpha.0valid \
        1.0.0-alpha-a.b-c-somethinglong+build.1-aef.1-its-okay 1.0.0-rc.1+build.1 \
        2.0.0-rc.1+build.123 1.2.3-beta 10.2.3-DEV-SNAPSHOT 1.2.3-SNAPSHOT-123 1.0.0 2.0.0 1.1.7 \
        2.0.0+build.1848 2.0.1-alpha.1227 1.0.0-alpha+beta 1.2.3----RC-SNAPSHOT.12.9.1--.12+788 \
        1.2.3----R-S.12.9.1--.12+meta 1.2.3----RC-SNAPSHOT.12.9.1--.12 \
        1.0.0+0.build.1-rc.10000aaa-kk-0.1 1.0.0-0A.is.legal";
    const INVALID: &str = "1 1.2 1.2.3-0123 1.2.3-0123.0123 1.1.2+.123 +invalid -invalid \
        -invalid+invalid -invalid.01 alpha alpha.beta alpha.beta.1 alpha.1 alpha+beta alpha_beta \
        alpha. alpha.. beta 1.0.0-alpha_beta -alpha. 1.0.0-alpha.. 1.0.0-alpha..1 1.0.0-alpha...1 \
        1.0.0-alpha....1 1.0.0-alpha.....1 1.0.0-alpha......1 1.0.0-alpha.......1 01.1.1 1.01.1 \
        1.1.01 1.2 1.2.3.DEV 1.2-SNAPSHOT 1.2.31.2.3----RC-SNAPSHOT.12.09.1--..12+788 \
        1.2-RC-SNAPSHOT -1.0.3-gamma+b7718 +justmeta 9.8.7+meta+meta 9.8.7-whatever+meta+meta \
        99999999999999999999999.999999999999999999.99999999999999999----RC-SNAPSHOT.12.09.1--------------------------------..12";

    #[test]
    fn what_semver_org_lists_as_valid_is_taken() {
        for text in VALID.split_whitespace() {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_semver_org_lists_as_invalid_is_refused() {
        let pattern = regex::Regex::new(Version::PATTERN).unwrap();
        for text in INVALID.split_whitespace().chain([""]) {
            assert!(text.parse::<Version>().is_err(), "{text}");
            assert!(!pattern.is_match(text), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (text, meant) in [
            ("1.2", "did you mean `1.2.0`?"),
            ("1", "did you mean `1.0.0`?"),
            ("v1.2.3", "did you mean `1.2.3`?"),
            ("01.2.3", "did you mean `1.2.3`?"),
            ("1.2-rc.1", "did you mean `1.2.0-rc.1`?"),
            ("latest", "write MAJOR.MINOR.PATCH: `1.2.0`, `1.2.0-rc.1`"),
        ] {
            let error = text.parse::<Version>().expect_err(text);
            assert_eq!(error.help.as_deref(), Some(meant));
        }
    }

    #[test]
    fn a_tag_has_no_plus() {
        let version: Version = "1.2.3-rc.1+build.5".parse().unwrap();
        assert_eq!(version.image_tag().unwrap().as_str(), "1.2.3-rc.1_build.5");
    }

    #[test]
    fn snapshots_and_prereleases_are_no_releases() {
        for (text, expected) in [
            ("1.2.3", false),
            ("1.2.3+build", false),
            ("1.2.3-rc.1", true),
            ("1.2.3-SNAPSHOT", true),
            ("1.2.3+SNAPSHOT", true),
        ] {
            assert_eq!(
                text.parse::<Version>().unwrap().is_prerelease(),
                expected,
                "{text}"
            );
        }
    }
}
