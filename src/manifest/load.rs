//! Finding and reading the manifest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::{Decode, Decoder};
use super::masking::{masked, masked_values};
use super::schema::Root;
use super::{Manifest, Rule, check, exposed, interpolate, yaml};
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::facts::{Environment, read_small};
use crate::model::Secret;

/// The names a manifest is found by, in order of preference.
pub const FILE_NAMES: [&str; 2] = ["jobs.yaml", "jobs.yml"];

/// The largest manifest that is read, in bytes.
pub const MAX_SIZE_BYTES: u64 = 1 << 20;

/// The manifest of a folder: in it, or in the nearest folder above that has one.
#[must_use]
pub fn find(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .flat_map(|folder| FILE_NAMES.map(|name| folder.join(name)))
        .find(|file| file.metadata().is_ok_and(|file| !file.is_dir()))
}

/// Says that no manifest is to be found from a folder on.
#[must_use]
pub fn not_found(folder: &Path) -> Diagnostic {
    Rule::Unreadable
        .error(format!(
            "there is no `jobs.yaml` in `{}`, nor in a directory above",
            folder.display()
        ))
        .help("name one with `--file`, or go to its directory with `--directory`")
}

/// Reads and checks the manifest at `path`; `shown` is the path as the user knows it.
///
/// # Errors
///
/// All that is wrong with it, warnings included, in the order of the file.
pub fn load(
    path: &Path,
    shown: &Path,
    environment: &Environment,
) -> Result<Manifest, Vec<Diagnostic>> {
    let text = read(path, shown).map_err(|diagnostic| vec![*diagnostic])?;
    if is_dockerfile(path, &text) {
        return Err(vec![dockerfile(shown)]);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(&text, shown, folder, environment)
}

/// Checks the text of a manifest. Its paths are relative to `folder`.
///
/// # Errors
///
/// All that is wrong with it, warnings included, in the order of the file; then what is wrong with
/// the env files that it names.
pub fn parse(
    text: &str,
    shown: &Path,
    folder: &Path,
    environment: &Environment,
) -> Result<Manifest, Vec<Diagnostic>> {
    let source = Arc::new(Source {
        path: shown.to_owned(),
        text: masked(text),
    });
    let mut node = yaml::parse(text, &source).map_err(|diagnostic| vec![*diagnostic])?;
    let source = Arc::new(Source {
        path: shown.to_owned(),
        text: masked_values(text, &source.text, &node),
    });
    let mut diagnostics = Vec::new();
    let interpolated = RefCell::new(BTreeMap::new());
    let lookup = |name: &str| {
        let value = environment.get(name);
        let mut interpolated = interpolated.borrow_mut();
        interpolated.insert(name.to_owned(), value.map(Secret::new));
        value.map(str::to_owned)
    };
    interpolate::interpolate(&mut node, &lookup, &source, &mut diagnostics);
    let interpolated = interpolated.into_inner();
    exposed::check(&mut node, &interpolated, &source, &mut diagnostics);
    let root = if node.is_null() {
        diagnostics.push(
            Rule::EmptyFile
                .error(format!("`{}` is empty", shown.display()))
                .help("begin with `version: 1` and `name: PROJECT`, then add `jobs:`"),
        );
        None
    } else {
        let mut decoder = Decoder::new(&source, &mut diagnostics);
        Root::decode(&node, &mut decoder)
    };
    let mut file_errors = Vec::new();
    if let Some(root) = &root {
        file_errors = check::check(root, &source, folder, &interpolated, &mut diagnostics);
    }
    let has_errors = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    if let Some(root) = &root {
        let (errors, warnings) = check::env_file_contents(root, shown, folder, environment);
        file_errors.extend(errors);
        diagnostics.extend(warnings);
    }
    match root {
        Some(root) if !has_errors => Ok(Manifest {
            root,
            path: shown.to_owned(),
            folder: folder.to_owned(),
            warnings: in_order(diagnostics, &source),
            source,
            interpolated,
            file_errors,
        }),
        _ => {
            diagnostics.extend(file_errors.into_iter().map(|error| error.diagnostic));
            Err(in_order(diagnostics, &source))
        }
    }
}

/// Diagnostics in the order of the manifest, then those of other files.
pub(super) fn in_order(mut diagnostics: Vec<Diagnostic>, source: &Arc<Source>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| {
        let of_manifest = diagnostic.source.as_ref();
        let of_manifest = of_manifest.is_some_and(|named| Arc::ptr_eq(named, source));
        let place = diagnostic.primary.as_ref().filter(|_| of_manifest);
        (
            !of_manifest,
            place.map(|label| label.span.start),
            diagnostic.severity,
        )
    });
    diagnostics
}

/// Whether it is a Dockerfile by its name, or by its first instruction, which is `FROM` or `ARG`.
fn is_dockerfile(path: &Path, text: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lines = text.lines().map(str::trim_start);
    let mut code = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let instruction = code.next().and_then(|line| line.split_once([' ', '\t']));
    let begins_as_one = instruction.is_some_and(|(word, _)| ["FROM", "ARG"].contains(&word));
    let is_named_so = name.starts_with("Dockerfile") || name.starts_with("Containerfile");
    begins_as_one || is_named_so || name.ends_with(".Dockerfile")
}

fn dockerfile(shown: &Path) -> Diagnostic {
    Rule::Unreadable
        .error(format!(
            "`{}` is a Dockerfile, and `--file` names a jobs.yaml",
            shown.display()
        ))
        .help(
            "the Dockerfile of a directory: `jobctl build --name NAME` there; another one: a job in \
             jobs.yaml with `build: { context: DIR, dockerfile: FILE }`",
        )
}

fn read(path: &Path, shown: &Path) -> Result<String, Box<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "name a file that exists with `--file`",
            _ => "name a file that can be read with `--file`",
        };
        Box::new(
            Rule::Unreadable
                .error(format!(
                    "can't read `{}`: {}",
                    shown.display(),
                    plain(&error)
                ))
                .help(help),
        )
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Box::new(
            Rule::Unreadable
                .error(format!(
                    "`{}` is a directory, not a manifest",
                    shown.display()
                ))
                .help("name the file in it, or go there with `--directory`"),
        ));
    }
    if metadata.len() > MAX_SIZE_BYTES {
        return Err(Box::new(
            Rule::TooLarge
                .error(format!(
                    "`{}` has {} bytes; a manifest has at most {MAX_SIZE_BYTES}",
                    shown.display(),
                    metadata.len()
                ))
                .help("is this the right file? data belongs in files that `inputs` names"),
        ));
    }
    let bytes = read_small(path, MAX_SIZE_BYTES).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| Box::new(not_utf8(shown, &error)))
}

/// An I/O error without Rust's `(os error 2)`.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

fn not_utf8(shown: &Path, error: &std::string::FromUtf8Error) -> Diagnostic {
    let bytes = error.as_bytes();
    let encoding = match bytes {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it is UTF-16",
        _ => "it has bytes that are no text",
    };
    let valid = error.utf8_error().valid_up_to();
    let line = bytes[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
    Rule::NotUtf8
        .error(format!(
            "`{}` is not UTF-8: {encoding} (line {line}, byte {valid})",
            shown.display()
        ))
        .help(format!(
            "save it as UTF-8: `iconv -t UTF-8 {0} > new.yaml`",
            shown.display()
        ))
}
