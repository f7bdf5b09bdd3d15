//! Diagnostics as rustc shows them, and as JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::printable;
use super::words::counted;
use crate::diagnostic::{Diagnostic, Label, Severity, Source};

/// How many diagnostics are shown where they are not what was asked for; the rest is counted.
const SHOWN: usize = 20;

/// The first diagnostics for people, and how many more there are. Styled with ANSI escapes, which whoever
/// prints them strips where there is no terminal.
#[must_use]
pub fn human(diagnostics: &[Diagnostic]) -> String {
    let shown = &diagnostics[..diagnostics.len().min(SHOWN)];
    let mut text = human_all(shown);
    let hidden = diagnostics.len() - shown.len();
    if hidden > 0 {
        let _ = writeln!(text, "… and {hidden} more: `jobctl validate` shows all");
    }
    text
}

/// All diagnostics for people, as [`human`] has them.
#[must_use]
pub fn human_all(diagnostics: &[Diagnostic]) -> String {
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&[group(&printable(diagnostic))]));
        text.push_str("\n\n");
    }
    text
}

/// How many there are of each kind: `2 errors and 1 warning`.
#[must_use]
pub fn tally(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| {
        let of_kind = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity);
        of_kind.count()
    };
    let errors = count(Severity::Error);
    let warnings = count(Severity::Warning);
    match (errors, warnings) {
        (errors, 0) => counted(errors, "error"),
        (0, warnings) => counted(warnings, "warning"),
        (errors, warnings) => {
            format!(
                "{} and {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            )
        }
    }
}

/// The diagnostics as JSON: an array of objects.
#[must_use]
pub fn json(diagnostics: &[Diagnostic]) -> Vec<Value> {
    diagnostics.iter().map(one_json).collect()
}

/// A diagnostic without anything that a terminal would act on: names, values and engines' words are in
/// it.
fn printable(diagnostic: &Diagnostic) -> Diagnostic {
    let label = |label: &Label| Label {
        span: label.span.clone(),
        text: printable::text(&label.text),
    };
    let texts = |texts: &[String]| texts.iter().map(|text| printable::text(text)).collect();
    let source = diagnostic.source.as_ref().map(|source| Source {
        path: printable::line(&source.path.to_string_lossy()).into(),
        text: printable::source(&source.text),
    });
    Diagnostic {
        message: printable::text(&diagnostic.message),
        source: source.map(Arc::new),
        primary: diagnostic.primary.as_ref().map(label),
        related: diagnostic.related.iter().map(label).collect(),
        notes: texts(&diagnostic.notes),
        help: texts(&diagnostic.help),
        ..diagnostic.clone()
    }
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&diagnostic.message).id(diagnostic.rule);
    let mut group = Group::with_title(title);
    if let (Some(source), Some(primary)) = (&diagnostic.source, &diagnostic.primary) {
        let mut snippet = Snippet::source(&source.text)
            .path(source.path.to_string_lossy())
            .annotation(
                AnnotationKind::Primary
                    .span(visible(source, primary))
                    .label(&primary.text),
            );
        for label in &diagnostic.related {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(visible(source, label))
                    .label(&label.text),
            );
        }
        group = group.element(snippet);
    }
    if !diagnostic.notes.is_empty() {
        group = group.element(Level::NOTE.message(diagnostic.notes.join("\n")));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    group
}

/// A span that has something to underline: an empty one becomes one character, and one over several
/// lines ends with its first line.
fn visible(source: &Source, label: &Label) -> std::ops::Range<usize> {
    let start = label.span.start.min(source.text.len());
    let rest = &source.text[start..];
    let first_line = rest.find('\n').unwrap_or(rest.len());
    let one = rest.chars().next().map_or(0, char::len_utf8);
    let length = label.span.len().min(first_line).max(one.min(first_line));
    start..start + length
}

fn one_json(diagnostic: &Diagnostic) -> Value {
    let place = |label: &Label| {
        let source = diagnostic.source.as_ref()?;
        let (line, column) = source.line_column(label.span.start);
        let (end_line, end_column) = source.line_column(label.span.end);
        Some(json!({
            "file": source.path,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "label": label.text,
        }))
    };
    json!({
        "severity": match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "rule": diagnostic.rule,
        "message": diagnostic.message,
        "place": diagnostic.primary.as_ref().and_then(place),
        "related": diagnostic.related.iter().filter_map(place).collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.help,
    })
}
