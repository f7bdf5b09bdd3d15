//! What is asked of the engine, beside what docker's own client asks.

use std::process::Command;

use jobctl::engine::run::{Bound, BoundKind, Health, Limits, LogRequest, RunSpec};
use jobctl::model::Restart;
use jobctl::model::{GpuRequest, Gpus, Secret};
use serde_json::{Value, json};

use crate::support::container::{Runner, command};
use crate::support::image::DEBIAN;
use crate::support::recorder::{Asked, Recorder};

/// What a container is made by.
fn made(asked: Vec<Asked>) -> Value {
    let mut made = asked
        .into_iter()
        .filter(|asked| asked.path.starts_with("/containers/create"));
    let body = made.next().expect("a container was made").meaning();
    assert_eq!(made.next(), None);
    body
}

/// What docker's own client makes a container by.
fn made_by_docker(recorder: &Recorder, flags: &[&str], words: &[&str]) -> Value {
    recorder.take();
    let output = Command::new("docker")
        .args(["-H", &recorder.host(), "create"])
        .args(["--label", "dev.jobctl.test=wire", "--network", "none"])
        .args(flags)
        .arg(DEBIAN)
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{flags:?} {output:?}");
    let asked = recorder.take();
    let id = String::from_utf8(output.stdout).unwrap();
    let removed = Command::new("docker").args(["rm", id.trim()]).output();
    assert!(removed.unwrap().status.success());
    made(asked)
}

/// What jobctl makes a container by, less what it means to do otherwise.
async fn made_by_us(recorder: &Recorder, spec: &RunSpec) -> Value {
    let runner = Runner::at(recorder.socket()).await;
    recorder.take();
    runner.create(spec).await;
    made(recorder.take())
}

fn plain() -> RunSpec {
    let mut spec = command(&["true"]);
    spec.init = None;
    spec.labels
        .insert("dev.jobctl.test".to_owned(), "wire".to_owned());
    spec
}

/// The requests of docker/cli's `opts/gpus_test.go`, and others.
#[tokio::test]
async fn gpus_are_asked_for_as_docker_asks() {
    let recorder = Recorder::start();
    for text in [
        "all",
        "-1",
        "count=all",
        "count=-1",
        "2",
        "device=0",
        "\"device=0,2\"",
        "device=GPU-3faa8e0c-0000-0000-0000-000000000000",
        "device=nvidia.com/gpu=all",
        "driver=nvidia",
        "driver=nvidia,count=5,options=foo=bar",
        r#"driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux""#,
        r#"1,driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux""#,
        r#"driver=nvidia,"capabilities=compute,utility","options=foo=bar,baz=qux",count=1"#,
    ] {
        let Ok(Gpus::Request(request)) = text.parse() else {
            panic!("{text} is a request");
        };
        let spec = RunSpec {
            gpus: vec![request],
            ..plain()
        };
        let ours = made_by_us(&recorder, &spec).await;
        let theirs = made_by_docker(&recorder, &["--gpus", text], &["true"]);
        let requests = |made: &Value| made["HostConfig"]["DeviceRequests"].clone();
        assert!(requests(&ours).is_array(), "{text}");
        assert_eq!(requests(&ours), requests(&theirs), "{text}");
    }
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "a flag and what it becomes, side by side"
)]
async fn a_container_is_described_as_docker_describes_it() {
    let recorder = Recorder::start();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    let flags = [
        "--env",
        "A=1",
        "--env",
        "B=x y",
        "--env",
        "UNSET_AND_ABSENT_HERE=",
        "--user",
        "1000:100",
        "--workdir",
        "/srv",
        "--entrypoint",
        "/bin/echo",
        "--hostname",
        "job",
        "--add-host",
        "db:10.0.0.1",
        "--volume",
        &format!("{folder}:/data:ro"),
        "--volume",
        "/nameless",
        "--mount",
        &format!("type=bind,source={folder},target=/bound,readonly"),
        "--mount",
        "type=tmpfs,target=/scratch,tmpfs-size=1048576",
        "--publish",
        "127.0.0.1:18000:8000",
        "--publish",
        "19000-19001:9000-9001/udp",
        "--publish",
        "20000-20010:7000",
        "--publish",
        "6000",
        "--cpus",
        "1.5",
        "--memory",
        "64m",
        "--shm-size",
        "32m",
        "--ulimit",
        "nofile=512:1024",
        "--ipc",
        "private",
        "--init",
        "--security-opt",
        "no-new-privileges",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CAP_CHOWN",
        "--privileged",
        "--read-only",
        "--tty",
        "--interactive",
        "--stop-signal",
        "SIGINT",
        "--stop-timeout",
        "7",
        "--restart",
        "on-failure:3",
        "--device",
        "/dev/null:/dev/nothing:r",
        "--health-cmd",
        "true",
        "--health-interval",
        "2s",
        "--health-timeout",
        "3s",
        "--health-start-period",
        "4s",
        "--health-retries",
        "5",
        "--runtime",
        "runc",
    ];
    let second = std::time::Duration::from_secs(1);
    let strings =
        |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let variable = |name: &str, value: &str| (name.parse().unwrap(), Some(Secret::new(value)));
    let spec = RunSpec {
        environment: vec![
            variable("A", "1"),
            variable("B", "x y"),
            variable("UNSET_AND_ABSENT_HERE", ""),
        ],
        user: Some("1000:100".to_owned()),
        workdir: Some("/srv".to_owned()),
        entrypoint: Some(strings(&["/bin/echo"])),
        hostname: Some("job".to_owned()),
        extra_hosts: strings(&["db:10.0.0.1"]),
        mounts: vec![
            format!("{folder}:/data:ro").parse().unwrap(),
            "/nameless".parse().unwrap(),
        ],
        bound: vec![
            Bound::of(BoundKind::Bind, Some(folder.clone()), "/bound").read_only(),
            Bound {
                size: Some("1mb".parse().unwrap()),
                ..Bound::of(BoundKind::Tmpfs, None, "/scratch")
            },
        ],
        ports: [
            "127.0.0.1:18000:8000",
            "19000-19001:9000-9001/udp",
            "20000-20010:7000",
            "6000",
        ]
        .map(|port| port.parse().unwrap())
        .into(),
        limits: Limits {
            cpus: Some("1.5".parse().unwrap()),
            memory: Some("64mb".parse().unwrap()),
            shm_size: Some("32mb".parse().unwrap()),
            ulimits: vec!["nofile=512:1024".parse().unwrap()],
        },
        ipc: Some("private".to_owned()),
        init: Some(true),
        security: strings(&["no-new-privileges"]),
        cap_drop: strings(&["ALL"]),
        cap_add: strings(&["CAP_CHOWN"]),
        is_privileged: true,
        is_read_only: true,
        tty: true,
        stdin: true,
        stop_signal: Some("SIGINT".to_owned()),
        stop_grace: Some(7 * second),
        restart: Some(Restart::OnFailure(Some(3))),
        devices: vec!["/dev/null:/dev/nothing:r".parse().unwrap()],
        health: Some(Health {
            test: strings(&["CMD-SHELL", "true"]),
            interval: Some(2 * second),
            timeout: Some(3 * second),
            start_period: Some(4 * second),
            retries: Some(5),
        }),
        runtime: Some("runc".to_owned()),
        command: Some(strings(&["hello"])),
        ..plain()
    };
    let mut ours = made_by_us(&recorder, &spec).await;
    let mut theirs = made_by_docker(&recorder, &flags, &["hello"]);
    // Bytes are kept as they are, and not for ever.
    let kept = json!({ "Type": "local", "Config": { "max-size": "100m", "max-file": "10" } });
    assert_eq!(ours["HostConfig"]["LogConfig"].take(), kept);
    // What docker's client sends to say "the engine's default" in so many words.
    assert_eq!(theirs["HostConfig"]["MemorySwappiness"].take(), -1);
    for made in [&mut ours, &mut theirs] {
        let host = made["HostConfig"].as_object_mut().unwrap();
        host.retain(|_, value| !value.is_null());
        host.remove("ConsoleSize");
        // docker's client does not keep them in order.
        let variables = made["Env"].as_array_mut().unwrap();
        variables.sort_by_key(ToString::to_string);
    }
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn a_run_takes_no_more_requests_than_it_must() {
    let recorder = Recorder::start();
    let runner = Runner::at(recorder.socket()).await;
    let spec = plain();
    let id = runner.create(&spec).await;
    runner.finish(&id, false).await;
    runner.engine.container(&id).await.unwrap();
    runner.engine.remove(&id).await.unwrap();
    let asked: Vec<_> = recorder
        .take()
        .into_iter()
        .map(|asked| format!("{} {}", asked.method, asked.path.replace(&id, "ID")))
        .collect();
    assert_eq!(
        asked,
        [
            "GET /_ping".to_owned(),
            format!("POST /containers/create?name={}&platform=", spec.name),
            "POST /containers/ID/attach?stream=1&stdout=1&stderr=1".to_owned(),
            "POST /containers/ID/wait?condition=next-exit".to_owned(),
            "POST /containers/ID/start".to_owned(),
            "GET /containers/ID/json".to_owned(),
            "DELETE /containers/ID?v=true&force=true&link=false".to_owned(),
        ]
    );
}

#[tokio::test]
async fn devices_of_drivers_are_asked_for_as_docker_asks() {
    let recorder = Recorder::start();
    let spec = RunSpec {
        devices: vec!["nvidia.com/gpu=0".parse().unwrap()],
        gpus: vec![GpuRequest::of(jobctl::model::Devices::All)],
        ..plain()
    };
    let ours = made_by_us(&recorder, &spec).await;
    let expected = json!([
        { "Count": -1, "Capabilities": [["gpu"]] },
        { "Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"] },
    ]);
    assert_eq!(ours["HostConfig"]["DeviceRequests"], expected);
}

#[tokio::test]
async fn gpus_that_the_engine_does_not_have_are_said_to_be_missing() {
    let runner = Runner::new().await;
    let facts = runner.engine.facts().await.unwrap();
    if facts.runtimes.iter().any(|runtime| runtime == "nvidia") {
        crate::support::skipped("gpus_that_the_engine_does_not_have", "it has them");
        return;
    }
    let mut spec = plain();
    spec.gpus = vec![GpuRequest::of(jobctl::model::Devices::All)];
    let id = runner.create(&spec).await;
    let at_start = runner.engine.start(&id).await.unwrap_err();
    let mut spec = plain();
    spec.runtime = Some("nvidia".to_owned());
    let at_create = runner.try_create(&spec).await.unwrap_err();
    let mut spec = plain();
    spec.devices = vec!["nvidia.com/gpu=all".parse().unwrap()];
    let id = runner.create(&spec).await;
    let by_name = runner.engine.start(&id).await.unwrap_err();
    for error in [at_start, at_create, by_name] {
        let help = error.help().unwrap();
        assert!(
            error.to_string().contains("can't give containers GPUs"),
            "{error}"
        );
        assert!(help.contains("nvidia-container-toolkit"), "{help}");
    }
    let log = runner.engine.logs(&id, false, &LogRequest::default()).await;
    assert!(log.unwrap().next().await.is_none());
}
