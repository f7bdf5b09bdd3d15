//! What is built, in which order, and how it is told beforehand.

use std::fs;

use super::built;
use crate::support::image::{ImageName, docker};
use crate::support::{Bench, run};

#[test]
fn a_dry_run_needs_no_engine_and_shows_no_secret() {
    let bench = Bench::new();
    let secret = bench.write("token", "canary");
    bench.write("Dockerfile", "FROM scratch\n");
    let ended = run(bench
        .jobctl()
        .args([
            "build",
            "--name",
            "app",
            "--version",
            "1.2.3+b",
            "--dry-run",
        ])
        .args(["--host", "unix:///nowhere.sock", "--tag", "other:1"])
        .args(["--proxy", "http://u:canary@p:1", "--build-arg", "A=canary"])
        .args(["--build-arg", "INHERITED", "--secret", "id=v,env=INHERITED"])
        .args(["--secret", &format!("id=f,src={}", secret.display())])
        .args(["--target", "last", "--platform", "linux/amd64"])
        .args(["--label", "a=b c", "--no-cache", "--pull"])
        .env("INHERITED", "canary"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("canary") && ended.stderr.is_empty());
    let here = bench.path().display();
    let args = [
        "A",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "INHERITED",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ]
    .map(|name| match name {
        "NO_PROXY" | "no_proxy" => format!("--build-arg '{name}=localhost,127.0.0.1' "),
        _ => format!("--build-arg '{name}=***' "),
    })
    .concat();
    assert_eq!(
        ended.stdout,
        format!(
            "app: build {here}\n  docker build --file {here}/Dockerfile --tag app:1.2.3_b \
             --tag app:1.2 --tag app:1 --tag app:latest --tag other:1 --target last --platform linux/amd64 {args}--label 'a=b c' \
             --secret 'id=f,src={here}/token' --secret 'id=v,env=***' --no-cache --pull {here}\n  \
             only if the engine has no newer release: app:1.2, app:1, app:latest\n  \
             from what the engine reads; not certain: the engine names them when it builds\n"
        )
    );
}

#[test]
fn a_dry_run_shows_which_names_a_release_may_not_get_and_which_are_pushed() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM scratch\n");
    let plan = |words: &[&str]| {
        let mut build = bench.jobctl();
        let flags = ["--dry-run", "--name", "app", "--image-prefix", "r.example/"];
        let ended = run(build.arg("build").args(flags).args(words));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let release = plan(&[
        "--version",
        "1.2.3",
        "--tag",
        "r.example/other:1",
        "--deploy",
    ]);
    for line in [
        "  push r.example/app:1.2.3, r.example/app:1.2, r.example/app:1, r.example/other:1, r.example/app:latest\n",
        "  only if neither the engine nor the registry has a newer release: app:1.2, app:1, app:latest, \
         r.example/app:1.2, r.example/app:1, r.example/app:latest, r.example/other:1\n",
    ] {
        assert!(release.contains(line), "{line}{release}");
    }
    // What comes before a release moves in a registry only forwards.
    let words = [
        "--version",
        "1.2.3-rc.1",
        "--tag",
        "r.example/app:latest",
        "--deploy",
    ];
    let prerelease = plan(&words);
    let line = "has a newer release: r.example/app:latest\n";
    assert!(prerelease.contains(line), "{line}{prerelease}");
    // On the engine, what is no release is held against nothing.
    for words in [&["--version", "1.2.3-rc.1"][..], &[]] {
        let plan = plan(words);
        assert!(
            !plan.contains("only if") && !plan.contains("  push"),
            "{plan}"
        );
    }
    let json = plan(&["--format", "json", "--version", "1.2.3", "--deploy"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let step = &json["steps"][0];
    assert_eq!(step["push"][3], "r.example/app:latest", "{json:#}");
    assert_eq!(step["if_newest"][0], "app:1.2", "{json:#}");
}

#[test]
fn a_build_without_a_manifest_says_how_the_dockerfile_here_is_built() {
    let bench = Bench::new();
    let refused = |words: &[&str]| {
        let ended = run(bench.jobctl().arg("build").args(words));
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        ended.stderr
    };
    let hint = "build the Dockerfile that is here: `jobctl build --name NAME`";
    assert!(!refused(&[]).contains(hint));
    bench.write("Dockerfile", "FROM scratch\n");
    let said = refused(&[]);
    assert!(said.contains("there is no `jobs.yaml`"), "{said}");
    assert!(said.contains(hint), "{said}");
    // A job is what it is about.
    assert!(!refused(&["app"]).contains(hint));
    for (words, path) in [
        (&["--name", "app", "."][..], "."),
        (&["."], "."),
        (&["--name", "app", "sub/directory"], "sub/directory"),
        (&[".."], ".."),
    ] {
        let said = refused(words);
        let message = format!("`{path}` is a path, where `jobctl build` takes jobs of jobs.yaml");
        assert!(said.contains(&message), "{said}");
        assert!(said.contains("`jobctl build --name "), "{said}");
    }
}

#[test]
fn what_is_required_comes_first_and_once() {
    let bench = Bench::new();
    let name = ImageName::new();
    let own = name.as_str();
    let label = name.label();
    bench.write(
        "jobs.yaml",
        &format!(
            "version: 1\nname: {own}\nimages:\n  top: {{ build: top, requires: [middle] }}\n  \
             middle: {{ build: middle, requires: [bottom] }}\n  bottom: {{ build: bottom }}\n\
             jobs:\n  app:\n    build: {{ context: app, requires: [top, bottom] }}\n"
        ),
    );
    let stages = [
        ("bottom", None),
        ("middle", Some("bottom")),
        ("top", Some("middle")),
        ("app", Some("top")),
    ];
    for (stage, base) in stages {
        let from = base.map_or("scratch".to_owned(), |base| format!("{own}-{base}:latest"));
        let text = format!("FROM {from}\nCOPY {stage} /\nLABEL {label}\n");
        bench.write(&format!("{stage}/Dockerfile"), &text);
        bench.write(&format!("{stage}/{stage}"), stage);
    }
    let states = || {
        let ended = run(bench.jobctl().args(["build", "app", "--format", "json"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let images = document["images"].as_array().unwrap();
        let text = |image: &serde_json::Value, key: &str| image[key].as_str().unwrap().to_owned();
        images
            .iter()
            .map(|image| (text(image, "name"), text(image, "state")))
            .collect::<Vec<_>>()
    };
    let expected = |states: [&str; 4]| {
        let names = stages.map(|(stage, _)| stage.to_owned());
        names
            .into_iter()
            .zip(states.map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(states(), expected(["built"; 4]));
    assert_eq!(states(), expected(["up_to_date"; 4]));
    // A change is passed on to what stands on it, and to nothing else.
    bench.write("middle/middle", "other");
    assert_eq!(
        states(),
        expected(["up_to_date", "built", "built", "built"])
    );
    let base = docker(&[
        "inspect",
        "--format",
        "{{index .Config.Labels \"org.opencontainers.image.base.name\"}}",
        &format!("{own}-app:latest"),
    ]);
    assert_eq!(base.trim(), format!("docker.io/library/{own}-top:latest"));
}

#[test]
fn each_part_of_a_version_is_raised_in_place() {
    let bench = Bench::new();
    let name = ImageName::new();
    bench.write(
        "Dockerfile",
        &format!("FROM scratch\nCMD [\"none\"]\nLABEL {}\n", name.label()),
    );
    let manifest = |version: &str| {
        format!(
            "# ours\nversion: 1\nname: {}\nimage:\n    version: '{version}' # 0.1.0 it was\n\
             jobs:\n    app: {{ build: . }} # version: 0.1.0\n",
            name.as_str()
        )
    };
    let path = bench.write("jobs.yaml", &manifest("0.1.0"));
    for (part, version) in [
        ("pre", "0.1.1-rc.1"),
        ("pre", "0.1.1-rc.2"),
        ("patch", "0.1.1"),
        ("minor", "0.2.0"),
        ("major", "1.0.0"),
    ] {
        let image = built(bench.jobctl().args(["build", "app", "--bump", part]));
        assert_eq!(image["version"], version);
        assert_eq!(fs::read_to_string(&path).unwrap(), manifest(version));
    }
    let unknown = run(bench.jobctl().args(["build", "app", "--bump", "tiny"]));
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
}

#[test]
fn what_can_name_no_image_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM scratch\n");
    let nowhere = ["--host", "unix:///nowhere.sock"];
    let long = format!("1.2.3-{}", "a".repeat(123));
    let write = |image: &str| {
        let text = format!(
            "version: 1\nname: app\nimage: {{ {image} }}\njobs:\n  job: {{ build: {{ context: . }}, command: [a] }}\n"
        );
        bench.write("jobs.yaml", &text);
    };
    let refused = |words: &[&str], said: &str| {
        let ended = run(bench.jobctl().args(nowhere).args(words));
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{words:?}: {}", ended.stderr);
        assert!(!ended.stdout.contains("docker build"), "{ended:?}");
    };
    let verbs: [&[&str]; 4] = [
        &["build", "--dry-run"],
        &["build"],
        &["push", "--dry-run"],
        &["push"],
    ];
    for prefix in ["http://a/", "a//b/", "reg:port/", "team:", "a@", "-a"] {
        write("latest: release");
        let said = format!("`--image-prefix`: `{prefix}` can't be put before an image's name: ");
        let flag = format!("--image-prefix={prefix}");
        for verb in verbs {
            refused(&[verb, &["--name", "nn", &flag]].concat(), &said);
            refused(&[verb, &["job", &flag]].concat(), &said);
        }
        write(&format!("prefix: \"{prefix}\""));
        let said = format!("`prefix`: `{prefix}` can't be put before an image's name: ");
        for verb in verbs {
            refused(&[verb, &["job"]].concat(), &said);
        }
        refused(&["validate"], &said);
    }
    let said = "a tag has at most 128 characters";
    write("latest: release");
    for verb in verbs {
        refused(
            &[verb, &["--name", "nn", "--version", &long]].concat(),
            said,
        );
        refused(&[verb, &["job", "--version", &long]].concat(), said);
    }
    write(&format!("version: \"{long}\""));
    refused(&["validate"], said);
    // One that is too long only as what the tree, which is not as committed, makes of it.
    let git = |args: &[&str]| {
        let mut command = bench.command("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b.c"]);
        assert!(command.args(args).output().unwrap().status.success());
    };
    write(&format!("version: \"{}\"", &long[..120]));
    git(&["init", "--quiet"]);
    git(&["add", "Dockerfile", "jobs.yaml"]);
    git(&["commit", "--quiet", "--message", "a"]);
    bench.write("Dockerfile", "FROM scratch\nLABEL a=b\n");
    refused(&["build", "job", "--dry-run"], said);
}

#[test]
fn a_cache_that_is_not_absolute_is_ignored() {
    let image = ImageName::new();
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM scratch\nLABEL a=b\n");
    let ended = run(image.build(&bench, &[]).env("XDG_CACHE_HOME", "rel"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!bench.path().join("rel").exists());
    assert!(bench.path().join("home/.cache/jobctl/images").is_dir());
}
