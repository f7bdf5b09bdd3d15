//! stdout and stderr. Results go to stdout, everything else to stderr.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anstream::ColorChoice;
use serde_json::{Value, json};

use super::ci::Ci;
use super::globals::Format;
use super::standard::{Raw, Standard};
use crate::diagnostic::{Diagnostic, plain};
use crate::engine::docker::EngineError;
use crate::event::Stream;
use crate::exit::Exit;
use crate::report::{diagnostics, ids_json, printable_document, printable_result, printable_text};

/// Where results and messages go.
pub(super) struct Output {
    format: Format,
    color: ColorChoice,
    is_quiet: bool,
    ci: Ci,
    /// Warnings that were shown already, as they were shown.
    shown_warnings: Mutex<BTreeSet<String>>,
}

impl Output {
    pub(super) fn new(format: Format, color: ColorChoice, is_quiet: bool, ci: Ci) -> Self {
        Self {
            format,
            color,
            is_quiet,
            ci,
            shown_warnings: Mutex::default(),
        }
    }

    /// Takes note of warnings that were shown as they came: once is enough.
    pub(super) fn note_shown(&self, warnings: &[String]) {
        let warnings = warnings.iter().map(|warning| printable_text(warning));
        let mut shown = self
            .shown_warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shown.extend(warnings);
    }

    /// Writes a result: text for people, or a JSON document.
    pub(super) fn result(
        &self,
        human: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        self.styled_result(|| printable_result(&human()), json)
    }

    /// The same for a text that has styles, and nothing else that a terminal would act on.
    pub(super) fn styled_result(
        &self,
        human: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        match self.format {
            Format::Human => self.text(&human()),
            Format::Json => self.document(&json()),
        }
    }

    /// Writes ids: each on its line, for `$(…)`, and nothing where there are none; or a JSON document.
    pub(super) fn ids(&self, ids: impl Iterator<Item = impl Display>) -> io::Result<()> {
        let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
        match self.format {
            Format::Human => {
                let text = ids.iter().fold(String::new(), |text, id| text + id + "\n");
                Standard(Stream::Stdout).write_text(&text, self.color)
            }
            Format::Json => self.document(&ids_json(&ids)),
        }
    }

    /// Writes for people what has been done so far, on a line of its own.
    pub(super) fn done(&self, what: impl Display) -> io::Result<()> {
        match self.format {
            Format::Human => self.text(&what.to_string()),
            Format::Json => Ok(()),
        }
    }

    /// Writes for programs all that has been done, which people have seen by and by.
    pub(super) fn all_done(&self, json: impl FnOnce() -> Value) -> io::Result<()> {
        match self.format {
            Format::Human => Ok(()),
            Format::Json => self.document(&json()),
        }
    }

    fn document(&self, document: &Value) -> io::Result<()> {
        self.text(&printable_document(&format!("{document:#}")))
    }

    /// Writes a text and a line's end to stdout.
    pub(super) fn text(&self, text: &str) -> io::Result<()> {
        let text = format!("{}\n", text.trim_end_matches('\n'));
        Standard(Stream::Stdout).write_text(&text, self.color)
    }

    /// Writes diagnostics to stderr; as part of the result, JSON has them on stdout.
    pub(super) fn diagnostics(&self, found: &[Diagnostic]) {
        if self.format == Format::Human {
            self.message(&diagnostics::human(found));
        }
        self.annotate(found);
    }

    /// The same where they are what was asked for: none is left out.
    pub(super) fn all_diagnostics(&self, found: &[Diagnostic]) {
        if self.format == Format::Human {
            self.message(&diagnostics::human_all(found));
        }
        self.annotate(found);
    }

    /// Says that jobctl itself failed.
    pub(super) fn error(&self, message: &str) -> Exit {
        self.message(&format!("error: {}\n", printable_text(message)));
        self.annotate(&[Diagnostic::error("failed", message)]);
        Exit::Failed
    }

    /// Says why there is no result: to stderr for people, as a document on stdout for programs.
    pub(super) fn failure(&self, found: &[Diagnostic]) -> io::Result<()> {
        match self.format {
            Format::Human => {
                self.diagnostics(found);
                Ok(())
            }
            Format::Json => {
                let document = json!({
                    "schema": "jobctl.error/1",
                    "diagnostics": diagnostics::json(found),
                });
                self.annotate(found);
                self.document(&document)
            }
        }
    }

    /// Says that not all of a job's output could be shown, if so. As with docker, that is a failure
    /// whatever the job ended with, also where nobody reads it any more.
    pub(super) fn shown(&self, shown: io::Result<()>, exit: Exit) -> Exit {
        match shown {
            Ok(()) => exit,
            Err(error) => self.error(&format!("can't write the job's output: {}", plain(&error))),
        }
    }

    /// Has a CI system show messages where people look.
    fn annotate(&self, found: &[Diagnostic]) {
        let Some(marks) = self.ci.marks else {
            return;
        };
        let place = |path: &Path| self.ci.place(path);
        for diagnostic in found {
            if let Some(line) = marks.annotation(diagnostic, place) {
                // Nobody can be told if that fails.
                let _ = Raw(Stream::Stderr).write_all(format!("{line}\n").as_bytes());
            }
        }
    }

    /// Says why what was asked failed.
    pub(super) fn failed(&self, why: &Diagnostic) -> io::Result<Exit> {
        self.failure(std::slice::from_ref(why))?;
        Ok(Exit::Failed)
    }

    /// Says that the command line is wrong, and how to mend it.
    pub(super) fn usage(&self, message: &str, help: Option<&str>) -> Exit {
        self.wrong("usage", message, help);
        Exit::Usage
    }

    /// Says that the engine can't be used, and how to mend it.
    pub(super) fn engine(&self, error: &EngineError) -> Exit {
        self.wrong("engine", &error.to_string(), Some(&error.help()));
        Exit::Engine
    }

    /// Says that there is no run, or none that is meant, and how to mend it.
    pub(super) fn unrun(&self, message: &str, help: Option<&str>) -> Exit {
        self.wrong("run", message, help);
        Exit::Engine
    }

    /// Says what is likely wrong but stopped nothing.
    pub(super) fn warning(&self, text: &str) {
        let text = printable_text(text);
        let shown = self
            .shown_warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if shown.contains(&text) {
            return;
        }
        self.message(&format!("warning: {text}\n"));
        self.annotate(&[Diagnostic::warning("warning", text)]);
    }

    /// Says what is of interest to people.
    pub(super) fn note(&self, text: &str) {
        if !self.is_quiet {
            self.message(&format!("{}\n", printable_text(text)));
        }
    }

    /// Asks the user something, on the line on which the answer is typed.
    pub(super) fn ask(&self, question: &str) {
        self.message(&format!("{} ", printable_text(question)));
    }

    /// Says that the user wanted no more of it.
    pub(super) fn interrupted(&self, message: &str) -> Exit {
        self.wrong("interrupted", message, None);
        Exit::Interrupted
    }

    fn wrong(&self, rule: &'static str, message: &str, help: Option<&str>) {
        let mut diagnostic = Diagnostic::error(rule, message);
        diagnostic.help.extend(help.map(str::to_owned));
        if self.format == Format::Json {
            // Whoever closed stdout does not want it.
            let _ = self.failure(&[diagnostic]);
            return;
        }
        let help = help.map(printable_text);
        let help = help.map_or_else(String::new, |help| format!("help: {help}\n"));
        self.message(&format!("error: {}\n{help}", printable_text(message)));
        self.annotate(&[diagnostic]);
    }

    /// Writes to stderr. Nobody can be told if that fails.
    fn message(&self, text: &str) {
        let _ = Standard(Stream::Stderr).write_text(text, self.color);
    }
}

/// Says what is wrong with the command line before there is an output.
pub(super) fn fail_early(message: &str, exit: Exit) -> Exit {
    // There is nobody to report it to if that fails.
    let text = format!("error: {}\n", printable_text(message));
    let _ = Standard(Stream::Stderr).write_text(&text, ColorChoice::Never);
    exit
}
