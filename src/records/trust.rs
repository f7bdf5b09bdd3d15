//! Which programs of a project may run on this machine.
//!
//! A `jobs.yaml` may have come with a repository that was cloned a minute ago. What it runs outside of any
//! container is trusted by its content, as direnv trusts an `.envrc`: a changed program is another one.
//! Grants are among the user's own state, never beside jobs.yaml, so that no repository brings its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::durable;
use super::hex;
use crate::model::Digest;

/// How far a program is read for its first line, and how much of that is kept: as much as the kernel reads
/// (`BINPRM_BUF_SIZE`).
const BEGINNING_BYTES: u64 = 4096;
const FIRST_LINE_BYTES: usize = 256;
/// What anybody but the owner may write.
const OTHERS_MAY_WRITE: u32 = 0o022;

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
}

impl HostProgram {
    /// Reads a program.
    ///
    /// # Errors
    ///
    /// It can't be read, or it is not a file.
    pub fn read(manifest: &Path, program: &Path, args: Vec<String>) -> io::Result<Self> {
        // One that comes through a pipe has no path.
        let manifest = manifest
            .canonicalize()
            .unwrap_or_else(|_| manifest.to_owned());
        let program = program.canonicalize()?;
        let mut file = open(&program)?;
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut file, &mut hash)?;
        Ok(Self {
            manifest,
            program,
            args,
            digest: Digest::from(<[u8; 32]>::from(hash.finalize())),
            bytes,
        })
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
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.manifest, &self.program] {
            hash.update(part.as_os_str().as_encoded_bytes());
            hash.update([0]);
        }
        for arg in &self.args {
            hash.update(arg);
            hash.update([0]);
        }
        hash.update(self.digest.as_str());
        hex(&hash.finalize())
    }
}

fn open(program: &Path) -> io::Result<File> {
    if !program.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(program)
}

/// That a program may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The program, as it was then.
    pub program: HostProgram,
    /// When the user allowed it.
    pub granted: Timestamp,
}

impl Grant {
    /// Whether the program is still what was granted; nothing if it is gone.
    #[must_use]
    pub fn is_current(&self) -> Option<bool> {
        let granted = &self.program;
        let now = HostProgram::read(&granted.manifest, &granted.program, granted.args.clone());
        Some(now.ok()? == *granted)
    }
}

/// A program that may not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// The program, as it is now.
    pub program: HostProgram,
    /// What the user allowed of it last, if anything.
    pub earlier: Option<Grant>,
}

impl Untrusted {
    /// Why it may not run.
    #[must_use]
    pub fn reason(&self) -> String {
        let Some(earlier) = &self.earlier else {
            return "not trusted".to_owned();
        };
        let date = earlier.granted.strftime("%Y-%m-%d");
        if earlier.program.digest == self.program.digest {
            format!("called with other arguments than it was allowed with on {date}")
        } else {
            format!("changed since it was allowed on {date}")
        }
    }
}

/// What the user trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Where grants are kept; nothing where the user has no place of his own.
    directory: Option<PathBuf>,
    /// Whether the user vouches for the whole project.
    is_given: bool,
}

impl Trust {
    /// What is granted in a directory. It must be the user's own, outside of any project.
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            is_given: false,
        }
    }

    /// The same where the user vouches for all that the project runs.
    #[must_use]
    pub fn given(self, is_given: bool) -> Self {
        Self { is_given, ..self }
    }

    /// Whether the user vouches for all that the project runs.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.is_given
    }

    /// Whether a program may run as it is. What is wrong with the grants allows nothing.
    #[must_use]
    pub fn allows(&self, program: &HostProgram) -> bool {
        let granted = || {
            let directory = self.of(&program.manifest).ok()?;
            let grant = read(&directory.join(program.key()))?;
            is_private(directory).then_some(grant)
        };
        self.is_given || granted().is_some_and(|grant| grant.program == *program)
    }

    /// A program, if it may not run as it is.
    #[must_use]
    pub fn refuses(&self, program: HostProgram) -> Option<Untrusted> {
        if self.allows(&program) {
            return None;
        }
        let of_it = |grant: &Grant| {
            let granted = &grant.program;
            granted.manifest == program.manifest && granted.program == program.program
        };
        // Whatever is wrong with them, it is not allowed.
        let grants = self.grants().unwrap_or_default().into_iter();
        let earlier = grants.filter(of_it).max_by_key(|grant| grant.granted);
        Some(Untrusted { program, earlier })
    }

    /// Remembers that a program may run.
    ///
    /// # Errors
    ///
    /// There is no place for it, or it can't be written there.
    pub fn grant(&self, program: &HostProgram, now: Timestamp) -> io::Result<()> {
        let directory = self.of(&program.manifest)?;
        durable::create_directory(directory)?;
        let grant = Grant {
            program: program.clone(),
            granted: now,
        };
        let text = serde_json::to_vec(&grant)?;
        durable::write(&directory.join(program.key()), &text)
    }

    /// All grants, by project.
    ///
    /// # Errors
    ///
    /// They can't be read.
    pub fn grants(&self) -> io::Result<Vec<Grant>> {
        let mut grants: Vec<_> = self.files()?.into_iter().map(|(_, grant)| grant).collect();
        grants.sort_by(|a, b| {
            let order = |grant: &Grant| (grant.program.manifest.clone(), grant.granted);
            order(a).cmp(&order(b))
        });
        Ok(grants)
    }

    /// Takes back what was granted to a project. Says what that was.
    ///
    /// # Errors
    ///
    /// A grant can't be removed.
    pub fn revoke(&self, manifest: &Path) -> io::Result<Vec<Grant>> {
        let mut revoked = Vec::new();
        for (path, grant) in self.files()? {
            if grant.program.manifest != manifest {
                continue;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => revoked.push(grant),
            }
        }
        Ok(revoked)
    }

    fn files(&self) -> io::Result<Vec<(PathBuf, Grant)>> {
        let Some(directory) = &self.directory else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            files.extend(read(&path).map(|grant| (path, grant)));
        }
        Ok(files)
    }

    /// The directory, for a project that is not above it, nor in a repository that is.
    fn of(&self, manifest: &Path) -> io::Result<&Path> {
        let Some(directory) = &self.directory else {
            return Err(io::Error::other("neither HOME nor XDG_STATE_HOME is set"));
        };
        let is_inside = manifest
            .parent()
            .is_some_and(|project| directory.starts_with(top(project)));
        if is_inside {
            return Err(io::Error::other("it is inside the project itself"));
        }
        Ok(directory)
    }
}

/// The top of the git repository that a directory is in; the directory, where it is in none. A repository within
/// another one, as a submodule is, has a file in place of `.git`, and belongs to it.
fn top(directory: &Path) -> &Path {
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

/// A grant; nothing where there is none that can be relied on.
fn read(path: &Path) -> Option<Grant> {
    let bytes = durable::read(path).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whether nobody else may put grants into a directory.
fn is_private(directory: &Path) -> bool {
    directory
        .metadata()
        .is_ok_and(|metadata| metadata.mode() & OTHERS_MAY_WRITE == 0)
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
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use std::ffi::OsStr;

    use super::*;

    struct Project {
        top: tempfile::TempDir,
        trust: Trust,
    }

    impl Project {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            for name in ["project", "other"] {
                fs::create_dir(top.path().join(name)).unwrap();
                fs::write(top.path().join(name).join("jobs.yaml"), "").unwrap();
                fs::write(top.path().join(name).join("make"), "#!/bin/sh\n").unwrap();
            }
            let state = top.path().canonicalize().unwrap().join("state/trust");
            let trust = Trust::new(Some(state));
            Self { top, trust }
        }

        fn program(&self, project: &str, program: &str) -> HostProgram {
            let folder = self.top.path().join(project);
            let args = vec!["debian:12".to_owned()];
            HostProgram::read(&folder.join("jobs.yaml"), &folder.join(program), args).unwrap()
        }

        fn grant(&self) {
            let program = self.program("project", "make");
            self.trust.grant(&program, Timestamp::UNIX_EPOCH).unwrap();
            assert!(self.trust.allows(&program));
        }

        fn directory(&self) -> PathBuf {
            self.trust.directory.clone().unwrap()
        }

        fn file(&self) -> PathBuf {
            let mut files = fs::read_dir(self.directory()).unwrap();
            files.next().unwrap().unwrap().path()
        }

        fn is_allowed(&self) -> bool {
            self.trust.allows(&self.program("project", "make"))
        }
    }

    #[test]
    fn only_what_was_granted_is_allowed() {
        let project = Project::new();
        assert!(!project.is_allowed());
        project.grant();
        assert!(project.is_allowed());
        // The same content elsewhere, for another project, or called with something else.
        assert!(!project.trust.allows(&project.program("other", "make")));
        assert!(
            !project
                .trust
                .allows(&project.program("project", "../other/make"))
        );
        let mut other = project.program("project", "make");
        other.args = vec!["evil".to_owned()];
        assert!(!project.trust.allows(&other));
        assert!(Trust::default().given(true).allows(&other));
        let make = project.top.path().join("project/make");
        fs::write(&make, "#!/bin/sh\nevil\n").unwrap();
        assert!(!project.is_allowed());
        let grants = project.trust.grants().unwrap();
        assert_eq!(grants[0].is_current(), Some(false));
        // As before is as it was granted.
        fs::write(&make, "#!/bin/sh\n").unwrap();
        assert!(project.is_allowed());
        assert_eq!(grants[0].is_current(), Some(true));
        fs::remove_file(&make).unwrap();
        assert_eq!(grants[0].is_current(), None);
    }

    #[test]
    fn a_link_is_what_it_leads_to() {
        let project = Project::new();
        let link = project.top.path().join("project/link");
        symlink("make", &link).unwrap();
        project.grant();
        assert!(project.trust.allows(&project.program("project", "link")));
        fs::remove_file(&link).unwrap();
        symlink("../other/make", &link).unwrap();
        assert!(!project.trust.allows(&project.program("project", "link")));
    }

    #[test]
    fn what_is_revoked_is_not_allowed() {
        let project = Project::new();
        project.grant();
        let other = project.program("other", "make");
        project.trust.grant(&other, Timestamp::UNIX_EPOCH).unwrap();
        let manifest = project.program("project", "make").manifest;
        let revoked = project.trust.revoke(&manifest).unwrap();
        assert_eq!(revoked.len(), 1);
        assert!(!project.is_allowed() && project.trust.allows(&other));
        assert_eq!(project.trust.revoke(&manifest).unwrap(), []);
    }

    #[test]
    fn grants_are_the_users_own_or_none() {
        let project = Project::new();
        project.grant();
        let (directory, file) = (project.directory(), project.file());
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!project.is_allowed());
        project.grant();
        assert_eq!(mode(&directory), 0o700);
        // A link to a grant is none.
        let elsewhere = project.top.path().join("project/grant");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        assert!(!project.is_allowed());
        fs::remove_file(&file).unwrap();
        // A grant under another's name is none either.
        let other = project.program("other", "make");
        project.trust.grant(&other, Timestamp::UNIX_EPOCH).unwrap();
        fs::rename(project.file(), &file).unwrap();
        assert!(!project.is_allowed());
        fs::write(&file, "{}").unwrap();
        assert!(!project.is_allowed());
    }

    #[test]
    fn a_project_does_not_bring_its_own_grants() {
        let project = Project::new();
        let inside = project.top.path().canonicalize().unwrap();
        let trust = Trust::new(Some(inside.join("project/.local/state/jobctl/trust")));
        let program = project.program("project", "make");
        let refused = trust.grant(&program, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.to_string(), "it is inside the project itself");
        assert!(!trust.allows(&program));
        // Nor where somebody has put one there.
        let directory = trust.directory.clone().unwrap();
        durable::create_directory(&directory).unwrap();
        let grant = Grant {
            program: program.clone(),
            granted: Timestamp::UNIX_EPOCH,
        };
        let text = serde_json::to_vec(&grant).unwrap();
        durable::write(&directory.join(program.key()), &text).unwrap();
        assert!(!trust.allows(&program));
    }

    #[test]
    fn a_repository_does_not_bring_grants_for_a_project_in_it() {
        let project = Project::new();
        let inside = project.top.path().canonicalize().unwrap();
        let trust = Trust::new(Some(inside.join("home/.local/state/jobctl/trust")));
        let program = project.program("project", "make");
        trust.grant(&program, Timestamp::UNIX_EPOCH).unwrap();
        assert!(trust.allows(&program));
        fs::create_dir(inside.join(".git")).unwrap();
        assert!(!trust.allows(&program));
        // A submodule is a part of the repository; a clone in it is not.
        let git = inside.join("project/.git");
        fs::write(&git, "gitdir: ../.git/modules/project\n").unwrap();
        assert!(!trust.allows(&program));
        fs::remove_file(&git).unwrap();
        fs::create_dir(&git).unwrap();
        assert!(trust.allows(&program));
    }

    #[test]
    fn a_first_line_is_all_that_the_kernel_reads() {
        let project = Project::new();
        let line = |text: &[u8]| {
            fs::write(project.top.path().join("project/make"), text).unwrap();
            let line = project.program("project", "make").first_line();
            line.map(OsString::into_vec)
        };
        let forged = b"#!/usr/bin/env -S sh -c \"evil\"\r#!/bin/sh -e";
        assert_eq!(line(&[&forged[..], b"\nexit\n"].concat()).unwrap(), forged);
        assert_eq!(line(b"#!/bin/sh \xff\n").unwrap(), b"#!/bin/sh \xff");
        assert_eq!(
            line(b"#!/bin/sh -c evil\nexit\n").unwrap(),
            b"#!/bin/sh -c evil"
        );
        assert_eq!(line(b"\x7fELF\xff\xff"), None);
        let long = line(&[b' '; 300]).unwrap();
        assert_eq!(long, [&[b' '; 256][..], "…".as_bytes()].concat());
    }

    #[test]
    fn what_is_no_file_is_no_program() {
        let project = Project::new();
        let folder = project.top.path().join("project");
        let found = HostProgram::read(&folder.join("jobs.yaml"), &folder, Vec::new());
        assert_eq!(found.unwrap_err().to_string(), "it is not a file");
    }

    #[test]
    fn the_first_line_is_the_one_behind_the_interpreters() {
        let project = Project::new();
        let make = project.top.path().join("project/make");
        let long = "x".repeat(200);
        for (text, expected) in [
            ("#!/bin/sh\n", Some("#!/bin/sh")),
            (
                "#!/bin/sh -eu\n\n  \n\tcurl x | sh\nrm x\n",
                Some("\tcurl x | sh"),
            ),
            ("#!/usr/bin/env python3\nprint()\n", Some("print()")),
            ("#!/tmp/sh\nexit\n", Some("#!/tmp/sh")),
            ("curl x\nrm x", Some("curl x")),
            (long.as_str(), Some(&long)),
            ("", None),
        ] {
            fs::write(&make, text).unwrap();
            let line = project.program("project", "make").first_line();
            assert_eq!(line.as_deref(), expected.map(OsStr::new));
        }
        fs::write(&make, b"\x7fELF\xff\xfe\n").unwrap();
        assert_eq!(project.program("project", "make").first_line(), None);
    }

    #[test]
    fn a_refusal_says_what_changed() {
        let project = Project::new();
        let reason = |program: HostProgram| {
            let refused = project.trust.refuses(program);
            refused.map(|refused| refused.reason())
        };
        let new = project.program("project", "make");
        assert_eq!(reason(new.clone()).unwrap(), "not trusted");
        project.grant();
        assert_eq!(reason(new.clone()), None);
        let args = vec!["debian:13".to_owned()];
        assert_eq!(
            reason(HostProgram { args, ..new }).unwrap(),
            "called with other arguments than it was allowed with on 1970-01-01"
        );
        fs::write(project.top.path().join("project/make"), "other").unwrap();
        assert_eq!(
            reason(project.program("project", "make")).unwrap(),
            "changed since it was allowed on 1970-01-01"
        );
        // Another project's is another program.
        let other = reason(project.program("other", "make"));
        assert_eq!(other.unwrap(), "not trusted");
    }
}
