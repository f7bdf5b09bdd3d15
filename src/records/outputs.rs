//! `outputs/`: what was collected of a run, and the list of its files beside it.
//!
//! The files of the output `model` are in `outputs/model/`, under their paths in the output; their list
//! is `outputs/model.files.jsonl`, an object a line, sorted by the bytes of their paths. The record
//! itself has their number, their size, and the digest of the list, so that it stays small however many
//! files there are.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::durable::{self, Directory};
use super::folder::RunFolder;
use super::hex;

/// No line that jobctl writes is longer: a path has at most 4096 bytes, and JSON escapes make six of one.
const LONGEST_LINE: u64 = 128 << 10;

/// What the name of a list of files ends with, after the output's.
pub const LIST: &str = ".files.jsonl";

/// What was collected of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Where it was in the container.
    pub path: String,
    /// The digest of the names and contents of its files, see [`TreeDigest`].
    pub sha256: String,
    /// How many files it has, links included.
    #[serde(default)]
    pub file_count: u64,
    /// How many bytes they have.
    #[serde(default)]
    pub bytes: u64,
    /// Its files, where the record itself has them: in records of version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<CollectedFile>,
}

/// A file that was collected. It is written as JSON; names that are not UTF-8 are in base64 besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedFile {
    /// Its path in the output.
    pub path: PathBuf,
    /// The digest of its content; for a symbolic link, of its target.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub bytes: u64,
    /// Where it points, for a symbolic link.
    pub link: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    sha256: String,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link_base64: Option<String>,
}

impl Serialize for CollectedFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (path, path_base64) = name(&self.path);
        let link = self.link.as_deref().map(name);
        let (link, link_base64) = link.map_or((None, None), |(text, exact)| (Some(text), exact));
        let sha256 = hex(&self.sha256);
        Line {
            path,
            path_base64,
            sha256,
            bytes: self.bytes,
            link,
            link_base64,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CollectedFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = Line::deserialize(deserializer)?;
        let exact = |text: String, base64: Option<String>| match base64 {
            None => Ok(PathBuf::from(text)),
            Some(base64) => BASE64
                .decode(base64)
                .map(|bytes| OsStr::from_bytes(&bytes).into())
                .map_err(D::Error::custom),
        };
        let sha256 = sha256(&line.sha256).ok_or_else(|| D::Error::custom("not a SHA-256"))?;
        let link = line.link.map(|link| exact(link, line.link_base64));
        Ok(Self {
            path: exact(line.path, line.path_base64)?,
            sha256,
            bytes: line.bytes,
            link: link.transpose()?,
        })
    }
}

/// A name as text, and in base64 where the text is not all of it.
fn name(path: &Path) -> (String, Option<String>) {
    let bytes = path.as_os_str().as_bytes();
    let base64 = std::str::from_utf8(bytes)
        .is_err()
        .then(|| BASE64.encode(bytes));
    (path.to_string_lossy().into_owned(), base64)
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    is_hex.then_some(digest)
}

/// The digest of names and contents: the SHA-256 of the lines that `sha256sum` writes for the files,
/// sorted by the bytes of their paths. In the line of a symbolic link, whose digest is that of its
/// target, an `@` is where `sha256sum` writes a blank or a `*`.
#[derive(Debug, Default)]
pub struct TreeDigest(Sha256);

impl TreeDigest {
    /// Adds the next file.
    pub fn add(&mut self, file: &CollectedFile) {
        let kind = if file.link.is_some() { '@' } else { ' ' };
        let path = file.path.as_os_str().as_bytes();
        // As sha256sum of coreutils 9 does it.
        let is_escaped = path
            .iter()
            .any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
        if is_escaped {
            self.0.update(b"\\");
        }
        self.0.update(hex(&file.sha256));
        self.0.update(format!(" {kind}"));
        if is_escaped {
            for byte in path {
                match byte {
                    b'\\' => self.0.update(b"\\\\"),
                    b'\n' => self.0.update(b"\\n"),
                    b'\r' => self.0.update(b"\\r"),
                    byte => self.0.update([*byte]),
                }
            }
        } else {
            self.0.update(path);
        }
        self.0.update(b"\n");
    }

    /// The digest as hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

impl OutputRecord {
    /// The record of an output with those files, which are sorted.
    #[must_use]
    pub fn of(path: String, files: &[CollectedFile]) -> Self {
        let mut tree = TreeDigest::default();
        for file in files {
            tree.add(file);
        }
        Self {
            path,
            sha256: tree.finish(),
            file_count: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            files: Vec::new(),
        }
    }
}

/// The files of an output, one after the other.
pub enum FileList<'a> {
    /// Of the record itself.
    Recorded(std::slice::Iter<'a, CollectedFile>),
    /// Of the list beside it.
    Listed(BufReader<File>),
}

impl Iterator for FileList<'_> {
    type Item = io::Result<CollectedFile>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Recorded(files) => files.next().cloned().map(Ok),
            Self::Listed(lines) => next_line(lines).transpose(),
        }
    }
}

fn next_line(lines: &mut BufReader<File>) -> io::Result<Option<CollectedFile>> {
    let mut line = Vec::new();
    io::Read::take(&mut *lines, LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&line).map(Some)?)
}

impl RunFolder {
    /// Opens the directory of the outputs; with `makes`, it is made where it is not there. It is reached
    /// through no link, and what is done below it is done there, whatever is put in its place meanwhile: a
    /// job may be able to write to the state directory.
    ///
    /// # Errors
    ///
    /// It is not there, or a link leads to it.
    pub fn outputs(&self, makes: bool) -> io::Result<OutputsDirectory> {
        let path = self.path().join("outputs");
        // A run's own directory that is gone was moved, with its project: nothing is made in its place.
        if makes && self.path().is_dir() {
            durable::create_directory(&path)?;
        }
        Directory::open(&path).map(OutputsDirectory)
    }

    /// Where an output is kept, for whoever is to see it under its own path.
    #[must_use]
    pub fn output(&self, name: &str) -> PathBuf {
        self.path().join("outputs").join(name)
    }

    /// The files of an output that was collected, sorted.
    ///
    /// # Errors
    ///
    /// Their list can't be read. Each of them is an error where its line can't.
    pub fn files<'a>(&self, name: &str, output: &'a OutputRecord) -> io::Result<FileList<'a>> {
        if !output.files.is_empty() || output.file_count == 0 {
            return Ok(FileList::Recorded(output.files.iter()));
        }
        self.outputs(false)?.read_list(name)
    }
}

/// The directory of a run's outputs, held open.
#[derive(Debug)]
pub struct OutputsDirectory(Directory);

impl OutputsDirectory {
    /// A path that leads to the directory as long as it is held open.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }

    fn read_list(&self, name: &str) -> io::Result<FileList<'static>> {
        let file = durable::open(&self.path().join(list_name(name)))?;
        Ok(FileList::Listed(BufReader::with_capacity(128 << 10, file)))
    }

    /// Writes the list of an output's files, and makes it durable.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn write_list(&self, name: &str, files: &[CollectedFile]) -> io::Result<()> {
        let mut list = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(self.path())?;
        let mut lines = BufWriter::with_capacity(128 << 10, list.as_file_mut());
        for file in files {
            serde_json::to_writer(&mut lines, file)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()?;
        drop(lines);
        list.as_file().sync_all()?;
        let persisted = list.persist(self.path().join(list_name(name)));
        persisted.map(drop).map_err(|error| error.error)
    }
}

/// The name of the list of an output's files.
fn list_name(name: &str) -> String {
    format!("{name}{LIST}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8], link: Option<&[u8]>) -> CollectedFile {
        CollectedFile {
            path: OsStr::from_bytes(path).into(),
            sha256: Sha256::digest(link.unwrap_or(b"x")).into(),
            bytes: 1,
            link: link.map(|link| OsStr::from_bytes(link).into()),
        }
    }

    #[test]
    fn names_of_any_bytes_are_kept() {
        for file in [
            file(b"a/b", None),
            file(b"caf\xe9 \n\x1b[1m", None),
            file(b"link", Some(b"/out/\xff")),
        ] {
            let text = serde_json::to_string(&file).unwrap();
            assert!(!text.contains('\n'), "{text}");
            let read: CollectedFile = serde_json::from_str(&text).unwrap();
            assert_eq!(read, file, "{text}");
        }
        let text = serde_json::to_string(&file(b"a", None)).unwrap();
        assert_eq!(
            text,
            r#"{"path":"a","sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","bytes":1}"#
        );
    }

    /// `printf x > a; printf x > 'b\n'; sha256sum …` of coreutils 9.1, and the same with `@`.
    #[test]
    fn the_digest_is_that_of_sha256sums_lines() {
        let mut tree = TreeDigest::default();
        let x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        for (path, link) in [(&b"a"[..], None), (b"b\\\n", None), (b"c", Some(&b"x"[..]))] {
            tree.add(&file(path, link));
        }
        let lines = format!("{x}  a\n\\{x}  b\\\\\\n\n{x} @c\n");
        assert_eq!(tree.finish(), format!("{:x}", Sha256::digest(lines)));
    }
}
