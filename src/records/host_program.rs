//! Programs that a `jobs.yaml` runs on this machine, and the files of its repository that run them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::hex;
use crate::model::Digest;

/// How far a program is read for its first line, and how much of that is kept: as much as the kernel reads
/// (`BINPRM_BUF_SIZE`).
const BEGINNING_BYTES: u64 = 4096;
const FIRST_LINE_BYTES: usize = 256;

/// A program that a `jobs.yaml` runs on this machine, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostProgram {
    /// The `jobs.yaml`, without links.
    pub manifest: PathBuf,
    /// The program, without links.
    pub program: PathBuf,
    /// What it is called with.
    pub args: Vec<String>,
    /// The digest of its content. Files that it reads in turn are not part of it.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// The files of the repository that its first line names, and theirs in turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<NamedFile>,
}

/// A file that a program's first line names, and that a repository can change: an interpreter in it, or a link in it
/// to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// Where it is found.
    pub path: PathBuf,
    /// The same without links.
    pub target: PathBuf,
    /// The digest of its content; nothing where links lead out of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl HostProgram {
    /// Reads a program. What its first line names is looked up as the kernel and `env` do, with this PATH.
    ///
    /// # Errors
    ///
    /// It can't be read, or it is not a file.
    pub fn read(
        manifest: &Path,
        program: &Path,
        args: Vec<String>,
        search: &OsStr,
    ) -> io::Result<Self> {
        // One that comes through a pipe has no path.
        let manifest = manifest
            .canonicalize()
            .unwrap_or_else(|_| manifest.to_owned());
        let program = program.canonicalize()?;
        let (digest, bytes) = content(&program)?;
        let whole = std::path::absolute(&manifest)?;
        let project = whole.parent().unwrap_or(&whole);
        let named = Named::by(&program, repository(project), search)?;
        Ok(Self {
            manifest,
            program,
            args,
            digest,
            bytes,
            named,
        })
    }

    /// Whether its files still are what they were when it was read.
    ///
    /// # Errors
    ///
    /// The program can't be read.
    pub(super) fn is_current(&self) -> io::Result<bool> {
        let is_same = |file: &NamedFile| {
            file.path
                .canonicalize()
                .is_ok_and(|target| target == file.target)
                && file.digest.as_ref().is_none_or(|digest| {
                    content(&file.target).is_ok_and(|(found, _)| found == *digest)
                })
        };
        let program = self.program.canonicalize()?;
        let (digest, _) = content(&program)?;
        Ok(program == self.program && digest == self.digest && self.named.iter().all(is_same))
    }

    /// The first line of the program that says what it does, if it is a text: of a script for a well-known
    /// interpreter, the one behind the interpreter's. Nothing is left out of a line: what is before a carriage
    /// return counts for the kernel, too.
    #[must_use]
    pub fn first_line(&self) -> Option<OsString> {
        let file = open(&self.program).ok()?;
        let mut start = Vec::new();
        file.take(BEGINNING_BYTES).read_to_end(&mut start).ok()?;
        let mut lines = start.split(|byte| *byte == b'\n');
        let first = lines.next()?;
        let is_blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
        let line = if is_usual_interpreter(first) {
            lines.find(|line| !is_blank(line)).unwrap_or(first)
        } else {
            first
        };
        let is_shown = line.starts_with(b"#!") || std::str::from_utf8(line).is_ok();
        let mut shown = line[..line.len().min(FIRST_LINE_BYTES)].to_vec();
        if shown.len() < line.len() {
            shown.extend("…".as_bytes());
        }
        (is_shown && !line.is_empty()).then(|| OsString::from_vec(shown))
    }

    /// The name of its grant: what is not the same has another.
    pub(super) fn key(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(part);
            hash.update([0]);
        };
        add(self.manifest.as_os_str().as_bytes());
        add(self.program.as_os_str().as_bytes());
        for arg in &self.args {
            add(arg.as_bytes());
        }
        for file in &self.named {
            add(file.path.as_os_str().as_bytes());
            add(file.target.as_os_str().as_bytes());
            add(file
                .digest
                .as_ref()
                .map_or("", |digest| digest.as_str())
                .as_bytes());
        }
        hash.update(self.digest.as_str());
        hex(&hash.finalize())
    }
}

/// The top of the git repository that a directory is in; the directory, where it is in none. A repository within
/// another one, as a submodule is, has a file in place of `.git`, and belongs to it.
pub(super) fn repository(directory: &Path) -> &Path {
    let mut top = directory;
    for above in directory.ancestors() {
        let Ok(found) = above.join(".git").symlink_metadata() else {
            continue;
        };
        top = above;
        if found.is_dir() {
            break;
        }
    }
    top
}

fn open(program: &Path) -> io::Result<File> {
    if !program.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(program)
}

/// The digest of a file's content, and its size.
fn content(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash)?;
    Ok((Digest::from(<[u8; 32]>::from(hash.finalize())), bytes))
}

/// Finds the files of a repository that first lines name.
struct Named<'a> {
    repository: &'a Path,
    /// PATH.
    search: &'a OsStr,
    found: Vec<NamedFile>,
}

impl<'a> Named<'a> {
    /// Those that a program's names, and theirs in turn. A relative path is one from the working directory, as for the
    /// kernel.
    fn by(program: &Path, repository: &'a Path, search: &'a OsStr) -> io::Result<Vec<NamedFile>> {
        let mut named = Self {
            repository,
            search,
            found: Vec::new(),
        };
        named.add_line(program)?;
        let mut next = 0;
        while let Some(file) = named.found.get(next) {
            let target = file.target.clone();
            named.add_line(&target)?;
            next += 1;
        }
        named.found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(named.found)
    }

    /// Adds what the first line of a file names. Any of its words may be a path: for `env` and for interpreters that
    /// read another file, also what is behind a `=`. A line whose words alone don't say what is run is an error.
    fn add_line(&mut self, file: &Path) -> io::Result<()> {
        let mut start = Vec::new();
        open(file)?
            .take(FIRST_LINE_BYTES as u64)
            .read_to_end(&mut start)?;
        let line = start.split(|byte| [b'\n', 0].contains(byte)).next();
        let Some(line) = line.and_then(|line| line.strip_prefix(b"#!")) else {
            return Ok(());
        };
        if !is_plain(line) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "what the first line of `{}` runs can't be known: `#!{}`",
                    file.display(),
                    line.escape_ascii()
                ),
            ));
        }
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"=:,".contains(byte);
        for word in line.split(is_end).filter(|word| !word.is_empty()) {
            // An option may have its value right behind it.
            if let [b'-', letter, value @ ..] = word
                && *letter != b'-'
                && !value.is_empty()
            {
                self.add(Path::new(OsStr::from_bytes(value)))?;
            }
            let word = Path::new(OsStr::from_bytes(word));
            self.add(word)?;
            if !word.as_os_str().as_bytes().contains(&b'/')
                && let Some(program) = self.program(word)
            {
                self.add(&program)?;
            }
        }
        // A name may have what ends a word elsewhere: the kernel ends an interpreter's at the first blank only.
        let blank = |byte: &u8| [b' ', b'\t'].contains(byte);
        for word in line.split(blank).filter(|word| !word.is_empty()) {
            self.add(Path::new(OsStr::from_bytes(word)))?;
        }
        Ok(())
    }

    /// A program in PATH.
    fn program(&self, name: &Path) -> Option<PathBuf> {
        let mut places = std::env::split_paths(self.search).map(|place| place.join(name));
        places.find(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
    }

    /// Adds a file, if it is one of the repository's, or a link in it.
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let path = std::path::absolute(path)?;
        let Ok(target) = path.canonicalize() else {
            return Ok(());
        };
        let is_inside = target.starts_with(self.repository);
        let is_named = is_inside || path.starts_with(self.repository);
        if !is_named || !target.is_file() || self.found.iter().any(|file| file.path == path) {
            return Ok(());
        }
        let digest = is_inside.then(|| content(&target)).transpose()?;
        self.found.push(NamedFile {
            path,
            target,
            digest: digest.map(|(digest, _)| digest),
        });
        Ok(())
    }
}

/// Whether the words of a first line say what it runs: nothing in it is quoted, escaped or a variable, as `env -S` and
/// shells read them, and `env` is not made to look for programs elsewhere.
fn is_plain(line: &[u8]) -> bool {
    let is_special = |byte: &u8| {
        b"$\\\"'`;&|<>()".contains(byte) || byte.is_ascii_control() && !b"\t\r".contains(byte)
    };
    if line.iter().any(is_special) {
        return false;
    }
    let mut is_of_env = false;
    for word in line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        if word.rsplit(|byte| *byte == b'/').next() == Some(b"env") {
            is_of_env = true;
        } else if is_of_env {
            match word.iter().position(|byte| *byte == b'=') {
                _ if word.starts_with(b"-") => {
                    if ![&b"-"[..], b"-S", b"-i", b"-v"].contains(&word) {
                        return false;
                    }
                }
                Some(end) if &word[..end] == b"PATH" || word.starts_with(b"LD_") => return false,
                Some(_) => {}
                None => is_of_env = false,
            }
        }
    }
    true
}

/// Whether a line names a shell or another interpreter of the system's and at most one plain flag, so that it
/// says nothing of what the program does.
fn is_usual_interpreter(line: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-# !".contains(byte);
    let Some(line) = std::str::from_utf8(line)
        .ok()
        .filter(|line| line.bytes().all(|byte| is_plain(&byte)))
    else {
        return false;
    };
    let mut words = line
        .strip_prefix("#!")
        .unwrap_or_default()
        .split(' ')
        .filter(|word| !word.is_empty());
    let program = words.next().unwrap_or_default();
    let is_systems = ["/bin/", "/usr/bin/"]
        .iter()
        .any(|top| program.starts_with(top));
    let is_harmless = match (words.next(), words.next()) {
        (None, _) => true,
        (Some(word), None) if program.ends_with("/env") => {
            !word.starts_with('-') && !word.contains('/')
        }
        (Some(word), None) => word.starts_with('-') && !word.contains(['c', 'S']),
        _ => false,
    };
    is_systems && !program.contains("..") && is_harmless
}

#[cfg(test)]
mod tests;
