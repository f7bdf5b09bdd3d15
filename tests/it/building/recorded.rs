//! What is kept of a build: no secret, and all that the image was made from.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::image::{DEBIAN, ImageName, docker, ensure_debian};
use crate::support::{Bench, run};

#[test]
fn nothing_secret_is_in_the_image_or_in_what_is_said() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    let dockerfile = format!(
        "FROM {DEBIAN}\nRUN --mount=type=secret,id=file --mount=type=secret,id=env \
         --mount=type=secret,id=ca-bundle test \"$(cat /run/secrets/file)\" = canary-file && \
         test \"$(cat /run/secrets/env)\" = canary-env && \
         test \"$(cat /run/secrets/ca-bundle)\" = canary-ca && \
         test \"$http_proxy$HTTPS_PROXY\" = http://u:canary-proxy@phttp://u:canary-proxy@p\n"
    );
    bench.write("Dockerfile", &dockerfile);
    let secret = bench.write("home/secret", "canary-file");
    let bundle = bench.write("home/bundle", "canary-ca");
    let file = format!("id=file,src={}", secret.display());
    let flags = [
        "--secret",
        &file,
        "--secret",
        "id=env,env=CANARY",
        "--ca-bundle",
        bundle.to_str().unwrap(),
        "--proxy",
        "http://u:canary-proxy@p",
        "--metadata-file",
        "metadata.json",
        "--iidfile",
        "id",
        "-vvv",
    ];
    let ended = run(name.build(&bench, &flags).env("CANARY", "canary-env"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let dry = run(name
        .build(&bench, &flags)
        .arg("--dry-run")
        .env("CANARY", "canary-env"));
    assert_eq!(dry.code, Some(0), "{dry:?}");
    let id = fs::read_to_string(bench.path().join("id")).unwrap();
    let metadata = fs::read_to_string(bench.path().join("metadata.json")).unwrap();
    assert!(metadata.contains(&id));
    // The log shows the Dockerfile's own line, which names what is looked for.
    let said = [&ended.stdout, &dry.stdout, &dry.stderr, &metadata];
    for text in said {
        assert!(!text.contains("canary"), "{text}");
    }
    let inspected = docker(&["inspect", &id]);
    assert!(!inspected.contains("canary") && !inspected.to_lowercase().contains("proxy"));
    let saved = Command::new("docker")
        .args(["save", &id])
        .output()
        .unwrap()
        .stdout;
    let history = "canary-proxy@phttp";
    let found = find_all(&saved, b"canary-");
    // What is found is the line of the Dockerfile in the history, and nothing else.
    let lines = find_all(&saved, history.as_bytes());
    assert_eq!(found, lines * 5, "{lines} lines of history");
}

#[test]
fn what_an_image_was_built_from_is_written_down() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write("Dockerfile", "FROM scratch\nARG TOKEN\nCOPY a /a\n");
    bench.write("a", "one\n");
    bench.write(".dockerignore", "*\n!a\n");
    let commit = "git init -q && git add a Dockerfile && git -c user.name=me -c user.email=me@example.com \
                  commit -qm one && git remote add origin https://me:canary@git.example/a.git";
    let ended = run(bench.command("sh").args(["-c", commit]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let build = |flags: &[&str]| {
        let secret = [
            "--build-arg",
            "TOKEN=canary",
            "--proxy",
            "http://me:canary@p",
        ];
        let version = ["--format", "json", "--version", "1.2.3"];
        let flags = [&secret, &version[..], flags].concat();
        let ended = run(&mut name.build(&bench, &flags));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut document: Value = serde_json::from_str(&ended.stdout).unwrap();
        document["images"][0].take()
    };
    assert_eq!(build(&[])["provenance"], Value::Null);
    // What was built without is built again, and not once more.
    let built = build(&["--provenance"]);
    assert_eq!(built["state"], "built");
    let path = built["provenance"].as_str().unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.contains("canary"), "{text}");
    let mut statement: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(build(&["--provenance"])["state"], "up_to_date");
    assert_eq!(fs::read_to_string(path).unwrap(), text);

    let digest = |value: &Value| {
        let text = value.as_str().unwrap().strip_prefix("sha256:");
        json!({ "sha256": text.unwrap() })
    };
    let names = built["tags"].as_array().unwrap().iter();
    let subjects = names.map(|name| json!({ "name": name, "digest": digest(&built["id"]) }));
    let of_commit = |format: &str| {
        let ended = run(bench.command("git").args(["log", "-1", format]));
        ended.stdout.trim().to_owned()
    };
    let revision = of_commit("--format=%H");
    let committed: u64 = of_commit("--format=%ct").parse().unwrap();
    let details = statement["predicate"]["runDetails"].take();
    let plan = statement["predicate"]["buildDefinition"]["internalParameters"]["plan"].take();
    assert!(plan.as_str().unwrap().starts_with("sha256:"), "{plan}");
    let mut dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"].take();
    let dockerfile = dependencies[1]["digest"].take();
    assert_eq!(dockerfile["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(
        dependencies,
        json!([
            { "name": "context", "digest": digest(&built["context"]) },
            { "name": "dockerfile", "digest": null },
            {
                "name": "source",
                "digest": { "gitCommit": revision },
                "annotations": { "isDirty": true },
                "uri": "git+https://git.example/a.git",
            },
        ])
    );
    assert_eq!(
        statement,
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects.collect::<Vec<_>>(),
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "https://jobctl.dev/build/v1",
                    "externalParameters": {
                        "name": name.as_str(),
                        "version": "1.2.3",
                        "dockerfile": "Dockerfile",
                        "target": null,
                        "platform": null,
                        "buildArgs": {
                            "HTTPS_PROXY": null, "HTTP_PROXY": null,
                            "NO_PROXY": "localhost,127.0.0.1", "TOKEN": null, "http_proxy": null,
                            "https_proxy": null, "no_proxy": "localhost,127.0.0.1",
                        },
                        "secrets": [],
                        "sshAgents": [],
                    },
                    "internalParameters": { "plan": null, "sourceDateEpoch": committed },
                    "resolvedDependencies": null,
                },
                "runDetails": null,
            },
        })
    );
    let builder = &details["builder"];
    assert_eq!(builder["id"], "https://jobctl.dev/jobctl");
    let engine = builder["version"]["engine"].as_str().unwrap();
    assert!(engine.contains('/'), "{engine}");
    let time = |key: &str| details["metadata"][key].as_str().unwrap().to_owned();
    assert!(time("startedOn") <= time("finishedOn"));
    assert!(time("finishedOn").ends_with('Z'));
}

fn find_all(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes
        .windows(wanted.len())
        .filter(|window| *window == wanted)
        .count()
}
