//! docker's grammar end to end: what docker's client and its engine take or refuse, and what then comes of it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::docker::{Container, LABEL};
use crate::support::image::{DEBIAN, ImageName, ensure_debian};
use crate::support::{Bench, Ended, run};

/// Flags that docker's client refuses, or its engine when it makes the container.
const REFUSED: &[&str] = &[
    "--device /dev/null:x",
    "--device null",
    "--device /dev/null:/dev/x:rx",
    "--add-host :=::1",
    "--add-host 'a=[::1'",
    "--add-host a",
    "-l 'a b=c'",
    "-l 'a =c'",
    "-l =c",
    "-v some-volume-of-a-test:/x:shared",
    "-v /a:/x:nocopy",
    "-v :/x",
    "-v /a:/x:",
    "-v some-volume-of-a-test:/x:",
    "-v /a:",
    "-v /tmp:/x:ro,",
    "-v ''",
    "--cap-add ''",
    "--cap-drop ' '",
    "--tmpfs ''",
    "-p published=80",
    "-p 127.0.0.1:80",
    "-p +80",
    "-p 80/icmp",
    "-p 9-8:80",
    "--network ''",
    "--network name=a,name=",
    "--network bridge --network a",
    "--network a --network name=a",
    "--network host --network none",
    "--network name=bridge,alias=web",
    "--gpus ''",
    "--gpus all,all",
    "--gpus count=two",
    "--cpus 1/3",
    "--cpus 1/0",
    "--cpus -1",
    "-m 0x10",
    "-m -1",
    "-m ' 32m'",
    "-m '1 k b'",
    "-w relative",
    "--mount type=bind,source=/tmp,target=relative",
    "--mount 'type=volume, src=v,target=/y'",
    "--mount ''",
    "--mount type=volume,target=/y,",
    "--mount type=bind,source=/tmp,target=/y,bind-nonrecursive=maybe",
    "--mount type=tmpfs,target=/y,bind-propagation=shared",
    "--ulimit nofile=2:1",
    "--stop-timeout ten",
];

/// Flags that docker takes, and what in its own command they are in a dry run.
const TAKEN: &[(&str, &str)] = &[
    ("--network name=n", "--network n"),
    (
        "--network a --network name=b,alias=web",
        "--network a --network 'name=b,alias=web'",
    ),
    ("-p target=80", "--publish 80"),
    ("-p 1234/UDP", "--publish 1234/udp"),
    ("-p ::1:80:80", "--publish '[::1]:80:80'"),
    ("-p :80:80", "--publish 80:80"),
    ("-w ''", "--security-opt no-new-privileges debian"),
    ("--stop-timeout -1", "--stop-timeout -1"),
    // Engines wait as long as it takes for whatever is below 0.
    ("--stop-timeout -2", "--stop-timeout -1"),
    ("--name ''", "--rm --init"),
    ("--cidfile ''", "--rm --init"),
    (
        "--mount type=bind,source=/tmp,target=/y,bind-nonrecursive=false",
        "--mount 'type=bind,source=/tmp,target=/y'",
    ),
    ("--cpus 1/2", "--cpus 1/2"),
    ("-m .3MB", "--memory .3MB"),
    ("-m 200m", "--memory 200m"),
    ("--device /dev/null:/dev/null:rwm", "--device /dev/null "),
    ("--timeout 0", ""),
    ("--timeout +5s", "stops after 5.0s"),
    ("-l ' a=b'", "--label 'a=b'"),
];

fn words(text: &str) -> Vec<String> {
    shell_words::split(text).unwrap()
}

fn dry_run(bench: &Bench, flags: &str) -> Ended {
    run(bench
        .jobctl()
        .args(["run", "--dry-run"])
        .args(words(flags))
        .args(["--image", DEBIAN, "true"]))
}

#[test]
fn what_docker_refuses_is_refused_before_anything_is_made() {
    ensure_debian();
    let bench = Bench::new();
    for flags in REFUSED {
        let container = Container(format!("jobctl-grammar-{}", std::process::id()));
        let docker = run(bench
            .command("docker")
            .args(["create", "--label", LABEL, "--name", &container.0])
            .args(words(flags))
            .args([DEBIAN, "true"]));
        assert_ne!(docker.code, Some(0), "docker takes {flags}");
        let ended = dry_run(&bench, flags);
        assert_eq!(ended.code, Some(125), "{flags}: {ended:?}");
        assert!(ended.stderr.contains("help"), "{flags}: {ended:?}");
    }
}

#[test]
fn what_docker_takes_is_taken_and_shown_in_its_words() {
    let bench = Bench::new();
    for (flags, expected) in TAKEN {
        let ended = dry_run(&bench, flags);
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{flags}");
        assert!(ended.stdout.contains(expected), "{flags}: {}", ended.stdout);
    }
}

#[test]
fn of_a_flag_with_one_value_the_last_counts() {
    let bench = Bench::new();
    for (flag, first, last) in [
        ("--memory", "1gb", "2gb"),
        ("--cpus", "1", "2"),
        ("--shm-size", "1gb", "2gb"),
        ("--user", "1", "2"),
        ("--workdir", "/a", "/b"),
        ("--entrypoint", "a", "b"),
        ("--name", "aa", "bb"),
        ("--hostname", "aa", "bb"),
        ("--ipc", "host", "none"),
        ("--runtime", "aa", "bb"),
        ("--pull", "always", "never"),
        ("--platform", "linux/arm64", "linux/amd64"),
        ("--stop-signal", "SIGINT", "SIGHUP"),
        ("--stop-timeout", "1", "2"),
    ] {
        let ended = dry_run(&bench, &format!("{flag} {first} {flag}={last}"));
        assert_eq!(ended.code, Some(0), "{flag}: {ended:?}");
        let (first, last) = (format!("{flag} {first} "), format!("{flag} {last} "));
        assert!(
            ended.stdout.contains(&last) && !ended.stdout.contains(&first),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn a_value_may_begin_with_a_hyphen() {
    let bench = Bench::new();
    for (flags, message) in [
        (
            "--name -x",
            "error[usage]: --name `-x`: this can't be a container's name\n",
        ),
        (
            "-m --rm",
            "error[usage]: --memory `--rm`: this is not an amount of memory\n",
        ),
        (
            "--grace -1s",
            "error[usage]: --grace `-1s`: a length of time can't be negative\n",
        ),
    ] {
        let ended = dry_run(&bench, flags);
        assert_eq!(ended.code, Some(125), "{flags}");
        assert!(
            ended.stderr.starts_with(message),
            "{flags}: {}",
            ended.stderr
        );
    }
    let ended = run(bench
        .jobctl()
        .args(["run", "--image", DEBIAN, "--gpus", "1", "--gpus", "2"]));
    let message = "error[usage]: --gpus: it is given twice\n";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
}

#[test]
fn a_reference_by_a_digest_that_nobody_knows_is_refused() {
    let bench = Bench::new();
    let image = format!("busybox@invaliddigest:{}", "f".repeat(64));
    let ended = run(bench.jobctl().args(["run", "--dry-run", "--image", &image]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(
        ended.stderr.contains("digest's algorithm"),
        "{}",
        ended.stderr
    );
}

/// A network that is gone with the value.
struct Network(String);

impl Network {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("jobctl-grammar-{}-{number}", std::process::id());
        let made = Command::new("docker")
            .args(["network", "create", "--label", LABEL, &name])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["network", "rm", &self.0])
            .output();
    }
}

fn inspected(container: &Container) -> Value {
    let inspected = Command::new("docker")
        .args(["container", "inspect", &container.0])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    document[0].clone()
}

#[test]
fn several_networks_are_all_attached() {
    ensure_debian();
    let bench = Bench::new();
    let (first, second) = (Network::new(), Network::new());
    let container = Container(format!("jobctl-grammar-run-{}", std::process::id()));
    let ended = run(bench
        .jobctl()
        .args([
            "--quiet",
            "run",
            "--keep",
            "--label",
            LABEL,
            "--name",
            &container.0,
        ])
        .args(["--network", &first.0])
        .args([
            "--network",
            &format!("name={},alias=web,alias=www", second.0),
        ])
        .args(["--image", DEBIAN, "ls", "/sys/class/net"]));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "eth0\neth1\nlo\n"),
        "{ended:?}"
    );
    let found = inspected(&container);
    let networks = found["NetworkSettings"]["Networks"].as_object().unwrap();
    let mut names: Vec<_> = networks.keys().collect();
    names.sort();
    assert_eq!(names, [&first.0, &second.0]);
    let aliases = networks[&second.0]["Aliases"].to_string();
    assert!(
        aliases.contains("\"web\"") && aliases.contains("\"www\""),
        "{aliases}"
    );
    assert_eq!(found["HostConfig"]["NetworkMode"], first.0.as_str());

    // The record has both.
    let shown = run(bench.jobctl().args(["--format", "json", "runs"]));
    let runs: Value = serde_json::from_str(&shown.stdout).unwrap();
    let id = runs["runs"][0]["id"].as_str().unwrap().to_owned();
    let shown = run(bench.jobctl().args(["--format", "json", "show", &id]));
    let record: Value = serde_json::from_str(&shown.stdout).unwrap();
    let spec = &record["container"];
    assert_eq!(spec["network"], first.0.as_str(), "{record}");
    let further = format!("name={},alias=web,alias=www", second.0);
    assert_eq!(spec["further_networks"], serde_json::json!([further]));
}

#[test]
fn a_network_that_can_not_be_attached_leaves_no_container() {
    ensure_debian();
    let bench = Bench::new();
    let first = Network::new();
    let container = Container(format!("jobctl-grammar-none-{}", std::process::id()));
    let ended = run(bench
        .jobctl()
        .args(["--quiet", "run", "--label", LABEL, "--name", &container.0])
        .args(["--network", &first.0, "--network", "no-such-network"])
        .args(["--image", DEBIAN, "true"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("no-such-network"), "{}", ended.stderr);
    assert_eq!(inspected(&container), Value::Null);
}

#[test]
fn a_proxy_of_the_configuration_is_taken_away_by_its_name_alone() {
    ensure_debian();
    let bench = Bench::new();
    bench.write(
        "home/.docker/config.json",
        r#"{"proxies":{"default":{"httpProxy":"http://proxy:3128"}}}"#,
    );
    let seen = |program: &str, flags: &[&str]| {
        let mut command = match program {
            "docker" => bench.command("docker"),
            _ => bench.jobctl(),
        };
        let image: &[&str] = if program == "docker" {
            &["run", "--rm", "--label", LABEL]
        } else {
            &["--quiet", "run", "--label", LABEL]
        };
        command.args(image).args(flags);
        if program != "docker" {
            command.arg("--image");
        }
        let ended = run(command.args([DEBIAN, "env"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines = ended.stdout.lines().map(str::to_owned);
        let mut lines: Vec<_> = lines
            .filter(|line| line.to_lowercase().contains("proxy"))
            .collect();
        lines.sort();
        lines
    };
    for (flags, expected) in [
        (
            &[][..],
            &[
                "HTTP_PROXY=http://proxy:3128",
                "http_proxy=http://proxy:3128",
            ][..],
        ),
        (&["-e", "http_proxy"], &["HTTP_PROXY=http://proxy:3128"]),
        (&["-e", "http_proxy", "-e", "HTTP_PROXY"], &[]),
    ] {
        assert_eq!(seen("docker", flags), expected, "{flags:?}");
        assert_eq!(seen("jobctl", flags), expected, "{flags:?}");
    }
}

#[test]
fn an_address_that_can_be_no_engines_is_an_error_for_every_verb() {
    let bench = Bench::new();
    bench.write(
        "jobs.yaml",
        "version: 1\nname: p\njobs: { j: { image: debian } }\n",
    );
    for (arguments, variables, code) in [
        (&["-H", "unknown://", "ps"][..], None, 2),
        (&["-H", "unknown://", "runs"], None, 2),
        (&["-H", "://", "images"], None, 2),
        (&["-H", "unknown://", "logs", "j"], None, 2),
        (&["-H", "tcp://host/path", "run", "j"], None, 125),
        (&["ps"], Some("unknown://"), 125),
        (&["--context", "none", "ps"], None, 125),
    ] {
        let mut command = bench.jobctl();
        command.args(arguments);
        if let Some(host) = variables {
            command.env("DOCKER_HOST", host);
        }
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert!(
            ended.stderr.contains("help"),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
    // As docker has it, an empty one is the default, whatever `DOCKER_HOST` is.
    for host in ["", " "] {
        let mut command = bench.jobctl();
        let ended = run(command
            .env("DOCKER_HOST", "tcp://127.0.0.1:1")
            .args(["-H", host, "--format", "json", "doctor"]));
        assert!(
            ended.stdout.contains("unix:///var/run/docker.sock"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_dockerfile_may_be_written_small_and_a_secret_quoted() {
    ensure_debian();
    let bench = Bench::new();
    let image = ImageName::new();
    bench.write(
        "dockerfile",
        &format!(
            "FROM {DEBIAN}\nRUN --mount=type=secret,id=s,required=true cp /run/secrets/s /s\n"
        ),
    );
    bench.write("a,b.txt", "quoted");
    let ended = run(&mut image.build(&bench, &["--secret", "id=s,\"src=a,b.txt\""]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let content = crate::support::image::file_of(image.as_str(), "/s");
    assert_eq!(content, b"quoted");
    bench.write(
        "jobs.yaml",
        "version: 1\nname: p\njobs: { j: { build: { context: . } } }\n",
    );
    let ended = run(bench.jobctl().arg("validate"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(bench
        .jobctl()
        .args(["build", "--dry-run", "--secret", "id=s,\"src=a"]));
    let message = "error: --secret: a quote is in the wrong place; ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
}

#[test]
fn a_job_says_who_it_runs_as_where_and_with_what_program() {
    ensure_debian();
    let bench = Bench::new();
    bench.write(
        "jobs.yaml",
        &format!(
            "version: 1\nname: p\njobs:\n  j:\n    image: {DEBIAN}\n    entrypoint: [sh, -c]\n    \
             command: ['id -u; id -g; pwd']\n    user: 1234:2345\n    working_dir: /srv/new\n    \
             resources: {{ memory: 200m, cpus: 1/2 }}\n  none:\n    image: {DEBIAN}\n    \
             entrypoint: ''\n    command: [id, -u]\n    user: 7\n"
        ),
    );
    let jobctl = |arguments: &[&str]| {
        let ended = run(bench.jobctl().arg("--quiet").args(arguments));
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
    };
    let label = ["run", "--label", LABEL];
    let output = |more: &[&str]| jobctl(&[&label[..], more].concat());
    assert_eq!(output(&["j"]), "1234\n2345\n/srv/new\n");
    assert_eq!(output(&["none"]), "7\n");
    assert_eq!(output(&["-u", "1:0", "-w", "/tmp", "j"]), "1\n0\n/tmp\n");
    assert_eq!(output(&["--entrypoint", "pwd", "j"]), "/srv/new\n");
    let shown = jobctl(&["run", "--dry-run", "j"]);
    for part in [
        "--user 1234:2345 ",
        "--workdir /srv/new ",
        "--entrypoint sh ",
        "--memory 200m ",
        "--cpus 1/2 ",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let record: Value =
        serde_json::from_str(&jobctl(&["--format", "json", "show", "j~1"])).unwrap();
    let (container, manifest) = (&record["container"], &record["manifest"]);
    assert_eq!(container["memory"], "200m", "{record}");
    assert_eq!(manifest["user"], "1234:2345");
    assert_eq!(manifest["working_dir"], "/srv/new");
    assert_eq!(manifest["entrypoint"], serde_json::json!(["sh", "-c"]));
    assert_eq!(manifest["resources"]["memory"], "200m");
    let exported = jobctl(&["export", "--as", "compose"]);
    for line in [
        "    entrypoint: [\"sh\",\"-c\"]",
        "    entrypoint: []",
        "    user: \"1234:2345\"",
        "    working_dir: \"/srv/new\"",
        "    cpus: 0.5",
    ] {
        assert!(
            exported.lines().any(|found| found == line),
            "{line}\n{exported}"
        );
    }
}

#[test]
fn a_limit_of_memory_is_shown_as_it_was_written() {
    ensure_debian();
    let bench = Bench::new();
    bench.write(
        "jobs.yaml",
        &format!(
            "version: 1\nname: p\njobs:\n  j:\n    image: {DEBIAN}\n    command: [sh, -c, 'head -c 300m \
             /dev/zero | tail -c 300m']\n    resources: {{ memory: 64m }}\n"
        ),
    );
    let ended = run(bench
        .jobctl()
        .args(["--progress", "plain", "run", "--label", LABEL, "j"]));
    assert_eq!(ended.code, Some(137), "{ended:?}");
    assert!(
        ended.stderr.contains("out of memory (limit 64m"),
        "{}",
        ended.stderr
    );
    let shown = run(bench.jobctl().args(["show", "j"])).stdout;
    let attempt = shown.lines().find(|line| line.starts_with("  1  "));
    assert!(attempt.is_some_and(|line| line.contains(" 64m")), "{shown}");
}
