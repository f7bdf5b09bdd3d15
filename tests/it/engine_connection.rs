//! Reaching an engine: sockets, contexts, TCP, TLS, OpenSSH, in docker's own order.

use std::path::Path;
use std::process::Command;

use crate::support::certificates::make_certificates;
use crate::support::engine::PrivateEngine;
use crate::support::ssh::{self, SshServer};
use crate::support::{Bench, SOCKET, doctor, is_root, jobctl, run};

/// What doctor says of the engine that a command reaches.
fn engine(command: &mut Command) -> (String, String) {
    let (_, mut found) = doctor(command);
    found.remove("engine").unwrap()
}

/// Makes a context with docker's own client.
fn make_context(bench: &Bench, name: &str, docker: &str) {
    let made = run(bench
        .command("docker")
        .args(["context", "create", name, "--docker", docker]));
    assert_eq!(made.code, Some(0), "{made:?}");
}

/// Asserts that docker's own client and jobctl agree on which engine is meant.
fn assert_as_docker(bench: &Bench, flags: &[&str], variables: &[(&str, &str)], reached: bool) {
    let mut docker = bench.command("docker");
    let docker = run(docker
        .args(flags)
        .args(["version", "--format", "{{.Server.Version}}"])
        .envs(variables.iter().copied()));
    let (status, detail) = engine(bench.jobctl().args(flags).envs(variables.iter().copied()));
    assert_eq!(
        docker.code == Some(0),
        reached,
        "{flags:?} {variables:?} {docker:?}"
    );
    assert_eq!(status == "ok", reached, "{flags:?} {variables:?} {detail}");
}

#[test]
fn the_order_is_that_of_dockers_client() {
    let bench = Bench::new();
    let here = format!("unix://{SOCKET}");
    let nowhere = "unix:///nowhere.sock";
    make_context(&bench, "here", &format!("host={here}"));
    make_context(&bench, "nowhere", &format!("host={nowhere}"));
    let set = ("DOCKER_HOST", here.as_str());
    let wrong = ("DOCKER_HOST", nowhere);
    for (flags, variables, reached) in [
        (&[][..], &[][..], true),
        (&[], &[wrong], false),
        (&[], &[set, ("DOCKER_CONTEXT", "nowhere")], true),
        (&[], &[("DOCKER_CONTEXT", "nowhere")], false),
        (&[], &[("DOCKER_CONTEXT", "here")], true),
        (&["--context", "here"], &[wrong], true),
        (&["--context", "nowhere"], &[set], false),
        (&["--context", "default"], &[wrong], false),
        (&["-H", nowhere], &[set], false),
        (&["-H", &here], &[wrong], true),
    ] {
        assert_as_docker(&bench, flags, variables, reached);
    }
    let used = run(bench.command("docker").args(["context", "use", "nowhere"]));
    assert_eq!(used.code, Some(0), "{used:?}");
    assert_as_docker(&bench, &[], &[], false);
    assert_as_docker(&bench, &[], &[set], true);
}

#[test]
fn a_port_in_clear_is_reached() {
    if !is_root("a_port_in_clear_is_reached") {
        return;
    }
    let bench = Bench::new();
    let private = PrivateEngine::start("", &["-H", "tcp://127.0.0.1:2375", "--tls=false"]);
    let mut command = bench.command("nsenter");
    command
        .args(private.enter())
        .arg(jobctl())
        .args(["-H", "tcp://127.0.0.1:2375"]);
    assert_eq!(engine(&mut command).0, "ok");
}

#[test]
fn tls_is_checked_on_both_sides() {
    if !is_root("tls_is_checked_on_both_sides") {
        return;
    }
    let bench = Bench::new();
    make_certificates(&bench, "right", "127.0.0.1");
    make_certificates(&bench, "other", "127.0.0.1");
    let right = bench.path().join("right");
    let file = |name: &str| right.join(name).display().to_string();
    let private = PrivateEngine::start(
        "",
        &[
            "-H",
            "tcp://127.0.0.1:2376",
            "--tlsverify",
            &format!("--tlscacert={}", file("ca.pem")),
            &format!("--tlscert={}", file("server.pem")),
            &format!("--tlskey={}", file("server-key.pem")),
        ],
    );
    let reach = |folder: &Path| {
        let mut command = bench.command("nsenter");
        command
            .args(private.enter())
            .arg(jobctl())
            .args(["-H", "tcp://127.0.0.1:2376"])
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", folder);
        engine(&mut command)
    };
    assert_eq!(reach(&right).0, "ok");

    let (status, detail) = reach(&bench.path().join("other"));
    assert_eq!(status, "failure");
    assert!(
        detail.contains("no TLS with tcp://127.0.0.1:2376: invalid peer certificate"),
        "{detail}"
    );

    let anonymous = bench.path().join("anonymous");
    std::fs::create_dir(&anonymous).unwrap();
    std::fs::copy(right.join("ca.pem"), anonymous.join("ca.pem")).unwrap();
    let (status, detail) = reach(&anonymous);
    assert_eq!(status, "failure");
    assert!(
        detail.contains("no TLS with tcp://127.0.0.1:2376"),
        "{detail}"
    );

    let mut in_clear = bench.command("nsenter");
    in_clear
        .args(private.enter())
        .arg(jobctl())
        .args(["-H", "tcp://127.0.0.1:2376"]);
    assert_eq!(engine(&mut in_clear).0, "failure");

    // The same by a context, made by docker's own client.
    let docker = format!(
        "host=tcp://127.0.0.1:2376,ca={},cert={},key={}",
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    make_context(&bench, "secure", &docker);
    let mut by_context = bench.command("nsenter");
    by_context
        .args(private.enter())
        .arg(jobctl())
        .args(["--context", "secure"]);
    assert_eq!(engine(&mut by_context).0, "ok");
}

#[test]
fn ssh_reaches_the_engine_of_another_machine() {
    if !is_root("ssh_reaches_the_engine_of_another_machine") {
        return;
    }
    let bench = Bench::new();
    let server = SshServer::start(&bench);
    let host = format!("ssh://root@127.0.0.1:{}", server.port);
    let path = std::env::var("PATH").unwrap();
    let with = |client: &Path| {
        let mut command = bench.jobctl();
        command
            .env("PATH", format!("{}:{path}", client.display()))
            .env("DOCKER_HOST", &host);
        engine(&mut command)
    };
    let (status, detail) = with(&server.client);
    assert_eq!(status, "ok", "{detail}");

    let made = run(bench
        .command("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", "strange"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let stranger = ssh::client(
        &bench,
        "stranger",
        &bench.path().join("strange").display().to_string(),
    );
    let (status, detail) = with(&stranger);
    assert_eq!(status, "failure");
    assert!(detail.contains("Permission denied"), "{detail}");
}
