//! Services whose processes die, or those that keep them reachable.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::services::{Served, supervisor};
use super::{records_of, up};
use crate::support::engine::{PrivateEngine, load};
use crate::support::image::{DEBIAN, docker, ensure_debian};
use crate::support::project::Project;
use crate::support::proxy;
use crate::support::{is_root, run, wait_for};

#[test]
fn a_service_whose_process_dies_comes_back() {
    let served = Served::new();
    let (_, ended) = served.up(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let first = served.listed();
    assert_eq!(first["restarts"], 0);
    assert_eq!(first["addresses"][0], served.address.to_string());
    served.kill();
    wait_for(|| served.ask().is_ok());
    // Though the engine has chosen another port for it.
    wait_for(|| served.listed()["restarts"] == 1);
    assert_eq!(served.listed()["id"], first["id"]);
    let said = served.project.output(&["ps"]);
    assert!(said.contains("restarted once"), "{said}");

    // Nobody looks after it meanwhile: the next jobctl does.
    served.kill();
    wait_for(|| served.ask().is_ok());
    served.kill_processes();
    let container = first["container"].as_str().unwrap();
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", container]);
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wait_for(|| {
        let again = docker(&[
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.Pid}}",
            container,
        ]);
        again.starts_with("running") && again.trim() != format!("running {}", pid.as_raw_pid())
    });
    let listed = served.listed();
    assert_eq!(listed["is_attended"], true, "{listed:#}");
    assert_eq!(listed["restarts"], 3, "{listed:#}");
    assert_eq!(listed["unreachable"], Value::Null);
    wait_for(|| served.ask().is_ok());
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve up_to_date"], "{ended:?}");

    served.project.output(&["down"]);
    let record = &records_of(&served.project, "serve")[0];
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(record["attempts"][0]["restarts"], 3, "{record:#}");
    assert_eq!(
        served.project.output(&["logs", "serve"]),
        "serving hello\n".repeat(4)
    );
    served.project.assert_clean();
}

#[test]
fn a_service_that_is_not_started_again_is_refused_at_once() {
    let served = Served::with(r#"restart: "no""#);
    served.up(&[]);
    served.kill();
    wait_for(|| records_of(&served.project, "serve")[0]["state"] == "failed");
    let start = Instant::now();
    assert!(served.ask().is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(served.project.output(&["ps", "--ids"]), "");
    assert_eq!(served.up(&[]).0, ["train up_to_date", "serve ran"]);
    assert_eq!(served.ask().unwrap(), "model a\nhello");
}

#[test]
fn a_service_that_dies_again_and_again_while_it_starts_fails_with_its_log() {
    let served = Served::new();
    served.up(&[]);
    served.project.bench.write("server.pl", "die 'no way'");
    let ended = run(&mut served.project.jobctl(&["up"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for said in [
        "the service `serve` did not start: it ended at once each time, and was restarted ",
        "no way at /server.pl",
        "help: the one before stays up",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    let records = records_of(&served.project, "serve");
    let failed = records[0]["attempts"][0]["restarts"].as_u64().unwrap();
    assert!((1..20).contains(&failed), "{failed}");
    assert_eq!(served.serving().len(), 1);
}

#[test]
fn a_run_is_followed_until_the_engine_gives_up() {
    // More than is read at once, on both streams, and an end without a line's.
    let script = "seq 3000; seq 3000 >&2; printf end; exit 7";
    let project = Project::with_name(&format!(
        "serve:\n  image: IMAGE\n  command: [sh, -c, '{script}']\n  service: true\n"
    ));
    let start = ["run", "-d", "--restart", "on-failure:2", "serve"];
    project.output(&start);
    let ended = run(&mut project.jobctl(&["wait", "serve"]));
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let record = project.record();
    assert_eq!(record["attempts"][0]["restarts"], 2, "{record:#}");
    assert_eq!(record["ending"], "error");
    assert_eq!(record["warnings"], serde_json::json!([]));
    let lines = (1..=3000).map(|line| line.to_string());
    let lines = lines.collect::<Vec<_>>().join("\n") + "\n";
    let out = String::from_utf8(project.file("stdout.log")).unwrap();
    assert!(
        out == format!("{lines}end").repeat(3),
        "{} bytes",
        out.len()
    );
    let err = String::from_utf8(project.file("stderr.log")).unwrap();
    assert!(err == lines.repeat(3), "{} bytes", err.len());
    project.assert_clean();
}

/// On a busy machine, engines end a log that is followed before they have sent its last lines.
#[test]
fn what_following_the_log_left_out_is_read_at_the_end() {
    let script =
        "echo begun; until [ -e /meet/go ]; do sleep 0.1; done; rm /meet/go; printf went; exit 1";
    let project = Project::with_name(&format!(
        "serve:\n  image: IMAGE\n  command: [sh, -c, '{script}']\n  service: true\n  \
         restart: on-failure:1\n  volumes: ['./meet:/meet']\n"
    ));
    std::fs::create_dir(project.bench.path().join("meet")).unwrap();
    let request = ("follow=1", "follow=0");
    let engine = proxy::start(project.bench.path(), request, ("", ""));
    let mut start = project.jobctl(&["run", "-d", "serve"]);
    start.env("DOCKER_HOST", format!("unix://{}", engine.display()));
    assert_eq!(run(&mut start).code, Some(0));
    for begun in ["begun\n", "begun\nwentbegun\n"] {
        project.wait_for_output(begun);
        project.bench.write("meet/go", "");
    }
    let ended = run(&mut project.jobctl(&["wait", "serve"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(project.file("stdout.log"), b"begun\nwentbegun\nwent");
    project.assert_clean();
}

#[test]
fn who_is_attached_sees_what_is_written_after_a_restart() {
    let script =
        "until [ -e /meet/go ]; do echo waits; sleep 0.1; done; rm /meet/go; echo went; exit 1";
    let project = Project::with_name(&format!(
        "serve:\n  image: IMAGE\n  command: [sh, -c, '{script}']\n  service: true\n  \
         restart: on-failure:1\n  volumes: ['./meet:/meet']\n"
    ));
    std::fs::create_dir(project.bench.path().join("meet")).unwrap();
    project.output(&["run", "-d", "serve"]);
    let mut attached = Project::start(&mut project.jobctl(&["attach", "serve"]));
    let mut lines = BufReader::new(attached.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let mut lines = lines.by_ref().map(Result::unwrap);
        assert!(lines.any(|line| line == "waits"));
        project.bench.write("meet/go", "");
        assert!(lines.any(|line| line == "went"));
    }
    assert_eq!(attached.wait().unwrap().code(), Some(1));
    project.assert_clean();
}

#[test]
fn a_service_is_ended_by_whoever_stops_its_container() {
    for policy in ["always", "unless-stopped"] {
        let project = Project::with_name(&format!(
            "serve: {{ image: IMAGE, command: [sleep, '600'], service: true, restart: {policy} }}"
        ));
        project.output(&["run", "-d", "serve"]);
        let container = project.record()["attempts"][0]["container"].clone();
        docker(&["stop", "--time", "1", container.as_str().unwrap()]);
        wait_for(|| project.record()["state"] == "failed");
        project.assert_clean();
        project.output(&["run", "-d", "serve"]);
        project.output(&["stop", "serve"]);
        assert_eq!(project.records()[0]["ending"], "stopped");
        project.assert_clean();
    }
}

#[test]
fn a_service_that_the_engine_is_starting_again_can_be_ended() {
    for verb in ["stop", "kill", "rm"] {
        let project = Project::with_name(
            "serve: { image: IMAGE, command: ['false'], service: true, restart: always }",
        );
        project.output(&["run", "-d", "serve"]);
        // From then on it is away most of the time.
        let restarts = || project.record()["attempts"][0]["restarts"].as_u64();
        wait_for(|| restarts() >= Some(4));
        match verb {
            "rm" => drop(project.output(&["rm", "--force", "serve"])),
            verb => {
                project.output(&[verb, "serve"]);
                assert_eq!(project.record()["ending"], "stopped", "{verb}");
                let shown = project.output(&["show", "serve"]);
                assert!(shown.contains(", restarted "), "{shown}");
            }
        }
        project.assert_clean();
    }
}

#[test]
fn a_listener_that_was_killed_comes_back_with_whoever_looks() {
    let served = Served::new();
    served.up(&[]);
    kill_process(served.listener(), Signal::KILL).unwrap();
    let mut taken = None;
    wait_for(|| {
        taken = TcpListener::bind(served.address).ok();
        taken.is_some()
    });
    let ended = run(&mut served.project.jobctl(&["ps"]));
    assert!(
        ended.stdout.contains("running, healthy, not reachable  "),
        "{ended:?}"
    );
    let said = format!(
        "warning: the service `serve` is not reachable: {}: Address already in use",
        served.address
    );
    assert!(ended.stderr.contains(&said), "{ended:?}");
    let why = served.listed()["unreachable"].clone();
    assert!(why.as_str().unwrap().contains("in use"), "{why}");
    drop(taken);
    assert_eq!(served.listed()["unreachable"], Value::Null);
    assert_eq!(served.ask().unwrap(), "model a\nhello");
}

#[test]
fn a_listener_that_may_open_few_files_serves_whoever_is_next() {
    let served = Served::new();
    served.up(&[]);
    kill_process(served.listener(), Signal::KILL).unwrap();
    let mut limited = served.project.bench.command("sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" ps"]);
    let ended = run(limited.arg(crate::support::jobctl()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let listener = served.listener().as_raw_pid();
    let open: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(served.address).unwrap())
        .collect();
    let log = served
        .project
        .bench
        .path()
        .join(".jobctl/services/serve/listener.log");
    let warned = || std::fs::read_to_string(&log).unwrap();
    wait_for(|| warned().contains("16 connections are open, which is the limit"));
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{listener}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        ticks(11) + ticks(12)
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(2));
    // Of 200 that a process has that spins.
    assert!(ticks() - before < 20);
    let address = served.address;
    let waiting = std::thread::spawn(move || super::services::ask(address));
    drop(open);
    assert_eq!(waiting.join().unwrap().unwrap(), "model a\nhello");
    assert_eq!(warned().matches("which is the limit").count(), 1);
}

#[test]
fn a_service_comes_back_after_a_reboot() {
    let served = Served::new();
    served.up(&[]);
    let first = served.serving()[0].clone();
    served.kill_processes();
    let container = first["attempts"][0]["container"].as_str().unwrap();
    docker(&["kill", container]);
    // The engine did not start it by itself.
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve ran"], "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    // The engine did, with another port.
    let second = served.serving()[0].clone();
    served.kill_processes();
    docker(&[
        "restart",
        "--time",
        "1",
        second["attempts"][0]["container"].as_str().unwrap(),
    ]);
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve up_to_date"], "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.listed()["is_attended"], true);
}

#[test]
fn a_service_is_followed_over_a_restart_of_its_engine() {
    if !is_root("a_service_is_followed_over_a_restart_of_its_engine") {
        return;
    }
    ensure_debian();
    let mut engine = PrivateEngine::start("", &[]);
    load(DEBIAN, &engine.socket());
    let script = "trap \"exit 0\" TERM; echo begin; while :; do sleep 0.1; done";
    let project = Project::with_name(&format!(
        "serve: {{ image: IMAGE, command: [sh, -c, '{script}'], service: true, network: none }}"
    ));
    let jobctl = |args: &[&str]| {
        let ended = run(project.jobctl(args).env("DOCKER_HOST", engine.host()));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    };
    let restarts = || project.record()["attempts"][0]["restarts"].as_u64();
    jobctl(&["up"]);
    let id = project.record()["id"].as_str().unwrap().to_owned();
    project.wait_for_output("begin\n");
    engine.stop();
    engine.restart();
    wait_for(|| restarts() == Some(1));
    project.wait_for_output(&"begin\n".repeat(2));
    assert_eq!(project.record()["state"], "running");

    kill_process(supervisor(&id), Signal::KILL).unwrap();
    engine.cut_power();
    engine.restart();
    let jobctl = |args: &[&str]| {
        let ended = run(project.jobctl(args).env("DOCKER_HOST", engine.host()));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout
    };
    let listed = jobctl(&["ps"]);
    assert!(listed.contains("running, restarted 2 times "), "{listed}");
    project.wait_for_output(&"begin\n".repeat(3));
    jobctl(&["down"]);
    assert_eq!(project.record()["ending"], "stopped");
}

/// A service in the host's network that listens, or does not.
fn in_hosts_network() -> (Project, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let server = format!(
        "exit sleep 600 if $ENV{{DEAF}}; my $s = IO::Socket::INET->new(LocalAddr => \"127.0.0.1\", \
         LocalPort => {port}, Listen => 9, ReuseAddr => 1) or die $!; \
         while (my $c = $s->accept) {{ print $c $ENV{{NAME}}; close $c }}"
    );
    let project = Project::with_name(&format!(
        r#"
serve:
  image: IMAGE
  command: ["perl", "-MIO::Socket::INET", "-e", '{}']
  environment: {{ NAME: "${{NAME:-a}}", DEAF: "${{DEAF:-}}" }}
  service: true
  network: host
  healthcheck: {{ test: [CMD, bash, -c, 'exec 3<>/dev/tcp/127.0.0.1/{port}'], interval: 500ms, retries: 2 }}
"#,
        server.replace('$', "$$")
    ));
    (project, port)
}

#[test]
fn a_service_in_the_hosts_network_is_not_taken_for_the_one_before() {
    let (project, port) = in_hosts_network();
    let ask = || {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    let (steps, ended) = up(&project, &[], &[]);
    assert_eq!(steps, ["serve ran"], "{ended:?}");
    assert_eq!(ask().as_deref(), Some("a"));
    let said = "`serve` is briefly unavailable: it uses the host's network, so that two of it can't be up at \
                once; the run ";
    let (steps, ended) = up(&project, &[], &[("NAME", "b")]);
    assert_eq!(steps, ["serve ran"], "{ended:?}");
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert_eq!(ask().as_deref(), Some("b"));
    // One that does not listen is not healthy because another one does.
    let (_, ended) = up(&project, &[], &[("DEAF", "yes")]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("its health check fails"), "{ended:?}");
    let said = "`serve` is started again as in the run ";
    assert!(ended.stderr.contains(said), "{ended:?}");
    wait_for(|| ask().as_deref() == Some("b"));
    let (steps, ended) = up(&project, &[], &[("NAME", "b")]);
    assert_eq!(steps, ["serve up_to_date"], "{ended:?}");
    project.output(&["down"]);
    assert_eq!(ask(), None);
    project.assert_clean();
}
