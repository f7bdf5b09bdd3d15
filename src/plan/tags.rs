//! Which names an image gets.

use std::cmp::Ordering;

use crate::manifest::schema::Latest;
use crate::model::{Digest, ImageRef, Tag, ValueError, Version};

/// How many digits of the context's digest name it.
const CONTEXT_DIGITS: usize = 12;

/// What decides an image's names.
#[derive(Debug, Clone)]
pub struct Naming<'a> {
    /// The repository without the prefix: `finetuning-job`.
    pub name: &'a str,
    /// Put before the name as it is; the image is then named both with and without it.
    pub prefix: &'a str,
    /// The version, if there is one.
    pub version: Option<&'a Version>,
    /// When `latest` moves.
    pub latest: Latest,
    /// What the image is built from, if that is known.
    pub context: Option<&'a Digest>,
}

impl Naming<'_> {
    /// The image's names, the most telling first.
    ///
    /// A release is named by its version, its minor and major version, and `latest`; what comes
    /// before a release by itself only; an image without a version `latest`. All are also named
    /// after their context, once it is known.
    ///
    /// # Errors
    ///
    /// The name or the prefix can't be part of an image's name.
    pub fn tags(&self) -> Result<Vec<ImageRef>, ValueError> {
        let mut tags = Vec::new();
        if let Some(version) = self.version {
            tags.push(version.image_tag()?);
            if !version.is_prerelease() {
                let number = version.semver();

                tags.push(format!("{}.{}", number.major, number.minor).parse()?);
                tags.push(number.major.to_string().parse()?);
            }
        }
        if self.moves_latest() {
            tags.push("latest".parse()?);
        }
        if let Some(context) = self.context {
            tags.push(context_tag(context)?);
        }
        let mut prefixes = vec![""];
        if !self.prefix.is_empty() {
            prefixes.push(self.prefix);
        }
        let mut names = Vec::new();
        for prefix in prefixes {
            for tag in &tags {
                names.push(format!("{prefix}{}:{tag}", self.name).parse()?);
            }
        }
        Ok(names)
    }

    fn moves_latest(&self) -> bool {
        let is_release = self.version.is_none_or(|version| !version.is_prerelease());
        match self.latest {
            Latest::Always => true,
            Latest::Never => false,
            Latest::Release => is_release,
        }
    }
}

/// `ctx-` and the first digits of the context's digest.
fn context_tag(context: &Digest) -> Result<Tag, ValueError> {
    let hex = context.as_str().split_once(':').map_or("", |(_, hex)| hex);
    let digits = hex.get(..CONTEXT_DIGITS).unwrap_or(hex);
    format!("ctx-{digits}").parse()
}

/// Which releases a name moves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// `latest`: all.
    All,
    /// `1`: all from 1.0.0 on, before 2.0.0.
    Major(u64),
    /// `1.2`: all from 1.2.0 on, before 1.3.0.
    Minor(u64, u64),
}

impl Line {
    fn of(tag: &str) -> Option<Self> {
        let number = |text: &str| {
            let number: u64 = text.parse().ok()?;
            (number.to_string() == text).then_some(number)
        };
        if tag == "latest" {
            return Some(Self::All);
        }
        match tag.split_once('.') {
            None => Some(Self::Major(number(tag)?)),
            Some((major, minor)) => Some(Self::Minor(number(major)?, number(minor)?)),
        }
    }

    fn has(self, version: &Version) -> bool {
        let version = version.semver();
        match self {
            Self::All => true,
            Self::Major(major) => version.major == major,
            Self::Minor(major, minor) => (version.major, version.minor) == (major, minor),
        }
    }
}

/// Whether a tag moves from release to release: `latest`, `1`, `1.2`.
#[must_use]
pub fn moves(tag: &str) -> bool {
    Line::of(tag).is_some()
}

/// The newest release that a name belongs to rather than to the image with this version: `latest`, `1` and
/// `1.2` never move backwards, by the precedence of Semantic Versioning 2.0.0 (11). A pre-release keeps no name.
#[must_use]
pub fn newer<'a>(
    tag: &str,
    version: &Version,
    releases: impl IntoIterator<Item = &'a Version>,
) -> Option<&'a Version> {
    let line = Line::of(tag)?;
    let precedence = |a: &Version, b: &Version| a.semver().cmp_precedence(b.semver());
    releases
        .into_iter()
        .filter(|release| !release.is_prerelease() && line.has(release))
        .filter(|release| precedence(release, version) == Ordering::Greater)
        .max_by(|a, b| precedence(a, b))
}

/// Whether a name is that of what an image is built from.
#[must_use]
pub fn is_of_context(name: &ImageRef) -> bool {
    let digits = name.tag().and_then(|tag| tag.as_str().strip_prefix("ctx-"));
    digits.is_some_and(are_digits)
}

fn are_digits(text: &str) -> bool {
    text.len() == CONTEXT_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a name is one that jobctl makes from what is in an image: that of its context, or of a version of a
/// tree that is not as committed.
#[must_use]
pub fn is_generated(name: &ImageRef) -> bool {
    let digits = name
        .tag()
        .and_then(|tag| tag.as_str().rsplit_once("dirty.g"));
    is_of_context(name) || digits.is_some_and(|(_, digits)| are_digits(digits))
}

/// The version of an image from a tree that is not what was committed: a pre-release named after
/// the content, so that the same content has the same version.
///
/// # Panics
///
/// Never: hexadecimal digits behind a letter are an identifier.
#[must_use]
pub fn dirty(version: &Version, content: &Digest) -> Version {
    let hex = content.as_str().split_once(':').map_or("", |(_, hex)| hex);
    let digits = hex.get(..CONTEXT_DIGITS).unwrap_or(hex);
    let mut semver = version.semver().clone();
    let separator = if semver.pre.is_empty() { "" } else { "." };
    // A number with a zero first is no identifier; a letter before it makes it one.
    let pre = format!("{}{separator}dirty.g{digits}", semver.pre);
    semver.pre = semver::Prerelease::new(&pre).expect("hexadecimal digits are an identifier");
    Version::from(semver)
}

/// Which part of a version is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bump {
    /// `1.2.3` becomes `2.0.0`.
    Major,
    /// `1.2.3` becomes `1.3.0`.
    Minor,
    /// `1.2.3` becomes `1.2.4`, and `1.2.3-rc.1` becomes `1.2.3`.
    Patch,
    /// `1.2.3` becomes `1.2.4-rc.1`, and `1.2.3-rc.1` becomes `1.2.3-rc.2`.
    Pre,
}

impl Bump {
    /// The next version.
    #[must_use]
    pub fn of(self, version: &Version) -> Version {
        let old = version.semver();
        let is_prerelease = !old.pre.is_empty();
        let (major, minor, patch) = (old.major, old.minor, old.patch);
        // A pre-release of the wanted kind is released rather than skipped: 2.0.0-rc.1 → 2.0.0.
        let mut next = match self {
            Self::Major if is_prerelease && minor == 0 && patch == 0 => {
                semver::Version::new(major, 0, 0)
            }
            Self::Major => semver::Version::new(major + 1, 0, 0),
            Self::Minor if is_prerelease && patch == 0 => semver::Version::new(major, minor, 0),
            Self::Minor => semver::Version::new(major, minor + 1, 0),
            Self::Patch if is_prerelease => semver::Version::new(major, minor, patch),
            Self::Patch => semver::Version::new(major, minor, patch + 1),
            Self::Pre if is_prerelease => semver::Version::new(major, minor, patch),
            Self::Pre => semver::Version::new(major, minor, patch + 1),
        };
        if self == Self::Pre {
            next.pre = next_prerelease(&old.pre);
        }
        Version::from(next)
    }
}

/// The last number is raised; one is added where there is none.
fn next_prerelease(old: &semver::Prerelease) -> semver::Prerelease {
    let next = match old.as_str().rsplit_once('.') {
        _ if old.is_empty() => "rc.1".to_owned(),
        Some((rest, last)) if last.parse::<u64>().is_ok() => {
            format!("{rest}.{}", last.parse::<u64>().map_or(1, |last| last + 1))
        }
        None if old.parse_number().is_some() => old
            .parse_number()
            .map_or_else(String::new, |last| (last + 1).to_string()),
        _ => format!("{old}.1"),
    };
    semver::Prerelease::new(&next).expect("a number is an identifier")
}

/// A pre-release that is a number alone.
trait ParseNumber {
    fn parse_number(&self) -> Option<u64>;
}

impl ParseNumber for semver::Prerelease {
    fn parse_number(&self) -> Option<u64> {
        self.as_str().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Bump, Naming, dirty, is_generated, newer};
    use crate::manifest::schema::Latest;
    use crate::model::{Digest, Version};

    fn digest() -> Digest {
        format!("sha256:{}", "0123456789abcdef".repeat(4))
            .parse()
            .unwrap()
    }

    fn tags(prefix: &str, version: Option<&str>, latest: Latest) -> Vec<String> {
        let version: Option<Version> = version.map(|text| text.parse().unwrap());
        let naming = Naming {
            name: "app",
            prefix,
            version: version.as_ref(),
            latest,
            context: Some(&digest()),
        };
        let tags = naming.tags().unwrap();
        tags.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_release_is_named_by_all_it_stands_for() {
        assert_eq!(
            tags("", Some("1.2.3"), Latest::Release),
            [
                "app:1.2.3",
                "app:1.2",
                "app:1",
                "app:latest",
                "app:ctx-0123456789ab"
            ]
        );
    }

    #[test]
    fn a_prerelease_is_named_by_itself_only() {
        for version in ["1.2.3-rc.1", "1.2.3-SNAPSHOT"] {
            assert_eq!(
                tags("", Some(version), Latest::Release),
                [format!("app:{version}"), "app:ctx-0123456789ab".to_owned()]
            );
        }
        assert_eq!(
            tags("", Some("1.2.3+b.1-SNAPSHOT"), Latest::Release)[0],
            "app:1.2.3_b.1-SNAPSHOT"
        );
    }

    #[test]
    fn without_a_version_there_is_latest_alone() {
        let expected = ["app:latest", "app:ctx-0123456789ab"];
        assert_eq!(tags("", None, Latest::Release), expected);
        assert_eq!(tags("", None, Latest::Never), expected[1..]);
    }

    #[test]
    fn latest_moves_as_it_is_told() {
        let has_latest =
            |version, latest| tags("", Some(version), latest).contains(&"app:latest".to_owned());
        assert!(has_latest("1.0.0-rc.1", Latest::Always));
        assert!(!has_latest("1.0.0", Latest::Never));
    }

    #[test]
    fn names_that_are_made_from_what_is_in_an_image_are_known() {
        for (name, expected) in [
            ("app:ctx-0123456789ab", true),
            ("r.example/app:1.2.3-dirty.g0123456789ab", true),
            ("app:1.2.3-rc.1.dirty.g0123456789ab", true),
            ("app:ctx-mine", false),
            ("app:dirty.g0123", false),
            ("app:1.2.3", false),
            ("app:latest", false),
            ("app", false),
        ] {
            assert_eq!(is_generated(&name.parse().unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn names_never_move_backwards() {
        let version = |text: &str| -> Version { text.parse().unwrap() };
        let releases = ["1.2.3", "1.2.10", "1.3.0", "2.0.0", "3.0.0-rc.1", "2.0.0+b"];
        let releases = releases.map(version);
        for (tag, this, expected) in [
            ("latest", "2.0.1", None),
            ("latest", "2.0.0", None),
            ("latest", "2.0.0+c", None),
            ("latest", "1.9.9", Some("2.0.0")),
            ("latest", "1.9.9-rc.1", Some("2.0.0")),
            ("latest", "2.0.0-rc.1", Some("2.0.0")),
            ("latest", "2.1.0-rc.1", None),
            ("latest", "3.0.0-alpha", None),
            ("1.2", "1.2.10-dirty.g0123456789ab", Some("1.2.10")),
            ("1", "1.9.9", None),
            ("1", "1.2.11", Some("1.3.0")),
            ("1.2", "1.2.11", None),
            ("1.2", "1.2.9", Some("1.2.10")),
            ("1.20", "1.20.0", None),
            ("1.2.9", "1.2.9", None),
            ("ctx-0123456789ab", "1.0.0", None),
            ("01", "1.0.0", None),
            ("1.x", "1.0.0", None),
        ] {
            let newer = newer(tag, &version(this), &releases);
            let newer = newer.map(|newer| newer.to_string().replace("+b", ""));
            assert_eq!(newer.as_deref(), expected, "{tag} {this}");
        }
    }

    #[test]
    fn a_prefix_is_put_before_the_name_as_it_is() {
        let tags = tags("reg.example:5000/team-", Some("1.0.0-a"), Latest::Release);
        assert_eq!(tags[0], "app:1.0.0-a");
        assert_eq!(tags[2], "reg.example:5000/team-app:1.0.0-a");
    }

    #[test]
    fn a_dirty_tree_has_a_version_of_its_own() {
        for (version, expected) in [
            ("1.2.3", "1.2.3-dirty.g0123456789ab"),
            ("1.2.3-rc.1", "1.2.3-rc.1.dirty.g0123456789ab"),
        ] {
            let dirty = dirty(&version.parse().unwrap(), &digest());
            assert_eq!(dirty.to_string(), expected);
            assert!(dirty.is_prerelease());
        }
    }

    #[test]
    fn versions_are_raised() {
        use Bump::{Major, Minor, Patch, Pre};

        for (bump, version, expected) in [
            (Major, "1.2.3", "2.0.0"),
            (Major, "2.0.0-rc.1", "2.0.0"),
            (Major, "1.2.0-rc.1", "2.0.0"),
            (Minor, "1.2.3", "1.3.0"),
            (Minor, "1.3.0-rc.1", "1.3.0"),
            (Patch, "1.2.3", "1.2.4"),
            (Patch, "1.2.3-rc.1", "1.2.3"),
            (Patch, "1.2.3+build", "1.2.4"),
            (Pre, "1.2.3", "1.2.4-rc.1"),
            (Pre, "1.2.3-rc.9", "1.2.3-rc.10"),
            (Pre, "1.2.3-beta", "1.2.3-beta.1"),
            (Pre, "1.2.3-1", "1.2.3-2"),
        ] {
            let raised = bump.of(&version.parse().unwrap());
            assert_eq!(raised.to_string(), expected, "{version}");
        }
    }
}
