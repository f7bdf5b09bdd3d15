//! `jobctl build`, against the real engine.

mod agents;
mod commits;
mod freshness;
mod listed;
mod origins;
mod plans;
mod recorded;
mod sequence;
mod unneeded;

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::image::{DEBIAN, ImageName, ensure_debian, file_of};
use crate::support::{Bench, Ended, proxy, run, wait_for};

const COPY: &str = "FROM scratch AS all\nCOPY . /src/\nCMD [\"none\"]\n";

/// The only image of a build that must succeed.
fn built(command: &mut Command) -> Value {
    let ended = run(command.args(["--format", "json"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["schema"], "jobctl.build/1");
    document["images"][0].clone()
}

fn state(command: &mut Command) -> String {
    built(command)["state"].as_str().unwrap().to_owned()
}

#[test]
fn it_does_what_build_py_did() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", COPY);
    let flags = [
        "--version",
        "1.2.3",
        "--image_prefix",
        "registry.example/team-",
        "--proxy",
        "http://user:canary@proxy.example:3128",
    ];
    let ended = run(&mut name.build(&bench, &flags));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let own = name.as_str();
    assert!(ended.stdout.starts_with(&format!("{own}:1.2.3 sha256:")));
    assert_eq!(ended.stdout.lines().count(), 1);
    let output = format!("{}{}", ended.stdout, ended.stderr);
    assert!(
        !output.contains(['\x1b', '\r']) && !output.contains("canary"),
        "{output}"
    );
    let context = name.tags().into_iter().find(|tag| tag.contains(":ctx-"));
    let context = context.unwrap().rsplit(':').next().unwrap().to_owned();
    let mut expected: Vec<_> = ["", "registry.example/team-"]
        .iter()
        .flat_map(|prefix| {
            ["1.2.3", "1.2", "1", "latest", &context].map(|tag| format!("{prefix}{own}:{tag}"))
        })
        .collect();
    expected.sort();
    assert_eq!(name.tags(), expected);
}

#[test]
fn what_comes_before_a_release_does_not_move_latest() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", COPY);
    for version in ["1.0.0-rc.1", "1.0.0-SNAPSHOT"] {
        built(&mut name.build(&bench, &["--version", version]));
    }
    let tags = name.tags();
    assert!(!tags.iter().any(|tag| tag.ends_with(":latest")), "{tags:?}");
    built(&mut name.build(&bench, &[]));
    assert!(name.tags().contains(&format!("{}:latest", name.as_str())));
}

#[test]
fn what_is_unchanged_is_up_to_date_and_any_change_builds() {
    type Change = (&'static str, fn(&Bench), &'static [&'static str]);
    let changes: [Change; 10] = [
        ("content", |bench| drop(bench.write("a/x", "two")), &[]),
        ("mode", |bench| set_mode(bench, "a/x", 0o755), &[]),
        ("a name", |bench| rename(bench, "a/x", "a/y"), &[]),
        (
            "a link",
            |bench| {
                fs::remove_file(bench.path().join("link")).unwrap();
                symlink("a", bench.path().join("link")).unwrap();
            },
            &[],
        ),
        (
            "the Dockerfile",
            |bench| {
                bench.write("Dockerfile", &format!("# other\n{COPY}"));
            },
            &[],
        ),
        (
            "the ignore file",
            |bench| drop(bench.write(".dockerignore", "home\n")),
            &[],
        ),
        ("an argument", |_| {}, &["--build-arg", "A=1"]),
        ("a label", |_| {}, &["--label", "other=1"]),
        ("a secret", |_| {}, &["--secret", "id=s,src=Dockerfile"]),
        ("a target", |_| {}, &["--target", "all"]),
    ];
    for (what, change, flags) in changes {
        let bench = Bench::new();
        let name = ImageName::new();
        bench.write("Dockerfile", COPY);
        bench.write(".dockerignore", "home\n.cache\nignored\n");
        bench.write("ignored", "");
        bench.write("a/x", "one");
        symlink("a/x", bench.path().join("link")).unwrap();
        let first = built(&mut name.build(&bench, &[]));
        assert_eq!(first["state"], "built");
        // Neither times nor what is ignored count.
        bench.write("a/x", "one");
        bench.write("ignored", "more");
        let second = built(&mut name.build(&bench, &[]));
        assert_eq!(
            (&second["state"], &second["id"]),
            (&"up_to_date".into(), &first["id"])
        );
        change(&bench);
        let third = built(&mut name.build(&bench, flags));
        assert_eq!(third["state"], "built", "{what}");
        assert_eq!(
            state(&mut name.build(&bench, flags)),
            "up_to_date",
            "{what}"
        );
    }
}

fn set_mode(bench: &Bench, path: &str, mode: u32) {
    fs::set_permissions(bench.path().join(path), Permissions::from_mode(mode)).unwrap();
}

fn rename(bench: &Bench, from: &str, to: &str) {
    fs::rename(bench.path().join(from), bench.path().join(to)).unwrap();
}

#[test]
fn an_edit_that_keeps_size_and_time_is_not_served_stale() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", COPY);
    bench.write(".dockerignore", "home\n");
    let image = format!("{}:latest", name.as_str());
    let time = FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    // The second time with nothing remembered of the files.
    for (before, after, forgets) in [("one", "two", false), ("six", "ten", true)] {
        for content in [before, after] {
            let path = bench.write("file", content);
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_times(time).unwrap();
            if forgets {
                let _ = fs::remove_dir_all(bench.path().join("home/.cache"));
            }
            built(&mut name.build(&bench, &[]));
            assert_eq!(file_of(&image, "/src/file"), content.as_bytes());
        }
    }
}

#[test]
fn a_failed_step_is_shown_with_its_place() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write(
        "Dockerfile",
        &format!("FROM {DEBIAN}\n\nRUN echo before; exit 7\n"),
    );
    let Ended {
        code,
        stdout,
        stderr,
    } = run(name.build(&bench, &["--quiet"]).env("CI", "1"));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    for part in [
        "it failed at [2/2] RUN echo before; exit 7",
        "Dockerfile:3:1",
        "exit code 7",
        "= note: before",
    ] {
        assert!(stderr.contains(part), "{stderr}\nlacks {part}");
    }
    assert!(name.tags().is_empty());
    let full = "echo 'cp: x: No space left on device' >&2; exit 1";
    bench.write("Dockerfile", &format!("FROM {DEBIAN}\nRUN {full}\n"));
    let ended = run(&mut name.build(&bench, &["--quiet"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("docker system df"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_engine_is_told_that_somebody_still_waits() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    // It asks every few seconds, and gives a build up whose client does not answer.
    bench.write("Dockerfile", &format!("FROM {DEBIAN}\nRUN sleep 12\n"));
    assert_eq!(state(&mut name.build(&bench, &["--no-cache"])), "built");
}

#[test]
fn what_is_wrong_is_told_with_the_right_code() {
    let bench = Bench::new();
    let name = ImageName::new();
    let nothing_there = run(&mut name.build(&bench, &[]));
    assert_eq!(nothing_there.code, Some(2), "{nothing_there:?}");
    assert!(nothing_there.stderr.contains("there is no Dockerfile at"));
    bench.write("Dockerfile", "FROM scratch\nFRM x\n");
    let broken = run(&mut name.build(&bench, &[]));
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert!(
        broken.stderr.contains("Dockerfile:2:1"),
        "{}",
        broken.stderr
    );
    bench.write("Dockerfile", COPY);
    for (flags, code, said) in [
        (["--version", "1.2"], 2, "did you mean `1.2.0`?"),
        (["--nope", "x"], 2, "unexpected argument"),
        (
            ["--secret", "id=x,src=nowhere"],
            2,
            "the file of the secret `x` does not exist",
        ),
        (
            ["--host", "unix:///nowhere.sock"],
            125,
            "no engine is running at",
        ),
        (["--bump", "major"], 2, "there is none"),
    ] {
        let ended = run(&mut name.build(&bench, &flags));
        assert_eq!(ended.code, Some(code), "{flags:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{flags:?}: {}", ended.stderr);
    }
    let tagged = run(bench.jobctl().args(["build", "--name", "app:1"]));
    assert_eq!(tagged.code, Some(2), "{tagged:?}");
    assert!(tagged.stderr.contains("a name has no tag"), "{tagged:?}");
    assert!(
        tagged.stderr.contains("--name app` and `--version`"),
        "{tagged:?}"
    );
    bench.write(".dockerignore", "[a\n");
    let ignore = run(&mut name.build(&bench, &[]));
    assert_eq!(ignore.code, Some(1), "{ignore:?}");
    assert!(
        ignore.stderr.contains(".dockerignore`"),
        "{}",
        ignore.stderr
    );
}

#[test]
fn an_interrupted_build_ends_on_the_engine_too() {
    use rustix::process::{Pid, Signal, kill_process};

    ensure_debian();
    for (signal, code) in [
        (Signal::INT, Some(130)),
        (Signal::TERM, Some(130)),
        (Signal::KILL, None),
    ] {
        let bench = Bench::new();
        let name = ImageName::new();
        let marker = format!("{}{}", std::process::id(), signal.as_raw());
        let sleep = format!("sleep 7{marker}");
        bench.write("Dockerfile", &format!("FROM {DEBIAN}\nRUN {sleep}\n"));
        let mut jobctl = name
            .build(&bench, &["--no-cache"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| is_running(&sleep));
        let pid = Pid::from_raw(jobctl.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        assert_eq!(jobctl.wait().unwrap().code(), code);
        wait_for(|| !is_running(&sleep));
        assert!(name.tags().is_empty());
    }
}

/// Whether a process has this command line.
pub(crate) fn is_running(line: &str) -> bool {
    let wanted = line.replace(' ', "\0");
    fs::read_dir("/proc").unwrap().any(|entry| {
        let path = entry.unwrap().path().join("cmdline");
        fs::read(path).is_ok_and(|found| found.starts_with(wanted.as_bytes()))
    })
}

#[test]
fn an_engine_without_buildkit_builds_the_classic_way() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    let socket = proxy::start(bench.path(), ("/session", "/nowhere"), ("", ""));
    let host = format!("unix://{}", socket.display());
    let dockerfile = format!("FROM {DEBIAN}\nCOPY . /src/\nRUN test ! -e /src/no && cat /src/a\n");
    bench.write("Dockerfile", &dockerfile);
    bench.write(".dockerignore", "home\nproxy.sock\nno\nDockerfile\n");
    bench.write("no", "");
    bench.write("a", "here");
    let flags = ["--host", &host, "--version", "1.0.0"];
    let ended = run(&mut name.build(&bench, &flags));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("| here"), "{}", ended.stderr);
    assert!(name.tags().contains(&format!("{}:latest", name.as_str())));
    assert_eq!(state(&mut name.build(&bench, &flags)), "up_to_date");
    bench.write("secret", "x");
    let agent = run(name.build(&bench, &flags).args(["--ssh", "a=agent.sock"]));
    assert_eq!(agent.code, Some(1), "{agent:?}");
    assert!(
        agent.stderr.contains("an ssh agent needs BuildKit"),
        "{}",
        agent.stderr
    );
    let secret = run(name
        .build(&bench, &flags)
        .args(["--secret", "id=s,src=secret"]));
    assert_eq!(secret.code, Some(1), "{secret:?}");
    assert!(
        secret.stderr.contains("a build secret needs BuildKit"),
        "{}",
        secret.stderr
    );
    bench.write(
        "Dockerfile",
        &format!("FROM {DEBIAN}\nRUN echo why; exit 7\n"),
    );
    let failed = run(&mut name.build(&bench, &flags));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.stderr.contains("Dockerfile:2:1"),
        "{}",
        failed.stderr
    );
}

/// A manifest whose base image is made by a program of the test.
fn project(bench: &Bench, name: &ImageName) {
    bench.write(
        "jobs.yaml",
        &format!(
            "version: 1\nname: {0}\nimage:\n  version: \"0.1.0\"   # raised by --bump\nimages:\n  \
             base: {{ pull: \"{0}-base:1\", bootstrap: make }}\n  spare: {{ pull: \"{0}-base:1\" }}\njobs:\n  app:\n    \
             build: {{ context: app, requires: [base] }}\n  again: {{ image: \"job:app\" }}\n",
            name.as_str()
        ),
    );
    let make = "#!/bin/sh\nset -e\necho \"making $1\" >&2\ncd \"${0%/*}\"\necho base >file\n\
                tar --create --mtime=@0 file\n";
    let program = bench.write("make", make);
    fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    let label = name.label();
    let dockerfile = format!("FROM {}-base:1\nCOPY a /a\nLABEL {label}\n", name.as_str());
    bench.write("app/Dockerfile", &dockerfile);
    bench.write("app/a", "");
}

/// Removes a base image, which has no label of ours.
struct Base(String);

impl Drop for Base {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rmi", "--force", &self.0])
            .output();
    }
}

#[test]
fn a_base_that_cant_be_pulled_is_made_and_then_there() {
    let bench = Bench::new();
    let name = ImageName::new();
    let _base = Base(format!("{}-base:1", name.as_str()));
    project(&bench, &name);
    let ended = run(bench
        .jobctl()
        .args(["build", "again", "--trust", "--format", "json"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("| making"), "{}", ended.stderr);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let states: Vec<_> = document["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            (
                image["name"].as_str().unwrap(),
                image["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(states, [("base", "bootstrapped"), ("app", "built")]);
    let again = run(bench.jobctl().args(["build", "app"]));
    assert!(again.stdout.contains("(present)") && again.stdout.contains("(up to date)"));
    let named = run(bench
        .jobctl()
        .args(["build", "app", "spare", "--iidfile", "id"]));
    assert_eq!(named.code, Some(0), "{named:?}");
    let id = fs::read_to_string(bench.path().join("id")).unwrap();
    assert_eq!(id, document["images"][1]["id"].as_str().unwrap());
    let unknown = run(bench.jobctl().args(["build", "ap"]));
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("did you mean `app`?"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn bump_raises_the_version_once_it_is_built() {
    let bench = Bench::new();
    let name = ImageName::new();
    let _base = Base(format!("{}-base:1", name.as_str()));
    project(&bench, &name);
    let before = fs::read_to_string(bench.path().join("jobs.yaml")).unwrap();
    bench.write("app/Dockerfile", "FRM\n");
    let failed = run(bench
        .jobctl()
        .args(["build", "app", "--trust", "--bump", "minor"]));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(
        fs::read_to_string(bench.path().join("jobs.yaml")).unwrap(),
        before
    );
    project(&bench, &name);
    let ended = run(bench
        .jobctl()
        .args(["build", "app", "--trust", "--bump", "minor"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("-app:0.2.0 sha256:"),
        "{}",
        ended.stdout
    );
    let after = fs::read_to_string(bench.path().join("jobs.yaml")).unwrap();
    assert_eq!(after, before.replace("0.1.0", "0.2.0"));
}
