//! The outcome of `get`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::printable::{self, line};
use super::words::{bytes, counted};
use crate::diagnostic::Diagnostic;
use crate::ops::get::{Copied, GetError};
use crate::records::Record;

/// So many links that lead out of an output are named.
const MOST_LINKS: usize = 10;

/// `model: 7 files, 90.1 MB, copied to results`.
#[must_use]
pub fn copied_human(copied: &Copied, target: &Path) -> String {
    let mut text = format!(
        "{}: {}, {}, copied to {}",
        line(&copied.outputs.join(", ")),
        counted(copied.files, "file"),
        bytes(copied.bytes),
        printable::path(target)
    );
    for (path, link) in copied.links.iter().take(MOST_LINKS) {
        let (path, link) = (printable::path(path), printable::path(link));
        let _ = write!(text, "\n{path} -> {link} leads out of the output");
    }
    if copied.links.len() > MOST_LINKS {
        let _ = write!(
            text,
            "\n… and {} more links",
            copied.links.len() - MOST_LINKS
        );
    }
    text
}

/// `{"schema":"jobctl.get/1","run":…,"outputs":[…],"files":…,"bytes":…,"links":[…]}`.
#[must_use]
pub fn copied_json(record: &Record, copied: &Copied) -> Value {
    json!({
        "schema": "jobctl.get/1",
        "run": record.id,
        "outputs": copied.outputs,
        "files": copied.files,
        "bytes": copied.bytes,
        "links": copied.links.iter().map(|(path, link)| json!({
            "path": path.to_string_lossy(),
            "target": link.to_string_lossy(),
        })).collect::<Vec<_>>(),
    })
}

/// Why nothing, or not all, was copied.
#[must_use]
pub fn get_failure(error: &GetError) -> Diagnostic {
    let rule = match error {
        GetError::NoOutput { .. } | GetError::Nothing { .. } => "no-output",
        GetError::Exists { .. } => "file-exists",
        GetError::Escapes { .. } => "path-escapes",
        GetError::Differs { .. } | GetError::Unlisted { .. } | GetError::Gone { .. } => {
            "output-differs"
        }
        GetError::Uncollected { .. } => "outputs-lost",
        GetError::Io { .. } => "copy-failed",
    };
    let mut diagnostic = Diagnostic::error(rule, line(&error.to_string()));
    diagnostic.help.extend(error.help().as_deref().map(line));
    diagnostic
}
