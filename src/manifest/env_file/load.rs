//! Bytes → text.

use std::io::ErrorKind;
use std::path::Path;

use super::{MAX_FILE_BYTES, Rule};
use crate::diagnostic::Diagnostic;
use crate::facts::read_small;
use crate::manifest::load::plain;

/// The bytes of a file, which may be a pipe that jobctl was given.
pub(super) fn read(path: &Path, shown: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        Box::new(
            Rule::Unreadable
                .error(format!(
                    "can't read the env file `{}`: {}",
                    shown.display(),
                    plain(&error)
                ))
                .help("name a file that can be read"),
        )
    };
    read_small(path, MAX_FILE_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => Box::new(
            Rule::EnvSize
                .error(format!(
                    "the env file `{}` has more than {MAX_FILE_BYTES} bytes",
                    shown.display()
                ))
                .help("is this the right file? data belongs in files that `inputs` names"),
        ),
        _ => unreadable(error),
    })
}

/// The text of a file, without a byte order mark.
pub(super) fn text<'a>(bytes: &'a [u8], shown: &Path) -> Result<&'a str, Box<Diagnostic>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let encoding = match bytes {
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it is UTF-16",
            _ => "it has bytes that are no text",
        };
        let valid = error.valid_up_to();
        let line = bytes[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        Box::new(
            Rule::NotUtf8
                .error(format!(
                    "the env file `{}` is not UTF-8: {encoding} (line {line}, byte {valid})",
                    shown.display()
                ))
                .help(format!(
                    "save it as UTF-8: `iconv -t UTF-8 {0} > new.env`",
                    shown.display()
                )),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
