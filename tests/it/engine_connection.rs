//! Reaching an engine: sockets, contexts, TCP, TLS, OpenSSH, in docker's own order.

use std::path::Path;
use std::process::Command;

use crate::support::certificates::make_certificates;
use crate::support::engine::PrivateEngine;
use crate::support::image::ImageName;
use crate::support::project::Project;
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

    make_certificates(&bench, "keys", "127.0.0.1");
    let mut command = bench.command("nsenter");
    let ended = run(command
        .args(private.enter())
        .arg(jobctl())
        .args(["-H", "tcp://127.0.0.1:2375", "images"])
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", bench.path().join("keys")));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    for words in [
        "no TLS with tcp://127.0.0.1:2375: what listens there speaks clear text",
        "unset DOCKER_TLS_VERIFY",
    ] {
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
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
        .args(["-H", "tcp://127.0.0.1:2376", "images"]);
    let ended = run(&mut in_clear);
    assert_eq!(ended.code, Some(125), "{ended:?}");
    for words in ["was asked in clear text", "export DOCKER_TLS_VERIFY=1"] {
        assert!(ended.stderr.contains(words), "{ended:?}");
    }

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

/// jobctl, with an `ssh` of a test's, on an engine by it. Temporary files are in a directory of their own.
fn by_ssh(bench: &Bench, client: &Path, host: &str) -> Command {
    let path = std::env::var("PATH").unwrap();
    std::fs::create_dir_all(bench.path().join("t")).unwrap();
    let mut command = bench.jobctl();
    command
        .env("PATH", format!("{}:{path}", client.display()))
        .env("TMPDIR", bench.path().join("t"))
        .env("DOCKER_HOST", host);
    command
}

/// A call that needs many connections: some at once, some that stop being HTTP.
fn build_by_ssh(bench: &Bench, client: &Path, host: &str) {
    bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    bench.write(".dockerignore", "*\n!Dockerfile\n");
    let name = ImageName::new();
    let label = name.label();
    let mut command = by_ssh(bench, client, host);
    let flags = ["build", "--name", name.as_str(), "--label", &label];
    let ended = run(command.args(flags));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let left = std::fs::read_dir(bench.path().join("t")).unwrap().count();
    assert_eq!(left, 0, "it leaves nothing behind");
}

#[test]
fn all_that_a_command_asks_goes_over_one_connection_of_ssh() {
    if !is_root("all_that_a_command_asks_goes_over_one_connection_of_ssh") {
        return;
    }
    let bench = Bench::new();
    let server = SshServer::start(&bench);
    let host = format!("ssh://root@127.0.0.1:{}", server.port);
    build_by_ssh(&bench, &server.client, &host);
    assert_eq!(server.logins(), 1);
}

#[test]
fn a_server_that_shares_no_connections_is_used_all_the_same() {
    if !is_root("a_server_that_shares_no_connections_is_used_all_the_same") {
        return;
    }
    let bench = Bench::new();
    let server = SshServer::with(&bench, "MaxSessions 1");
    let host = format!("ssh://root@127.0.0.1:{}", server.port);
    build_by_ssh(&bench, &server.client, &host);
    assert!(server.logins() > 1);
}

#[test]
fn connections_that_the_user_shares_are_used() {
    if !is_root("connections_that_the_user_shares_are_used") {
        return;
    }
    let bench = Bench::new();
    let server = SshServer::start(&bench);
    let host = format!("ssh://root@127.0.0.1:{}", server.port);
    let own = bench.path().join("own");
    let script = std::fs::read_to_string(server.client.join("ssh")).unwrap();
    let shared = format!(
        "-F none -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={}",
        own.display()
    );
    bench.write("client/ssh", &script.replace("-F none", &shared));
    for _ in 0..2 {
        build_by_ssh(&bench, &server.client, &host);
    }
    assert_eq!(server.logins(), 1);
    let mut leave = bench.command(server.client.join("ssh"));
    let left = run(leave.args(["-O", "exit", "127.0.0.1"]));
    assert_eq!(left.code, Some(0), "{left:?}");
}

#[test]
fn what_is_to_be_tried_by_hand_has_the_port_and_the_socket() {
    if !is_root("what_is_to_be_tried_by_hand_has_the_port_and_the_socket") {
        return;
    }
    let bench = Bench::new();
    let server = SshServer::start(&bench);
    let port = server.port;
    let host = format!("ssh://root@127.0.0.1:{port}/nowhere.sock");
    let ended = run(by_ssh(&bench, &server.client, &host).arg("images"));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let by_hand = format!("`ssh -p {port} root@127.0.0.1 docker -H unix:///nowhere.sock version`");
    assert!(ended.stderr.contains(&by_hand), "{ended:?}");
}

#[test]
fn an_engine_that_is_named_wrongly_has_one_code() {
    let project = Project::empty();
    let verbs: &[(&[&str], i32)] = &[
        (&["ps"], 2),
        (&["images"], 2),
        (&["build", "--name", "x"], 2),
        (&["pull", "x"], 2),
        (&["tag", "x", "y"], 2),
        (&["down"], 2),
        (&["prune", "--images"], 2),
        (&["doctor"], 2),
        (&["run", "none"], 125),
        (&["run", "-d", "none"], 125),
        (&["up", "none"], 125),
    ];
    project.bench.write("Dockerfile", "FROM scratch\n");
    for (words, of_flag) in verbs {
        // What the command line itself says of it is a mistake in that.
        let ended = run(project.jobctl(&["-H", "nowhere://x"]).args(*words));
        assert_eq!(ended.code, Some(*of_flag), "-H {words:?}: {ended:?}");
        for (name, value) in [
            ("DOCKER_HOST", "nowhere://x"),
            ("DOCKER_HOST", "tcp://host:99999"),
            ("DOCKER_CONTEXT", "no-such-context"),
        ] {
            let ended = run(project.jobctl(words).env(name, value));
            assert_eq!(ended.code, Some(125), "{name}={value} {words:?}: {ended:?}");
        }
        let ended = run(project
            .jobctl(&["--context", "no-such-context"])
            .args(*words));
        assert_eq!(ended.code, Some(125), "--context {words:?}: {ended:?}");
    }
    // What needs no engine does not ask for one.
    for words in [&["runs"][..], &["validate"], &["run", "--dry-run", "none"]] {
        let ended = run(project.jobctl(words).env("DOCKER_HOST", "nowhere://x"));
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    }
}
