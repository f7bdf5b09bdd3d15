//! Env files: that they are there, and what is in them.

use std::path::Path;

use super::{Checker, FileError, Rule, THIS_DIRECTORY};
use crate::diagnostic::Diagnostic;
use crate::facts::{Environment, is_given_pipe};
use crate::manifest::env_file::{EnvFile, Reading, Unset};
use crate::manifest::schema::{EnvFileFormat, Root};
use crate::model::clean;

/// An env file must be a file, and there if it is required.
pub(super) fn check(checker: &mut Checker<'_>) {
    let root = checker.root;
    for file in root.jobs.values().flat_map(|job| &job.value.env_file.0) {
        let path = checker.folder.join(file.path.as_path());
        if path.is_dir() {
            let diagnostic = Rule::Unreadable
                .error(format!("the env file `{}` is a directory", *file.path))
                .help("name the file in it");
            checker.report_file(file.path.as_path(), diagnostic, file.path.span());
        } else if file.required != Some(false) {
            checker.exists(
                file.path.as_path(),
                file.path.span(),
                "env file",
                THIS_DIRECTORY,
            );
        }
    }
}

/// What is wrong in the env files of a manifest that `shown` names, and what is likely wrong.
///
/// The caller's environment now is not the one of the run, so that what is not set is no error.
/// Pipes that jobctl was given are left alone: they can be read once only.
pub(in crate::manifest) fn contents(
    root: &Root,
    shown: &Path,
    folder: &Path,
    caller: &Environment,
) -> (Vec<FileError>, Vec<Diagnostic>) {
    let mut seen = Vec::new();
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for file in root.jobs.values().flat_map(|job| &job.value.env_file.0) {
        let format = file.format.unwrap_or(EnvFileFormat::Raw);
        let path = folder.join(file.path.as_path());
        let is_readable = path.exists() && !path.is_dir() && !is_given_pipe(&path);
        if seen.contains(&(path.clone(), format)) || !is_readable {
            continue;
        }
        let reading = Reading {
            format,
            caller,
            unset: Unset::Allowed,
        };
        let shown = shown.with_file_name(file.path.as_path());
        match EnvFile::load(&path, &shown, &reading) {
            Ok(file) => warnings.extend(file.warnings),
            Err(diagnostics) => {
                let path = clean(&path);
                errors.extend(diagnostics.into_iter().map(|diagnostic| FileError {
                    path: path.clone(),
                    diagnostic,
                }));
            }
        }
        seen.push((path, format));
    }
    (errors, warnings)
}
