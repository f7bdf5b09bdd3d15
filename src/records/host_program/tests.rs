use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::HostProgram;

/// A repository, whose jobs.yaml names the program `make`.
struct Project {
    _directory: tempfile::TempDir,
    top: PathBuf,
}

impl Project {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap().join("project");
        fs::create_dir_all(top.join(".git")).unwrap();
        Self {
            _directory: directory,
            top,
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The program, with this PATH.
    fn program(&self, search: &str) -> HostProgram {
        let manifest = self.top.join("jobs.yaml");
        HostProgram::read(
            &manifest,
            &self.top.join("make"),
            Vec::new(),
            search.as_ref(),
        )
        .unwrap()
    }

    /// The files that its first line names: their paths, and whether their content counts.
    fn named(&self, first: &str, search: &str) -> Vec<(PathBuf, bool)> {
        self.write("make", &format!("{first}\nexit\n"));
        let named = self.program(search).named.into_iter();
        named
            .map(|file| (file.path, file.digest.is_some()))
            .collect()
    }
}

#[test]
fn a_first_line_is_all_that_the_kernel_reads() {
    let project = Project::new();
    let line = |text: &[u8]| {
        fs::write(project.top.join("make"), text).unwrap();
        let line = project.program("").first_line();
        line.map(OsString::into_vec)
    };
    let forged = b"#!/usr/bin/env -S sh -c evil\r#!/bin/sh -e";
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
    let found = HostProgram::read(
        &project.top.join("jobs.yaml"),
        &project.top,
        Vec::new(),
        "".as_ref(),
    );
    assert_eq!(found.unwrap_err().to_string(), "it is not a file");
}

#[test]
fn the_first_line_is_the_one_behind_the_interpreters() {
    let project = Project::new();
    let make = project.top.join("make");
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
        let line = project.program("").first_line();
        assert_eq!(line.as_deref(), expected.map(OsStr::new));
    }
    fs::write(&make, b"\x7fELF\xff\xfe\n").unwrap();
    assert_eq!(project.program("").first_line(), None);
}

#[test]
fn what_the_repository_has_of_a_first_line_is_found() {
    let project = Project::new();
    let python = project.write("venv/bin/python", "ELF");
    let tool = project.write("tools/a=b", "");
    let top = project.top.display();
    let link = project.top.join("link");
    symlink("venv/bin/python", &link).unwrap();
    let out = project.top.join("out");
    symlink("/bin/sh", &out).unwrap();
    let elsewhere = project.top.with_file_name("elsewhere");
    symlink(&python, &elsewhere).unwrap();
    let up = "../".repeat(64);
    let (content, link_alone) = (true, false);
    for (line, expected) in [
        (
            format!("#!{top}/venv/bin/python"),
            vec![(python.clone(), content)],
        ),
        (
            format!("#! \t{top}/venv/bin/python -u"),
            vec![(python.clone(), content)],
        ),
        (
            format!("#!/usr/bin/env {top}/venv/bin/python"),
            vec![(python.clone(), content)],
        ),
        (
            format!("#!/usr/bin/env -S A={top}/link {top}/venv/bin/python -u"),
            vec![(link.clone(), content), (python.clone(), content)],
        ),
        (format!("#!/bin/sh {top}/tools/a=b"), vec![(tool, content)]),
        (
            format!("#!/usr/bin/awk -f{top}/venv/bin/python"),
            vec![(python.clone(), content)],
        ),
        (format!("#!{top}/out"), vec![(out, link_alone)]),
        (
            format!("#!{}", elsewhere.display()),
            vec![(elsewhere.clone(), content)],
        ),
        (
            "#!/usr/bin/env python".to_owned(),
            vec![(python.clone(), content)],
        ),
        // The first in PATH that can be executed.
        ("#!/usr/bin/env sh".to_owned(), Vec::new()),
        ("#!/bin/sh -e".to_owned(), Vec::new()),
        (format!("#!{top}/venv/bin"), Vec::new()),
        (format!("#!{top}/nothing"), Vec::new()),
        (format!("exec {top}/venv/bin/python"), Vec::new()),
        ("#!".to_owned(), Vec::new()),
    ] {
        let search = format!("/bin:{top}/venv/bin");
        let search = if line.ends_with(" python") {
            format!("{top}/venv/bin:/bin")
        } else {
            search
        };
        assert_eq!(project.named(&line, &search), expected, "{line}");
    }
    // Relative to the working directory, as for the kernel.
    let named = project.named(&format!("#!{up}{top}/venv/bin/python"), "");
    assert_eq!(named.len(), 1);
    assert!(named[0].1 && named[0].0.ends_with("venv/bin/python"));
}

#[test]
fn a_line_whose_words_do_not_say_what_it_runs_is_refused() {
    let project = Project::new();
    let read = |line: &str| {
        project.write("make", &format!("{line}\nexit\n"));
        let manifest = project.top.join("jobs.yaml");
        let program = project.top.join("make");
        HostProgram::read(&manifest, &program, Vec::new(), "/bin".as_ref())
    };
    for line in [
        "#!/usr/bin/env -S -C bin ./tool",
        "#!/usr/bin/env -S --chdir=bin ./tool",
        "#!/usr/bin/env -S PATH=bin:/bin tool",
        "#!/usr/bin/env -S -i PATH=bin:/bin tool",
        "#!/usr/bin/env -S LD_PRELOAD=x tool",
        "#!/usr/bin/env -S ${PWD}/bin/tool",
        "#!/usr/bin/env -S \"./bin/to\"ol",
        "#!/usr/bin/env -S\\_./bin/tool",
        "#!/usr/bin/env -S -S./bin/tool",
        "#!/usr/bin/env -S env -C bin ./tool",
        "#!/bin/sh -c \"cd bin; ./tool\"",
    ] {
        let refused = read(line).unwrap_err().to_string();
        assert!(refused.contains("can't be known"), "{line}: {refused}");
    }
    for line in [
        "#!/usr/bin/env -S uv run --script",
        "#!/usr/bin/env -S -i LANG=C python3 -u",
        "#!/usr/bin/perl -w",
        "#!/bin/sh -eu",
        "#!/bin/sh\r",
    ] {
        read(line).unwrap();
    }
}

#[test]
fn an_interpreters_interpreter_is_found() {
    let project = Project::new();
    let top = project.top.display();
    let last = project.write("c", "");
    let second = project.write("b", &format!("#!{top}/c\n"));
    let first = project.write("a", &format!("#!{top}/b {top}/a\n"));
    assert_eq!(
        project.named(&format!("#!{top}/a"), ""),
        [(first, true), (second.clone(), true), (last, true)]
    );
    let before = project.program("");
    fs::write(second, "other").unwrap();
    assert_ne!(project.program("").key(), before.key());
    assert!(!before.is_current().unwrap());
}

#[test]
fn a_link_that_leads_elsewhere_is_another_interpreter() {
    let project = Project::new();
    let link = project.top.join("python");
    symlink("/bin/sh", &link).unwrap();
    project.write("make", &format!("#!{}\n", link.display()));
    let before = project.program("");
    assert!(before.is_current().unwrap());
    fs::remove_file(&link).unwrap();
    symlink("/bin/cat", &link).unwrap();
    assert!(!before.is_current().unwrap());
    assert_ne!(project.program("").key(), before.key());
    assert_eq!(
        before.named[0].target,
        Path::new("/bin/sh").canonicalize().unwrap()
    );
}
