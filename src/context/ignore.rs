//! Which ignore file holds.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ContextError;
use super::pattern::Patterns;
use super::walk::Filter;
use super::{LARGEST_BUILD_FILE, STATE_EXCLUDE};
use crate::facts::read_small;

/// The name of the ignore file at the top of a context.
const IGNORE_FILE: &str = ".dockerignore";

/// An ignore file that holds.
#[derive(Debug, Clone)]
pub struct IgnoreFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its patterns.
    pub patterns: Patterns,
}

/// Finds the ignore file of a build: the Dockerfile's own, which is named after it with
/// `.dockerignore` at the end and lies beside it, or else `.dockerignore` in the context.
///
/// # Errors
///
/// It can't be read, or a line of it is no pattern.
pub fn ignore_file(root: &Path, dockerfile: &Path) -> Result<Option<IgnoreFile>, ContextError> {
    let mut own = OsString::from(dockerfile);
    own.push(IGNORE_FILE);
    for path in [PathBuf::from(own), root.join(IGNORE_FILE)] {
        match read_small(&path, LARGEST_BUILD_FILE) {
            Ok(text) => {
                let patterns = Patterns::parse_ignore_file(&text).map_err(|source| {
                    ContextError::IgnoreFile {
                        path: path.clone(),
                        source,
                    }
                })?;
                return Ok(Some(IgnoreFile { path, patterns }));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(source) => return Err(ContextError::Unreadable { path, source }),
        }
    }
    Ok(None)
}

/// The Dockerfile of a build and the places of its ignore file: they decide what is built, wherever they are,
/// and by not being there. One that is a link is named with what it leads to. Their directories' names are
/// canonical.
#[must_use]
pub fn build_files(root: &Path, dockerfile: &Path) -> Vec<PathBuf> {
    let mut own = OsString::from(dockerfile);
    own.push(IGNORE_FILE);
    let mut files = Vec::new();
    for file in [dockerfile.to_owned(), own.into(), root.join(IGNORE_FILE)] {
        let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
        if let (Some(folder), Some(name)) = (folder, file.file_name()) {
            files.push(folder.join(name));
            files.extend(file.canonicalize());
        }
    }
    files.sort();
    files.dedup();
    files
}

impl Filter {
    /// What a build lets through: all but what its ignore file names, and jobctl's own state.
    ///
    /// # Errors
    ///
    /// As [`ignore_file`].
    pub fn of_build(root: &Path, dockerfile: &Path) -> Result<Self, ContextError> {
        let mut excludes = Patterns::from_lines([STATE_EXCLUDE])?;
        if let Some(ignored) = ignore_file(root, dockerfile)? {
            excludes = ignored.patterns.followed_by(excludes);
        }
        Ok(Self {
            excludes,
            ..Self::default()
        })
    }
}

impl Patterns {
    /// The same for the classic builder, which needs the Dockerfile and `.dockerignore` in the
    /// stream even if they are ignored (it takes them out of the context itself).
    ///
    /// `dockerfile` is its path in the context.
    ///
    /// # Errors
    ///
    /// The Dockerfile's name can't be written as a pattern.
    pub fn keep_build_files(self, dockerfile: &[u8]) -> Result<Self, ContextError> {
        let ignored = [IGNORE_FILE.as_bytes(), dockerfile].into_iter();
        let exceptions = ignored
            .filter(|path| self.matches(path))
            .map(|path| [b"!", escape(path).as_slice()].concat());
        let exceptions = Self::from_lines(exceptions)?;
        Ok(self.followed_by(exceptions))
    }
}

/// A path as a pattern that matches it alone.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(path.len());
    for byte in path {
        if b"*?[]\\^".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::ignore_file;
    use crate::context::Patterns;
    use crate::context::tree::Tree;

    #[test]
    fn the_dockerfiles_own_ignore_file_beats_the_contexts() {
        let tree = Tree::of(&["Dockerfile", "sub/", "sub/gpu.Dockerfile"]);
        let find = |dockerfile: &str| {
            let found = ignore_file(tree.root(), &tree.at(dockerfile)).unwrap()?;
            let path = found.path.strip_prefix(tree.root()).unwrap().to_owned();
            Some((
                path,
                found.patterns.matches(b"a"),
                found.patterns.matches(b"b"),
            ))
        };
        assert_eq!(find("Dockerfile"), None);
        tree.write(".dockerignore", "a\n");
        tree.write("sub/gpu.Dockerfile.dockerignore", "b\n");
        let contexts = (Path::new(".dockerignore").to_owned(), true, false);
        assert_eq!(find("Dockerfile"), Some(contexts));
        let own = Path::new("sub/gpu.Dockerfile.dockerignore").to_owned();
        assert_eq!(find("sub/gpu.Dockerfile"), Some((own, false, true)));
    }

    #[test]
    fn a_wrong_ignore_file_is_told_with_its_line() {
        let tree = Tree::of(&[]);
        tree.write(".dockerignore", "a\n\n[\n");
        let error = ignore_file(tree.root(), &tree.at("Dockerfile")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`{}`: line 3: the pattern `[` has brackets that make no sense",
                tree.at(".dockerignore").display()
            )
        );
    }

    #[test]
    fn the_classic_builder_gets_its_files_even_if_they_are_ignored() {
        let patterns = Patterns::from_lines(["*"]).unwrap();
        let kept = patterns.keep_build_files(b"sub/[x]*/Dockerfile").unwrap();
        for (path, is_excluded) in [
            (".dockerignore", false),
            ("sub/[x]*/Dockerfile", false),
            ("sub/xy/Dockerfile", true),
            ("a", true),
        ] {
            assert_eq!(kept.matches(path.as_bytes()), is_excluded, "{path}");
        }
        let nothing = Patterns::default().keep_build_files(b"Dockerfile").unwrap();
        assert!(nothing.is_empty());
    }
}
