//! `jobctl doctor`: each fault is found, and by exactly one check.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::engine::{self, FOR_JOBS, PodmanService, PrivateEngine};
use crate::support::image::DEBIAN;
use crate::support::project::Project;
use crate::support::{Bench, SOCKET, doctor, is_root, jobctl, proxy, run, skipped};

/// Runs doctor with a fault, and asserts that the one check says so and all others say what they
/// say without the fault, or are skipped.
fn assert_found(bench: &Bench, faulty: &mut Command, check: &str, status: &str, detail: &str) {
    let (_, healthy) = doctor(&mut bench.jobctl());
    let (code, found) = doctor(faulty);
    let (found_status, found_detail) = &found[check];
    assert_eq!(found_status, status, "{found:#?}");
    assert!(
        found_detail.contains(detail),
        "{found_detail:?} lacks {detail:?}"
    );
    for (other, (status, detail)) in found.iter().filter(|(other, _)| *other != check) {
        assert!(
            status == "skipped" || *status == healthy[other].0,
            "{other} says {status}: {detail}"
        );
    }
    let is_reached = found["engine"].0 == "ok";
    let has_failure = found.values().any(|(status, _)| status == "failure");
    let expected = match (is_reached, has_failure) {
        (false, _) => 125,
        (true, true) => 1,
        (true, false) => 0,
    };
    assert_eq!(code, Some(expected), "{found:#?}");
}

#[test]
fn a_healthy_machine_passes() {
    let bench = Bench::new();
    let (code, found) = doctor(&mut bench.jobctl());
    assert_eq!(found["engine"].0, "ok", "{found:#?}");
    assert_eq!(code, Some(0), "{found:#?}");
    assert!(
        !bench.path().join(".jobctl").exists(),
        "it leaves nothing behind"
    );
}

#[test]
fn a_configuration_of_docker_is_named_where_it_exists() {
    let bench = Bench::new();
    let found = || {
        let mut command = bench.jobctl();
        command.args(["-H", "unix:///nowhere.sock"]);
        doctor(&mut command).1["docker-config"].clone()
    };
    let file = bench.path().join("home/.docker/config.json");
    let file = file.display();
    let none = format!("none: {file} does not exist, and docker needs none");
    assert_eq!(found(), ("ok".to_owned(), none));
    bench.write("home/.docker/config.json", "{}");
    assert_eq!(found(), ("ok".to_owned(), file.to_string()));
}

#[test]
fn it_is_readable_by_people() {
    let bench = Bench::new();
    let ended = run(bench
        .jobctl()
        .args(["-H", "unix:///nowhere.sock", "doctor"]));
    assert_eq!(ended.code, Some(125));
    let line = "fail engine           no engine is running at unix:///nowhere.sock\n                      \
                → start it: `sudo systemctl start docker`";
    assert!(ended.stdout.contains(line), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'));
}

#[test]
fn no_socket() {
    let bench = Bench::new();
    let host = "unix:///nowhere.sock";
    assert_found(
        &bench,
        bench.jobctl().env("DOCKER_HOST", host),
        "engine",
        "failure",
        "no engine is running",
    );
}

#[test]
fn nobody_listens_on_the_port() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_found(
        &bench,
        bench.jobctl().env("DOCKER_HOST", host),
        "engine",
        "failure",
        "no engine is running",
    );
}

#[test]
fn no_permission_on_the_socket() {
    use std::os::unix::process::CommandExt as _;

    if !is_root("no_permission_on_the_socket") {
        return;
    }
    let bench = Bench::new();
    // The one that cargo built may lie where nobody else can read.
    let program = bench.path().join("jobctl");
    std::fs::copy(jobctl(), &program).unwrap();
    std::os::unix::fs::chown(bench.path(), Some(65534), Some(65534)).unwrap();
    let mut faulty = bench.command(program);
    faulty.uid(65534).gid(65534);
    assert_found(
        &bench,
        &mut faulty,
        "engine",
        "failure",
        "no permission to use the engine's socket",
    );
}

#[test]
fn a_hung_engine_costs_seconds_only() {
    if !is_root("a_hung_engine_costs_seconds_only") {
        return;
    }
    let bench = Bench::new();
    let engine = PrivateEngine::start("", &[]);
    engine.freeze();
    let start = Instant::now();
    assert_found(
        &bench,
        bench.jobctl().env("DOCKER_HOST", engine.host()),
        "engine",
        "failure",
        "is hung",
    );
    // Two calls of doctor, of which one waits four seconds; the rest is for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn an_unknown_context() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_CONTEXT", "nowhere");
    assert_found(&bench, &mut faulty, "context", "failure", "`nowhere`");
}

#[test]
fn a_context_that_a_variable_overrides() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty
        .env("DOCKER_HOST", format!("unix://{SOCKET}"))
        .env("DOCKER_CONTEXT", "other");
    assert_found(
        &bench,
        &mut faulty,
        "context",
        "warning",
        "`other` is not used",
    );
}

#[test]
fn a_broken_docker_configuration() {
    let bench = Bench::new();
    let config = bench.write("broken/config.json", "{\n  \"auths\": {canary");
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_CONFIG", config.parent().unwrap());
    assert_found(
        &bench,
        &mut faulty,
        "docker-config",
        "failure",
        "line 2, column 13",
    );
    let ended = run(faulty.env("DOCKER_CONFIG", config.parent().unwrap()));
    assert!(!ended.stdout.contains("canary"));
}

#[test]
fn a_missing_credential_helper() {
    let bench = Bench::new();
    let config = bench.write(
        "docker/config.json",
        r#"{"credHelpers":{"reg.example":"nowhere"}}"#,
    );
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_CONFIG", config.parent().unwrap());
    assert_found(
        &bench,
        &mut faulty,
        "credentials",
        "failure",
        "`docker-credential-nowhere`",
    );
}

#[test]
fn two_proxies_in_one() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty
        .env("http_proxy", "http://user:canary@a:1")
        .env("HTTP_PROXY", "http://b:2");
    assert_found(
        &bench,
        &mut faulty,
        "proxy",
        "warning",
        "two different values",
    );
    let ended = run(bench
        .jobctl()
        .env("http_proxy", "http://user:canary@a:1")
        .arg("doctor"));
    assert!(!format!("{ended:?}").contains("canary"));
}

#[test]
fn a_ca_bundle_that_is_not_there() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty.env("JOBCTL_CA_BUNDLE", "nowhere.pem");
    assert_found(&bench, &mut faulty, "ca-bundle", "failure", "`nowhere.pem`");
}

#[test]
fn a_ca_bundle_without_certificates() {
    let bench = Bench::new();
    let bundle = bench.write("ca.pem", "this is not PEM");
    let mut faulty = bench.jobctl();
    faulty.env("SSL_CERT_FILE", bundle);
    assert_found(
        &bench,
        &mut faulty,
        "ca-bundle",
        "failure",
        "has no certificate in it",
    );
}

#[test]
fn a_state_folder_that_can_not_be_written() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty.env("JOBCTL_STATE_DIR", "/proc/jobctl");
    assert_found(
        &bench,
        &mut faulty,
        "state-directory",
        "failure",
        "`/proc/jobctl` can't be written",
    );
}

#[test]
fn a_state_folder_on_a_full_disk() {
    if !is_root("a_state_folder_on_a_full_disk") {
        return;
    }
    let bench = Bench::new();
    let state = bench.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut faulty = bench.command("unshare");
    let script = "mount -t tmpfs -o size=1m tmpfs state && exec \"$@\"";
    faulty
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(jobctl())
        .env("JOBCTL_STATE_DIR", state);
    assert_found(
        &bench,
        &mut faulty,
        "state-directory",
        "failure",
        "has room for 1 MB only",
    );
}

#[test]
fn an_engine_on_a_full_disk() {
    if !is_root("an_engine_on_a_full_disk") {
        return;
    }
    let bench = Bench::new();
    let engine = PrivateEngine::start("mount -t tmpfs -o size=300m tmpfs \"$T/data\"", &[]);
    let mut faulty = bench.command("nsenter");
    faulty
        .args(engine.enter())
        .arg("--mount")
        .arg(jobctl())
        .env("DOCKER_HOST", engine.host());
    assert_found(
        &bench,
        &mut faulty,
        "engine-disk",
        "failure",
        "0.3 GB free in",
    );
}

#[test]
fn a_clock_that_is_wrong() {
    let bench = Bench::new();
    let mut faulty = bench.command("faketime");
    faulty
        .args(["-f", "-1h"])
        .arg(jobctl())
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    assert_found(
        &bench,
        &mut faulty,
        "engine-clock",
        "warning",
        "s ahead of this machine's",
    );
}

#[test]
fn an_api_that_is_too_old() {
    let bench = Bench::new();
    let answer = ("Api-Version: 1.4", "Api-Version: 1.2");
    let socket = proxy::start(bench.path(), ("", ""), answer);
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    assert_found(
        &bench,
        &mut faulty,
        "engine",
        "failure",
        "is too old: jobctl needs 1.41 or newer",
    );
}

#[test]
fn an_api_that_is_asked_for() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_API_VERSION", "1.30");
    assert_found(
        &bench,
        &mut faulty,
        "engine-api",
        "warning",
        "asks for 1.30",
    );
}

#[test]
fn an_engine_without_buildkit() {
    let bench = Bench::new();
    let request = ("POST /session ", "POST /sessiox ");
    let socket = proxy::start(bench.path(), request, ("", ""));
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    assert_found(
        &bench,
        &mut faulty,
        "buildkit",
        "warning",
        "by the classic builder",
    );
}

#[test]
fn something_else_than_an_engine() {
    let bench = Bench::new();
    let answer = ("HTTP/1.1 ", "SMTP/1.1 ");
    let socket = proxy::start(bench.path(), ("", ""), answer);
    let mut faulty = bench.jobctl();
    faulty.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    assert_found(
        &bench,
        &mut faulty,
        "engine",
        "failure",
        "is not a Docker Engine",
    );
}

#[test]
fn gpus_without_nvidias_runtime() {
    let bench = Bench::new();
    let (_, healthy) = doctor(&mut bench.jobctl());
    if healthy["gpu"].1.contains("NVIDIA") || healthy["gpu"].1.contains("driver") {
        skipped(
            "gpus_without_nvidias_runtime",
            "this machine has something of NVIDIA's",
        );
        return;
    }
    bench.write(
        "gpu/jobs.yaml",
        "version: 1\nname: demo\njobs:\n  train:\n    image: python:3.13\n    gpus: all\n",
    );
    let plain = "version: 1\nname: demo\njobs:\n  train:\n    image: python:3.13\n";
    bench.write("jobs.yaml", plain);
    let mut faulty = bench.jobctl();
    faulty.args(["-C", "gpu"]);
    assert_found(
        &bench,
        &mut faulty,
        "gpu",
        "failure",
        "the job `train` asks for GPUs",
    );
    // Where other jobs can run, the machine is good for those.
    bench.write(
        "mixed/jobs.yaml",
        "version: 1\nname: demo\njobs:\n  train:\n    image: python:3.13\n    gpus: all\n  \
         test:\n    image: python:3.13\n",
    );
    let mut mixed = bench.jobctl();
    mixed.args(["-C", "mixed"]);
    assert_found(&bench, &mut mixed, "gpu", "warning", "other jobs can run");
}

#[test]
fn a_manifest_that_is_not_valid() {
    let bench = Bench::new();
    bench.write("jobs.yaml", "version: 1\nname: demo\n");
    bench.write("bad/jobs.yaml", "version: 2\n");
    let mut faulty = bench.jobctl();
    faulty.args(["-C", "bad"]);
    assert_found(&bench, &mut faulty, "jobs-yaml", "failure", "is not valid");
}

#[test]
fn git_is_missing() {
    let bench = Bench::new();
    let mut faulty = bench.jobctl();
    faulty.env("PATH", "/nowhere");
    assert_found(&bench, &mut faulty, "git", "warning", "git is not there");
}

#[test]
fn ssh_is_missing() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path().join("bin")).unwrap();
    let mut which = bench.command("sh");
    let git = run(which.args(["-c", "command -v git"])).stdout;
    std::os::unix::fs::symlink(git.trim(), bench.path().join("bin/git")).unwrap();
    let mut faulty = bench.jobctl();
    faulty
        .env("PATH", bench.path().join("bin"))
        .env("DOCKER_HOST", "ssh://nowhere.example");
    assert_found(
        &bench,
        &mut faulty,
        "ssh",
        "failure",
        "`ssh` is not in PATH",
    );
}

#[test]
fn podman_is_an_engine_without_buildkit() {
    if !is_root("podman_is_an_engine_without_buildkit") {
        return;
    }
    let bench = Bench::new();
    let podman = PodmanService::start();
    let host = format!("unix://{}", podman.socket().display());
    let (code, found) = doctor(bench.jobctl().env("DOCKER_HOST", host));
    assert_eq!(code, Some(0), "{found:#?}");
    assert!(found["engine"].1.starts_with("Podman "), "{found:#?}");
    assert_eq!(found["buildkit"].0, "warning", "{found:#?}");
    // It has no image yet, without which it does not say.
    assert_eq!(found["init"].0, "skipped", "{found:#?}");
}

#[test]
fn podman_without_an_init_process_is_found_and_jobs_say_how_to_do_without() {
    if !is_root("podman_without_an_init_process_is_found_and_jobs_say_how_to_do_without") {
        return;
    }
    let project = Project::empty();
    let podman = PodmanService::with(&FOR_JOBS.replace("/usr/bin/docker-init", "/nowhere"), "");
    engine::load(DEBIAN, &podman.socket());
    let host = format!("unix://{}", podman.socket().display());
    let (code, found) = doctor(project.bench.jobctl().env("DOCKER_HOST", &host));
    assert_eq!(code, Some(0), "{found:#?}");
    let missing = "the engine lacks `catatonit`, which jobs are started under";
    let warning = ("warning".to_owned(), missing.to_owned());
    assert_eq!(found["init"], warning);

    let image = format!("localhost/{DEBIAN}");
    let flags = ["--network", "none", "--image", &image];
    let mut with = project.run(&flags);
    let ended = run(with.arg("true").env("DOCKER_HOST", &host));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("`--init=false`"), "{ended:?}");
    let mut without = project.run(&["--init=false"]);
    let ended = run(without.args(flags).arg("true").env("DOCKER_HOST", &host));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn data_in_a_place_that_is_not_on_this_machine_is_not_said_to_be_another_users() {
    let test = "data_in_a_place_that_is_not_on_this_machine_is_not_said_to_be_another_users";
    if !is_root(test) {
        return;
    }
    let bench = Bench::new();
    let hide = "rmdir \"$T/data\"; mount -t tmpfs tmpfs /mnt; mkdir /mnt/of-the-engine; \
                ln -s /mnt/of-the-engine \"$T/data\"";
    let private = PrivateEngine::start(hide, &[]);
    let (_, found) = doctor(bench.jobctl().env("DOCKER_HOST", private.host()));
    let (status, detail) = &found["engine-disk"];
    assert_eq!(status, "skipped", "{found:#?}");
    let expected = "`/mnt/of-the-engine` is not on this machine: the engine has other files";
    assert_eq!(detail, expected);
}
