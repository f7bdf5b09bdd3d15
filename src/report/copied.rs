//! The outcome of `get`.

use std::path::Path;

use serde_json::{Value, json};

use super::printable::line;
use super::words::{bytes, counted};
use crate::diagnostic::Diagnostic;
use crate::ops::get::{Copied, GetError};
use crate::records::Record;

/// `model: 7 files, 90.1 MB, copied to results`.
#[must_use]
pub fn copied_human(copied: &Copied, target: &Path) -> String {
    format!(
        "{}: {}, {}, copied to {}",
        line(&copied.outputs.join(", ")),
        counted(copied.files, "file"),
        bytes(copied.bytes),
        target.display()
    )
}

/// `{"schema":"jobctl.get/1","run":…,"outputs":[…],"files":…,"bytes":…}`.
#[must_use]
pub fn copied_json(record: &Record, copied: &Copied) -> Value {
    json!({
        "schema": "jobctl.get/1",
        "run": record.id,
        "outputs": copied.outputs,
        "files": copied.files,
        "bytes": copied.bytes,
    })
}

/// Why nothing, or not all, was copied.
#[must_use]
pub fn get_failure(error: &GetError) -> Diagnostic {
    let rule = match error {
        GetError::NoOutput { .. } | GetError::Nothing { .. } => "no-output",
        GetError::Exists { .. } => "file-exists",
        GetError::Escapes { .. } => "path-escapes",
        GetError::Differs { .. } => "output-differs",
        GetError::Io { .. } => "copy-failed",
    };
    let mut diagnostic = Diagnostic::error(rule, line(&error.to_string()));
    diagnostic.help.extend(error.help().as_deref().map(line));
    diagnostic
}
