//! Paths, on this machine and in a container.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::{Scalar, ValueError};

/// A path on this machine, relative to whatever names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPath(PathBuf);

impl HostPath {
    /// The path as it was given.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for HostPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::new("the path is empty")
                .help("write a path relative to the manifest; `.` is its own directory"));
        }
        if text.contains('\0') {
            return Err(ValueError::new("the path contains a NUL character"));
        }
        if text == "~" || text.starts_with("~/") {
            return Err(ValueError::new("`~` is not expanded in paths")
                .help(format!("write `${{HOME}}{}`", &text[1..])));
        }
        Ok(Self(PathBuf::from(text)))
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Scalar for HostPath {
    const NAME: &'static str = "HostPath";
    const EXPECTED: &'static str = "a path such as `data/train.csv`";
    const PATTERN: &'static str = "^[^~\\u0000][^\\u0000]*$";
    const EXAMPLES: &'static [&'static str] = &["data/train.csv", ".", "/mnt/data"];
}

/// An absolute path in a container, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerPath(String);

impl ContainerPath {
    /// The path, with single slashes and none at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this path or lies in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        Path::new(&other.0).starts_with(&self.0)
    }
}

impl FromStr for ContainerPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::new("the path is empty").help("write a path such as `/data`"));
        }
        if !text.starts_with('/') {
            return Err(ValueError::new("a path in the container begins with `/`")
                .help(format!("write `/{}`", text.trim_start_matches("./"))));
        }
        if text.contains('\0') {
            return Err(ValueError::new("the path contains a NUL character"));
        }
        let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(
                ValueError::new("a path in the container has no `.` or `..` in it")
                    .help("write the path that is meant"),
            );
        }
        if parts.is_empty() {
            return Err(ValueError::new("the container's root itself can't be used")
                .help("write a directory in it, such as `/data`"));
        }
        Ok(Self(format!("/{}", parts.join("/"))))
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for ContainerPath {
    const NAME: &'static str = "ContainerPath";
    const EXPECTED: &'static str = "a path in the container such as `/data`";
    const PATTERN: &'static str = "^/+[^/]";
    const EXAMPLES: &'static [&'static str] = &["/data/train.csv", "/artifacts"];
}

/// Where a program starts in a container, as docker's `--workdir` takes it: absolute, made where it is not
/// there. It may be the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingDir(String);

impl FromStr for WorkingDir {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.starts_with('/') {
            return Err(ValueError::new("a working directory begins with `/`")
                .help(format!("write `/{}`", text.trim_start_matches("./"))));
        }
        if text.contains('\0') {
            return Err(ValueError::new("the path contains a NUL character"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for WorkingDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for WorkingDir {
    const NAME: &'static str = "WorkingDir";
    const EXPECTED: &'static str = "a directory in the container such as `/srv/app`";
    const PATTERN: &'static str = "^/";
    const EXAMPLES: &'static [&'static str] = &["/srv/app", "/"];
}

/// A path without `.` and with `..` taken back, as far as names alone tell.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            component => cleaned.push(component),
        }
    }
    cleaned
}

/// A path as seen from a directory, with as many `..` as it takes; both are absolute and clean.
#[must_use]
pub fn seen_from(path: &Path, directory: &Path) -> PathBuf {
    let shared = path.components().zip(directory.components());
    let shared = shared.take_while(|(one, other)| one == other).count();
    let up = directory
        .components()
        .skip(shared)
        .map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::{ContainerPath, HostPath, WorkingDir};

    #[test]
    fn a_working_directory_may_be_the_root() {
        for text in ["/", "/a", "/a/../b", "/a b/"] {
            assert_eq!(text.parse::<WorkingDir>().unwrap().to_string(), text);
        }
        let error = "./a".parse::<WorkingDir>().expect_err("it is relative");
        assert_eq!(error.help.as_deref(), Some("write `/a`"));
    }

    #[test]
    fn container_paths_are_absolute_and_clean() {
        for (text, expected) in [
            ("/a", Ok("/a")),
            ("//a//b/", Ok("/a/b")),
            ("a", Err("a path in the container begins with `/`")),
            ("", Err("the path is empty")),
            ("/", Err("the container's root itself can't be used")),
            (
                "/a/../b",
                Err("a path in the container has no `.` or `..` in it"),
            ),
            ("/a\0", Err("the path contains a NUL character")),
        ] {
            let parsed = text.parse::<ContainerPath>();
            assert_eq!(
                parsed
                    .as_ref()
                    .map(ContainerPath::as_str)
                    .map_err(|error| error.message.as_str()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_folder_contains_what_lies_in_it_by_whole_names() {
        let path = |text: &str| text.parse::<ContainerPath>().unwrap();
        assert!(path("/data").contains(&path("/data")));
        assert!(path("/data").contains(&path("/data/x")));
        assert!(!path("/data").contains(&path("/database")));
    }

    #[test]
    fn a_home_is_not_expanded_in_silence() {
        let error = "~/data".parse::<HostPath>().expect_err("~ is refused");
        assert_eq!(error.help.as_deref(), Some("write `${HOME}/data`"));
    }
}
