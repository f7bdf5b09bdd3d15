//! What serves keeps serving, whatever becomes of what is to replace it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use super::services::{Served, supervisor};
use super::{records_of, up};
use crate::support::image::docker;
use crate::support::project::Project;
use crate::support::{run, wait_for};

fn manifest(project: &Project) -> PathBuf {
    project.bench.path().join("jobs.yaml")
}

fn rewrite(project: &Project, from: &str, to: &str) {
    let text = std::fs::read_to_string(manifest(project)).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(manifest(project), text.replace(from, to)).unwrap();
}

#[test]
fn a_port_that_is_taken_leaves_the_one_before_up() {
    let served = Served::new();
    served.up(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (old, new) = (
        served.address.to_string(),
        taken.local_addr().unwrap().to_string(),
    );
    rewrite(&served.project, &old, &new);
    let (_, ended) = served.up(&[]);
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let said = format!("the service `serve` can't be reached: {new}: Address already in use");
    assert!(ended.stdout.contains(&said), "{}", ended.stdout);
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_eq!(served.serving().len(), 1);
    drop(taken);
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve ran"], "{ended:?}");
    assert!(served.ask().is_err());
    assert_eq!(served.listed()["addresses"][0], *new);
}

#[test]
fn a_port_is_listened_on_at_other_addresses() {
    let served = Served::new();
    served.up(&[]);
    let port = served.address.port();
    let own = format!("127.0.0.1:{port}:80");
    for ports in [
        format!("{port}:80"),
        format!("0.0.0.0:{port}:80"),
        own.clone(),
    ] {
        let text = std::fs::read_to_string(manifest(&served.project)).unwrap();
        let line = text.lines().find(|line| line.contains("ports:")).unwrap();
        let text = text.replace(line, &format!("    ports: [\"{ports}\"]"));
        std::fs::write(manifest(&served.project), text).unwrap();
        let (steps, ended) = served.up(&[]);
        assert_eq!(
            steps,
            ["train up_to_date", "serve ran"],
            "{ports}: {ended:?}"
        );
        assert_eq!(served.ask().unwrap(), "model a\nhello", "{ports}");
    }
}

#[test]
fn one_that_had_to_be_stopped_is_listened_for_again() {
    let served = Served::new();
    served.up(&[]);
    let port = served.address.port();
    rewrite(
        &served.project,
        &format!("\"127.0.0.1:{port}:80\""),
        &format!("\"127.0.0.1:{port}-{port}:80\", \"127.0.0.1::81-82\""),
    );
    let (_, ended) = served.up(&[("GREETING", "ill")]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("is started again as in the run"),
        "{ended:?}"
    );
    wait_for(|| served.ask().as_deref() == Ok("model a\nhello"));
}

/// A service that is not healthy while there is a file, and how often that must be so.
fn ailing(retries: u32) -> Project {
    Project::with_name(&format!(
        r#"
serve:
  image: IMAGE
  command: [sleep, "600"]
  service: true
  healthcheck: {{ test: "test ! -e /ill", interval: 500ms, retries: {retries} }}
"#
    ))
}

fn container(project: &Project) -> String {
    let records = records_of(project, "serve");
    let id = &records[0]["attempts"][0]["container_id"];
    id.as_str().unwrap().to_owned()
}

fn health(container: &str) -> String {
    docker(&["inspect", "-f", "{{.State.Health.Status}}", container])
}

#[test]
fn one_that_is_up_is_not_ended_for_its_health() {
    let project = ailing(1);
    assert_eq!(up(&project, &[], &[]).0, ["serve ran"]);
    let container = container(&project);
    docker(&["exec", &container, "touch", "/ill"]);
    wait_for(|| health(&container).trim() == "unhealthy");
    let (_, ended) = up(&project, &[], &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = "the service `serve` is up, and not healthy: its health check fails";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
    assert_eq!(records_of(&project, "serve")[0]["state"], "running");
    docker(&["exec", &container, "rm", "/ill"]);
    wait_for(|| health(&container).trim() == "healthy");
    assert_eq!(up(&project, &[], &[]).0, ["serve up_to_date"]);
    project.output(&["down"]);
    project.assert_clean();
}

#[test]
fn one_that_is_up_is_not_ended_by_who_no_longer_waits_for_it() {
    let project = ailing(10_000);
    assert_eq!(up(&project, &[], &[]).0, ["serve ran"]);
    let container = container(&project);
    docker(&["exec", &container, "touch", "/ill"]);
    docker(&["restart", "-t", "0", &container]);
    wait_for(|| health(&container).trim() == "starting");
    let ended = run(&mut project.jobctl(&["up", "--wait-timeout", "1s"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("it is not healthy after 1 s"),
        "{ended:?}"
    );
    let mut child = Project::start(&mut project.jobctl(&["--progress", "plain", "up"]));
    let pid = Pid::from_child(&child);
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting until it is healthy") {
        line.clear();
        assert_ne!(
            std::io::BufRead::read_line(&mut stderr, &mut line).unwrap(),
            0
        );
    }
    kill_process(pid, Signal::INT).unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{line}");
    assert_eq!(records_of(&project, "serve").len(), 1);
    assert_eq!(records_of(&project, "serve")[0]["state"], "running");
    project.output(&["down"]);
    project.assert_clean();
}

#[test]
fn what_was_replaced_is_remembered_though_another_service_failed() {
    let service = |name: &str, variable: &str| {
        format!(
            r#"
{name}:
  image: IMAGE
  command: [sleep, "600"]
  service: true
  environment: {{ KIND: "${{{variable}:-one}}" }}
  healthcheck: {{ test: 'test "$$KIND" != bad', interval: 500ms, retries: 1 }}
"#
        )
    };
    let project = Project::with_name(&(service("good", "KIND") + &service("other", "OTHER")));
    assert_eq!(up(&project, &[], &[]).1.code, Some(0));
    assert_eq!(up(&project, &["good"], &[("KIND", "two")]).1.code, Some(0));
    let (_, ended) = up(
        &project,
        &["-j", "1"],
        &[("KIND", "three"), ("OTHER", "bad")],
    );
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = "the service `good` is up with the run ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    let ended = run(project.jobctl(&["rollback", "good"]).env("KIND", "three"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let newest = &records_of(&project, "good")[0];
    let kind = newest["environment"].as_array().unwrap().iter();
    let mut kind = kind.filter(|variable| variable["name"] == "KIND");
    assert_eq!(kind.next().unwrap()["value"], "two");
    project.output(&["down"]);
    project.assert_clean();
}

#[test]
fn a_new_secret_replaces_a_service_and_runs_no_job_again() {
    let project = Project::with_name(
        r#"
train: { image: IMAGE, command: ["true"], environment: { API_TOKEN: } }
serve:
  image: IMAGE
  command: [sleep, "600"]
  service: true
  needs: [train]
  environment: { API_TOKEN: }
"#,
    );
    let up = |token: &str| up(&project, &[], &[("API_TOKEN", token)]).0;
    assert_eq!(up("old-1234"), ["train ran", "serve ran"]);
    assert_eq!(up("old-1234"), ["train up_to_date", "serve up_to_date"]);
    assert_eq!(up("new-5678"), ["train up_to_date", "serve ran"]);
    let mut command = project.jobctl(&["up", "--why"]);
    let ended = run(command.env("API_TOKEN", "newest-90"));
    let said = "serve runs again: variable `API_TOKEN`: (not shown) → (not shown) (since the run ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    project.output(&["down"]);
    project.assert_clean();
}

#[test]
fn an_input_that_can_be_executed_is_another_one() {
    let project = Project::with_name(
        "job: { image: IMAGE, command: [/it], inputs: { it: { source: it, target: /it } } }",
    );
    project.bench.write("it", "#!/bin/sh\necho it\n");
    let path = project.bench.path().join("it");
    let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    set(0o755);
    assert_eq!(up(&project, &[], &[]).0, ["job ran"]);
    assert_eq!(up(&project, &[], &[]).0, ["job up_to_date"]);
    set(0o644);
    let (_, ended) = up(&project, &[], &[]);
    assert_eq!(ended.code, Some(126), "{ended:?}");
    project.assert_clean();
}

#[test]
fn a_listener_that_hangs_is_noticed_and_replaced() {
    let served = Served::new();
    served.up(&[]);
    let listener = served.listener();
    kill_process(listener, Signal::STOP).unwrap();
    let listed = served.listed();
    let why = "the process that listens does not answer";
    assert_eq!(listed["unreachable"], why, "{listed:#}");
    let (steps, ended) = served.up(&[]);
    assert_eq!(steps, ["train up_to_date", "serve up_to_date"], "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
    assert_ne!(served.listener(), listener);
}

#[test]
fn a_supervisor_that_was_killed_is_replaced_though_nobody_looks() {
    let served = Served::new();
    served.up(&[]);
    let id = served.serving()[0]["id"].as_str().unwrap().to_owned();
    let lock = served
        .project
        .bench
        .path()
        .join(format!(".jobctl/runs/{id}/lock"));
    kill_process(supervisor(&id), Signal::KILL).unwrap();
    let is_held = || {
        let file = std::fs::File::open(&lock).unwrap();
        file.try_lock().is_err()
    };
    wait_for(is_held);
    served.kill();
    // The engine chooses another port for it.
    wait_for(|| served.ask().is_ok());
    assert_eq!(served.listed()["restarts"], 1);
}

#[test]
fn a_project_that_was_moved_is_rolled_back_with_its_inputs() {
    let mut served = Served::new();
    for name in ["a", "b"] {
        served.up(&[("NAME", name)]);
    }
    served.project.bench.relocate();
    let ended = run(&mut served.project.jobctl(&["rollback"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(served.ask().unwrap(), "model a\nhello");
}
