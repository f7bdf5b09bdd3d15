//! Errors that point into a file: what is wrong, where, and how to fix it.
//!
//! A diagnostic is data. [`crate::report`] draws it for people (as rustc does) or as JSON.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A file that diagnostics point into.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as it is shown to the user.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// The 1-based line and column (in characters) of a byte offset.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing goes on.
    Error,
    /// It goes on, but is likely not what was meant.
    Warning,
}

/// A place in the source with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Byte range in [`Source::text`].
    pub span: Range<usize>,
    /// What is to be said there; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The rule that was broken, in kebab-case: `unknown-key`.
    pub rule: &'static str,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// The file that the labels point into; none when a whole file or the machine is meant.
    pub source: Option<Arc<Source>>,
    /// Where it is.
    pub primary: Option<Label>,
    /// Other places that belong to it, such as the first of two definitions.
    pub related: Vec<Label>,
    /// What somebody else said about it, line by line: an engine, a program.
    pub notes: Vec<String>,
    /// How to fix it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without a place.
    #[must_use]
    pub fn error(rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule,
            message: message.into(),
            source: None,
            primary: None,
            related: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning without a place.
    #[must_use]
    pub fn warning(rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(rule, message)
        }
    }

    /// Says where it is.
    #[must_use]
    pub fn at(mut self, source: &Arc<Source>, span: Range<usize>, text: impl Into<String>) -> Self {
        self.source = Some(Arc::clone(source));
        self.primary = Some(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds a second place in the same file.
    #[must_use]
    pub fn related(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.related.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Says how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// An I/O error without Rust's `(os error 28)`.
#[must_use]
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_owned()
}
