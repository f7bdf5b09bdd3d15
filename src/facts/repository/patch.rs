//! Patches: a commit, with some files edited.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::process::Stdio;

use super::{Repository, failed, output, quoted, records};

/// The reference in a directory of our own whose tree has the changes.
const CHANGED: &str = "refs/heads/changed";

/// What is done to a file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It is there no more.
    Remove,
    /// It is this: its mode as git writes it, and its content or, of a link, its target.
    Write(String, Vec<u8>),
}

impl Repository {
    /// A commit with some files edited, as a patch that `git apply` takes, and the paths that differ.
    /// Paths are from the top of the work tree; in the patch they have the prefix. Without a commit, all
    /// files are new.
    ///
    /// # Errors
    ///
    /// git can't make it.
    pub fn patch(
        &self,
        commit: Option<&str>,
        edits: &[(Vec<u8>, Edit)],
        prefix: &[u8],
    ) -> io::Result<(Vec<u8>, Vec<Vec<u8>>)> {
        let scratch = self.own.path().join("scratch");
        self.make_directory(&scratch)?;
        let mut command = self.command(&scratch);
        command.args(["fast-import", "--quiet", "--date-format=raw"]);
        let mut importing = command.stdin(Stdio::piped()).spawn()?;
        let stdin = importing.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let written = import(io::BufWriter::new(stdin), commit, edits);
        if !importing.wait_with_output()?.status.success() {
            return Err(failed("fast-import"));
        }
        written?;
        let diff = |flags: &[OsString]| {
            let mut command = self.command(&scratch);
            command.args(["diff-tree", "-r", "--no-commit-id", "--no-renames"]);
            command.args(["--no-ext-diff", "--no-textconv", "--no-color"]);
            command.args(flags);
            match commit {
                Some(commit) => command.args([commit, CHANGED]),
                None => command.args(["--root", CHANGED]),
            };
            output(&mut command)
        };
        let names = diff(&["-z".into(), "--name-only".into()])?;
        let with_prefix = |side: &str| {
            let flag = [side.as_bytes(), prefix].concat();
            OsString::from_vec(flag)
        };
        let patch = diff(&[
            "-p".into(),
            "--binary".into(),
            "--full-index".into(),
            with_prefix("--src-prefix=a/"),
            with_prefix("--dst-prefix=b/"),
        ])?;
        fs::remove_dir_all(&scratch)?;
        let names = records(&names).map(|name| [prefix, name].concat());
        Ok((forward(&patch), names.collect()))
    }
}

/// Writes the edits as `git fast-import` takes them.
fn import(mut out: impl Write, commit: Option<&str>, edits: &[(Vec<u8>, Edit)]) -> io::Result<()> {
    writeln!(
        out,
        "commit {CHANGED}\ncommitter jobctl <jobctl> 0 +0000\ndata 0"
    )?;
    if let Some(commit) = commit {
        writeln!(out, "from {commit}")?;
    }
    // A folder may be in the place of a file, and the other way round.
    for (path, _) in edits.iter().filter(|(_, edit)| *edit == Edit::Remove) {
        out.write_all(&[b"D ", quoted(path).as_slice(), b"\n"].concat())?;
    }
    for (path, edit) in edits {
        if let Edit::Write(mode, content) = edit {
            let head = format!("M {mode} inline ");
            out.write_all(&[head.as_bytes(), &quoted(path), b"\n"].concat())?;
            writeln!(out, "data {}", content.len())?;
            out.write_all(content)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

/// A patch without what undoes it: of a binary file, git writes the way back as well, and with it what
/// was there before.
fn forward(patch: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(patch.len());
    let mut lines = patch.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        kept.extend_from_slice(line);
        if line != b"GIT binary patch\n" {
            continue;
        }
        for line in lines.by_ref() {
            kept.extend_from_slice(line);
            if line == b"\n" {
                break;
            }
        }
        let is_way_back =
            |line: &&[u8]| line.starts_with(b"literal ") || line.starts_with(b"delta ");
        if lines.peek().is_some_and(is_way_back) {
            lines.by_ref().find(|line| *line == b"\n");
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::forward;

    #[test]
    fn only_the_way_forward_is_kept_of_binary_files() {
        let patch = b"diff --git a/a b/a\nGIT binary patch\nliteral 1\nIcmZ\n\nliteral 2\nJcmZ\n\n\
            diff --git a/b b/b\n@@ -1 +1 @@\n-literal 2\n+GIT binary patch\n";
        let kept = b"diff --git a/a b/a\nGIT binary patch\nliteral 1\nIcmZ\n\n\
            diff --git a/b b/b\n@@ -1 +1 @@\n-literal 2\n+GIT binary patch\n";
        assert_eq!(forward(patch), kept);
    }
}
