//! Which programs of a project may run on this machine.
//!
//! A `jobs.yaml` may have come with a repository that was cloned a minute ago. What it runs outside of any
//! container is trusted by its content, as direnv trusts an `.envrc`: a changed program is another one.
//! Grants are among the user's own state, never beside jobs.yaml, so that no repository brings its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::durable;
use super::host_program::{HostProgram, NamedFile, repository};

/// What anybody but the owner may write.
const OTHERS_MAY_WRITE: u32 = 0o022;

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
        self.program.is_current().ok()
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
        let (then, now) = (&earlier.program, &self.program);
        if then.digest != now.digest {
            return format!("changed since it was allowed on {date}");
        }
        if then.args != now.args {
            return format!("called with other arguments than it was allowed with on {date}");
        }
        let differs = |file: &&NamedFile| !(then.named.contains(file) && now.named.contains(file));
        match now.named.iter().chain(&then.named).find(differs) {
            Some(file) => format!(
                "`{}`, which its first line leads to, is not what was allowed with it on {date}",
                file.path.display()
            ),
            None => format!("not as it was allowed on {date}"),
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
            .is_some_and(|project| directory.starts_with(repository(project)));
        if is_inside {
            return Err(io::Error::other("it is inside the project itself"));
        }
        Ok(directory)
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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
            let manifest = folder.join("jobs.yaml");
            HostProgram::read(&manifest, &folder.join(program), args, "".as_ref()).unwrap()
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
        let interpreter = project
            .top
            .path()
            .canonicalize()
            .unwrap()
            .join("project/sh");
        let with_interpreter = |text: &str| {
            fs::write(&interpreter, text).unwrap();
            let line = format!("#!{}\n", interpreter.display());
            fs::write(project.top.path().join("project/run"), line).unwrap();
            project.program("project", "run")
        };
        let program = with_interpreter("a");
        project
            .trust
            .grant(&program, Timestamp::UNIX_EPOCH)
            .unwrap();
        assert_eq!(reason(program), None);
        let changed = format!(
            "`{}`, which its first line leads to, is not what was allowed with it on 1970-01-01",
            interpreter.display()
        );
        assert_eq!(reason(with_interpreter("b")).unwrap(), changed);
        let grants = project.trust.grants().unwrap();
        assert!(grants.iter().any(|grant| grant.is_current() == Some(false)));
        assert_eq!(reason(with_interpreter("a")), None);
        let grants = project.trust.grants().unwrap();
        assert!(grants.iter().all(|grant| grant.is_current() == Some(true)));
        // One that is gone is not what was allowed either.
        fs::remove_file(&interpreter).unwrap();
        assert_eq!(reason(project.program("project", "run")).unwrap(), changed);
        let grants = project.trust.grants().unwrap();
        assert!(grants.iter().any(|grant| grant.is_current() == Some(false)));
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
