//! Checks a manifest.

mod whole_context;

use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::facts::Environment;
use crate::manifest;

/// What there is to say of a manifest.
#[derive(Debug)]
pub struct Validation {
    /// The manifest, as the user knows it; nothing if none was found.
    pub path: Option<PathBuf>,
    /// How many jobs and images it defines, if it is valid.
    pub defined: Option<Defined>,
    /// What is wrong, or likely wrong, with it.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a manifest defines.
#[derive(Debug, Clone, Copy)]
pub struct Defined {
    /// Jobs.
    pub jobs: usize,
    /// Base images.
    pub images: usize,
}

/// Checks the manifest that was found: its path, and the path as the user knows it. `state` is where runs
/// are kept.
#[must_use]
pub fn validate(
    found: Result<(PathBuf, PathBuf), Box<Diagnostic>>,
    state: &Path,
    environment: &Environment,
) -> Validation {
    let (path, shown) = match found {
        Ok(paths) => paths,
        Err(diagnostic) => {
            return Validation {
                path: None,
                defined: None,
                diagnostics: vec![*diagnostic],
            };
        }
    };
    let (defined, diagnostics) = match manifest::load(&path, &shown, environment) {
        Ok(manifest) => {
            let defined = Defined {
                jobs: manifest.root.jobs.len(),
                images: manifest.root.images.len(),
            };
            let mut diagnostics = manifest.diagnostics();
            diagnostics.extend(whole_context::check(&manifest, &path, state, environment));
            let is_valid = manifest.file_errors.is_empty();
            (is_valid.then_some(defined), diagnostics)
        }
        Err(diagnostics) => (None, diagnostics),
    };
    Validation {
        path: Some(shown),
        defined,
        diagnostics,
    }
}
