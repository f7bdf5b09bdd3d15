//! jobctl as a step of a CI pipeline: without a terminal, and with the variables that runners set.

mod generated;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::pushing::Pusher;
use crate::support::image::{DEBIAN, docker, ensure_debian};
use crate::support::project::Project;
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::{Bench, Ended, run};

/// Sets the variables of a step of GitHub's.
fn as_github(command: &mut Command, folder: &Path) {
    command
        .env("CI", "true")
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", folder)
        .env("GITHUB_OUTPUT", folder.join("home/output"))
        .env("GITHUB_STEP_SUMMARY", folder.join("home/summary"));
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("home").join(name)).unwrap()
}

/// The script of the action's step that calls jobctl.
fn action() -> String {
    let text = std::fs::read_to_string(repository().join("ci/action.yml")).unwrap();
    let action: Value = serde_yaml::from_str(&text).unwrap();
    let steps = action["runs"]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == "jobctl").unwrap();
    step["run"].as_str().unwrap().to_owned()
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_commit_that_is_pushed_again_pushes_nothing() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |_, _, _| Deed::Pass);
    let pusher = Pusher::new(proxy.address);
    let folder = pusher.bench.path();
    let name = pusher.image.as_str();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}/\", version: 1.2.3 }}\njobs:\n  {name}: {{ build: \
         {{ context: . }} }}\n",
        proxy.address
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let script = action();
    let step = || {
        let mut command = pusher.bench.command("bash");
        let program = Path::new(env!("CARGO_BIN_EXE_jobctl")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        // As GitHub's runner calls it.
        command
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script])
            .env("PATH", path)
            .env(
                "JOBCTL_ARGS",
                format!("build --deploy --label '{}' {name}", pusher.image.label()),
            );
        as_github(&mut command, folder);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    };
    let first = step();
    let digest = registry.digest(&format!("test-{name}"), "1.2.3");
    let image = format!("{}/test-{name}:1.2.3", proxy.address);
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &image]);
    let outputs = format!(
        "image={image}\ndigest={digest}\nimage-id={}\nversion=1.2.3\n",
        id.trim()
    );
    assert_eq!(read(folder, "output"), outputs);
    let summary = read(folder, "summary");
    assert!(
        summary.contains(&format!("`{digest}` | pushed |")),
        "{summary}"
    );
    let marks = |word: &str| {
        first
            .stderr
            .lines()
            .filter(|line| line.starts_with(word))
            .count()
    };
    assert!(marks("::group::") >= 2, "{}", first.stderr);
    assert_eq!(
        marks("::group::"),
        marks("::endgroup::"),
        "{}",
        first.stderr
    );
    assert!(!first.stderr.contains('\x1b'), "{}", first.stderr);

    let sent = proxy.count("PUT", "/") + proxy.count("POST", "/") + proxy.count("PATCH", "/");
    let second = step();
    let now = proxy.count("PUT", "/") + proxy.count("POST", "/") + proxy.count("PATCH", "/");
    assert_eq!(now, sent);
    assert!(
        second.stdout.ends_with(&format!("was there\n{digest}\n")),
        "{second:?}"
    );
    assert_eq!(read(folder, "output"), outputs.repeat(2));
}

#[test]
fn what_is_wrong_stands_at_its_line() {
    let bench = Bench::new();
    bench.write(
        "repo/jobs.yaml",
        "version: 1\nname: test\njobs:\n  a: { imagee: x }\n",
    );
    let mut command = bench.jobctl();
    command.args(["-C", "repo", "validate"]);
    as_github(&mut command, bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let mark =
        "::error title=jobctl unknown-key,file=repo/jobs.yaml,line=4,col=8::unknown key `imagee`";
    assert!(ended.stderr.contains(mark), "{}", ended.stderr);
    // JSON has its stdout for itself.
    let mut command = bench.jobctl();
    command.args(["-C", "repo", "--format", "json", "build"]);
    as_github(&mut command, bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    serde_json::from_str::<Value>(&ended.stdout).unwrap();
    assert!(ended.stderr.contains(mark), "{}", ended.stderr);
}

#[test]
fn a_run_is_told_with_its_curve() {
    let project = Project::new(
        "train:\n  image: IMAGE\n  metrics: { log: { loss: 'loss=([0-9.]+)' } }\n  command: [sh, -c, 'for i \
         in 3 2 1; do echo loss=$$i; done']",
    );
    let mut command = project.run(&["train"]);
    as_github(&mut command, project.bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let record = project.record();
    let id = record["id"].as_str().unwrap();
    let outputs = read(project.bench.path(), "output");
    assert!(outputs.contains(&format!("run-id={id}\n")), "{outputs}");
    let image = record["image"]["id"].as_str().unwrap();
    // A registry's, where the test's image was pulled from one.
    let known = record["image"]["repo_digests"].as_array().cloned();
    let known = known.unwrap_or_default().into_iter().find_map(|known| {
        let own = known.as_str()?.strip_prefix("debian@")?;
        Some(own.to_owned())
    });
    let digest = known.unwrap_or_default();
    assert!(
        outputs.contains(&format!("digest={digest}\nimage-id={image}\n")),
        "{outputs}"
    );
    let summary = read(project.bench.path(), "summary");
    assert!(summary.contains("| train | ok |"), "{summary}");
    assert!(summary.contains("loss=1 |"), "{summary}");
    assert!(
        summary.contains("<summary>Metrics of train</summary>"),
        "{summary}"
    );
    assert!(!summary.contains('\x1b'), "{summary}");
}

#[test]
fn a_run_in_the_background_is_known_to_the_next_steps() {
    let project = Project::empty();
    let folder = project.bench.path();
    let start = |flags: &[&str], words: &[&str]| {
        let mut command = project.run_image(flags, words);
        as_github(&mut command, folder);
        run(command.env("JOBCTL_OUTPUT", "home/variables"))
    };
    let started = start(&["-d"], &["sleep", "600"]);
    let id = started.stdout.trim();
    assert_eq!(started.code, Some(0), "{started:?}");
    let outputs = read(folder, "output");
    assert!(outputs.contains(&format!("image={DEBIAN}\n")), "{outputs}");
    assert!(outputs.ends_with(&format!("run-id={id}\n")), "{outputs}");
    let variables = read(folder, "variables");
    assert!(
        variables.ends_with(&format!("JOBCTL_RUN_ID={id}\n")),
        "{variables}"
    );
    project.output(&["kill", id]);
    // One that has failed by then is known, too.
    let failed = start(&["-d", "--init=false"], &["no-such-program"]);
    assert_eq!(failed.code, Some(127), "{failed:?}");
    let id = project.records()[0]["id"].as_str().unwrap().to_owned();
    let outputs = read(folder, "output");
    assert!(outputs.ends_with(&format!("run-id={id}\n")), "{outputs}");
    project.assert_clean();
}

#[test]
fn what_jobctl_says_begins_a_line_behind_a_job_that_ends_none() {
    let project = Project::with_name("a: { image: IMAGE, command: [printf, the end] }");
    for system in ["GITHUB_ACTIONS", "GITLAB_CI"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = project.jobctl(&["run", "a"]);
        command.env("CI", "true").env(system, "true");
        command.stderr(writer.try_clone().unwrap()).stdout(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut log = String::new();
        std::io::Read::read_to_string(&mut reader, &mut log).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{log}");
        let lines: Vec<_> = log.lines().collect();
        let at = lines.iter().position(|line| *line == "the end");
        let at = at.unwrap_or_else(|| panic!("{system}: {log:?}"));
        assert!(lines[at + 1].starts_with("run "), "{system}: {log:?}");
    }
    project.assert_clean();
}

#[test]
fn gitlab_folds_steps_and_hears_of_what_was_made() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    let mut command = pusher.image.build(&pusher.bench, &["--version", "1.0.0"]);
    command
        .env("CI", "true")
        .env("GITLAB_CI", "true")
        .env("JOBCTL_OUTPUT", "home/jobctl.env");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let begins = ended.stderr.matches("\x1b[0Ksection_start:").count();
    let ends = ended.stderr.matches("\x1b[0Ksection_end:").count();
    assert!(begins >= 1 && begins == ends, "{}", ended.stderr);
    let variables = read(pusher.bench.path(), "jobctl.env");
    // What was only built has no digest: no registry has it.
    let image = format!("{}:1.0.0", pusher.image.as_str());
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &image]);
    assert_eq!(
        variables,
        format!(
            "JOBCTL_IMAGE={image}\nJOBCTL_DIGEST=\nJOBCTL_IMAGE_ID={}\nJOBCTL_VERSION=1.0.0\n",
            id.trim()
        )
    );
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// `jobctl init` in a repository of the bench.
fn init(bench: &Bench, system: &str, more: &[&str]) -> Ended {
    bench.write("repo/jobs.yaml", "version: 1\nname: test\n");
    let mut command = bench.jobctl();
    run(command.args(["init", "--ci", system, "repo"]).args(more))
}

#[test]
fn files_for_ci_are_written_and_not_replaced() {
    let bench = Bench::new();
    let source = format!("https://git.example/jobctl@{COMMIT}");
    for (system, name) in [
        ("github", "repo/.github/workflows/jobctl.yml"),
        ("gitlab", "repo/.gitlab-ci.yml"),
    ] {
        let init = |more: &[&str]| init(&bench, system, &[&["--jobctl", &source], more].concat());
        let ended = init(&[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr, format!("wrote {name}\n"));
        let path = bench.path().join(name);
        let written = std::fs::read_to_string(&path).unwrap();
        let install = format!(
            "cargo install --quiet --locked --git https://git.example/jobctl --rev {COMMIT} "
        );
        assert!(written.contains(&install), "{written}");
        serde_yaml::from_str::<Value>(&written).unwrap();
        bench.write(name, "mine");
        let ended = init(&[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("already exists"), "{}", ended.stderr);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(init(&["--force"]).code, Some(0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    }
}

#[test]
fn ci_gets_jobctl_from_where_the_user_says_and_from_nowhere_else() {
    let bench = Bench::new();
    for more in [&[][..], &["--jobctl", "jobctl"], &["--jobctl", ""]] {
        let ended = init(&bench, "github", more);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for kind in [
            "git address with a tag",
            "image with its digest",
            "file of this repository",
        ] {
            assert!(ended.stderr.contains(kind), "{}", ended.stderr);
        }
        assert!(!bench.path().join("repo/.github").exists());
    }
}

#[test]
fn a_tag_is_pinned_to_its_commit() {
    let bench = Bench::new();
    bench.write("origin/file", "x");
    let git = |words: &[&str]| {
        let mut command = bench.command("git");
        let ended = run(command.current_dir(bench.path().join("origin")).args(words));
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.stdout.trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    let me = ["-c", "user.name=me", "-c", "user.email=me@example.com"];
    git(&[&me[..], &["commit", "--quiet", "-m", "first"]].concat());
    git(&["tag", "light"]);
    git(&[&me[..], &["tag", "-a", "-m", "annotated", "v1.2.3"]].concat());
    git(&["branch", "moving"]);
    let commit = git(&["rev-parse", "HEAD"]);
    bench.write("repo/jobs.yaml", "version: 1\nname: test\n");
    let pinned = |tag: &str| {
        let mut command = bench.jobctl();
        let address = bench.path().join("origin");
        run(command
            .args(["init", "--force", "--ci", "gitlab", "repo", "--jobctl"])
            .arg(format!("https://git.invalid/jobctl@{tag}"))
            .env("GIT_CONFIG_COUNT", "1")
            .env(
                "GIT_CONFIG_KEY_0",
                format!("url.file://{}.insteadOf", address.display()),
            )
            .env("GIT_CONFIG_VALUE_0", "https://git.invalid/jobctl"))
    };
    for tag in ["light", "v1.2.3"] {
        let ended = pinned(tag);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let path = bench.path().join("repo/.gitlab-ci.yml");
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written.contains(&format!("--git https://git.invalid/jobctl --rev {commit} ")),
            "{written}"
        );
        assert!(
            written.contains(&format!("# jobctl {tag} of https://git.invalid/jobctl")),
            "{written}"
        );
    }
    for unknown in ["moving", "v9"] {
        let ended = pinned(unknown);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.contains(&format!("has no tag `{unknown}`")),
            "{}",
            ended.stderr
        );
    }
    // A repository that is not there.
    std::fs::remove_dir_all(bench.path().join("origin")).unwrap();
    let ended = pinned("v1.2.3");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("can't look up the tag"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_file_that_changed_is_not_installed() {
    let bench = Bench::new();
    bench.write("repo/my tools/jobctl", "#!/bin/sh\necho it works\n");
    let ended = init(&bench, "github", &["--jobctl", "my tools/jobctl"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = bench.path().join("repo/.github/workflows/jobctl.yml");
    let written = std::fs::read_to_string(path).unwrap();
    let workflow: Value = serde_yaml::from_str(&written).unwrap();
    assert_eq!(workflow["permissions"], serde_json::json!({}));
    let packages = |job: &str| workflow["jobs"][job]["permissions"]["packages"].as_str();
    assert_eq!((packages("build"), packages("push")), (None, Some("write")));
    let steps = workflow["jobs"]["push"]["steps"].as_array().unwrap();
    let step = steps
        .iter()
        .find(|step| step["name"] == "Install jobctl")
        .unwrap();
    let script = step["run"].as_str().unwrap();
    let install = || {
        let mut command = bench.command("bash");
        run(command
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(bench.path().join("repo"))
            .env("RUNNER_TEMP", bench.path().join("temp"))
            .env("GITHUB_PATH", bench.path().join("path")))
    };
    let ended = install();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = std::fs::read_to_string(bench.path().join("path")).unwrap();
    let installed = Path::new(path.trim()).join("jobctl");
    assert_eq!(run(&mut bench.command(&installed)).stdout, "it works\n");
    bench.write("repo/my tools/jobctl", "#!/bin/sh\necho evil\n");
    assert_ne!(install().code, Some(0));
    assert_eq!(run(&mut bench.command(&installed)).stdout, "it works\n");
}

/// A job that says what runners take for commands, on both of its streams.
const HOSTILE: &str = "train:\n  image: IMAGE\n  command: [sh, -c, \"printf '%b' \\\"$$SAID\\\"; printf '%b' \\\"$$SAID\\\" >&2\"]\n  \
                       environment: { SAID: 'a\\n  ::set-output name=x::y\\nb ##[error]c\\rsection_start:1:d\\r\\033[0Ke\\n::std::x' }";

#[test]
fn what_a_job_says_is_no_command_of_githubs() {
    let project = Project::new(HOSTILE);
    let said = "a\n  ::set-output name=x::y\nb ##[error]c\rsection_start:1:d\r\x1b[0Ke\n::std::x";
    let harmless = said.replace("::set", "\\::set").replace("##[", "##[\\");
    let mut command = project.run(&["train"]);
    as_github(&mut command, project.bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, harmless);
    assert!(ended.stderr.contains(&harmless), "{}", ended.stderr);
    // The log is what the job wrote, and so is a file.
    assert_eq!(project.output(&["logs", "train"]), said);
    let path = project.bench.path().join("home/log");
    let mut command = project.jobctl(&["logs", "train"]);
    as_github(&mut command, project.bench.path());
    let file = std::fs::File::create(&path).unwrap();
    let ended = command.stdout(file).output().unwrap();
    assert!(ended.status.success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), said);
}

/// Has a job say one after the other, each once the one before was read, with both streams in one pipe: what
/// comes out of it.
fn said_in_turns(said: &[(&str, &str)], as_ci: impl FnOnce(&mut Command, &Path)) -> String {
    use std::fmt::Write as _;
    use std::io::Read as _;

    let mut script = "turn() { until [ -e /turns/$1 ]; do sleep 0.02; done; }; ".to_owned();
    for (turn, (stream, words)) in said.iter().enumerate() {
        let _ = write!(script, "turn {turn}; printf '{words}' >&{stream}; ");
    }
    let project = Project::empty();
    let turns = project.bench.path().join("turns");
    std::fs::create_dir(&turns).unwrap();
    let mut command = project.run_image(&["-v", "./turns:/turns"], &["sh", "-c", &script]);
    as_ci(&mut command, project.bench.path());
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stderr(writer.try_clone().unwrap()).stdout(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut printed = Vec::new();
    for turn in 0..said.len() {
        std::fs::write(turns.join(turn.to_string()), "").unwrap();
        let mut piece = [0; 1024];
        let length = reader.read(&mut piece).unwrap();
        printed.extend_from_slice(&piece[..length]);
    }
    reader.read_to_end(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    String::from_utf8(printed).unwrap()
}

#[test]
fn a_line_may_be_begun_on_one_stream_and_ended_on_the_other() {
    let said = [
        ("1", "a"),
        ("2", "\\n"),
        ("1", "::error::b\\nc "),
        ("2", "::error::d"),
        ("1", "\\n"),
        ("2", "::add-mask::e\\n"),
        ("1", "f\\n"),
    ];
    let printed = said_in_turns(&said, as_github);
    let expected = "a\n\\::error::b\nc ::error::d\n\\::add-mask::e\nf\n";
    assert_eq!(printed, expected);
}

#[test]
fn what_a_job_says_is_no_section_of_gitlabs() {
    let project = Project::new(HOSTILE);
    let mut command = project.run(&["train"]);
    let ended = run(command.env("CI", "true").env("GITLAB_CI", "true"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let harmless =
        "a\n  ::set-output name=x::y\nb ##[error]c\rsection_start:1:d\r\x1b[Ke\n::std::x";
    assert_eq!(ended.stdout, harmless);
    assert!(ended.stderr.contains(harmless), "{}", ended.stderr);
}

#[test]
fn what_jobctl_says_of_others_is_no_command() {
    let project = Project::new("train: { image: IMAGE, command: [echo, 'x ##[error]y'] }");
    let github = |args: &[&str]| {
        let mut command = project.jobctl(args);
        as_github(&mut command, project.bench.path());
        run(&mut command)
    };
    for args in [
        &["run", "##[error]x\n::add-mask::y"][..],
        &["show", "##[error]x\n::add-mask::y"],
        &["--##[error]x\n::add-mask::y"],
        &["build", "##[error]x\n::add-mask::y"],
        &["-C", "##[error]x\n::add-mask::y", "ps"],
    ] {
        let ended = github(args);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.stderr.contains("##[\\error]"),
            "{args:?}: {}",
            ended.stderr
        );
        for line in ended.stderr.lines() {
            assert!(
                !line.trim_start().starts_with("::add-mask"),
                "{}",
                ended.stderr
            );
            assert!(!line.contains("##[error]"), "{}", ended.stderr);
        }
    }
    assert_eq!(run(&mut project.run(&["train"])).code, Some(0));
    // A document means what it meant.
    let shown = github(&["show", "train", "--format", "json"]);
    assert!(!shown.stdout.contains("##["), "{}", shown.stdout);
    let record: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert!(record.to_string().contains("x ##[error]y"), "{record:#}");
}

#[test]
fn what_a_build_says_is_no_command() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    ensure_debian();
    let dockerfile = format!(
        "FROM {DEBIAN}\nLABEL {}\nRUN echo '##[gro''up]x'; echo '::er''ror::y'; exit 3\n",
        pusher.image.label()
    );
    pusher.bench.write("Dockerfile", &dockerfile);
    let mut command = pusher.image.build(&pusher.bench, &[]);
    as_github(&mut command, pusher.bench.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("| ##[\\group]x"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("##[group]"), "{}", ended.stderr);
    let marks = ["::group::", "::endgroup::", "::error title=jobctl "];
    for line in ended
        .stderr
        .lines()
        .filter(|line| line.trim_start().starts_with("::"))
    {
        assert!(marks.iter().any(|mark| line.starts_with(mark)), "{line}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_is_no_file_for_outputs() {
    let project = Project::empty();
    let pipe = project.bench.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut command = project.run_image(&[], &["true"]);
    let ended = run(command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_OUTPUT", &pipe));
    assert!(ended.stderr.contains("is a pipe"), "{ended:?}");
}
