//! Reads the env files of a run, and the files of secrets.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::facts::{Environment, read_small};
use crate::manifest::env_file::{EnvFile, Reading, Unset};
use crate::manifest::schema::EnvFileFormat;
use crate::model::{Secret, clean};
use crate::plan::run::{EnvFiles, RunFlags, Subject};

/// Reads the env files of a job and of the command line, and the files of secrets. A job's that is
/// not required may be missing.
///
/// # Errors
///
/// All that is wrong with any of them, warnings included.
pub fn read(
    subject: &Subject<'_>,
    flags: &RunFlags,
    environment: &Environment,
) -> Result<EnvFiles, Vec<Diagnostic>> {
    let mut files = EnvFiles::default();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let reading = |format| Reading {
        format,
        caller: environment,
        unset: if flags.allows_unset {
            Unset::Allowed
        } else {
            Unset::Refused
        },
    };
    let mut read =
        |path: &Path, shown: &Path, format| match EnvFile::load(path, shown, &reading(format)) {
            Ok(file) => Some((shown.display().to_string(), file)),
            Err(diagnostics) => {
                found.extend(diagnostics);
                None
            }
        };
    if let Subject::Job(manifest, _, job) = subject {
        for file in &job.env_file.0 {
            let path = manifest.folder.join(file.path.as_path());
            if file.required == Some(false) && !path.exists() {
                continue;
            }
            if !path.exists() || path.is_dir() {
                missing.extend(manifest.errors_of([&*clean(&path)]));
                continue;
            }
            let format = file.format.unwrap_or(EnvFileFormat::Raw);
            let shown = manifest.path.with_file_name(file.path.as_path());
            files.of_job.extend(read(&path, &shown, format));
        }
    }
    for shown in &flags.env_files {
        let path = environment.current_dir().join(shown);
        files
            .of_flags
            .extend(read(&path, shown, EnvFileFormat::Raw));
    }
    if let Subject::Job(manifest, ..) = subject {
        // Whoever needs one that can't be read says so.
        files.secrets = (manifest.root.secrets.values())
            .filter_map(|secret| secret.value.file.as_deref())
            .filter_map(|file| secret_in(&manifest.folder.join(file.as_path())))
            .collect();
    }
    missing.extend(found);
    if missing.is_empty() {
        Ok(files)
    } else {
        Err(missing)
    }
}

/// The content of a file of a secret, as far as it is a text.
pub(in crate::ops) fn secret_in(path: &Path) -> Option<Secret> {
    /// The largest secret that BuildKit takes.
    const MOST_BYTES: u64 = 500 << 10;

    let bytes = read_small(path, MOST_BYTES).ok()?;
    Some(Secret::new(String::from_utf8_lossy(&bytes)))
}
