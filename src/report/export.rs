//! A pipeline in the words of another tool.

use std::fmt::Write as _;

use super::printable;
use super::yaml::yaml;
use crate::plan::export::Export;

/// A compose file, with what it does not say in comments at its top.
#[must_use]
pub fn compose_file(export: &Export, command: &str) -> String {
    let mut text =
        format!("# Made by `{command}`. Paths are relative to the directory of jobs.yaml.\n");
    if !export.notes.is_empty() {
        text.push_str("# What compose does not do:\n");
    }
    for note in &export.notes {
        let _ = writeln!(text, "# - {}", printable::line(note));
    }
    text.push_str(&printable::escaped(&yaml(&export.document)));
    text
}
