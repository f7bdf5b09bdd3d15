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
/// Files of a work tree that git reads rules from.
const RULES: [&str; 3] = [".gitattributes", ".gitignore", ".gitmodules"];
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

/// A `.git` that leads to a git directory which may be another work tree's.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` leads to `{}`, which does not lead back, and may be another work tree's repository",
    top.join(".git").display(),
    directory.display().to_string().escape_debug()
)]
pub(in crate::facts) struct LedElsewhere {
    top: PathBuf,
    directory: PathBuf,
}

impl LedElsewhere {
    /// How to fix it. Nothing that would take the git directory away from another work tree.
    pub(in crate::facts) fn fix(&self) -> String {
        let top = self.top.display().to_string();
        let top = shell_words::quote(&top);
        if self.directory.join("gitdir").exists() {
            return format!("if this work tree was moved: `git -C {top} worktree repair`");
        }
        let owner = self
            .directory
            .parent()
            .filter(|_| is_usual(&self.directory));
        match owner {
            Some(owner) => format!(
                "build in `{}`, whose repository it is, or clone that: a repository has more work trees with `git \
                 worktree add`",
                owner.display().to_string().escape_debug()
            ),
            None => format!(
                "if it was made for this work tree (`--separate-git-dir`): `git -C {top} config core.worktree {top}`"
            ),
        }
    }
}

/// Whether a git directory is the one in its own work tree.
fn is_usual(directory: &Path) -> bool {
    directory.file_name() == Some(OsStr::new(".git"))
}

/// Refuses a `.git` that leads to a git directory which knows nothing of this work tree: it may be that of
/// somebody's other repository. A linked work tree is named in `gitdir` there, a submodule in `core.worktree`
/// (gitrepository-layout(5), gitsubmodules(7)). One within the work tree has come with it.
pub(super) fn check_link(top: &Path, directory: &Path) -> io::Result<()> {
    let is_here = |path: &[u8], place: &Path| {
        let path = directory.join(OsStr::from_bytes(path.trim_ascii_end()));
        path.canonicalize().is_ok_and(|path| path == place)
    };
    let whole = directory.canonicalize()?;
    let git = top.join(".git");
    let is_within = whole.starts_with(top) && !is_usual(&whole);
    let is_linked =
        read_small(&directory.join("gitdir"), LARGEST_PATH).is_ok_and(|path| is_here(&path, &git));
    let named = |config: &str| {
        let listed = listed_settings(&directory.join(config)).unwrap_or_default();
        records(&listed)
            .filter_map(|record| record.strip_prefix(b"core.worktree\n"))
            .any(|path| is_here(path, top))
    };
    if is_within || is_linked || named("config") || named("config.worktree") {
        return Ok(());
    }
    Err(io::Error::other(LedElsewhere {
        top: top.to_owned(),
        directory: whole,
    }))
}

/// Refuses a git directory that has what it is made of in another one, unless that one has it as a linked work
/// tree's.
pub(super) fn check_common(top: &Path, directory: &Path, common: &Path) -> io::Result<()> {
    if directory == common {
        return Ok(());
    }
    let (directory, common) = (directory.canonicalize()?, common.canonicalize()?);
    if directory.parent() == Some(&common.join("worktrees")) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "`{}` says that `{}` is its repository, which does not have it as a work tree",
        top.join(".git").display(),
        common.display().to_string().escape_debug(),
    )))
}

/// Refuses a file with git's rules that is neither a regular file nor a directory, which git can't wait for.
fn check_rules(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() && !file.is_dir() => {
            let message = format!("`{}` can't be read: it is no file", path.display());
            Err(io::Error::other(message))
        }
        _ => Ok(()),
    }
}

/// Refuses files with git's rules for a directory, in it or above it up to the top, that are not regular: on a
/// named pipe git would wait forever.
pub(super) fn check_rules_for(top: &Path, folder: &Path) -> io::Result<()> {
    let mut directories = folder.ancestors();
    while let Some(directory) = directories.next().filter(|it| it.starts_with(top)) {
        for name in RULES {
            check_rules(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Refuses such files below a directory, and among those that git reads of a submodule to find its commit.
pub(super) fn check_rules_below(folder: &Path) -> io::Result<()> {
    let mut directories = vec![folder.to_owned()];
    while let Some(directory) = directories.pop() {
        // git can't read what can't be read here.
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name();
            if name == ".git" {
                if let Ok(Some(git)) = git_directory(&directory) {
                    check_head(&git)?;
                }
            } else if kind.is_dir() {
                directories.push(entry.path());
            } else if !kind.is_file() && RULES.iter().any(|rules| name == *rules) {
                check_rules(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Refuses files that are not regular where git looks for a repository's newest commit.
fn check_head(git: &Path) -> io::Result<()> {
    for name in ["HEAD", "config", "commondir", "packed-refs", "refs"] {
        match check_files(&git.join(name), Path::new("/"), &mut HashSet::new()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            checked => checked?,
        }
    }
    Ok(())
}

/// Refuses a file that is not regular, a link to what is not within a directory, and a directory with one of
/// those in it, or below it. `seen` has the directories that were looked at.
pub(super) fn check_files(
    path: &Path,
    within: &Path,
    seen: &mut HashSet<(u64, u64)>,
) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if fs::symlink_metadata(path)?.is_symlink() && !path.canonicalize()?.starts_with(within) {
        return Err(io::Error::other(format!(
            "`{}` leads out of its repository",
            path.display()
        )));
    }
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
        match check_files(&entry.path(), within, seen) {
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

/// What is read of a user's configuration.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The text of our configuration, with what is taken over of the user's.
    pub(super) text: String,
    /// Where the repository comes from.
    pub(super) origin: Option<String>,
    /// A remote whose tags are not fetched (`git clone --no-tags`).
    pub(super) without_tags: Option<String>,
    /// Whether objects are fetched when they are needed (`git clone --filter`).
    pub(super) is_partial: bool,
}

/// Reads a user's configuration.
pub(super) fn settings(config: &Path) -> Settings {
    use std::fmt::Write as _;

    // With that, files that are there are looked at though the index says that they are left out.
    let mut settings = Settings {
        text: format!(
            "[core]\nrepositoryformatversion = 1\nbare = false\nhooksPath = /dev/null\nprotectHFS = \
             false\nprotectNTFS = false\nsparseCheckout = true\nbigFileThreshold = {BIG_FILE}\n\
             [pack]\nthreads = 1\n"
        ),
        ..Settings::default()
    };
    let listed = listed_settings(config).unwrap_or_default();
    for record in records(&listed) {
        let record = String::from_utf8_lossy(record);
        let (key, value) = record.split_once('\n').unwrap_or((&record, "true"));
        if key == "remote.origin.url" {
            settings.origin = Some(value.to_owned());
        }
        let remote = |name: &str| key.strip_prefix("remote.")?.strip_suffix(name);
        if let Some(name) = remote(".tagopt") {
            settings.without_tags = (value == "--no-tags").then(|| name.to_owned());
        }
        let value = value.to_lowercase();
        settings.is_partial |= remote(".promisor").is_some() && value == "true";
        let known = SETTINGS.iter().find(|(name, _)| *name == key);
        if known.is_some_and(|(_, values)| values.contains(&value.as_str()))
            && let Some((section, name)) = key.split_once('.')
        {
            let _ = writeln!(settings.text, "[{section}]\n{name} = {value}");
        }
    }
    settings
}
