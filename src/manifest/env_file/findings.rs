//! What is found while a file is read: variables, errors, warnings, and what may be shown of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{EnvFile, EnvVariable, MANY_BYTES, MAX_VARIABLE_BYTES, Reading, Rule, Unset};
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::model::{EnvName, Secret};

/// How many diagnostics are kept: a file that is no env file at all has one on each line.
const MAX_DIAGNOSTICS: usize = 100;

/// The longest name that is shown. What is longer is likely something else, such as a key.
const MAX_SHOWN: usize = 64;

/// Collects what is found in a text.
pub(super) struct Findings<'a> {
    pub(super) text: &'a str,
    pub(super) reading: &'a Reading<'a>,
    /// Where lines begin.
    lines: Vec<usize>,
    variables: Vec<(EnvVariable, Range<usize>)>,
    /// What was put into values of what the user's environment has.
    pub(super) interpolated: BTreeMap<String, Secret>,
    /// Where in `variables` a name is.
    named: HashMap<EnvName, usize>,
    found: Vec<(Diagnostic, Range<usize>, &'static str)>,
    has_errors: bool,
    /// The parts of the text that are names, each with the sign behind it.
    names: Vec<Range<usize>>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str, reading: &'a Reading<'a>) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            reading,
            lines: std::iter::once(0).chain(ends).collect(),
            variables: Vec::new(),
            interpolated: BTreeMap::new(),
            named: HashMap::new(),
            found: Vec::new(),
            has_errors: false,
            names: Vec::new(),
        }
    }

    /// Notes something that is wrong, or likely wrong, at a place.
    pub(super) fn report(&mut self, diagnostic: Diagnostic, at: Range<usize>) {
        self.report_as(diagnostic, at, "");
    }

    fn report_as(&mut self, diagnostic: Diagnostic, at: Range<usize>, label: &'static str) {
        self.has_errors |= diagnostic.severity == Severity::Error;
        if self.found.len() < MAX_DIAGNOSTICS {
            self.found.push((diagnostic, at, label));
        }
    }

    /// A name as messages may show it; it is then shown in the file as well.
    ///
    /// What stands where a name should be can be a part of a secret, such as a line of a key: only
    /// what looks like a name is shown.
    pub(super) fn shown(&mut self, at: Range<usize>) -> String {
        let name = &self.text[at.clone()];
        if !is_plausible(name) {
            return "this variable".to_owned();
        }
        let shown = format!("`{name}`");
        let has_sign = self.text[at.end..].starts_with(['=', ':']);
        self.names.push(at.start..at.end + usize::from(has_sign));
        shown
    }

    /// The same for a name that stands alone on its line.
    pub(super) fn shown_alone(&mut self, at: Range<usize>) -> String {
        let name = &self.text[at.clone()];
        let is_mixed = name.contains(|c: char| c.is_ascii_uppercase())
            && name.contains(|c: char| c.is_ascii_lowercase());
        if is_mixed {
            return "this variable".to_owned();
        }
        self.shown(at)
    }

    /// Takes a variable that has a value. `at` is its name's place, `place` that of its value.
    pub(super) fn add(&mut self, at: Range<usize>, place: Range<usize>, value: String) {
        if self.text[at.clone()].contains('\0') || value.contains('\0') {
            self.nul(at, place);
            return;
        }
        let size = at.len() + 1 + value.len();
        if size > MAX_VARIABLE_BYTES {
            let shown = self.shown(at);
            let diagnostic = Rule::EnvSize
                .error(format!(
                    "{shown} has {size} bytes; a variable has at most {MAX_VARIABLE_BYTES}"
                ))
                .help("put it into a file, and name that under `inputs`");
            self.report(diagnostic, place);
            return;
        }
        let Ok(name) = self.text[at.clone()].parse::<EnvName>() else {
            // Both grammars have looked at the name before; an error says so once more.
            let diagnostic = Rule::EnvSyntax
                .error("this is no name of a variable")
                .help("write `NAME=value`");
            self.report(diagnostic, at);
            return;
        };
        let variable = EnvVariable {
            name: name.clone(),
            value: Secret::new(value),
            line: self.lines.partition_point(|start| *start <= at.start),
        };
        match self.named.get(&name) {
            Some(&index) => {
                let first = self.variables[index].1.clone();
                let shown = self.shown(at.clone());
                self.shown(first.clone());
                let diagnostic = Rule::EnvDuplicate
                    .warning(format!("{shown} is given twice; the last one wins"))
                    .related(first, "not this one")
                    .help("keep one of them");
                self.report_as(diagnostic, at.clone(), "this one wins");
                self.variables[index] = (variable, at);
            }
            None => {
                self.named.insert(name, self.variables.len());
                self.variables.push((variable, at));
            }
        }
    }

    /// Says that a variable has what ends every text of a process's environment.
    fn nul(&mut self, at: Range<usize>, place: Range<usize>) {
        let shown = self.shown(at);
        let diagnostic = Rule::EnvSyntax
            .error(format!("{shown} contains a NUL byte"))
            .help("remove it: no program can be given one");
        self.report(diagnostic, place);
    }

    /// Takes a variable that has no value: the caller's.
    pub(super) fn add_from_caller(&mut self, at: Range<usize>) {
        let (caller, name) = (self.reading.caller, &self.text[at.clone()]);
        if name.contains('\0') {
            self.nul(at.clone(), at);
        } else if let Some(value) = caller.get(name) {
            self.add(at.clone(), at, value.to_owned());
        } else if caller.path(name).is_some() {
            let shown = self.shown_alone(at.clone());
            let diagnostic = Rule::NotUtf8
                .error(format!("{shown} is not UTF-8 in the caller's environment"))
                .help("set it to a text");
            self.report(diagnostic, at);
        } else if self.reading.unset == Unset::Refused {
            let shown = self.shown_alone(at.clone());
            let diagnostic = Rule::EnvUnset
                .error(format!(
                    "{shown} has no value here, and none in the caller's environment"
                ))
                .help("set it, give it a value here (`NAME=` is an empty one), or remove the line");
            self.report(diagnostic, at);
        }
    }

    /// The value of a variable that was given so far.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let name = name.parse::<EnvName>().ok()?;
        let index = *self.named.get(&name)?;
        Some(self.variables[index].0.value.expose())
    }

    /// What came of it.
    pub(super) fn finish(mut self, shown: &Path) -> Result<EnvFile, Vec<Diagnostic>> {
        let sizes = self
            .variables
            .iter()
            .map(|(variable, _)| variable.name.as_str().len() + variable.value.expose().len() + 2);
        let total: usize = sizes.sum();
        let source = Arc::new(Source {
            path: shown.to_owned(),
            text: self.masked(),
        });
        self.found.sort_by_key(|(_, at, _)| at.start);
        let mut diagnostics: Vec<_> = self
            .found
            .into_iter()
            .map(|(diagnostic, at, label)| diagnostic.at(&source, at, label))
            .collect();
        if total > MANY_BYTES {
            diagnostics.push(
                Rule::EnvSize
                    .warning(format!(
                        "the variables of `{}` have {total} bytes together; Linux takes about 2 MB",
                        shown.display()
                    ))
                    .help("put long values into files, and name those under `inputs`"),
            );
        }
        if self.has_errors {
            return Err(diagnostics);
        }
        Ok(EnvFile {
            variables: self
                .variables
                .into_iter()
                .map(|(variable, _)| variable)
                .collect(),
            interpolated: self.interpolated,
            warnings: diagnostics,
        })
    }

    /// The text with all but names and line ends masked, byte by byte, so that places stay
    /// true.
    fn masked(&self) -> String {
        let mut masked: Vec<u8> = self
            .text
            .bytes()
            .map(|byte| if byte == b'\n' { b'\n' } else { b'*' })
            .collect();
        for name in &self.names {
            masked[name.clone()].copy_from_slice(&self.text.as_bytes()[name.clone()]);
        }
        String::from_utf8(masked).expect("names are ASCII, and so are stars")
    }
}

/// Whether a text looks like what people call variables.
fn is_plausible(name: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_inner)
        && name.len() <= MAX_SHOWN
}
