//! Nothing secret is kept or shown, wherever it comes from and whatever the job does with it.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::image::{DEBIAN, ImageName, docker, ensure_debian};
use crate::support::project::Project;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::{Bench, Ended, run, wait_for};

/// A secret of several lines.
const KEY: &str =
    "-----BEGIN KEY-----\nkey-canary-AAAABBBB\nkey-canary-CCCCDDDD\n-----END KEY-----";

/// What must not be found, but for a registry's password: by where it comes from.
const CANARIES: [(&str, &str); 13] = [
    ("a variable", "variable-canary-4711"),
    ("an env file", "file-canary-4712"),
    ("--env", "flag-canary-4713"),
    ("the command line", "argv-canary-4714"),
    ("a header", "header-canary-4715"),
    ("a build's secret", "build-canary-4716"),
    ("a secret's file", "mounted-canary-4717"),
    ("a proxy", "proxy-canary-4718"),
    ("a git remote", "remote-canary-4719"),
    ("a key's first line", "key-canary-AAAABBBB"),
    ("a key's second line", "key-canary-CCCCDDDD"),
    ("a variable within another", "inner-canary-4721"),
    ("what the job calls sensitive", "sensitive-canary-4722"),
];

/// Shows all that it has in every way.
const JOB: &str = r#"
env; env >&2; env | sed 's/^/> /'; env | base64; env | base64 -w 64
for name in API_TOKEN DEPLOY_PRIVATE_KEY COPY CUSTOMER; do
    printf '%q\n' "${!name}"; printf '%s' "${!name}" | base64; printf '  %s\n' "${!name}"
done
echo "$@"; set -x; : "$@"; set +x
mkdir /out; printf '{"%s": 1, "loss": 2}' "$API_TOKEN" > /out/metrics.json
"#;

/// All forms that are looked for: a canary as it is, and in base64.
fn found(what: &str, bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    // base64 has ends of lines anywhere.
    let joined: String = text.split_whitespace().collect();
    let all = CANARIES
        .iter()
        .chain(&[("a registry's password", PASSWORD)]);
    let found = all.filter(|(_, canary)| {
        let inner = |before: usize| {
            let encoded = STANDARD.encode(format!("{}{canary}", "-".repeat(before)));
            encoded[4 * before.div_ceil(3)..encoded.len() - 4].to_owned()
        };
        text.contains(canary) || (0..3).any(|before| joined.contains(&inner(before)))
    });
    found
        .map(|(source, _)| format!("{source} in {what}"))
        .collect()
}

/// The same in all files of a folder.
fn found_below(folder: &Path, found_ones: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found_below(&path, found_ones);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            found_ones.extend(found(&path.display().to_string(), &bytes));
        }
    }
}

struct Canary {
    bench: Bench,
    image: ImageName,
    registry: Registry,
}

impl Canary {
    fn new(job: &str) -> Self {
        ensure_debian();
        let (bench, image, registry) = (Bench::new(), ImageName::new(), Registry::with_password());
        let name = image.as_str();
        let manifest = format!(
            "version: 1\nname: test\nimage: {{ prefix: '{}/', version: 0.1.0 }}\nsecrets:\n  built: \
             {{ environment: BUILT }}\n  mounted: {{ file: mounted.txt }}\njobs:\n  {name}:\n    build: {{ context: app, secrets: [built, mounted] }}\n    \
             env_file: [job.env]\n    environment: {{ LR: '0.1', API_TOKEN: , DEPLOY_PRIVATE_KEY: , CUSTOMER: , \
             COPY: 'https://h/${{X_TOKEN}}' }}\n    sensitive: [CUSTOMER]\n    metrics: {{ files: \
             [/out/metrics.json] }}\n    gpus: none\n",
            registry.address()
        );
        bench.write("jobs.yaml", &manifest);
        bench.write("job.env", "DB_PASSWORD=file-canary-4712\n");
        bench.write("mounted.txt", "mounted-canary-4717\n");
        bench.write("app/job.sh", job);
        bench.write(
            "app/Dockerfile",
            &format!(
                "FROM {DEBIAN}\nCOPY job.sh /job.sh\nRUN --mount=type=secret,id=built \
                 --mount=type=secret,id=mounted cat /run/secrets/*; base64 /run/secrets/built; echo \
                 $http_proxy\nENTRYPOINT [\"bash\", \"/job.sh\"]\n"
            ),
        );
        bench.write(".gitignore", "job.env\nmounted.txt\nhome\n.jobctl\nci\n");
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = format!(
            r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}, "proxies": {{"default": {{"httpProxy":
            "http://u:proxy-canary-4718@127.0.0.1:9"}}}}}}"#,
            registry.address()
        );
        bench.write("home/.docker/config.json", &config);
        let commit = "git init -q && git add . && git -c user.name=me -c user.email=me@example.com commit -qm \
                      one && git remote add origin https://me:remote-canary-4719@git.example/a.git";
        let ended = run(bench.command("sh").args(["-c", commit]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Self {
            bench,
            image,
            registry,
        }
    }

    /// jobctl with all secrets of the user's environment, and as a step of GitHub's.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bench.jobctl();
        let ci = self.bench.path().join("ci");
        fs::create_dir_all(&ci).unwrap();
        command.args(args).env("RUST_LOG", "trace");
        command.env("GITHUB_ACTIONS", "true").env("CI", "true");
        command.env("GITHUB_OUTPUT", ci.join("output"));
        command.env("GITHUB_STEP_SUMMARY", ci.join("summary"));
        for (name, value) in [
            ("API_TOKEN", "variable-canary-4711"),
            ("BUILT", "build-canary-4716"),
            ("CUSTOMER", "sensitive-canary-4722"),
            ("DEPLOY_PRIVATE_KEY", KEY),
            ("X_TOKEN", "inner-canary-4721"),
        ] {
            command.env(name, value);
        }
        command
    }

    /// Calls jobctl, and looks at what it shows.
    fn call(&self, args: &[&str], found_ones: &mut Vec<String>) -> Ended {
        let ended = run(&mut self.command(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        found_ones.extend(found(
            &format!("stdout of {args:?}"),
            ended.stdout.as_bytes(),
        ));
        found_ones.extend(found(
            &format!("stderr of {args:?}"),
            ended.stderr.as_bytes(),
        ));
        ended
    }

    /// `run` of the job with these flags.
    fn run<'a>(&'a self, flags: &[&'a str]) -> Vec<&'a str> {
        let words = [
            "-e",
            "FLAG_SECRET=flag-canary-4713",
            "-e",
            "EPOCHS=3",
            self.image.as_str(),
            "--",
            "--token",
            "argv-canary-4714",
            "Authorization: Bearer header-canary-4715",
        ];
        [&["-vvv", "run", "--no-build"], flags, &words].concat()
    }
}

#[test]
fn no_secret_is_kept_or_shown_anywhere() {
    let canary = Canary::new(JOB);
    let name = canary.image.as_str();
    let label = canary.image.label();
    let mut leaks = Vec::new();
    // Images, their provenance, and what builds say.
    let build = ["-vvv", "build", name, "--provenance", "--label", &label];
    canary.call(&build, &mut leaks);
    for flags in [
        &["--progress", "plain"][..],
        &["--progress", "json"],
        &["--format", "json"],
    ] {
        let build = [flags, &["build", name, "--no-cache", "--label", &label]].concat();
        canary.call(&build, &mut leaks);
    }
    canary.call(&["build", name, "--dry-run"], &mut leaks);
    let image = format!("{}/test-{name}:0.1.0", canary.registry.address());
    for words in [
        &["image", "inspect", &image][..],
        &["history", "--no-trunc", &image],
    ] {
        leaks.extend(found(&format!("{words:?}"), docker(words).as_bytes()));
    }
    // Runs.
    canary.call(&canary.run(&["--dry-run"]), &mut leaks);
    canary.call(
        &[&["--format", "json"], &canary.run(&["--dry-run"])[..]].concat(),
        &mut leaks,
    );
    let ended = canary.call(
        &canary.run(&["--label", "dev.jobctl.test=canary"]),
        &mut leaks,
    );
    assert!(ended.stdout.contains("API_TOKEN=***\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("EPOCHS=3\n"), "{}", ended.stdout);
    for verb in [
        &["show", name][..],
        &["runs"],
        &["logs", name],
        &["metrics", name],
        &["ps", "-a"],
    ] {
        canary.call(verb, &mut leaks);
        if verb[0] != "logs" {
            canary.call(&[&["--format", "json"], verb].concat(), &mut leaks);
        }
    }
    let exported = canary.call(&["export", "--as", "compose", name], &mut leaks);
    assert!(
        exported.stdout.contains("API_TOKEN=${API_TOKEN:?}"),
        "{exported:?}"
    );
    // What others get.
    canary.call(&["push", name, "--with-run"], &mut leaks);
    found_below(&canary.registry.data(), &mut leaks);
    found_below(&canary.bench.path().join(".jobctl"), &mut leaks);
    found_below(&canary.bench.path().join("ci"), &mut leaks);
    assert_eq!(leaks, [""; 0]);
    // And all that is no secret is there.
    let shown = canary.call(&["--format", "json", "show", name], &mut leaks);
    let record: Value = serde_json::from_str(&shown.stdout).unwrap();
    let variables = record["environment"].as_array().unwrap();
    let value = |name: &str| {
        let variable = variables.iter().find(|variable| variable["name"] == name);
        variable.unwrap()["value"].clone()
    };
    assert_eq!([value("LR"), value("EPOCHS")], ["0.1", "3"]);
    assert_eq!(record["metrics"]["loss"], 2.0);
    assert_eq!(record["metrics"]["***"], 1.0);
}

/// What processes of jobctl's that know of a folder are called with, and their environments.
fn children(folder: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let folder = folder.to_str().unwrap();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_ours = String::from_utf8_lossy(&words).contains(folder);
        if is_ours && let Ok(variables) = fs::read(entry.path().join("environ")) {
            children.push((words, variables));
        }
    }
    children
}

/// What is found of a run in the background: in what its processes are called with, in their
/// environments, and in what is kept.
fn found_in_the_background() -> [Vec<String>; 2] {
    let canary = Canary::new("sleep 1000 & wait");
    let name = canary.image.as_str();
    let label = canary.image.label();
    let (mut leaks, mut of_variables) = (Vec::new(), Vec::new());
    canary.call(&["build", name, "--label", &label], &mut leaks);
    let flags = ["-d", "--rm", "--label", "dev.jobctl.test=canary"];
    let ended = canary.call(&canary.run(&flags), &mut leaks);
    let id = ended.stdout.trim().to_owned();
    let state = canary.bench.path().join(".jobctl");
    wait_for(|| !children(&state).is_empty());
    for (words, variables) in children(&state) {
        leaks.extend(found("the words of a process", &words));
        of_variables.extend(found("the environment of a process", &variables));
    }
    canary.call(&["kill", &id], &mut leaks);
    run(&mut canary.command(&["wait", &id]));
    found_below(&state, &mut leaks);
    [leaks, of_variables]
}

#[test]
fn no_secret_is_in_a_list_of_processes() {
    assert_eq!(found_in_the_background()[0], [""; 0]);
}

#[test]
fn no_secret_is_in_the_environment_of_a_supervisor() {
    assert_eq!(found_in_the_background()[1], [""; 0]);
}

#[test]
fn a_build_that_fails_shows_no_secret() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("key", KEY);
    bench.write(
        "Dockerfile",
        &format!(
            "FROM {DEBIAN}\nARG WHERE\nRUN --mount=type=secret,id=key --mount=type=secret,id=token sed 's/^/> /' \
             /run/secrets/key; cat /run/secrets/token; echo $WHERE; exit 3\n"
        ),
    );
    for progress in ["plain", "json", "tty", "quiet"] {
        let flags = [
            "--progress",
            progress,
            "--secret",
            "id=key,src=key",
            "--secret",
            "id=token,env=TOKEN",
            "--build-arg",
            "WHERE=https://u:proxy-canary-4718@h/",
        ];
        let ended = run(name.build(&bench, &flags).env("TOKEN", "build-canary-4716"));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("> ***"),
            "{progress}: {}",
            ended.stderr
        );
        let shown = [ended.stdout.as_bytes(), ended.stderr.as_bytes()].concat();
        assert_eq!(found(progress, &shown), [""; 0], "{}", ended.stderr);
    }
}

/// The next jobctl knows of the container alone.
#[test]
fn a_run_that_is_adopted_keeps_its_secrets() {
    let project = Project::new("job: { image: IMAGE, environment: [HF_TOKEN] }\n");
    let script = "while [ ! -e /go ]; do sleep 0.05; done; echo $HF_TOKEN; echo $2; echo $0";
    let words = [
        "job",
        "--",
        "sh",
        "-c",
        script,
        "http://u:proxy-canary-4718@h",
        "--token",
        "argv-canary-4714",
    ];
    let mut child = Project::start(project.run(&words).env("HF_TOKEN", "variable-canary-4711"));
    wait_for(|| {
        let records = project.records();
        records
            .first()
            .is_some_and(|record| record["state"] == "running")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let record = project.record();
    let container = record["attempts"][0]["container_id"].as_str().unwrap();
    docker(&["exec", container, "touch", "/go"]);
    let id = record["id"].as_str().unwrap();
    let ended = run(&mut project.jobctl(&["wait", id]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(project.file("stdout.log"), b"***\n***\nhttp://u:***@h\n");
    let mut leaks = Vec::new();
    found_below(&project.bench.path().join(".jobctl"), &mut leaks);
    assert_eq!(leaks, [""; 0]);
}

#[test]
fn a_secret_that_a_job_uses_is_used() {
    let warned = |jobs: &str| {
        let bench = Bench::new();
        let text = format!(
            "version: 1\nname: test\nsecrets: {{ t: {{ environment: MY_TOK }} }}\njobs:\n  s: {{ image: debian, \
             {jobs} }}\n"
        );
        bench.write("jobs.yaml", &text);
        bench.write("x.env", "MY_TOK\n");
        let ended = run(bench.jobctl().arg("validate").env("MY_TOK", "hush-12345"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stderr.contains("unused-secret")
    };
    assert!(!warned("environment: [MY_TOK]"));
    assert!(!warned("environment: { TOK: '${MY_TOK}' }"));
    assert!(!warned("command: [x, '${MY_TOK}']"));
    assert!(!warned("env_file: [x.env]"));
    assert!(warned("command: [x]"));
}

#[test]
fn a_secret_is_not_written_into_jobs_yaml() {
    let bench = Bench::new();
    for (variable, is_refused) in [
        ("LR: '0.1'", false),
        ("TOKENIZERS_PARALLELISM: 'false'", false),
        ("DATABASE_URL: 'postgres://h/d'", false),
        ("DATABASE_URL: 'postgres://u:canary@h/d'", true),
        ("X: hf_canaryabcdefghijklmnop", true),
        ("CUSTOMER_ID: canary", true),
        ("HF_TOKEN: canary", true),
    ] {
        let text = format!(
            "version: 1\nname: test\njobs:\n  s: {{ image: debian, sensitive: [CUSTOMER_ID], environment: {{ \
             {variable} }} }}\n"
        );
        bench.write("jobs.yaml", &text);
        let ended = run(bench.jobctl().arg("validate"));
        let has_error = ended.stderr.contains("error[literal-secret]");
        assert_eq!(has_error, is_refused, "{variable}: {}", ended.stderr);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
}

#[test]
fn a_secret_that_is_a_named_pipe_is_refused_and_not_waited_for() {
    let project =
        Project::new("train:\n  build: { context: ., secrets: [s] }\n  command: [\"true\"]");
    let top = project.bench.path();
    let manifest = fs::read_to_string(top.join("jobs.yaml")).unwrap();
    let manifest = format!("{manifest}secrets:\n  s: {{ file: pipe }}\n");
    project.bench.write("jobs.yaml", &manifest);
    project
        .bench
        .write("Dockerfile", &format!("FROM {DEBIAN}\n"));
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, top.join("pipe"), fifo, 0o600.into(), 0).unwrap();
    for args in [&["build"][..], &["run", "train"]] {
        let ended = run(&mut project.jobctl(args));
        assert_ne!(ended.code, Some(0), "{args:?}: {ended:?}");
        assert!(
            ended
                .stderr
                .contains("the file of the secret `s` is not a regular file"),
            "{args:?}: {ended:?}"
        );
    }
}
