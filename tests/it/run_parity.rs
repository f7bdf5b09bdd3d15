//! `jobctl run --image` and `docker run`, given the same flags: the same container, which sees the
//! same.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::docker::{Container, LABEL};
use crate::support::image::DEBIAN;
use crate::support::{Bench, Ended, run};

/// What docker is told so that it does as we do by default.
const OURS: [&str; 3] = ["--init", "--security-opt", "no-new-privileges"];
/// The variable that hides GPUs, which is ours alone.
const HIDDEN: &str = "NVIDIA_VISIBLE_DEVICES=void";

/// Flags, and what is run; in shell words. `PROBE` is the probe's script.
const ROWS: &[(&str, &str)] = &[
    ("", "sh -c PROBE"),
    ("", "sh -c PROBE zero one 'two three' -x --rm"),
    ("", "/bin/true"),
    ("", "sh -c 'exit 7'"),
    ("", "sh -c 'echo out; echo err >&2; exit 255'"),
    ("", "sh -c 'kill -9 $$'"),
    ("", "no-such-program"),
    ("", "/etc/passwd"),
    ("", "/tmp"),
    ("-i", "cat"),
    ("-i", "sh -c 'head -c 3; exit 3'"),
    ("", "cat"),
    ("-t", "sh -c 'tty; echo a; stty size >/dev/null'"),
    ("-e A=1", "sh -c PROBE"),
    ("-e A=1 -e B=2 --env C=3", "sh -c PROBE"),
    ("-e A=1 -e A=2", "sh -c PROBE"),
    ("-e SET -e NONE", "sh -c PROBE"),
    ("-e A= -e 'B= x y '", "sh -c PROBE"),
    ("-e PATH=/usr/bin:/bin", "sh -c PROBE"),
    ("-e PATH", "/bin/sh -c PROBE"),
    ("-e HOME=/x", "sh -c PROBE"),
    ("--env-file one.env", "sh -c PROBE"),
    ("--env-file one.env --env-file two.env", "sh -c PROBE"),
    ("--env-file one.env -e B=9", "sh -c PROBE"),
    ("--env-file one.env -e UNSET", "sh -c PROBE"),
    ("-u 1000", "sh -c PROBE"),
    ("--user 1000:1001", "sh -c PROBE"),
    ("-u nobody", "sh -c PROBE"),
    ("-u no-such-user", "true"),
    ("-w /tmp", "sh -c PROBE"),
    ("--workdir /new/folder", "sh -c PROBE"),
    ("--entrypoint cat", "/etc/hostname.none"),
    ("--entrypoint echo", ""),
    ("--entrypoint ''", "sh -c PROBE"),
    ("--hostname box", "sh -c PROBE"),
    ("--add-host a:10.0.0.1 --add-host b=10.0.0.2", "sh -c PROBE"),
    ("--network none", "sh -c PROBE"),
    ("--net=host", "sh -c 'id'"),
    ("--shm-size 32m", "sh -c PROBE"),
    ("-m 64m", "sh -c PROBE"),
    ("--memory=64mb --cpus 0.5", "sh -c PROBE"),
    ("--ulimit nofile=100:200 --ulimit core=0", "sh -c PROBE"),
    ("--ulimit nofile=100 --ulimit nofile=50", "sh -c PROBE"),
    ("--ipc private", "sh -c PROBE"),
    ("--ipc none", "sh -c PROBE"),
    (
        "-v ./shared:/shared:ro",
        "sh -c 'cat /shared/file; touch /shared/x'",
    ),
    ("-v /volume", "sh -c PROBE"),
    (
        "--mount type=bind,source=./shared,target=/shared,readonly",
        "sh -c 'cat /shared/file; touch /shared/x'",
    ),
    (
        "--mount type=tmpfs,target=/scratch,tmpfs-size=4m",
        "sh -c PROBE",
    ),
    ("--tmpfs /scratch", "sh -c PROBE"),
    ("--tmpfs /scratch:size=2m,mode=1700", "sh -c PROBE"),
    ("--read-only", "sh -c 'touch /x'"),
    ("--device /dev/null:/dev/other", "sh -c 'ls /dev/other'"),
    ("--cap-drop ALL --cap-add CHOWN", "sh -c PROBE"),
    ("--cap-add SYS_PTRACE", "sh -c PROBE"),
    ("--security-opt seccomp=unconfined", "sh -c PROBE"),
    ("-p 127.0.0.1::8000 -p 9000/udp", "true"),
    ("-l a=b -l c --label d=e=f", "true"),
    ("--stop-signal SIGINT --stop-timeout 3", "true"),
    ("--pull never", "true"),
    ("--platform linux/amd64", "true"),
    ("--runtime runc", "true"),
    ("--runtime no-such-runtime", "true"),
    ("--network no-such-network", "true"),
    ("-w ''", "sh -c PROBE"),
    ("-w /", "sh -c PROBE"),
    ("--cpus 1/2 -m +64.5mb", "sh -c PROBE"),
    ("--cpus 0 -m 0 --shm-size 0", "sh -c PROBE"),
    ("--stop-timeout -1", "true"),
    (
        "--add-host a=[::1] --add-host 'b:[10.0.0.3]'",
        "sh -c PROBE",
    ),
    (
        "--mount type=tmpfs,target=/scratch,tmpfs-mode=0711",
        "stat -c %a /scratch",
    ),
    (
        "--mount type=bind,source=./shared,target=/shared,bind-propagation=rprivate,consistency=cached",
        "cat /shared/file",
    ),
    ("-it=false", "sh -c PROBE"),
    ("--init=true --rm=true", "sh -c PROBE"),
];

/// The same for containers that are made, and not started here: ports that may be taken, things
/// that this machine lacks.
const MADE: &[(&str, &str)] = &[
    ("-p 8000:80", "true"),
    ("-p 0.0.0.0:8000-8002:80-82/tcp -p '[::1]:8000:80'", "true"),
    ("-p 8000-8010:80", "true"),
    (
        "-p ::1:8000:80 -p :8001:81 -p ::82 -p 83/UDP -p 84/",
        "true",
    ),
    (
        "-p target=80,published=8000 -p published=8001,target=81,protocol=udp -p target=82,mode=host",
        "true",
    ),
    ("--network name=bridge", "true"),
    ("--device x:/dev/x:r --device /dev/null:rw", "true"),
    ("-v ./shared:/shared:rslave", "true"),
    (
        "--mount type=volume,src=some-volume-of-a-test,target=/data,volume-nocopy",
        "true",
    ),
    ("--gpus all", "true"),
    ("--gpus 2", "true"),
    ("--gpus '\"device=0,2\"'", "true"),
    ("--gpus driver=nvidia,count=5,options=foo=bar", "true"),
    ("--gpus 'all,\"capabilities=utility,compute\"'", "true"),
    (
        "--gpus all --ipc host --ulimit memlock=-1 --ulimit stack=67108864",
        "true",
    ),
    ("-it", "sh"),
    ("-v some-volume-of-a-test:/data", "true"),
    ("--ipc container:none-of-these", "true"),
];

/// What a container sees.
const PROBE: &str = r#"
tr '\0' '\n' < /proc/$$/environ
printf 'argument %s\n' "$0" "$@"
id; pwd; hostname; tty
cat /proc/self/limits
grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status
df -k /dev/shm
grep -E ' /(dev/shm|shared|volume|scratch) ' /proc/mounts
grep -E '10.0.0|box' /etc/hosts | sed 's/^172[.0-9]*/own/'
ls /sys/class/net
"#;

fn words(text: &str) -> Vec<String> {
    let words = shell_words::split(text).unwrap();
    let probe = |word| {
        if word == "PROBE" {
            PROBE.to_owned()
        } else {
            word
        }
    };
    words.into_iter().map(probe).collect()
}

/// A folder with what the flags name.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("one.env", "B=1\nA=2\nSET\nUNSET=3\n");
    bench.write("two.env", "C=4\nA=5\n");
    bench.write("shared/file", "content\n");
    bench
}

/// A program on the bench, called with what the flags take from the caller.
fn program(bench: &Bench, program: &str) -> Command {
    let mut command = match program {
        "jobctl" => bench.jobctl(),
        _ => bench.command(program),
    };
    command.env("SET", "from caller");
    command
}

fn name() -> Container {
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Container(format!("jobctl-parity-{}-{number}", std::process::id()))
}

/// What an engine was asked for, as far as flags say it; nothing if there is no container.
fn made(container: &Container) -> Option<Value> {
    let inspected = Command::new("docker")
        .args(["container", "inspect", &container.0])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let found = document.get(0)?;
    let (config, host) = (&found["Config"], &found["HostConfig"]);
    let sorted = |list: &Value| {
        let items = list.as_array().cloned().unwrap_or_default().into_iter();
        let mut items: Vec<_> = items
            .filter(|item| item != HIDDEN)
            .map(|item| item.to_string())
            .collect();
        items.sort();
        items
    };
    let mut labels = config["Labels"].as_object().cloned().unwrap_or_default();
    labels.retain(|name, _| !name.starts_with("dev.jobctl."));
    // The container's own id, unless a name was given.
    let hostname = &config["Hostname"];
    let id = found["Id"].as_str().unwrap();
    let hostname = hostname.as_str().filter(|name| !id.starts_with(name));
    let part = |value: &Value, keys: &[&str]| {
        let keys = keys.iter().map(|&key| (key.to_owned(), plain(&value[key])));
        Value::Object(keys.collect())
    };
    Some(json!({
        "hostname": hostname,
        "labels": labels,
        "env": environment(&config["Env"]),
        "config": part(config, &[
            "Cmd", "Entrypoint", "User", "WorkingDir", "Tty", "OpenStdin", "StdinOnce",
            "AttachStdin", "StopSignal", "StopTimeout", "ExposedPorts", "Volumes", "Healthcheck",
        ]),
        "security": sorted(&host["SecurityOpt"]),
        "ulimits": sorted(&host["Ulimits"]),
        "hosts": sorted(&host["ExtraHosts"]),
        "host": part(host, &[
            "PortBindings", "Memory", "NanoCpus", "ShmSize", "IpcMode", "NetworkMode", "CapAdd",
            "CapDrop", "Privileged", "ReadonlyRootfs", "Tmpfs", "Binds", "Mounts", "Devices",
            "DeviceRequests", "Init", "Runtime", "RestartPolicy",
        ]),
    }))
}

/// Nothing, an empty list and an empty mapping are the same wish.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (key.clone(), plain(value)));
            Value::Object(entries.filter(|(_, value)| !value.is_null()).collect())
        }
        other => other.clone(),
    }
}

/// The words of the docker command that a dry run shows, with the values that it hides.
fn shown(bench: &Bench, flags: &[String], command: &[String]) -> Vec<String> {
    let ended = run(program(bench, "jobctl")
        .args(["run", "--dry-run"])
        .args(flags)
        .args(["--image", DEBIAN])
        .args(command));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{flags:?}");
    let line = ended.stdout.split_once("\n  docker run --rm ").unwrap().1;
    shell_words::split(line).unwrap()
}

#[test]
fn the_docker_command_of_a_dry_run_makes_the_same_container() {
    let bench = bench();
    for (flags, command) in ROWS.iter().chain(MADE) {
        // Values of variables are masked; what a container gets of them is asked below.
        if flags.contains("-e ") || flags.contains("--env-file") {
            continue;
        }
        let (flags, command) = (words(flags), words(command));
        let create = |ours: &[String]| {
            let container = name();
            let ended = run(program(&bench, "docker")
                .args(["create", "--label", LABEL, "--name", &container.0])
                .args(ours));
            (made(&container), ended.code)
        };
        let mut theirs: Vec<String> = OURS.map(str::to_owned).to_vec();
        theirs.extend(
            flags
                .iter()
                .filter(|flag| !flag.starts_with("--rm"))
                .cloned(),
        );
        theirs.push(DEBIAN.to_owned());
        theirs.extend(command.clone());
        let ours = create(&shown(&bench, &flags, &command));
        assert_eq!(ours, create(&theirs), "{flags:?}");
    }
    run(bench
        .command("docker")
        .args(["volume", "rm", "some-volume-of-a-test"]));
}

/// The variables of a container, sorted. A name alone takes the image's value away, and is none.
fn environment(list: &Value) -> Vec<String> {
    let items = list.as_array().cloned().unwrap_or_default();
    let items = items.iter().map(|item| item.as_str().unwrap().to_owned());
    let mut items = last_of_each(
        items
            .filter(|item| item != HIDDEN && item.contains('='))
            .collect(),
    );
    items.sort();
    items
}

/// Variables with the last value of each at its first place: docker passes all values of a variable
/// that several files give, and leaves it to the program which one counts.
fn last_of_each(lines: Vec<String>) -> Vec<String> {
    let name = |line: &str| {
        let (name, _) = line.split_once('=')?;
        name.bytes()
            .all(|byte| byte.is_ascii_uppercase())
            .then(|| name.to_owned())
    };
    let mut kept: Vec<String> = Vec::new();
    for line in lines {
        let earlier = name(&line).and_then(|known| {
            kept.iter_mut()
                .find(|kept| name(kept).as_ref() == Some(&known))
        });
        match earlier {
            Some(earlier) => *earlier = line,
            None => kept.push(line),
        }
    }
    kept
}

/// What came of a run that is given three lines, and its container.
fn ran(mut command: Command, container: &Container) -> (Ended, Option<Value>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who reads nothing may be gone already.
    let _ = stdin.write_all(b"one\ntwo\nthree\n");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let ended = Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    (ended, made(container))
}

/// What a container said, with what differs from container to container left out.
///
/// Docker's client sends several `-e` in any order: lines are then sorted.
fn said(text: &str, container: &Container, is_sorted: bool) -> Vec<String> {
    let id = Command::new("docker")
        .args(["container", "inspect", "--format", "{{.Id}}", &container.0])
        .output()
        .unwrap();
    let id = String::from_utf8(id.stdout).unwrap();
    let short = id.get(..12).unwrap_or("no container");
    let lines = text.lines().filter(|line| *line != HIDDEN);
    let mut lines = last_of_each(lines.map(|line| line.replace(short, "ID")).collect());
    if is_sorted {
        lines.sort();
    }
    lines
}

/// What both make of flags and a command.
fn compare(bench: &Bench, text: &str, command: &str) {
    let (flags, command) = (words(text), words(command));
    let flags: Vec<_> = flags
        .into_iter()
        .filter(|flag| !flag.starts_with("--rm"))
        .collect();
    let (ours, theirs) = (name(), name());
    let mut docker = program(bench, "docker");
    docker
        .args(["run", "--label", LABEL, "--name", &theirs.0])
        .args(OURS)
        .args(&flags)
        .arg(DEBIAN)
        .args(&command);
    let mut jobctl = program(bench, "jobctl");
    jobctl
        .args([
            "--quiet", "run", "--keep", "--label", LABEL, "--name", &ours.0,
        ])
        .args(&flags)
        .args(["--image", DEBIAN])
        .args(&command);
    let (docker, asked_of_docker) = ran(docker, &theirs);
    let (jobctl, asked_of_us) = ran(jobctl, &ours);
    assert_eq!(asked_of_us, asked_of_docker, "{text} {command:?}");
    assert_eq!(jobctl.code, docker.code, "{text} {command:?}: {jobctl:?}");
    let is_sorted = text.matches("-e").count() > 1;
    assert_eq!(
        said(&jobctl.stdout, &ours, is_sorted),
        said(&docker.stdout, &theirs, is_sorted),
        "{text} {command:?}"
    );
    // Where nothing was run, each has words of its own.
    if !matches!(docker.code, Some(125..=127)) {
        // jobctl warns where docker says nothing.
        let warned = jobctl.stderr.split_once("\n\n");
        let said = match warned.filter(|(warning, _)| warning.starts_with("warning")) {
            Some((_, rest)) => rest,
            None => &jobctl.stderr,
        };
        assert_eq!(said, docker.stderr, "{text} {command:?}");
    }
}

#[test]
fn a_container_sees_what_dockers_sees() {
    let bench = bench();
    std::thread::scope(|scope| {
        for rows in ROWS.chunks(ROWS.len().div_ceil(4)) {
            let bench = &bench;
            scope.spawn(move || {
                for (flags, command) in rows {
                    compare(bench, flags, command);
                }
            });
        }
    });
}
