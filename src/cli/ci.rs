//! The CI system that this process is a step of, if it is one: what it reads, and what it wants to know.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::facts::Environment;
use crate::model::{Digest, Version};
use crate::report::Marks;

/// The largest summary of a step that GitHub shows.
const SUMMARY_BYTES: u64 = 1 << 20;

/// A CI system, by its variables.
#[derive(Debug, Clone, Default)]
pub(super) struct Ci {
    /// How its logs are marked.
    pub(super) marks: Option<Marks>,
    /// The repository's directory, and the one that is worked in.
    workspace: Option<PathBuf>,
    here: PathBuf,
    /// Where the next step's values are written: `name=value` lines.
    outputs: Option<PathBuf>,
    /// Where they are written as variables: `JOBCTL_NAME=value` lines.
    variables: Option<PathBuf>,
    /// Where Markdown is written for people.
    summary: Option<PathBuf>,
}

/// What a step has made.
#[derive(Debug, Default)]
pub(super) struct Made<'a> {
    /// The image, as others can pull or run it.
    pub(super) image: Option<String>,
    /// The digest that a registry has it under; an image that was only built has none.
    pub(super) digest: Option<&'a Digest>,
    /// Its id on the engine.
    pub(super) id: Option<&'a Digest>,
    /// Its version.
    pub(super) version: Option<&'a Version>,
    /// The run.
    pub(super) run: Option<String>,
}

impl Ci {
    pub(super) fn of(environment: &Environment) -> Self {
        let is = |name: &str| environment.get(name) == Some("true");
        let here = environment.current_dir();
        let file = |name: &str| Some(here.join(environment.path(name)?));
        let (is_github, is_gitlab) = (is("GITHUB_ACTIONS"), is("GITLAB_CI"));
        let marks = match (is_github, is_gitlab) {
            (true, _) => Some(Marks::GitHub),
            (false, true) => Some(Marks::GitLab),
            (false, false) => None,
        };
        Self {
            marks,
            workspace: environment.path("GITHUB_WORKSPACE"),
            here: here.to_owned(),
            outputs: file("GITHUB_OUTPUT").filter(|_| is_github),
            summary: file("GITHUB_STEP_SUMMARY").filter(|_| is_github),
            variables: file("JOBCTL_OUTPUT"),
        }
    }

    /// A file as the repository knows it.
    pub(super) fn place(&self, path: &Path) -> String {
        let whole = self.here.join(path);
        let workspace = self.workspace.as_deref();
        let inside = workspace.and_then(|folder| whole.strip_prefix(folder).ok());
        inside.unwrap_or(path).display().to_string()
    }

    /// Tells the next steps what this one has made.
    pub(super) fn made(&self, made: &Made<'_>) -> io::Result<()> {
        // A digest that an earlier call of this step has left is another image's.
        let no_digest = made.image.as_ref().map(|_| String::new());
        let digest = made.digest.map(ToString::to_string);
        let values = [
            ("image", made.image.clone()),
            ("digest", digest.or(no_digest)),
            ("image-id", made.id.map(ToString::to_string)),
            ("version", made.version.map(ToString::to_string)),
            ("run-id", made.run.clone()),
        ];
        for (name, value) in values {
            let Some(value) = value else { continue };
            // What has a line of its own is another value.
            let value = value.replace(char::is_control, "");
            if let Some(file) = &self.outputs {
                append(file, &format!("{name}={value}\n"))?;
            }
            if let Some(file) = &self.variables {
                let name = name.to_ascii_uppercase().replace('-', "_");
                append(file, &format!("JOBCTL_{name}={value}\n"))?;
            }
        }
        Ok(())
    }

    /// Adds to what people are shown of this step. What does not fit is left out.
    /// Says whether it did.
    pub(super) fn summary(&self, text: impl FnOnce() -> String) -> io::Result<bool> {
        let Some(file) = &self.summary else {
            return Ok(true);
        };
        let text = format!("{}\n", text());
        let length = fs::metadata(file).map_or(0, |file| file.len());
        if length + text.len() as u64 > SUMMARY_BYTES {
            return Ok(false);
        }
        append(file, &text).map(|()| true)
    }
}

fn append(file: &Path, text: &str) -> io::Result<()> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display()));
    // A pipe without a reader would hold jobctl for ever.
    if file
        .metadata()
        .is_ok_and(|found| found.file_type().is_fifo())
    {
        let reason = format!("`{}` is a pipe, and not a file", file.display());
        return Err(io::Error::other(reason));
    }
    let mut options = OpenOptions::new();
    let mut open = options
        .create(true)
        .append(true)
        .open(file)
        .map_err(named)?;
    open.write_all(text.as_bytes()).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_the_repository_has_them() {
        let variables = [("GITHUB_ACTIONS", "true"), ("GITHUB_WORKSPACE", "/w/repo")];
        let ci = Ci::of(&Environment::new(variables, "/w/repo/jobs"));
        assert_eq!(ci.place(Path::new("jobs.yaml")), "jobs/jobs.yaml");
        assert_eq!(ci.place(Path::new("/elsewhere/x")), "/elsewhere/x");
    }

    #[test]
    fn a_summary_ends_before_it_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("summary");
        let variables = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_STEP_SUMMARY", file.to_str().unwrap()),
        ];
        let ci = Ci::of(&Environment::new(variables, folder.path()));
        let line = "x".repeat(600_000);
        ci.summary(|| line.clone()).unwrap();
        ci.summary(|| line.clone()).unwrap();
        ci.summary(|| "short".to_owned()).unwrap();
        let written = fs::read_to_string(file).unwrap();
        assert_eq!(written, format!("{line}\nshort\n"));
    }
}
