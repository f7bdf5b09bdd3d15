//! The git directory of a user, which may be hostile: where it is, whether it can be read, and what is
//! taken over of its configuration.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::super::read_small;
use super::{LARGEST_PATH, failed, git, no_git, records};

/// Settings that say how the work tree is to be read, with the only values that are taken over.
const SETTINGS: [(&str, &[&str]); 7] = [
    ("core.filemode", &["true", "false"]),
    ("core.symlinks", &["true", "false"]),
    ("core.ignorecase", &["true", "false"]),
    ("core.autocrlf", &["true", "false", "input"]),
    ("core.eol", &["lf", "crlf", "native"]),
    ("extensions.objectformat", &["sha1", "sha256"]),
    ("extensions.refstorage", &["files", "reftable"]),
];
/// No configuration is larger.
const LARGEST_CONFIG: u64 = 4 << 20;
/// Beyond this git does not look for what two versions of a file have in common.
const BIG_FILE: &str = "16m";

/// The git directory of a work tree: `.git`, or where that file says.
///
/// # Errors
///
/// The file leads nowhere, or can't be read.
pub(super) fn git_directory(top: &Path) -> io::Result<Option<PathBuf>> {
    let path = top.join(".git");
    let is_one = |directory: &Path| directory.join("HEAD").is_file();
    if path.is_dir() {
        return Ok(is_one(&path).then_some(path));
    }
    let text = match read_small(&path, LARGEST_PATH) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let target = text.strip_prefix(b"gitdir: ").map(<[u8]>::trim_ascii_end);
    let target = target.unwrap_or_default();
    let directory = top.join(OsStr::from_bytes(target));
    if !target.is_empty() && is_one(&directory) {
        return Ok(Some(directory));
    }
    // A work tree without the repository that it was made by, as in a container that has the one alone.
    Err(io::Error::other(format!(
        "`{}` leads to `{}`, where no repository is",
        path.display(),
        String::from_utf8_lossy(target).escape_debug()
    )))
}

/// Refuses a file that is not regular, and a directory with such a file in it, or below it. `seen` has the
/// directories that were looked at.
pub(super) fn check_files(path: &Path, seen: &mut HashSet<(u64, u64)>) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(io::Error::other(format!("{} is no file", path.display())));
    }
    if !seen.insert((metadata.dev(), metadata.ino())) {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            continue;
        }
        match check_files(&entry.path(), seen) {
            // A link to nothing; or git has just packed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            checked => checked?,
        }
    }
    Ok(())
}

/// What `git config` lists of a file. Nothing that the file includes is read.
fn listed_settings(config: &Path) -> io::Result<Vec<u8>> {
    let text = read_small(config, LARGEST_CONFIG)?;
    let mut given = tempfile::tempfile()?;
    given.write_all(&text)?;
    given.rewind()?;
    let mut command = git();
    command
        .args(["config", "-z", "--no-includes", "--list", "--file", "-"])
        .stdin(given)
        .stderr(Stdio::null());
    let output = command.output().map_err(no_git)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(failed("config"))
    }
}

/// Our configuration, with what is taken over of the user's; and where the repository comes from.
pub(super) fn settings(config: &Path) -> (String, Option<String>) {
    use std::fmt::Write as _;

    // With that, files that are there are looked at though the index says that they are left out.
    let mut text = format!(
        "[core]\nrepositoryformatversion = 1\nbare = false\nhooksPath = /dev/null\nprotectHFS = \
         false\nprotectNTFS = false\nsparseCheckout = true\nbigFileThreshold = {BIG_FILE}\n\
         [pack]\nthreads = 1\n"
    );
    let mut origin = None;
    let listed = listed_settings(config).unwrap_or_default();
    for record in records(&listed) {
        let record = String::from_utf8_lossy(record);
        let (key, value) = record.split_once('\n').unwrap_or((&record, "true"));
        if key == "remote.origin.url" {
            origin = Some(value.to_owned());
        }
        let value = value.to_lowercase();
        let known = SETTINGS.iter().find(|(name, _)| *name == key);
        if known.is_some_and(|(_, values)| values.contains(&value.as_str()))
            && let Some((section, name)) = key.split_once('.')
        {
            let _ = writeln!(text, "[{section}]\n{name} = {value}");
        }
    }
    (text, origin)
}
