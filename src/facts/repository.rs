//! A repository, asked through a git directory of our own.
//!
//! git is never shown the user's git directory, only one of ours that borrows its objects, references
//! and index. So nothing that is configured there or for the user has a say (filters, hooks, monitors,
//! external programs of somebody else's repository), whoever owns it, and nothing is written to it. Of
//! the environment git gets PATH and no more.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Seek as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use self::directory::{check_files, git_directory, settings};
use super::read_small;

mod directory;

/// What is borrowed of a git directory besides its objects; nothing of it is written to.
const BORROWED: [&str; 5] = ["refs", "packed-refs", "reftable", "shallow", "info"];
/// No file that has a path, or the name of a reference, is larger.
const LARGEST_PATH: u64 = 64 << 10;
/// The reference in a directory of our own whose tree has the changes.
const CHANGED: &str = "refs/heads/changed";

/// A repository with a work tree.
#[derive(Debug)]
pub struct Repository {
    /// The top of its work tree.
    top: PathBuf,
    /// The folder that is asked about.
    folder: PathBuf,
    /// The user's objects.
    objects: PathBuf,
    /// The user's index.
    index: PathBuf,
    /// The text of our configuration.
    settings: String,
    origin: Option<String>,
    /// Our git directory.
    own: tempfile::TempDir,
}

/// What git has of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its mode, as git writes it.
    pub mode: String,
    /// The object with its content; for a submodule, the commit.
    pub object: String,
}

impl Blob {
    fn of(mode: &str, object: &str) -> Option<Self> {
        (mode != "000000").then(|| Self {
            mode: mode.to_owned(),
            object: object.to_owned(),
        })
    }

    /// Whether it is another repository's commit.
    #[must_use]
    pub fn is_submodule(&self) -> bool {
        self.mode == "160000"
    }
}

/// A file that git tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// Its path from the top of the work tree.
    pub path: Vec<u8>,
    /// What the index has of it.
    pub blob: Blob,
    /// Whether git is configured not to look whether it changed.
    pub is_unwatched: bool,
}

/// What is done to a file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It is there no more.
    Remove,
    /// It is this: its mode as git writes it, and its content or, of a link, its target.
    Write(String, Vec<u8>),
}

impl Repository {
    /// The repository that a folder is in. `None` if it is in none, or git can't be asked.
    #[must_use]
    pub fn open(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().ok()?;
        let found = |top: &Path| Some((top.to_owned(), git_directory(top)?));
        let (top, directory) = folder.ancestors().find_map(found)?;
        let common = match read_small(&directory.join("commondir"), LARGEST_PATH) {
            Ok(text) => directory.join(OsStr::from_bytes(text.trim_ascii_end())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => directory.clone(),
            Err(_) => return None,
        };
        let (settings, origin) = settings(&common.join("config"));
        let own = tempfile::Builder::new().prefix("jobctl-git-").tempdir();
        let repository = Self {
            top,
            folder,
            objects: common.join("objects"),
            index: directory.join("index"),
            settings,
            origin,
            own: own.ok()?,
        };
        repository.borrow(&directory, &common).ok()?;
        Some(repository)
    }

    /// Makes our git directory. What git would read of the user's has to be regular files: on a named pipe
    /// it would wait forever.
    fn borrow(&self, directory: &Path, common: &Path) -> io::Result<()> {
        let own = self.own.path();
        self.make_directory(own)?;
        fs::remove_dir(own.join("refs"))?;
        let mut seen = HashSet::new();
        for name in BORROWED {
            if common.join(name).exists() {
                check_files(&common.join(name), &mut seen)?;
                symlink(common.join(name), own.join(name))?;
            }
        }
        check_files(&self.objects, &mut seen)?;
        if self.index.exists() {
            check_files(&self.index, &mut seen)?;
        }
        let head = read_small(&directory.join("HEAD"), LARGEST_PATH)?;
        fs::write(own.join("HEAD"), head)?;
        // An index may be in two parts.
        for entry in fs::read_dir(directory)?.flatten() {
            if entry.file_name().as_bytes().starts_with(b"sharedindex.") {
                check_files(&entry.path(), &mut seen)?;
                symlink(entry.path(), own.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Makes a git directory with nothing in it but the way to the user's objects.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path.join("objects/info"))?;
        fs::create_dir(path.join("refs"))?;
        fs::write(path.join("HEAD"), "ref: refs/heads/none\n")?;
        fs::write(path.join("config"), &self.settings)?;
        let mut alternates = quoted(self.objects.as_os_str().as_bytes());
        alternates.push(b'\n');
        fs::write(path.join("objects/info/alternates"), alternates)
    }

    /// The top of the work tree.
    #[must_use]
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Whether the modes of its files say whether they are programs.
    #[must_use]
    pub fn has_modes(&self) -> bool {
        !self.settings.contains("filemode = false")
    }

    /// Where the repository comes from.
    pub(super) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Asks git something about the folder; for its answer see [`answer`].
    pub(super) fn ask(&self, args: &[&str]) -> Option<Child> {
        let mut command = self.command(self.own.path());
        command.args(args).stdin(Stdio::null());
        command.spawn().ok()
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = git();
        command
            .current_dir(&self.folder)
            .env("GIT_DIR", directory)
            .env("GIT_WORK_TREE", &self.top)
            .env("GIT_INDEX_FILE", &self.index)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    /// What git answers at the top of the work tree, given what it reads.
    fn tell(&self, args: &[&str], input: &[u8]) -> io::Result<Vec<u8>> {
        let mut given = tempfile::tempfile_in(self.own.path())?;
        given.write_all(input)?;
        given.rewind()?;
        let mut command = self.command(self.own.path());
        command.args(args).current_dir(&self.top).stdin(given);
        let output = command.output()?;
        match output.status.code() {
            // `check-ignore` ends with 1 where nothing is ignored.
            Some(0 | 1) => Ok(output.stdout),
            _ => Err(failed(args[0])),
        }
    }

    /// A listing of the folder's files, and of some others by their absolute paths.
    fn list(&self, args: &[&str], others: &[PathBuf]) -> io::Result<Vec<u8>> {
        let mut command = self.command(self.own.path());
        command.env("GIT_LITERAL_PATHSPECS", "1");
        output(command.args(args).args(["--", "."]).args(others))
    }

    /// The files that are tracked in the folder and among `others`.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn tracked(&self, others: &[PathBuf]) -> io::Result<Vec<Tracked>> {
        let listed = self.list(&["ls-files", "-z", "-s", "-v", "--full-name"], others)?;
        // `TAG MODE OBJECT STAGE<tab>PATH`
        let tracked = records(&listed).filter_map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t')?;
            let head = std::str::from_utf8(&line[..tab]).ok()?;
            let mut words = head.split(' ');
            let tag = words.next()?;
            Some(Tracked {
                path: line[tab + 1..].to_vec(),
                blob: Blob::of(words.next()?, words.next()?)?,
                is_unwatched: tag.starts_with(|c: char| c.is_lowercase()) || tag == "S",
            })
        });
        Ok(tracked.collect())
    }

    /// The submodules among tracked files whose work trees are there, by their place.
    #[must_use]
    pub fn submodules(&self, tracked: &[Tracked]) -> Vec<(Tracked, Self)> {
        let submodules = tracked.iter().filter(|file| file.blob.is_submodule());
        let opened = submodules.filter_map(|file| {
            let top = self.top.join(OsStr::from_bytes(&file.path));
            let submodule = Self::open(&top)?;
            (submodule.top == top).then(|| (file.clone(), submodule))
        });
        opened.collect()
    }

    /// The files whose index is not as a commit has them, in the folder and among `others`, and what the
    /// commit has.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn staged(
        &self,
        commit: &str,
        others: &[PathBuf],
    ) -> io::Result<Vec<(Vec<u8>, Option<Blob>)>> {
        let args = [
            "diff-index",
            "--cached",
            "-z",
            "--no-renames",
            "--no-abbrev",
            commit,
        ];
        let listed = self.list(&args, others)?;
        let mut records = records(&listed);
        let mut staged = Vec::new();
        // `:MODE MODE OBJECT OBJECT STATUS`, PATH
        while let (Some(head), Some(path)) = (records.next(), records.next()) {
            let head = String::from_utf8_lossy(head);
            let words: Vec<_> = head.trim_start_matches(':').split(' ').collect();
            let committed = match words[..] {
                [mode, _, object, ..] => Blob::of(mode, object),
                _ => None,
            };
            staged.push((path.to_vec(), committed));
        }
        Ok(staged)
    }

    /// The files that are not as the index has them, in the folder and among `others`.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn modified(&self, others: &[PathBuf]) -> io::Result<Vec<Vec<u8>>> {
        let args = ["ls-files", "-z", "-m", "-d", "--full-name"];
        let listed = self.list(&args, others)?;
        Ok(records(&listed).map(<[u8]>::to_vec).collect())
    }

    /// Those of some untracked paths that `.gitignore` leaves out.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn ignored(&self, paths: &[&[u8]]) -> io::Result<Vec<Vec<u8>>> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        // No path begins with a colon then, which would mean something else.
        let paths = paths.iter().map(|path| [b"./", *path].concat());
        let paths: Vec<_> = paths.collect();
        let told = self.tell(&["check-ignore", "-z", "--stdin"], &paths.join(&0))?;
        let ignored = records(&told).filter_map(|path| path.strip_prefix(b"./"));
        Ok(ignored.map(<[u8]>::to_vec).collect())
    }

    /// The sizes of objects in bytes, in their order; nothing for one that is not there.
    ///
    /// # Errors
    ///
    /// git can't tell.
    pub fn sizes(&self, objects: &[&str]) -> io::Result<Vec<Option<u64>>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let args = ["cat-file", "--batch-check=%(objectsize)"];
        let told = self.tell(&args, objects.join("\n").as_bytes())?;
        let lines = String::from_utf8_lossy(&told);
        Ok(lines.lines().map(|line| line.parse().ok()).collect())
    }

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

/// git, with nothing of the process's environment but the way to programs.
#[expect(
    clippy::disallowed_methods,
    reason = "PATH alone is read, to find git; what decides is given"
)]
fn git() -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    for (name, value) in [
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        command.env(name, value);
    }
    command
}

fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let verb = command.get_args().next().unwrap_or_default();
    Err(failed(&verb.to_string_lossy()))
}

fn failed(verb: &str) -> io::Error {
    io::Error::other(format!("`git {verb}` failed"))
}

/// What a child answered, if it succeeded.
pub(super) fn answer(child: Option<Child>) -> Option<Vec<u8>> {
    let output = child?.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// What ends with zeros.
fn records(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    text.split(|byte| *byte == 0)
        .filter(|record| !record.is_empty())
}

/// A path in quotes, as C has them.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            0x20..0x7f => text.push(*byte),
            _ => text.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    text.push(b'"');
    text
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
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::{Repository, forward, quoted};

    fn pipe(path: &Path) {
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, fifo, 0o600.into(), 0).unwrap();
    }

    #[test]
    fn a_named_pipe_among_the_files_of_git_is_not_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let init = Command::new("git")
            .args(["init", "-q"])
            .current_dir(top.path())
            .status();
        assert!(init.unwrap().success());
        let directory = top.path().join(".git");
        assert!(Repository::open(top.path()).is_some());
        for name in [
            "commondir",
            "index",
            "info/exclude",
            "packed-refs",
            "shallow",
            "sharedindex.1",
            "refs/heads/main",
            "objects/info/alternates",
            "objects/pack/pack-1.idx",
        ] {
            let file = directory.join(name);
            let _ = fs::remove_file(&file);
            pipe(&file);
            assert!(Repository::open(top.path()).is_none(), "{name}");
            fs::remove_file(&file).unwrap();
        }
        // What is set in it does not count.
        fs::remove_file(directory.join("config")).unwrap();
        pipe(&directory.join("config"));
        let repository = Repository::open(top.path()).unwrap();
        assert_eq!(repository.origin(), None);
        // A link to a directory above is gone into once.
        std::os::unix::fs::symlink("..", directory.join("refs/heads/up")).unwrap();
        assert!(Repository::open(top.path()).is_some());
        fs::remove_dir_all(&directory).unwrap();
        pipe(&directory);
        assert!(Repository::open(top.path()).is_none());
    }

    #[test]
    fn a_path_of_any_bytes_is_quoted() {
        assert_eq!(quoted(b"a b\"\\\n\xff"), br#""a b\"\\\012\377""#);
    }

    #[test]
    fn only_the_way_forward_is_kept_of_binary_files() {
        let patch = b"diff --git a/a b/a\nGIT binary patch\nliteral 1\nIcmZ\n\nliteral 2\nJcmZ\n\n\
            diff --git a/b b/b\n@@ -1 +1 @@\n-literal 2\n+GIT binary patch\n";
        let kept = b"diff --git a/a b/a\nGIT binary patch\nliteral 1\nIcmZ\n\n\
            diff --git a/b b/b\n@@ -1 +1 @@\n-literal 2\n+GIT binary patch\n";
        assert_eq!(forward(patch), kept);
    }
}
