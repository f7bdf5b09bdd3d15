//! The files that `jobctl init` writes, and what their scripts do in a repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::image::ImageName;
use crate::support::{Bench, Ended, jobctl, run};

/// A git repository in `repo` of a bench, which has jobctl as `tools/jobctl`.
struct Repository {
    bench: Bench,
}

impl Repository {
    /// One on a branch, with the jobs.yaml in a directory of it.
    fn new(branch: &str, jobs: &str) -> Self {
        let repository = Self {
            bench: Bench::new(),
        };
        repository.bench.write(jobs, "");
        let program = format!("#!/bin/sh\nexec '{}' \"$@\"\n", jobctl().display());
        let program = repository.bench.write("repo/tools/jobctl", &program);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        repository.git(&["init", "--quiet"]);
        repository.git(&["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")]);
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path().join("repo").join(name)
    }

    fn git(&self, args: &[&str]) -> String {
        let ended = run(self
            .bench
            .command("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(self.path("")));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "all"]);
    }

    /// `jobctl init` in a directory of the bench.
    fn init(&self, system: &str, directory: &str) -> Ended {
        let mut command = self.bench.jobctl();
        run(command
            .args([
                "init",
                "--force",
                "--ci",
                system,
                "--jobctl",
                "tools/jobctl",
            ])
            .arg(directory))
    }

    /// What it has written.
    fn read(&self, name: &str) -> (String, Value) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        let document = serde_yaml::from_str(&text).unwrap();
        (text, document)
    }
}

#[test]
fn a_second_command_of_a_gitlab_job_sees_a_clean_checkout() {
    let repository = Repository::new("main", "repo/jobs.yaml");
    let image = ImageName::new();
    let name = image.as_str();
    repository.bench.write(
        "repo/jobs.yaml",
        &format!(
            "version: 1\nname: test\nimage: {{ version: git }}\njobs:\n  {name}: {{ build: {{ context: . }} }}\n"
        ),
    );
    let label = image.label();
    let dockerfile = format!("FROM scratch\nLABEL {label}\nCOPY jobs.yaml /\n");
    repository.bench.write("repo/Dockerfile", &dockerfile);
    let ended = repository.init("gitlab", "repo");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    repository.commit();
    repository.git(&["tag", "v0.3.0"]);

    let (_, file) = repository.read(".gitlab-ci.yml");
    let job = &file[".jobctl"];
    let lines = |key: &str| {
        let lines = job[key].as_array().unwrap().iter();
        let lines: Vec<_> = lines.map(|line| line.as_str().unwrap()).collect();
        lines.join("\n")
    };
    let project = repository.path("").canonicalize().unwrap();
    let project = project.to_str().unwrap();
    let output = job["variables"]["JOBCTL_OUTPUT"].as_str().unwrap();
    let output = output.replace("$CI_PROJECT_DIR", project);
    let shell = |script: &str| {
        let mut command = repository.bench.command("bash");
        let ended = run(command
            .args(["-eo", "pipefail", "-c", script])
            .current_dir(project)
            .env("CI_PROJECT_DIR", project)
            .env("JOBCTL_OUTPUT", &output));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    };
    let build = format!("{}\njobctl build\njobctl build", lines("before_script"));
    // What an earlier job on the same runner has left is not this one's.
    fs::create_dir_all(repository.path("../repo.tmp")).unwrap();
    fs::write(&output, "JOBCTL_RUN_ID=stale\n").unwrap();
    shell(&build);
    assert_eq!(repository.git(&["status", "--short"]), "");
    shell(&lines("after_script"));
    let report = job["artifacts"]["reports"]["dotenv"].as_str().unwrap();
    let variables = fs::read_to_string(repository.path(report)).unwrap();
    let versions: Vec<_> = variables
        .lines()
        .filter(|line| line.starts_with("JOBCTL_VERSION="))
        .collect();
    assert_eq!(versions, ["JOBCTL_VERSION=0.3.0"; 2], "{variables}");
    assert!(!variables.contains("stale"), "{variables}");
    // A job that failed before jobctl wrote anything.
    fs::remove_file(&output).unwrap();
    shell(&lines("after_script"));
}

const JOBS: &str = "version: 1\nname: test\njobs: { app: { build: app } }\n";

#[test]
fn a_workflow_pushes_the_default_branch() {
    let repository = Repository::new("trunk", "repo/jobs.yaml");
    repository.bench.write("repo/jobs.yaml", JOBS);
    // A hook of the repository's does not run.
    let hook = "#!/bin/sh\ntouch ../hooked\n";
    let hook = repository.bench.write("repo/.git/hooks/fsmonitor", hook);
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    repository.git(&["config", "core.fsmonitor", ".git/hooks/fsmonitor"]);
    let branches = || {
        let ended = repository.init("github", "repo");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let (_, file) = repository.read(".github/workflows/jobctl.yml");
        // YAML 1.1 takes the key for `true`.
        let on = file.get("on").or_else(|| file.get("true")).unwrap();
        on["push"]["branches"].clone()
    };
    assert_eq!(branches(), serde_json::json!(["trunk"]));
    // The one of a clone, whatever is checked out.
    repository.git(&["config", "--unset", "core.fsmonitor"]);
    repository.commit();
    repository.git(&["update-ref", "refs/remotes/origin/master", "HEAD"]);
    let head = "refs/remotes/origin/HEAD";
    repository.git(&["symbolic-ref", head, "refs/remotes/origin/master"]);
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    assert_eq!(branches(), serde_json::json!(["master"]));
    repository.git(&["checkout", "--quiet", "--detach"]);
    repository.git(&["symbolic-ref", "--delete", head]);
    assert_eq!(branches(), serde_json::json!(["main"]));
    assert!(!repository.bench.path().join("hooked").exists());
}

#[test]
fn a_workflow_of_a_subdirectory_is_at_the_top_and_works_there() {
    let repository = Repository::new("main", "repo/my jobs/jobs.yaml");
    let jobs = JOBS.replace("app }", "app, image: x }");
    repository.bench.write("repo/my jobs/jobs.yaml", JOBS);
    repository.bench.write("repo/my jobs/sub/file", "");
    for (system, name) in [
        ("github", ".github/workflows/jobctl.yml"),
        ("gitlab", ".gitlab-ci.yml"),
    ] {
        for directory in ["repo/my jobs", "repo/my jobs/sub"] {
            let ended = repository.init(system, directory);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert_eq!(ended.stderr, format!("wrote repo/{name}\n"));
            let (text, _) = repository.read(name);
            assert_eq!(
                text.matches("jobctl -C 'my jobs' build").count(),
                2,
                "{text}"
            );
            assert!(!repository.path(&format!("my jobs/{name}")).exists());
        }
    }
    // Another name than jobs.yaml.
    repository.bench.write("repo/my jobs/other.yaml", JOBS);
    let init = |file: &str| {
        let mut command = repository.bench.jobctl();
        let flags = [
            "--force",
            "--ci",
            "gitlab",
            "--jobctl",
            "tools/jobctl",
            "repo",
        ];
        run(command.args(["-f", file, "init"]).args(flags))
    };
    let ended = init("repo/my jobs/other.yaml");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (text, _) = repository.read(".gitlab-ci.yml");
    assert!(
        text.contains("jobctl -f 'my jobs/other.yaml' build"),
        "{text}"
    );
    repository.bench.write("outside.yaml", JOBS);
    let ended = init("outside.yaml");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("is not in the repository"),
        "{ended:?}"
    );
    // What is wrong with jobs.yaml is reported.
    repository.bench.write("repo/my jobs/jobs.yaml", &jobs);
    let ended = repository.init("github", "repo/my jobs");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("repo/my jobs/jobs.yaml:3"),
        "{ended:?}"
    );
}

#[test]
fn a_workflow_has_the_registry_of_jobs_yaml() {
    let repository = Repository::new("main", "repo/jobs.yaml");
    let jobs = format!("{JOBS}image: {{ prefix: registry.example/team- }}\n");
    repository.bench.write("repo/jobs.yaml", &jobs);
    for (system, name) in [
        ("github", ".github/workflows/jobctl.yml"),
        ("gitlab", ".gitlab-ci.yml"),
    ] {
        let ended = repository.init(system, "repo");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let (text, _) = repository.read(name);
        assert!(!text.contains("--image-prefix"), "{text}");
        assert!(text.contains("jobctl login registry.example -u"), "{text}");
    }
}

#[test]
fn a_missing_jobs_yaml_is_reported() {
    let repository = Repository::new("main", "repo/sub/file");
    // One outside of the repository is not checked out.
    repository.bench.write("jobs.yaml", JOBS);
    let ended = repository.init("github", "repo/sub");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "wrote repo/.github/workflows/jobctl.yml\nwarning: there is no jobs.yaml in `repo/sub`: the pipeline fails until \
         there is one\n"
    );
    let ended = repository.init("github", "nowhere");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "error: can't read `nowhere`: No such file or directory\n"
    );
}

#[test]
fn a_terminal_is_asked_where_ci_gets_jobctl_from() {
    use std::io::Write as _;
    use std::process::Stdio;

    let repository = Repository::new("main", "repo/jobs.yaml");
    repository.bench.write("repo/jobs.yaml", JOBS);
    let line = format!("{} init --ci gitlab", jobctl().display());
    let mut command = repository.bench.command("script");
    let mut child = command
        .args(["-qec", &line, "/dev/null"])
        .current_dir(repository.path(""))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"tools/jobctl\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("source: "), "{shown}");
    assert!(repository.path(".gitlab-ci.yml").exists());
}
