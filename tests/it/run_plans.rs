//! `jobctl run --dry-run`: what would be run, and what is wrong with a command line.

use serde_json::{Value, json};

use crate::support::{Bench, Ended, run};

const MANIFEST: &str = r#"version: 1
name: project
jobs:
  train:
    build: { context: app, args: { TOKEN_FILE: x } }
    command: ["train"]
    gpus: optional
    env_file: [job.env]
    environment: { SEED: "1337", HF_TOKEN: }
    inputs: { set: { source: data.csv, target: /data.csv } }
    outputs: { model: /artifacts }
    metrics: { log: { loss: 'loss=([0-9.]+)' } }
    resources: { cpus: 2, memory: 8gb, shm_size: 1gb }
    timeout: 2h
    retry: { attempts: 3, on: [oom] }
    volumes: ["cache:/cache", "./app:/app:ro"]
  serve:
    image: job:train
    service: true
    needs: { train: { outputs: { model: /model } } }
    ports: ["127.0.0.1:8000:8000"]
    healthcheck: { test: ["CMD", "health", "now"], interval: 5s, retries: 12 }
"#;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("jobs.yaml", MANIFEST);
    bench.write("job.env", "LR=0.1\nSEED=1\n");
    bench.write("more.env", "EXTRA=more\n");
    bench.write("data.csv", "");
    bench.write("app/Dockerfile", "FROM scratch\n");
    bench
}

fn dry(bench: &Bench, args: &str) -> Ended {
    let args = shell_words::split(args).unwrap();
    run(bench
        .jobctl()
        .args(["run", "--dry-run", "--host", "unix:///nowhere.sock"])
        .args(args)
        .env("HF_TOKEN", "canary"))
}

#[test]
fn a_job_is_shown_as_the_docker_command_that_does_the_same() {
    let bench = bench();
    let ended = dry(&bench, "-e A=a --env-file more.env -it train --epochs 3");
    let here = bench.path().display();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert_eq!(
        ended.stdout,
        format!(
            "train: build {here}/app\n  docker build --file {here}/app/Dockerfile --tag \
             project-train:latest --build-arg 'TOKEN_FILE=x' {here}/app\n\
             train: run project-train:latest\n  docker run --rm --interactive --tty --init --env \
             'LR=0.1' --env 'SEED=1337' --env 'HF_TOKEN=***' --env 'EXTRA=more' --env 'A=a' \
             --volume project_cache:/cache --volume {here}/app:/app:ro --mount \
             'type=bind,source={here}/data.csv,target=/data.csv,readonly' --cpus 2 --memory 8gb \
             --shm-size 1gb --security-opt no-new-privileges --no-healthcheck --label \
             'dev.jobctl.job=train' --label 'dev.jobctl.project=project' project-train:latest --epochs \
             3\n  \
             with `--gpus all` where the engine can give GPUs\n  keeps /artifacts as model\n  \
             stops after 2h 00m\n  tries 3 times at most\n"
        )
    );
}

#[test]
fn a_service_is_started_again_unless_it_is_followed_at_the_terminal() {
    let bench = bench();
    for (args, restart) in [
        ("-d serve", Some("unless-stopped")),
        ("-d --restart no serve", None),
        ("serve", None),
        ("--restart on-failure:2 serve", Some("on-failure:2")),
    ] {
        let ended = dry(&bench, args);
        let mut lines = ended.stdout.lines();
        let command = lines.find_map(|line| line.trim().strip_prefix("docker run "));
        let words = shell_words::split(command.unwrap()).unwrap();
        let at = words.iter().position(|word| word == "--restart");
        let found = at.map(|at| words[at + 1].as_str());
        assert_eq!(found, restart, "{args}: {words:?}");
        // docker refuses the two together.
        let is_removed = words.iter().any(|word| word == "--rm");
        assert_eq!(is_removed, restart.is_none(), "{args}: {words:?}");
    }
}

#[test]
fn what_a_job_needs_of_others_is_shown() {
    let ended = dry(&bench(), "--timeout 90s --retries 1 serve");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert_eq!(
        ended.stdout,
        "serve: run job:train\n  docker run --rm --init --env 'NVIDIA_VISIBLE_DEVICES=void' \
         --publish 127.0.0.1:8000:8000 --security-opt no-new-privileges --health-cmd 'health now' \
         --health-interval 5000ms --health-retries 12 --label 'dev.jobctl.job=serve' --label \
         'dev.jobctl.project=project' job:train\n  needs model of train at /model\n  \
         stops after 1m 30s\n  tries 2 times at most\n"
    );
}

#[test]
fn a_plan_is_a_document_for_programs() {
    let bench = bench();
    let ended = dry(&bench, "--format json --gpus train");
    let here = bench.path().display();
    let mut document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let docker = document["docker"].take();
    assert!(docker.as_str().unwrap().contains(" --gpus all "));
    assert!(document["build"][0]["docker"].take().is_string());
    assert_eq!(
        document,
        json!({
            "schema": "jobctl.run-plan/1",
            "project": "project",
            "job": "train",
            "image": "project-train:latest",
            "image_from": "build",
            "build": [{
                "name": "train",
                "action": "build",
                "context": format!("{here}/app"),
                "dockerfile": format!("{here}/app/Dockerfile"),
                "target": null,
                "version": null,
                "docker": null,
                "if_newest": [],
                "push": [],
            }],
            "pull": "missing",
            "name": null,
            "gpus": "required",
            "container": {
                "command": ["train"],
                "labels": { "dev.jobctl.job": "train", "dev.jobctl.project": "project" },
                "volumes": ["project_cache:/cache", format!("{here}/app:/app:ro")],
                "gpus": [{ "devices": "all", "capabilities": ["gpu"] }],
                "cpus": "2",
                "memory": "8gb",
                "shm_size": "1gb",
                "init": true,
                "security": ["no-new-privileges"],
                "health": { "test": ["NONE"] },
            },
            "environment": [
                { "name": "LR", "origin": "job.env", "value": "0.1" },
                { "name": "SEED", "origin": "jobs.yaml", "value": "1337" },
                { "name": "HF_TOKEN", "origin": "jobs.yaml", "is_secret": true },
            ],
            "inputs": { "set": { "source": "data.csv", "target": "/data.csv" } },
            "needs": {},
            "policy": {
                "timeout_ms": 7_200_000,
                "grace_ms": 10_000,
                "retry": { "attempts": 3, "on": ["oom"], "backoff_ms": 1000 },
                "outputs": { "model": "/artifacts" },
                "metric_files": [],
                "metric_patterns": { "loss": "loss=([0-9.]+)" },
                "keep": false,
                "is_service": false,
                "fails_on_oom": false,
            },
            "warnings": [],
            "docker": null,
        })
    );
}

#[test]
fn an_image_needs_no_manifest() {
    let bench = Bench::new();
    bench.write("ca.pem", "");
    bench.write(
        "home/.docker/config.json",
        r#"{"proxies":{"default":{"httpProxy":"http://u:canary@proxy"}}}"#,
    );
    let here = bench.path().display();
    let ended = dry(
        &bench,
        "--keep --name box -e NONE --ca-bundle ca.pem -v ./x:/x --tmpfs /t:size=1m --mount \
         type=volume,target=/v --ulimit nofile=1:2 --grace 90s --no-new-privileges=false \
         --init=false --image debian:12 ls -l --rm",
    );
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert_eq!(
        ended.stdout,
        format!(
            "image: run debian:12\n  docker run --name box --env 'HTTP_PROXY=***' --env \
             'http_proxy=***' --env NONE --env 'SSL_CERT_FILE=/run/jobctl/ca-bundle.crt' --env \
             'NVIDIA_VISIBLE_DEVICES=void' --volume {here}/x:/x --mount 'type=volume,target=/v' \
             --mount 'type=bind,source={here}/ca.pem,target=/run/jobctl/ca-bundle.crt,readonly' \
             --tmpfs '/t:size=1m' --ulimit 'nofile=1:2' --stop-timeout 90 debian:12 ls -l --rm\n"
        )
    );
}

#[test]
fn a_wrong_flag_is_answered_with_the_fix() {
    let bench = bench();
    for (args, message, help) in [
        (
            "--memory 8gx",
            "--memory `8gx`: this is not an amount of memory",
            "write `8gb`",
        ),
        (
            "--cpus two",
            "--cpus `two`: this is not a number of cores",
            "write `2` or `1.5`",
        ),
        (
            "--gpus 0,1",
            "--gpus `0,1`: a bare list would mean a number of GPUs to docker",
            "write `device=0,1`",
        ),
        (
            "-v data/raw:/data",
            "--volume `data/raw:/data`: `data/raw` is neither a volume's name nor a path",
            "for a directory write `./data/raw`",
        ),
        (
            "-p http",
            "--publish `http`: `http` is not a port",
            "a port is a number up to 65535",
        ),
        (
            "-e 'A B=canary'",
            "--env: a variable's name can't contain ' '",
            "write `A_B`",
        ),
        (
            "-w here",
            "--workdir `here`: a working directory begins with `/`",
            "write `/here`",
        ),
        (
            "--timeout 90",
            "--timeout `90`: a length of time has a unit",
            "write `90s` for seconds, `90m` for minutes",
        ),
        (
            "--stop-timeout 90s",
            "--stop-timeout `90s`: this is not a number of seconds",
            "write `--stop-timeout 30`, or `--grace 30s`; `--stop-timeout -1` waits as long as it takes",
        ),
        (
            "-l dev.jobctl.run=1",
            "--label `dev.jobctl.run=1`: `dev.jobctl.run` is a label of jobctl's own",
            "take a name of your own: `org.example.…`",
        ),
        (
            "--restart always",
            "`--restart`: a job runs once, and its end is its result",
            "leave it out; `--retries N` runs it again when the engine fails it, and `service: true` in jobs.yaml makes a job that stays up",
        ),
        (
            "--restart maybe",
            "--restart `maybe`: this is not a restart policy",
            "write `no`, `always`, `on-failure`, `on-failure:3` or `unless-stopped`",
        ),
        (
            "--name ä",
            "--name `ä`: this can't be a container's name",
            "use two or more letters, digits, `_`, `.`, `-`; a letter or digit first",
        ),
        (
            "--ca-bundle none.pem",
            "--ca-bundle: `BENCH/none.pem` is not there",
            "name a file in PEM, or `host`",
        ),
        (
            "--security-opt seccomp=none.json",
            "--security-opt `seccomp=none.json`: the seccomp profile `none.json` can't be read",
            "name a file of JSON, or `seccomp=unconfined`",
        ),
        (
            "--env-file none.env",
            "can't read the env file `none.env`: no such file or directory",
            "name a file that can be read",
        ),
    ] {
        let ended = dry(&bench, &format!("{args} train"));
        assert_eq!((ended.code, &*ended.stdout), (Some(125), ""), "{args}");
        let here = bench.path().display().to_string();
        let stderr = ended.stderr.trim_end().replace(&here, "BENCH");
        let message_line = stderr.lines().next().unwrap();
        let rest = message_line.split_once("]: ").unwrap().1;
        assert_eq!(rest, message);
        let help_line = stderr.lines().last().unwrap();
        assert_eq!(help_line, format!(" = help: {help}"), "{args}");
        assert_eq!(stderr.lines().count(), 3, "{stderr}");
    }
}

#[test]
fn all_wrong_flags_are_told_at_once() {
    let ended = dry(&bench(), "--memory x --cpus x -p x --image 'A b'");
    let told: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert_eq!(ended.code, Some(125));
    assert_eq!(
        told,
        [
            "error[usage]: --image `A b`: an image's name is lower-case",
            "error[usage]: --publish `x`: `x` is not a port",
            "error[usage]: --cpus `x`: this is not a number of cores",
            "error[usage]: --memory `x`: this is not an amount of memory",
        ]
    );
}

#[test]
fn no_command_line_of_run_imitates_a_job() {
    let bench = bench();
    for args in [
        "--no-such train",
        "--pull sometimes train",
        "--init=maybe train",
        "--keep --rm train",
        "--grace 1s --stop-timeout 1 train",
        "trian",
        "",
        "train --dry-run",
        "-C none train",
    ] {
        let ended = dry(&bench, args);
        assert_eq!((ended.code, &*ended.stdout), (Some(125), ""), "{args}");
        assert!(ended.stderr.starts_with("error"), "{ended:?}");
    }
    let help = dry(&bench, "train --help");
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
}

#[test]
fn flags_behind_the_job_are_not_taken_for_its_arguments() {
    let ended = dry(&bench(), "train --gpus all");
    assert_eq!(ended.code, Some(125));
    assert_eq!(
        ended.stderr,
        "error: `--gpus` stands behind the job, where words are the job's own arguments\nhelp: write \
         it before the job: `jobctl run --gpus … train`; if the job takes it: `jobctl run train -- \
         --gpus …`\n"
    );
    let passed = dry(&bench(), "train -- --gpus all");
    assert!(passed.stdout.contains(" project-train:latest --gpus all\n"));
}

#[test]
fn a_missing_variable_is_pointed_at() {
    let bench = bench();
    let missing = |flags: &[&str]| {
        run(bench
            .jobctl()
            .args(["run", "--dry-run"])
            .args(flags)
            .arg("train"))
    };
    let ended = missing(&[]);
    assert_eq!((ended.code, &*ended.stdout), (Some(125), ""));
    assert_eq!(
        ended.stderr,
        "error[env-unset]: job `train`: `HF_TOKEN` has no value, and the caller has not set it\n \
         --> jobs.yaml:9:34\n  |\n9 |     environment: { SEED: \"1337\", HF_TOKEN: }\n  |                                  \
         ^^^^^^^^\n  |\n  = help: set it: `HF_TOKEN=… jobctl run train`; or leave it out: \
         `--allow-unset`\n\n"
    );
    assert_eq!(missing(&["-e", "HF_TOKEN=x"]).code, Some(0));
    assert_eq!(missing(&["--allow-unset"]).code, Some(0));
}
