//! Files of environment variables: docker's grammar and compose's.
//!
//! | | docker (`raw`) | compose |
//! |---|---|---|
//! | quotes | part of the value | around the value; it may then go over several lines |
//! | `\n`, `\"`, … | literal | an escape in double quotes |
//! | `$A`, `${A:-d}` | literal | a variable, except in single quotes |
//! | `A=1 # c` | all of it is the value | a comment |
//! | `A` alone | the caller's value | the caller's value |
//! | blanks | kept at the end; none in a name | trimmed outside of quotes |
//!
//! What docker takes but hardly anyone means is a warning. No error and no warning shows anything
//! of a value: what is shown of a file is masked, except the names.

mod compose;
mod docker;
mod findings;
mod load;

use std::collections::BTreeMap;
use std::path::Path;

use self::findings::Findings;
use super::Rule;
use super::schema::EnvFileFormat;
use crate::diagnostic::Diagnostic;
use crate::facts::Environment;
use crate::model::{EnvName, Secret};

/// The longest variable in bytes, name and `=` included: what Linux passes to a program
/// (`MAX_ARG_STRLEN`, less the NUL).
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024 - 1;

/// How much of an environment is likely too much: three quarters of what Linux takes for variables
/// and arguments together (`ARG_MAX`) with the usual stack of 8 MiB.
pub const MANY_BYTES: usize = 3 * 512 * 1024;

/// The largest file that is read, in bytes: no environment is as large.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file of environment variables that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The variables in the file's order, each once: the last one's value at the first one's place.
    pub variables: Vec<EnvVariable>,
    /// What was put into values of what the user's environment has, by name.
    pub interpolated: BTreeMap<String, Secret>,
    /// What is likely not meant.
    pub warnings: Vec<Diagnostic>,
}

/// A variable of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVariable {
    /// Its name.
    pub name: EnvName,
    /// Its value.
    pub value: Secret,
    /// The line that it stands on, from 1.
    pub line: usize,
}

/// How a file is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Its grammar.
    pub format: EnvFileFormat,
    /// Where names without a value, and compose's variables, get theirs.
    pub caller: &'a Environment,
    /// What is done if there is none.
    pub unset: Unset,
}

/// What is done with a variable that the file takes from the caller and the caller has not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// It is an error.
    Refused,
    /// As docker and compose do: a name without a value is left out, a variable in a value is
    /// empty.
    Allowed,
}

impl EnvFile {
    /// Reads the file at `path`; `shown` is the path as the user knows it.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, warnings included, in the order of the file.
    pub fn load(path: &Path, shown: &Path, reading: &Reading<'_>) -> Result<Self, Vec<Diagnostic>> {
        let bytes = load::read(path, shown).map_err(|diagnostic| vec![*diagnostic])?;
        Self::parse(&bytes, shown, reading)
    }

    /// Reads what is in a file; `shown` is its path as the user knows it.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, warnings included, in the order of the file.
    pub fn parse(
        bytes: &[u8],
        shown: &Path,
        reading: &Reading<'_>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let text = load::text(bytes, shown).map_err(|diagnostic| vec![*diagnostic])?;
        let mut findings = Findings::new(text, reading);
        match reading.format {
            EnvFileFormat::Raw => docker::parse(&mut findings),
            EnvFileFormat::Compose => compose::parse(&mut findings),
        }
        findings.finish(shown)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{EnvFile, EnvFileFormat, Reading, Unset};
    use crate::diagnostic::Diagnostic;
    use crate::facts::Environment;

    /// What came of a file: its variables, and what was found in it as `rule line:column`.
    pub(super) type Outcome = (Vec<(String, String)>, Vec<String>);

    pub(super) fn read(format: EnvFileFormat, unset: Unset, bytes: &[u8]) -> Outcome {
        let caller = Environment::new([("SET", "from caller"), ("EMPTY", "")], "/");
        let reading = Reading {
            format,
            caller: &caller,
            unset,
        };
        let place = |diagnostic: &Diagnostic| {
            let place = diagnostic.primary.as_ref().zip(diagnostic.source.as_ref());
            let place = place.map(|(label, source)| source.line_column(label.span.start));
            let place = place.map(|(line, column)| format!(" {line}:{column}"));
            format!("{}{}", diagnostic.rule, place.unwrap_or_default())
        };
        match EnvFile::parse(bytes, Path::new("test.env"), &reading) {
            Ok(file) => {
                let variables = file.variables.iter().map(|variable| {
                    let value = variable.value.expose().to_owned();
                    (variable.name.to_string(), value)
                });
                (
                    variables.collect(),
                    file.warnings.iter().map(place).collect(),
                )
            }
            Err(found) => (Vec::new(), found.iter().map(place).collect()),
        }
    }

    /// A text, its variables, and what is found in it.
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

    /// Compares with what is expected of each text.
    pub(super) fn table(format: EnvFileFormat, rows: &[Row<'_>]) {
        for (text, variables, found) in rows {
            let outcome = read(format, Unset::Refused, text.as_bytes());
            let variables: Vec<_> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let found: Vec<_> = found.iter().map(|found| (*found).to_owned()).collect();
            assert_eq!(outcome, (variables, found), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_set_can_be_allowed() {
        let found = read(EnvFileFormat::Raw, Unset::Allowed, b"NONE\nSET\nA=1");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found.0, [pair("SET", "from caller"), pair("A", "1")]);
        let found = read(
            EnvFileFormat::Compose,
            Unset::Allowed,
            b"NONE\nA=x${NONE}y$NONE",
        );
        assert_eq!(found.0, [pair("A", "xy")]);
    }

    #[test]
    fn what_is_no_text_is_refused_without_showing_it() {
        for (bytes, message) in [
            (
                &b"A=1\nB=\xC3\x28secret"[..],
                "the env file `test.env` is not UTF-8: it has bytes that are no text (line 2, byte 6)",
            ),
            (
                b"\xFF\xFEA\0=\0b\0",
                "the env file `test.env` is not UTF-8: it is UTF-16 (line 1, byte 0)",
            ),
        ] {
            let caller = Environment::default();
            let reading = Reading {
                format: EnvFileFormat::Raw,
                caller: &caller,
                unset: Unset::Refused,
            };
            let found =
                EnvFile::parse(bytes, Path::new("test.env"), &reading).expect_err("it is no text");
            assert_eq!(found[0].message, message);
            assert_eq!(found.len(), 1);
        }
    }

    #[test]
    fn a_caller_value_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;

        let value = std::ffi::OsString::from_vec(vec![0xFF]);
        let caller = Environment::new([("BINARY", value)], "/");
        let reading = Reading {
            format: EnvFileFormat::Raw,
            caller: &caller,
            unset: Unset::Allowed,
        };
        let found =
            EnvFile::parse(b"BINARY", Path::new("test.env"), &reading).expect_err("it is no text");
        assert_eq!(
            found[0].message,
            "`BINARY` is not UTF-8 in the caller's environment"
        );
    }

    #[test]
    fn sizes_are_those_of_linux() {
        let longest = format!("A={}", "x".repeat(128 * 1024 - 3));
        let found = read(EnvFileFormat::Raw, Unset::Refused, longest.as_bytes());
        assert_eq!((found.0.len(), found.1.len()), (1, 0));
        for format in [EnvFileFormat::Raw, EnvFileFormat::Compose] {
            let found = read(format, Unset::Refused, format!("B=\n{longest}x").as_bytes());
            assert_eq!(found.1[0].split(':').next(), Some("env-size 2"));
        }
        let large = |count: usize| {
            let lines: Vec<_> = (0..count)
                .map(|index| format!("A{index}={}", "x".repeat(60_000)))
                .collect();
            lines.join("\n")
        };
        let found = read(EnvFileFormat::Raw, Unset::Refused, large(4).as_bytes());
        assert_eq!((found.0.len(), found.1.len()), (4, 0));
        let found = read(EnvFileFormat::Raw, Unset::Refused, large(27).as_bytes());
        assert_eq!((found.0.len(), found.1), (27, vec!["env-size".to_owned()]));
    }

    #[test]
    fn a_file_that_is_something_else_is_answered_briefly() {
        let lines = "not a variable\n".repeat(100_000);
        let found = read(EnvFileFormat::Raw, Unset::Refused, lines.as_bytes());
        assert_eq!(found.1.len(), 100);
    }
}
