//! `source.patch`: what a build was given and the commit does not have.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::image::{DEBIAN, ImageName};
use crate::support::project::Project;
use crate::support::run;

/// A project in a repository, with a job that is built.
struct Repository {
    project: Project,
    image: ImageName,
}

impl Repository {
    /// Files are written and committed.
    fn new(jobs: &str, files: &[(&str, &str)]) -> Self {
        let project = Project::new(jobs);
        let image = ImageName::new();
        let repository = Self { project, image };
        repository.git(&["init", "--quiet", "."]);
        repository.write("Dockerfile", &repository.dockerfile());
        repository.write("app.sh", "echo one\n");
        for (name, text) in files {
            repository.write(name, text);
        }
        // The bench has a home of its own in it.
        repository.write(".git/info/exclude", "/home\n");
        repository.commit();
        repository
    }

    /// A Dockerfile whose image is removed with this.
    fn dockerfile(&self) -> String {
        let label = self.image.label();
        format!("FROM {DEBIAN}\nLABEL {label}\nCOPY app.sh /app.sh\n")
    }

    fn path(&self) -> &Path {
        self.project.bench.path()
    }

    fn write(&self, name: &str, text: &str) {
        self.project.bench.write(name, text);
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "one"]);
    }

    fn git(&self, args: &[&str]) -> String {
        self.git_in(self.path(), args)
    }

    fn git_in(&self, folder: &Path, args: &[&str]) -> String {
        let mut command = self.project.bench.command("git");
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
        command
            .args(author)
            .args(["-c", "protocol.file.allow=always"]);
        let ended = run(command.args(args).current_dir(folder));
        assert_eq!(ended.code, Some(0), "git {args:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Runs the job; the record's `source`, and the patch.
    fn run(&self) -> (Value, Option<PathBuf>) {
        self.run_with(&[])
    }

    fn run_with(&self, flags: &[&str]) -> (Value, Option<PathBuf>) {
        let mut command = self.project.run(&[flags, &["a"]].concat());
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let record = self.project.records().remove(0);
        let id = record["id"].as_str().unwrap();
        let patch = self
            .path()
            .join(".jobctl/runs")
            .join(id)
            .join("source.patch");
        let source = record["source"].clone();
        assert_eq!(patch.exists(), source["patch"] == "source.patch");
        // What the commit has in clear is masked in the patch, which then does not apply.
        let text = std::fs::read(&patch).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let is_masked = text
            .lines()
            .any(|line| line.starts_with(['-', ' ']) && line.contains("***"));
        let warning =
            "source.patch does not apply: lines of the commit in it have secrets, and are masked";
        let expected = if is_masked {
            json!([warning])
        } else {
            json!([])
        };
        assert_eq!(record["warnings"], expected);
        (source, patch.exists().then_some(patch))
    }

    /// The commit with the patch, in a folder of its own.
    fn applied(&self, patch: &Path, commit: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (
            self.path().to_str().unwrap(),
            folder.path().to_str().unwrap(),
        );
        self.git(&["clone", "--quiet", "--no-checkout", from, to]);
        self.git_in(folder.path(), &["checkout", "--quiet", commit]);
        self.git_in(
            folder.path(),
            &["submodule", "--quiet", "update", "--init", "--recursive"],
        );
        let patch = patch.to_str().unwrap();
        self.git_in(folder.path(), &["apply", "--whitespace=nowarn", patch]);
        folder
    }
}

/// Modes, contents and links of all files below a folder, but for git's, the home's and the state's.
fn tree(top: &Path) -> Vec<(Vec<u8>, String)> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            if [".git", ".jobctl", "home"]
                .iter()
                .any(|skipped| name == *skipped)
            {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let content = if metadata.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else {
                let is_program = metadata.permissions().mode() & 0o100 != 0;
                format!("{is_program} {}", fs::read(&path).unwrap().escape_ascii())
            };
            let inside = path.strip_prefix(top).unwrap();
            found.push((inside.as_os_str().as_bytes().to_vec(), content));
        }
    }
    found.sort();
    found
}

const JOBS: &str = "a:\n  build: .\n  command: ['true']\n";

#[test]
fn what_is_no_source_is_not_in_the_patch_and_git_is_left_alone() {
    let ignored = ".env\nid_rsa\ndata\n";
    let repository = Repository::new(
        JOBS,
        &[
            (".dockerignore", ignored),
            (".gitignore", "*.log\n"),
            ("notes.md", "a\n"),
        ],
    );
    repository.write(".env", "API_TOKEN=canary\n");
    repository.write("id_rsa", "canary\n");
    repository.write("conf/.env.local", "canary\n");
    repository.write("hf_token.txt", "canary\n");
    repository.write("deploy.pem", "-----BEGIN RSA PRIVATE KEY-----\ncanary\n");
    repository.write("run.log", "canary\n");
    repository.write("helper.py", "new helper\n");
    repository.write("app.sh", "echo two\n");
    repository.write("Dockerfile.dockerignore", &format!("{ignored}notes.md\n"));
    repository.write("notes.md", "canary\n");
    let big = repository.path().join("weights.bin");
    fs::File::create(&big).unwrap().set_len(10_000_001).unwrap();
    // Nobody could read so much.
    fs::create_dir(repository.path().join("data")).unwrap();
    let data = fs::File::create(repository.path().join("data/d.bin")).unwrap();
    data.set_len(50_000_000_000).unwrap();
    let objects = || repository.git(&["count-objects", "-v"]);
    let before = objects();

    let (source, patch) = repository.run();
    let patch = patch.unwrap();
    assert_eq!(objects(), before);
    assert_eq!(
        patch.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&patch).unwrap();
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(
        source["files"],
        json!(["Dockerfile.dockerignore", "app.sh", "helper.py"])
    );
    let left_out = |path: &str, reason: &str, bytes: u64| json!({ "path": path, "reason": reason, "bytes": bytes });
    assert_eq!(
        source["left_out"],
        json!([
            left_out("conf/.env.local", "secret_name", 7),
            left_out("deploy.pem", "private_key", 39),
            left_out("hf_token.txt", "secret_name", 7),
            left_out("weights.bin", "too_large", 10_000_001),
        ])
    );
}

#[test]
fn a_patch_that_would_be_too_large_leaves_the_largest_files_out() {
    let repository = Repository::new(JOBS, &[]);
    for number in 1..=8 {
        let file = fs::File::create(repository.path().join(format!("part{number}"))).unwrap();
        file.set_len(9_000_000 - number).unwrap();
    }
    let (source, patch) = repository.run();
    let expected = [
        "part2", "part3", "part4", "part5", "part6", "part7", "part8",
    ];
    assert_eq!(source["files"], json!(expected));
    let left_out = json!([{ "path": "part1", "reason": "patch_too_large", "bytes": 8_999_999 }]);
    assert_eq!(source["left_out"], left_out);
    assert!(patch.unwrap().metadata().unwrap().len() < 1_000_000);
    let shown = repository.project.output(&["show", "a"]);
    assert!(
        shown.contains("with changes (source.patch, 1 file left out)"),
        "{shown}"
    );
}

#[test]
fn the_patch_gives_the_context_back() {
    let repository = Repository::new(
        JOBS,
        &[
            ("old name", "moved\n"),
            ("gone", "1\n"),
            ("folder/file", "1\n"),
            ("file", "1\n"),
            ("program", "#!/bin/sh\n"),
            ("link", "was a file\n"),
            ("kept", "kept\n"),
            ("staged", "1\n"),
            ("hidden", "1\n"),
        ],
    );
    let at = |name: &[u8]| repository.path().join(OsStr::from_bytes(name));
    fs::write(at(b"binary"), [0, 1, 2, 255, 10]).unwrap();
    repository.commit();
    fs::rename(at(b"old name"), at(b"new \"name\"\t")).unwrap();
    fs::remove_file(at(b"gone")).unwrap();
    fs::remove_dir_all(at(b"folder")).unwrap();
    fs::write(at(b"folder"), "a file now\n").unwrap();
    fs::remove_file(at(b"file")).unwrap();
    repository.write("file/inside", "a folder now\n");
    fs::set_permissions(at(b"program"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(at(b"link")).unwrap();
    symlink("../some where/else", at(b"link")).unwrap();
    symlink("kept", at(b"new link")).unwrap();
    fs::hard_link(at(b"kept"), at(b"other name of kept")).unwrap();
    fs::write(at(b"binary"), [0, 1, 3, 255, 10, 13]).unwrap();
    fs::write(at(b"new binary"), [0; 5000]).unwrap();
    fs::write(at(b"\xff\n\\:odd\x01"), "any bytes\n").unwrap();
    fs::write(at(b":(top)x"), "magic\n").unwrap();
    fs::write(at(b"no end of line"), "a").unwrap();
    fs::write(at(b"empty"), "").unwrap();
    repository.write("staged", "2\n");
    repository.git(&["add", "staged"]);
    repository.git(&["update-index", "--assume-unchanged", "hidden"]);
    repository.write("hidden", "2\n");
    let (source, patch) = repository.run();
    let applied = repository.applied(&patch.unwrap(), source["revision"].as_str().unwrap());
    assert_eq!(tree(applied.path()), tree(repository.path()));
    assert_eq!(source["left_out"], Value::Null);
}

#[test]
fn submodules_are_given_back_too() {
    let other = Repository::new(JOBS, &[("lib.py", "1\n"), ("same.py", "1\n")]);
    let repository = Repository::new(JOBS, &[]);
    let from = other.path().to_str().unwrap();
    repository.git(&["submodule", "--quiet", "add", from, "libs/one"]);
    repository.commit();
    assert_eq!(repository.run().0["is_dirty"], false);
    // A commit that only the submodule has, and files that no commit has.
    let inside = repository.path().join("libs/one");
    repository.write("libs/one/same.py", "2\n");
    repository.git_in(&inside, &["commit", "--quiet", "--all", "--message", "two"]);
    repository.write("libs/one/lib.py", "2\n");
    repository.write("libs/one/new.py", "new\n");
    let (source, patch) = repository.run();
    assert_eq!(source["is_dirty"], true);
    let expected = ["libs/one/lib.py", "libs/one/new.py", "libs/one/same.py"];
    assert_eq!(source["files"], json!(expected));
    let applied = repository.applied(&patch.unwrap(), source["revision"].as_str().unwrap());
    assert_eq!(tree(applied.path()), tree(repository.path()));
}

#[test]
fn a_dockerfile_outside_of_its_context_is_part_of_the_source() {
    let jobs = "a:\n  build: { context: app, dockerfile: ../docker/own.Dockerfile }\n  command: ['true']\n";
    let repository = Repository::new(jobs, &[("app/app.sh", "1\n"), ("other", "1\n")]);
    let dockerfile = repository.dockerfile();
    repository.write("docker/own.Dockerfile", &dockerfile);
    repository.write("docker/own.Dockerfile.dockerignore", "left\n");
    repository.write("app/left", "1\n");
    repository.write("other", "2\n");
    let (source, patch) = repository.run();
    let files = [
        "docker/own.Dockerfile",
        "docker/own.Dockerfile.dockerignore",
    ];
    assert_eq!(source["files"], json!(files));
    let applied = repository.applied(&patch.unwrap(), source["revision"].as_str().unwrap());
    let written = fs::read_to_string(applied.path().join(files[0])).unwrap();
    assert_eq!(written, dockerfile);
}

#[test]
fn a_runs_secrets_are_starred_out_of_its_patch() {
    let jobs = "a:\n  build: .\n  command: ['true']\n  environment: { HF_TOKEN: }\n";
    let repository = Repository::new(jobs, &[("config.py", "token = 'canary-1234'\n# end\n")]);
    repository.write("config.py", "token = 'canary-1234'\n# another end\n");
    repository.write("new.py", "token = 'canary-1234'\n");
    let path = repository.path().join("new.bin");
    fs::write(&path, b"\0canary-1234\0").unwrap();
    let (source, patch) = repository.run_with(&["-e", "HF_TOKEN=canary-1234"]);
    assert_eq!(source["files"], json!(["config.py", "new.bin", "new.py"]));
    let patch = patch.unwrap();
    let text = fs::read_to_string(&patch).unwrap();
    assert!(!text.contains("canary-1234"), "{text}");
    assert!(text.contains("+token = '***'\n"), "{text}");
    fs::write(&path, "").unwrap();
    let binary = repository.path().join("home/only.patch");
    let section = text.find("diff --git a/new.bin").unwrap();
    let end = text[section..].find("\ndiff --git").unwrap() + 1;
    fs::write(&binary, &text[section..section + end]).unwrap();
    fs::remove_file(&path).unwrap();
    repository.git(&["apply", binary.to_str().unwrap()]);
    assert_eq!(fs::read(&path).unwrap(), b"\0***\0");
}

#[test]
fn nothing_that_a_repository_configures_is_run() {
    let attributes = "* filter=evil diff=evil\n";
    let repository = Repository::new(JOBS, &[(".gitattributes", attributes)]);
    let script = repository.path().join("home/evil");
    let trace = repository.path().join("home/trace");
    fs::write(
        &script,
        format!("#!/bin/sh\necho $0 >>{}\ncat\n", trace.display()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.process",
        "diff.evil.command",
        "diff.evil.textconv",
        "diff.external",
    ] {
        repository.git(&["config", key, script]);
    }
    for hook in [
        "post-index-change",
        "fsmonitor-watchman",
        "reference-transaction",
    ] {
        let hook = repository.path().join(".git/hooks").join(hook);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        symlink(script, hook).unwrap();
    }
    repository.write("app.sh", "echo two\n");
    let mut command = repository.project.run(&["a"]);
    let ended = run(command
        .env("GIT_DIR", "/nowhere")
        .env("GIT_EXTERNAL_DIFF", script)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "diff.external")
        .env("GIT_CONFIG_VALUE_0", script));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let source = &repository.project.record()["source"];
    assert_eq!(source["files"], json!(["app.sh"]));
    assert!(!trace.exists(), "{}", fs::read_to_string(trace).unwrap());
}

#[test]
fn what_git_knows_depends_on_no_configuration_and_no_owner() {
    let repository = Repository::new(JOBS, &[]);
    let head = repository.git(&["rev-parse", "HEAD"]);
    for (key, value) in [
        ("status.showUntrackedFiles", "no"),
        ("column.ui", "always"),
        ("log.showSignature", "true"),
        ("core.worktree", "/nowhere"),
        ("diff.noprefix", "true"),
    ] {
        repository.git(&["config", "--file", ".git/config", key, value]);
    }
    repository.write("new.py", "new\n");
    if rustix::process::geteuid().is_root() {
        let ended = run(Command::new("chown")
            .args(["-R", "12345"])
            .arg(repository.path().join(".git")));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let (source, patch) = repository.run();
    assert_eq!(source["revision"], head.trim());
    assert_eq!(source["is_dirty"], true);
    assert_eq!(source["files"], json!(["new.py"]));
    let text = fs::read_to_string(patch.unwrap()).unwrap();
    assert!(text.starts_with("diff --git a/new.py b/new.py\n"), "{text}");
}
