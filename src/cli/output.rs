//! stdout and stderr. Results go to stdout, everything else to stderr.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anstream::ColorChoice;
use anstream::adapter::strip_str;
use serde_json::Value;

use super::ci::Ci;
use super::globals::{Format, Globals, ProgressStyle};
use super::standard::{Raw, Standard};
use crate::diagnostic::{Diagnostic, Severity, plain};
use crate::engine::docker::EngineError;
use crate::event::Stream;
use crate::exit::Exit;
use crate::report::{
    diagnostics, error_json, ids_json, printable_document, printable_result, printable_text,
    said_json,
};

/// Where results and messages go.
pub(super) struct Output {
    format: Format,
    color: ColorChoice,
    is_quiet: bool,
    ci: Ci,
    /// Whether standard error has a JSON object on each line.
    is_json_progress: bool,
    /// For programs: what is said by the one document that is written at the end.
    document: Mutex<Document>,
    /// Why a result was not written.
    unwritten: Mutex<Option<io::Error>>,
    /// Warnings that were shown already, as they were shown.
    shown_warnings: Mutex<BTreeSet<String>>,
}

/// What a program gets to read: one document, whatever a verb comes to.
#[derive(Default)]
struct Document {
    result: Option<Value>,
    failures: Vec<Value>,
}

impl Output {
    pub(super) fn new(globals: &Globals, ci: Ci) -> Self {
        Self {
            format: globals.format,
            color: globals.color.into(),
            is_quiet: globals.quiet || globals.progress == ProgressStyle::Quiet,
            ci,
            is_json_progress: !globals.quiet && globals.progress == ProgressStyle::Json,
            document: Mutex::default(),
            unwritten: Mutex::default(),
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
    pub(super) fn result(&self, human: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        self.styled_result(|| printable_result(&human()), json);
    }

    /// The same for a text that has styles, and nothing else that a terminal would act on.
    pub(super) fn styled_result(
        &self,
        human: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) {
        match self.format {
            Format::Human => self.text(&human()),
            Format::Json => self.document(json()),
        }
    }

    /// Writes ids: each on its line, for `$(…)`, and nothing where there are none; or a JSON document.
    pub(super) fn ids(&self, ids: impl Iterator<Item = impl Display>) {
        let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
        match self.format {
            Format::Human => {
                self.write(&ids.iter().fold(String::new(), |text, id| text + id + "\n"));
            }
            Format::Json => self.document(ids_json(&ids)),
        }
    }

    /// Writes for people what has been done so far, on a line of its own.
    pub(super) fn done(&self, what: impl Display) {
        if self.format == Format::Human {
            self.text(&what.to_string());
        }
    }

    /// Writes for programs all that has been done, which people have seen by and by.
    pub(super) fn all_done(&self, json: impl FnOnce() -> Value) {
        if self.format == Format::Json {
            self.document(json());
        }
    }

    fn document(&self, document: Value) {
        self.to_write().result = Some(document);
    }

    fn to_write(&self) -> MutexGuard<'_, Document> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a text and a line's end to stdout.
    pub(super) fn text(&self, text: &str) {
        self.write(&format!("{}\n", text.trim_end_matches('\n')));
    }

    /// Writes to stdout. What can't be written keeps no verb from its work: it is reported at the end. A pipe
    /// that is closed is no failure.
    fn write(&self, text: &str) {
        if let Err(error) = Standard(Stream::Stdout).write_text(text, self.color)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let unwritten = self.unwritten.lock();
            let mut unwritten = unwritten.unwrap_or_else(PoisonError::into_inner);
            unwritten.get_or_insert(error);
        }
    }

    /// Writes the document that programs get, and ends with the exit code; with another where all went well,
    /// and its result could not be written.
    pub(super) fn finish(&self, exit: Exit) -> Exit {
        let Document { result, failures } = std::mem::take(&mut *self.to_write());
        let document = if failures.is_empty() {
            result
        } else {
            Some(error_json(&failures, result))
        };
        if let Some(document) = document {
            self.text(&printable_document(&format!("{document:#}")));
        }
        let unwritten = self.unwritten.lock();
        let unwritten = unwritten.unwrap_or_else(PoisonError::into_inner).take();
        let Some(error) = unwritten else {
            return exit;
        };
        self.complain(&Diagnostic::error("failed", self::unwritten(&error)));
        match exit {
            Exit::Success => Exit::Failed,
            exit => exit,
        }
    }

    /// Writes diagnostics to stderr; as part of the result, JSON has them on stdout.
    pub(super) fn diagnostics(&self, found: &[Diagnostic]) {
        if self.format == Format::Human {
            self.say(found, diagnostics::human);
        }
        self.annotate(found);
    }

    /// The same where they are what was asked for: none is left out.
    pub(super) fn all_diagnostics(&self, found: &[Diagnostic]) {
        if self.format == Format::Human {
            self.say(found, diagnostics::human_all);
        }
        self.annotate(found);
    }

    fn say(&self, found: &[Diagnostic], human: fn(&[Diagnostic]) -> String) {
        if !self.is_json_progress {
            return self.message("", &human(found));
        }
        for diagnostic in found {
            let event = match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            self.message(event, &human(std::slice::from_ref(diagnostic)));
        }
    }

    /// Says that jobctl itself failed.
    pub(super) fn error(&self, message: &str) -> Exit {
        self.wrong("failed", message, None);
        Exit::Failed
    }

    /// Says why there is no result: to stderr for people, in the document on stdout for programs.
    pub(super) fn failure(&self, found: &[Diagnostic]) {
        match self.format {
            Format::Human => self.diagnostics(found),
            Format::Json => {
                self.annotate(found);
                self.to_write().failures.extend(diagnostics::json(found));
            }
        }
    }

    /// Says that not all of a job's output could be shown, if so. As with docker, that is a failure
    /// whatever the job ended with, also where nobody reads it any more.
    pub(super) fn shown(&self, shown: io::Result<()>, exit: Exit) -> Exit {
        match shown {
            Ok(()) => exit,
            Err(error) => {
                let message = format!("can't write the job's output: {}", plain(&error));
                self.complain(&Diagnostic::error("failed", message));
                Exit::Failed
            }
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
                // It can be reported to nobody if that fails.
                let _ = Raw(Stream::Stderr).write_all(format!("{line}\n").as_bytes());
            }
        }
    }

    /// Says why what was asked failed.
    pub(super) fn failed(&self, why: &Diagnostic) -> Exit {
        self.failure(std::slice::from_ref(why));
        Exit::Failed
    }

    /// Says that the command line is wrong, and how to fix it.
    pub(super) fn usage(&self, message: &str, help: Option<&str>) -> Exit {
        self.wrong("usage", message, help);
        Exit::Usage
    }

    /// Says that the engine can't be used, and how to fix it.
    pub(super) fn engine(&self, error: &EngineError) -> Exit {
        self.wrong("engine", &error.to_string(), Some(&error.help()));
        Exit::Engine
    }

    /// Says that there is no run, or none that is meant, and how to fix it.
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
        self.message("warning", &format!("warning: {text}\n"));
        self.annotate(&[Diagnostic::warning("warning", text)]);
    }

    /// Says what is of interest to people.
    pub(super) fn note(&self, text: &str) {
        if !self.is_quiet {
            self.message("note", &format!("{}\n", printable_text(text)));
        }
    }

    /// Asks the user something, on the line on which the answer is typed.
    pub(super) fn ask(&self, question: &str) {
        self.message("note", &format!("{} ", printable_text(question)));
    }

    /// Says that the user wanted no more of it.
    pub(super) fn interrupted(&self, message: &str) -> Exit {
        self.wrong("interrupted", message, None);
        Exit::Interrupted
    }

    fn wrong(&self, rule: &'static str, message: &str, help: Option<&str>) {
        let mut diagnostic = Diagnostic::error(rule, message);
        diagnostic.help.extend(help.map(str::to_owned));
        match self.format {
            Format::Human => self.complain(&diagnostic),
            Format::Json => self.failure(&[diagnostic]),
        }
    }

    /// Writes an error to stderr, whatever stdout has.
    fn complain(&self, error: &Diagnostic) {
        let mut text = format!("error: {}\n", printable_text(&error.message));
        for help in &error.help {
            text = text + "help: " + &printable_text(help) + "\n";
        }
        self.message("error", &text);
        self.annotate(std::slice::from_ref(error));
    }

    /// Writes to stderr, on lines of its own. It can be reported to nobody if that fails.
    fn message(&self, event: &str, text: &str) {
        let _ = if self.is_json_progress {
            let text = strip_str(text).to_string();
            let text = text.trim();
            let text = text.strip_prefix(&format!("{event}: ")).unwrap_or(text);
            Standard(Stream::Stderr).write_text(&said_json(event, text), ColorChoice::Never)
        } else {
            Standard(Stream::Stderr).write_text(text, self.color)
        };
    }
}

/// That something can't be written, and why.
pub(super) fn unwritten(error: &io::Error) -> String {
    format!("can't write: {}", plain(error))
}

/// Says what is wrong with the command line before there is an output.
pub(super) fn fail_early(message: &str, exit: Exit) -> Exit {
    // There is nobody to report it to if that fails.
    let text = format!("error: {}\n", printable_text(message));
    let _ = Standard(Stream::Stderr).write_text(&text, ColorChoice::Never);
    exit
}
