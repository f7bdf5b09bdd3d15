//! `jobctl build` when something is wrong with the machine, the engine or the files.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::support::engine::{PodmanService, PrivateEngine};
use crate::support::image::ImageName;
use crate::support::{Bench, is_root, jobctl, run, wait_for};

const COPY: &str = "FROM scratch\nCOPY . /src/\nCMD [\"none\"]\n";

/// `jobctl build` on an engine of the test's own.
fn build(bench: &Bench, host: &str) -> Command {
    let mut command = bench.jobctl();
    command.args(["--host", host, "build", "--name", "app"]);
    command
}

/// jobctl as nobody, to whom the bench belongs.
fn as_nobody(bench: &Bench) -> Command {
    // The one that cargo built may lie where nobody else can read.
    let program = bench.path().join("home/jobctl");
    fs::copy(jobctl(), &program).unwrap();
    for path in [bench.path().to_owned(), bench.path().join("home")] {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut command = bench.command(program);
    command.uid(65534).gid(65534);
    command
}

#[test]
fn no_permission_on_the_socket_is_told_with_the_mend() {
    if !is_root("no_permission_on_the_socket_is_told_with_the_mend") {
        return;
    }
    let bench = Bench::new();
    bench.write("Dockerfile", COPY);
    let ended = run(as_nobody(&bench).args(["build", "--name", "app"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("no permission to use the engine's socket")
    );
    assert!(ended.stderr.contains("help: join the"), "{}", ended.stderr);
}

#[test]
fn a_file_that_cant_be_read_is_named() {
    if !is_root("a_file_that_cant_be_read_is_named") {
        return;
    }
    let engine = PrivateEngine::start("", &["--group", "nogroup"]);
    fs::set_permissions(engine.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let bench = Bench::new();
    bench.write("Dockerfile", COPY);
    let closed = bench.write("closed", "");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).unwrap();
    let args = ["--host", &engine.host(), "build", "--name", "app"];
    let ended = run(as_nobody(&bench).args(args));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/closed`: "), "{}", ended.stderr);
    assert!(ended.stderr.contains(".dockerignore"), "{}", ended.stderr);
    bench.write(".dockerignore", "closed\nhome\n");
    let without = run(as_nobody(&bench).args(args));
    assert_eq!(without.code, Some(0), "{without:?}");
}

#[test]
fn what_an_image_cant_have_is_left_out_and_said() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", COPY);
    let pipe = bench.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let ended = run(&mut name.build(&bench, &[]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "`pipe` is left out of the build: it is a named pipe";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn a_context_with_secrets_is_warned_of() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", COPY);
    bench.write(".env", "TOKEN=1");
    bench.write("server.key", "");
    bench.write(".git/config", "");
    let ended = run(&mut name.build(&bench, &[]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "the engine gets `.env` and 2 more, where secrets usually are";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    bench.write(".dockerignore", ".env\n*.key\n.git\n");
    let without = run(&mut name.build(&bench, &[]));
    assert!(!without.stderr.contains("secrets"), "{}", without.stderr);
}

#[test]
fn a_hung_engine_is_given_up() {
    if !is_root("a_hung_engine_is_given_up") {
        return;
    }
    let bench = Bench::new();
    bench.write("Dockerfile", COPY);
    let engine = PrivateEngine::start("", &[]);
    engine.freeze();
    let ended = run(&mut build(&bench, &engine.host()));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("is hung"), "{}", ended.stderr);
}

#[test]
fn an_engine_that_goes_away_in_mid_build_is_told_from_a_failed_step() {
    if !is_root("an_engine_that_goes_away_in_mid_build_is_told_from_a_failed_step") {
        return;
    }
    let bench = Bench::new();
    bench.write("Dockerfile", COPY);
    // Long under way, and nothing on the disk.
    let file = fs::File::create(bench.path().join("large")).unwrap();
    file.set_len(256 << 20).unwrap();
    let cache = bench.path().join("home/.cache");
    let engine = PrivateEngine::start("", &[]);
    let mut jobctl = build(&bench, &engine.host())
        .args(["--progress", "json"])
        .env("XDG_CACHE_HOME", cache)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(jobctl.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("step_progress") {
        line.clear();
        let length = stderr.read_line(&mut line).unwrap();
        assert!(length > 0, "it ended before anything was sent");
    }
    engine.kill();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(jobctl.wait().unwrap().code(), Some(125), "{rest}");
    assert!(rest.contains("the engine went away"), "{rest}");
}

#[test]
fn a_full_disk_of_the_engines_is_told_as_such() {
    if !is_root("a_full_disk_of_the_engines_is_told_as_such") {
        return;
    }
    let bench = Bench::new();
    bench.write("Dockerfile", COPY);
    let file = fs::File::create(bench.path().join("large")).unwrap();
    file.set_len(200 << 20).unwrap();
    let small = "mount -t tmpfs -o size=64m tmpfs \"$T/data\"";
    let engine = PrivateEngine::start(small, &[]);
    let ended = run(&mut build(&bench, &engine.host()));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("the engine's disk is full"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("docker builder prune"),
        "{}",
        ended.stderr
    );
    bench.write("large", "small");
    // What it had begun to write is given back, though not in the very moment.
    wait_for(|| run(&mut build(&bench, &engine.host())).code == Some(0));
}

#[test]
fn podman_builds_too() {
    if !is_root("podman_builds_too") {
        return;
    }
    let bench = Bench::new();
    bench.write("Dockerfile", COPY);
    bench.write("a", "");
    let podman = PodmanService::start();
    let host = format!("unix://{}", podman.socket().display());
    let ended = run(&mut build(&bench, &host));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.starts_with("app:latest sha256:"),
        "{}",
        ended.stdout
    );
    // It names no sources; what is certain without is enough.
    bench.write("next/Dockerfile", "FROM app\nCOPY b /b\n");
    bench.write("next/b", "");
    let next = || {
        let mut command = bench.jobctl();
        command.args([
            "--host",
            &host,
            "--directory",
            "next",
            "build",
            "--name",
            "next",
        ]);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.stderr.contains("pull"), "{ended:?}");
        ended.stdout.contains("(built)")
    };
    assert!(next());
    assert!(!next());
    bench.write("a", "other");
    assert_eq!(run(&mut build(&bench, &host)).code, Some(0));
    assert!(next());
}
