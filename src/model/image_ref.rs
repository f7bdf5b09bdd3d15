//! References to images: `registry:5000/team/name:tag@sha256:…`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

use super::{Digest, Scalar, Tag, ValueError};

/// The registry that is meant when none is named.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The folder of that registry that is meant when none is named.
const OFFICIAL: &str = "library/";
/// The longest repository name, domain included.
const MAX_NAME_LENGTH: usize = 255;

/// A reference to an image, as the distribution project's `reference` package reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    domain: Option<String>,
    path: String,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The registry's host and port, if one is named.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The repository in the registry, as it is written: `debian`, `team/app`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one is named.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if one is named.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository with its registry as it is written, without tag and digest.
    #[must_use]
    pub fn repository(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{domain}/{}", self.path),
            None => self.path.clone(),
        }
    }

    /// The full form: `debian` is `docker.io/library/debian`.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let domain = match self.domain.as_deref() {
            None | Some("index.docker.io") => DEFAULT_DOMAIN,
            Some(domain) => domain,
        };
        let is_official = domain == DEFAULT_DOMAIN && !self.path.contains('/');
        let folder = if is_official { OFFICIAL } else { "" };
        Self {
            domain: Some(domain.to_owned()),
            path: format!("{folder}{}", self.path),
            ..self.clone()
        }
    }

    /// The short form: `docker.io/library/debian` is `debian`.
    #[must_use]
    pub fn familiar(&self) -> Self {
        let full = self.canonical();
        if full.domain.as_deref() != Some(DEFAULT_DOMAIN) {
            return full;
        }
        let path = full.path.strip_prefix(OFFICIAL).unwrap_or(&full.path);
        Self {
            domain: None,
            path: path.to_owned(),
            ..full
        }
    }
}

impl FromStr for ImageRef {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(
                ValueError::new("the reference is empty").help(format!("write {}", Self::EXPECTED))
            );
        }
        for scheme in ["https://", "http://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Err(ValueError::new("an image is not named by a URL")
                    .help(format!("write `{rest}`")));
            }
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon behind the last slash begins the tag; one before it, a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => {
                let at = name_end + colon;
                (&rest[..at], Some(rest[at + 1..].parse()?))
            }
            None => (rest, None),
        };
        let (domain, path) = split_domain(name);
        if let Some(domain) = domain
            && !is_domain(domain)
        {
            return Err(
                ValueError::new(format!("`{domain}` is not a registry's host"))
                    .help("write `host/name` or `host:port/name`"),
            );
        }
        check_path(path).map_err(|error| match error.help {
            None => error.help(format!(
                "write `{}`",
                text.replacen(path, &path.to_lowercase(), 1)
            )),
            Some(_) => error,
        })?;
        if name.len() > MAX_NAME_LENGTH {
            return Err(ValueError::new(format!(
                "the name has more than {MAX_NAME_LENGTH} characters"
            )));
        }
        if domain.is_none() && path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(ValueError::new("an id is not a reference to an image")
                .help(format!("write `sha256:{path}`, or the image's name")));
        }
        Ok(Self {
            domain: domain.map(str::to_owned),
            path: path.to_owned(),
            tag,
            digest,
        })
    }
}

/// The part before the first slash is a host if it can't be a folder of the default registry.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(domain: &str) -> bool {
    static DOMAIN: LazyLock<Regex> = LazyLock::new(|| {
        let label = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
        Regex::new(&format!(
            r"^(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$"
        ))
        .expect("the expression is valid")
    });
    DOMAIN.is_match(domain)
}

/// An error without help means that lower case is all that it needs.
fn check_path(path: &str) -> Result<(), ValueError> {
    static COMPONENT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$").expect("the expression is valid")
    });
    for component in path.split('/') {
        if COMPONENT.is_match(component) {
            continue;
        }
        if component.contains(|c: char| c.is_ascii_uppercase()) {
            return Err(ValueError::new("an image's name is lower-case"));
        }
        return Err(if component.is_empty() {
            ValueError::new("a part of the image's name is empty")
                .help("write the parts between single slashes: `team/name`")
        } else {
            ValueError::new(format!("`{component}` can't be part of an image's name")).help(
                "use lower-case letters and digits, with `.`, `_`, `__` or dashes between them",
            )
        });
    }
    Ok(())
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Scalar for ImageRef {
    const NAME: &'static str = "ImageRef";
    const EXPECTED: &'static str = "an image such as `python:3.13`";
    const PATTERN: &'static str = r"^([A-Za-z0-9.:\[\]-]+/)?[a-z0-9._/-]+(:[\w][\w.-]{0,127})?(@[A-Za-z0-9+._-]+:[a-f0-9]{32,})?$";
    const EXAMPLES: &'static [&'static str] = &["python:3.13", "registry.example:5000/team/app"];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ImageRef;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parts(text: &str) -> (Option<String>, String, Option<String>, bool) {
        let image: ImageRef = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(image.to_string(), text);
        (
            image.domain().map(str::to_owned),
            image.path().to_owned(),
            image.tag().map(ToString::to_string),
            image.digest().is_some(),
        )
    }

    #[test]
    fn what_the_distribution_project_takes_is_taken() {
        let part = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("test_com".to_owned(), (None, "test_com", None, false)),
            (
                "test.com:tag".to_owned(),
                (None, "test.com", part("tag"), false),
            ),
            (
                "test.com:5000".to_owned(),
                (None, "test.com", part("5000"), false),
            ),
            (
                "test.com/repo:tag".to_owned(),
                (part("test.com"), "repo", part("tag"), false),
            ),
            (
                "test:5000/repo".to_owned(),
                (part("test:5000"), "repo", None, false),
            ),
            (
                "test:5000/repo:tag".to_owned(),
                (part("test:5000"), "repo", part("tag"), false),
            ),
            (
                format!("test:5000/repo@sha256:{HEX}"),
                (part("test:5000"), "repo", None, true),
            ),
            (
                format!("test:5000/repo:tag@sha256:{HEX}"),
                (part("test:5000"), "repo", part("tag"), true),
            ),
            (
                "sub-dom1.foo.com/bar/baz/quux".to_owned(),
                (part("sub-dom1.foo.com"), "bar/baz/quux", None, false),
            ),
            (
                "b.gcr.io/test.example.com/my-app:test.example.com".to_owned(),
                (
                    part("b.gcr.io"),
                    "test.example.com/my-app",
                    part("test.example.com"),
                    false,
                ),
            ),
            (
                "xn--n3h.com/myimage:xn--n3h.com".to_owned(),
                (part("xn--n3h.com"), "myimage", part("xn--n3h.com"), false),
            ),
            (
                "foo_bar.com:8080".to_owned(),
                (None, "foo_bar.com", part("8080"), false),
            ),
            (
                "foo/foo_bar.com:8080".to_owned(),
                (None, "foo/foo_bar.com", part("8080"), false),
            ),
            (
                "[2001:db8::1]:5000/repo".to_owned(),
                (part("[2001:db8::1]:5000"), "repo", None, false),
            ),
            (
                "a__b/c-----d".to_owned(),
                (None, "a__b/c-----d", None, false),
            ),
            ("Foo/bar".to_owned(), (part("Foo"), "bar", None, false)),
            (
                "localhost/a".to_owned(),
                (part("localhost"), "a", None, false),
            ),
        ] {
            let (domain, path, tag, has_digest) = expected;
            assert_eq!(
                parts(&text),
                (domain, path.to_owned(), tag, has_digest),
                "{text}"
            );
        }
    }

    #[test]
    fn what_the_distribution_project_refuses_is_refused() {
        for text in [
            "",
            ":justtag",
            "@sha256:ffff",
            "Uppercase:tag",
            "test:5000/Uppercase/lowercase:tag",
            "aa/asdf$$^/aa",
            "repo@sha256:ffff",
            "a//b",
            "a/",
            "/a",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a_.b",
            "[2001:db8::1]",
            "[fe80::1%eth0]:5000/repo",
            "repo:",
            "repo:a b",
            "https://a/b",
            HEX,
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
        assert!(
            "a/".repeat(128)
                .trim_end_matches('/')
                .parse::<ImageRef>()
                .is_ok()
        );
        assert!(
            format!("{}a", "a/".repeat(128))
                .parse::<ImageRef>()
                .is_err()
        );
    }

    #[test]
    fn names_have_a_short_and_a_full_form() {
        for (text, full, short) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian", "docker.io/library/debian", "debian"),
            (
                "index.docker.io/library/debian",
                "docker.io/library/debian",
                "debian",
            ),
            ("team/app", "docker.io/team/app", "team/app"),
            ("quay.io/a", "quay.io/a", "quay.io/a"),
            ("localhost/a", "localhost/a", "localhost/a"),
        ] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!(image.canonical().to_string(), full);
            assert_eq!(image.familiar().to_string(), short);
        }
    }

    #[test]
    fn an_upper_case_name_is_answered_with_the_lower_case_one() {
        let error = "Python:3.13"
            .parse::<ImageRef>()
            .expect_err("it is upper-case");
        assert_eq!(error.help.as_deref(), Some("write `python:3.13`"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[a-zA-Z0-9.:/@_-]{0,40}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(image.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<ImageRef>();
        }
    }
}
