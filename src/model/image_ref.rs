//! References to images: `registry:5000/team/name:tag@sha256:…`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

use super::{Digest, Scalar, Tag, ValueError, without_users};

/// The registry that is meant when none is named.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The folder of that registry that is meant when none is named.
const OFFICIAL: &str = "library/";
/// The longest name of a repository in its registry.
const MAX_PATH_LENGTH: usize = 255;

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

    /// The full form with the tag that is meant: `debian` is `docker.io/library/debian:latest`.
    ///
    /// docker's `reference.TagNameOnly`.
    #[must_use]
    pub fn tagged(&self) -> Self {
        let full = self.canonical();
        let is_named_only = full.tag.is_none() && full.digest.is_none();
        let tag = match &full.tag {
            None if is_named_only => "latest".parse().ok(),
            tag => tag.clone(),
        };
        Self { tag, ..full }
    }

    /// The same without its digest.
    #[must_use]
    pub(crate) fn without_digest(&self) -> Self {
        Self {
            digest: None,
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
        let official = full.path.strip_prefix(OFFICIAL);
        let path = official.filter(|path| !path.contains('/'));
        let path = path.unwrap_or(&full.path);
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
        if path.len() > MAX_PATH_LENGTH {
            return Err(ValueError::new(format!(
                "the name has more than {MAX_PATH_LENGTH} characters"
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

/// Checks what is put before an image's name as it is: `registry:5000/team-`.
///
/// # Errors
///
/// The two make no name of an image.
pub fn check_prefix(prefix: &str, name: &str) -> Result<(), ValueError> {
    let example = "write a registry, and a directory or the beginning of a name in it: `registry.example:5000/team-`";
    let shown = without_users(prefix);
    let refused = |message: String, help: &str| {
        Err(ValueError::new(format!(
            "`{shown}` can't be put before an image's name: {message}"
        ))
        .help(help))
    };
    for scheme in ["https://", "http://"] {
        if prefix.starts_with(scheme) {
            let help = format!("leave out `{scheme}`: `registry.example:5000/team-`");
            return refused("an image is not named by a URL".to_owned(), &help);
        }
    }
    match format!("{prefix}{name}").parse::<ImageRef>() {
        Ok(image) if image.tag().is_none() && image.digest().is_none() => Ok(()),
        Ok(_) => refused("it would be a tag's or a digest's".to_owned(), example),
        Err(error) => refused(error.to_string(), example),
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
    const PATTERN: &'static str = r"^([A-Za-z0-9.:\[\]-]+/)?[a-z0-9._/-]+(:[\w][\w.-]{0,127})?(@sha(256|384|512):[a-f0-9]{64,128})?$";
    const EXAMPLES: &'static [&'static str] = &["python:3.13", "registry.example:5000/team/app"];
}

#[cfg(test)]
mod tests;
