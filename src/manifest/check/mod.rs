//! What the types can't say: names that must be defined, circles, keys that exclude each other.
//!
//! A check that misses something (no image, no metrics) is left out for a job in which something
//! could not be read, since that may be the very thing.

mod env_files;
mod images;
mod jobs;
mod references;
mod secrets;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::schema::Root;
use super::suggest::nearest;
use super::{FileError, Located, Rule};
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::model::{Name, Secret, clean};

pub(super) use env_files::contents as env_file_contents;

/// Checks a manifest as a whole.
pub(super) fn check(
    root: &Root,
    source: &Arc<Source>,
    folder: &Path,
    interpolated: &BTreeMap<String, Option<Secret>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<FileError> {
    let damaged = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .filter_map(|diagnostic| Some(diagnostic.primary.as_ref()?.span.clone()))
        .collect();
    let mut checker = Checker {
        root,
        source,
        folder,
        interpolated,
        damaged,
        diagnostics,
        file_errors: Vec::new(),
    };
    references::check(&mut checker);
    images::check(&mut checker);
    env_files::check(&mut checker);
    jobs::check(&mut checker);
    secrets::check(&mut checker);
    checker.file_errors
}

/// The manifest under check, and what was found.
struct Checker<'a> {
    root: &'a Root,
    source: &'a Arc<Source>,
    folder: &'a Path,
    /// The variables that values name.
    interpolated: &'a BTreeMap<String, Option<Secret>>,
    /// Places that could not be read.
    damaged: Vec<Range<usize>>,
    diagnostics: &'a mut Vec<Diagnostic>,
    file_errors: Vec<FileError>,
}

/// What most paths are relative to.
const THIS_DIRECTORY: &str = "this file's directory";

impl Checker<'_> {
    fn report(&mut self, diagnostic: Diagnostic, span: Range<usize>, label: &str) {
        self.diagnostics
            .push(diagnostic.at(self.source, span, label));
    }

    /// Whether everything within a place could be read.
    fn is_whole(&self, extent: &Range<usize>) -> bool {
        !self
            .damaged
            .iter()
            .any(|place| extent.start <= place.start && place.start <= extent.end)
    }

    /// Whether a file exists; reports it if it does not. `place` is what its path is relative to.
    fn exists(&mut self, path: &Path, span: Range<usize>, what: &str, place: &str) -> bool {
        let exists = self.folder.join(path).exists();
        if !exists {
            let place = if path.is_relative() {
                format!(", which is relative to {place}")
            } else {
                String::new()
            };
            let other = match what {
                "env file" => "; or write `{ path: …, required: false }`",
                _ => "",
            };
            let help = format!("create it, or fix the path{place}{other}");
            let message = format!("the {what} `{}` does not exist", path.display());
            self.report_file(path, Rule::MissingFile.error(message).help(help), span);
        }
        exists
    }

    fn report_file(&mut self, path: &Path, diagnostic: Diagnostic, span: Range<usize>) {
        self.file_errors.push(FileError {
            path: clean(&self.folder.join(path)),
            diagnostic: diagnostic.at(self.source, span, ""),
        });
    }

    /// Says that a name is not defined, and what was likely meant.
    fn undefined<'n>(
        &mut self,
        diagnostic: Diagnostic,
        name: &Located<Name>,
        defined: impl Iterator<Item = &'n Name>,
    ) {
        let defined: Vec<_> = defined.map(Name::as_str).collect();
        let help = match nearest(name.as_str(), defined.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if defined.is_empty() => "none is defined in this file".to_owned(),
            None => format!("what is defined: {}", super::decode::list(&defined)),
        };
        self.report(diagnostic.help(help), name.span(), "");
    }
}
