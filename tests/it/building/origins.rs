//! What an image is made from: as BuildKit names it, whatever the Dockerfile looks like.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::built;
use crate::support::image::{DEBIAN, ImageName, docker, ensure_debian, file_of, tiny};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::{Bench, run};

/// A context in a directory of its own, so that jobctl's cache is no part of it.
const CONTEXT: [&str; 2] = ["--directory", "context"];

/// Images of these names, each with its name in `/f` and in `ID`.
fn images(name: &ImageName, which: &[&str]) {
    for which in which {
        tiny(name, &of(name, which), which);
    }
}

fn of(name: &ImageName, which: &str) -> String {
    format!("{}-{which}:1", name.as_str())
}

/// A label of the image that was built last.
fn label(name: &ImageName, key: &str) -> String {
    let format = format!("{{{{index .Config.Labels \"{key}\"}}}}");
    let label = docker(&["inspect", "--format", &format, name.as_str()]);
    label.trim().to_owned()
}

fn base_name(name: &ImageName) -> String {
    label(name, "org.opencontainers.image.base.name")
}

/// Steps that hide what follows from who reads them carelessly.
const STEPS: [&str; 12] = [
    "RUN true",
    "RUN echo \"usage: show <<name>>\" > /usage",
    "RUN N=2; echo $((1<<N)) > /n",
    "RUN python3 -c \"n=3; print(1 <<n)\"",
    "RUN echo 'int main(){std::cout<<x<<endl;}' > a.cc",
    "RUN psql -c 'select 1<<id from t'",
    "RUN [\"/bin/sh\", \"-c\", \"cat <<EOF\"]",
    "RUN cat << EOF",
    "RUN echo it's <<EOF",
    "RUN echo a \\\\",
    "RUN a \\\n  # b \\\n\n  c",
    "ONBUILD RUN true",
];

#[test]
fn another_base_is_noticed_behind_any_step() {
    for step in STEPS {
        let bench = Bench::new();
        let name = ImageName::new();
        images(&name, &["tools", "base", "other"]);
        let (tools, base, other) = (of(&name, "tools"), of(&name, "base"), of(&name, "other"));
        let text = format!("FROM {tools}\n{step}\nFROM {base}\nCOPY --from={other} /f /g\n");
        bench.write("context/Dockerfile", &text);
        let build = || built(&mut name.build(&bench, &CONTEXT));
        assert_eq!(build()["state"], "built", "{step}");
        assert_eq!(
            base_name(&name),
            format!("docker.io/library/{base}"),
            "{step}"
        );
        assert_eq!(build()["state"], "up_to_date", "{step}");
        // A stage that is not needed is no source.
        tiny(&name, &tools, "tools-2");
        assert_eq!(build()["state"], "up_to_date", "{step}");
        for (image, path) in [(&base, "/f"), (&other, "/g")] {
            tiny(&name, image, "changed");
            assert_eq!(build()["state"], "built", "{step}");
            assert_eq!(file_of(name.as_str(), path), b"changed", "{step}");
            assert_eq!(build()["state"], "up_to_date", "{step}");
        }
    }
}

#[test]
fn an_image_is_found_however_it_is_written() {
    for (step, which) in [
        ("FROM \"N-base:1\"\nCOPY f /f", "base"),
        ("FROM N-ba\\\nse:1\nCOPY f /f", "base"),
        ("ARG S\nARG D=base\nFROM N-${S:-${D}}:1\nCOPY f /f", "base"),
        ("ARG S=base\nFROM N${S:+-${S}}:1\nCOPY f /f", "base"),
        (
            "ARG A=evil\nARG A=${UNSET}\nFROM N-${A:-base}:1\nCOPY f /f",
            "base",
        ),
        ("FROM scratch\nCOPY --from=\"N-base:1\" /f /g", "base"),
        (
            "FROM N-evil:1 AS evil\nFROM N-base:1\nRUN --mount=type=bind,FROM=N-other:1,target=/x ls",
            "other",
        ),
        (
            "FROM N-base:1\nRUN --mount='from=N-other:1,target=/x' ls",
            "other",
        ),
        (
            "FROM N-base:1\nRUN --mount=type=bind,\"from=N-other:1\",target=/x ls",
            "other",
        ),
        (
            "FROM N-base:1\nONBUILD COPY --from=N-evil:1 / /\nRUN true",
            "base",
        ),
    ] {
        let bench = Bench::new();
        let name = ImageName::new();
        images(&name, &["base", "other"]);
        bench.write("context/f", "");
        bench.write(
            "context/Dockerfile",
            &(step
                .replace("N-", &of(&name, "").replace(":1", ""))
                .replace("N$", &format!("{}$", name.as_str()))
                + "\n"),
        );
        let build = || {
            let ended = run(&mut name.build(&bench, &CONTEXT));
            assert_eq!(ended.code, Some(0), "{step}: {ended:?}");
            // What is no source is not pulled.
            assert!(!ended.stderr.contains("pull "), "{step}: {ended:?}");
            ended.stdout.contains("(built)")
        };
        assert!(build(), "{step}");
        assert!(!build(), "{step}");
        tiny(&name, &of(&name, which), "changed");
        assert!(build(), "{step}");
    }
}

/// A server of one file, which it counts the requests for.
fn serve(content: Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let content = content.lock().unwrap().clone();
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                content.len()
            );
            let mut stream = stream;
            let _ = stream.write_all((head + &content).as_bytes());
        }
    });
    address
}

#[test]
fn what_is_fetched_from_elsewhere_is_never_up_to_date() {
    for form in [
        "ARG URL=http://u:canary@ADDRESS/f?canary\nADD ${URL} /f",
        "ADD http://ADDRESS/f /f",
        "ADD [\"http://ADDRESS/f\", \"/f\"]",
    ] {
        let content = Arc::new(Mutex::new("one".to_owned()));
        let address = serve(Arc::clone(&content));
        let bench = Bench::new();
        let name = ImageName::new();
        images(&name, &["base"]);
        let step = form.replace("ADDRESS", &address.to_string());
        let text = format!("FROM {}\n{step}\n", of(&name, "base"));
        bench.write("context/Dockerfile", &text);
        let build = || built(&mut name.build(&bench, &CONTEXT));
        assert_eq!(build()["state"], "built", "{form}");
        assert_eq!(file_of(name.as_str(), "/f"), b"one");
        let sources: Value = serde_json::from_str(&label(&name, "dev.jobctl.sources")).unwrap();
        assert_eq!(
            sources[1],
            json!({ "name": format!("http://{address}/f") }),
            "{form}"
        );
        "two".clone_into(&mut content.lock().unwrap());
        assert_eq!(build()["state"], "built", "{form}");
        assert_eq!(file_of(name.as_str(), "/f"), b"two");
        assert_eq!(
            base_name(&name),
            format!("docker.io/library/{}", of(&name, "base"))
        );
    }
}

#[test]
fn an_address_is_shown_without_what_lets_one_in() {
    let bench = Bench::new();
    let name = ImageName::new();
    let text = "FROM scratch\nADD http://u:canary@127.0.0.1:1/f?x=canary /f\n";
    bench.write("context/Dockerfile", text);
    for format in ["human", "json"] {
        let flags = [&CONTEXT[..], &["--format", format]].concat();
        let ended = run(&mut name.build(&bench, &flags));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!said.contains("canary"), "{said}");
        assert!(said.contains("http://***@127.0.0.1:1/f?***"), "{said}");
    }
    // A token may be the user, and be given from outside.
    let content = Arc::new(Mutex::new("one".to_owned()));
    let argument = format!("U=http://canary@{}/f", serve(content));
    let label = name.label();
    let text = format!("FROM scratch\nLABEL {label}\nARG U\nADD ${{U}} /f\n");
    bench.write("context/Dockerfile", &text);
    let flags = ["--build-arg", &argument, "--provenance", "--format", "json"];
    for more in [&["--dry-run"][..], &[]] {
        let ended = run(&mut name.build(&bench, &[&CONTEXT[..], &flags, more].concat()));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.stdout.contains("canary"), "{}", ended.stdout);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
        if more.is_empty() {
            let document: Value = serde_json::from_str(&ended.stdout).unwrap();
            let path = document["images"][0]["provenance"].as_str().unwrap();
            let statement = std::fs::read_to_string(path).unwrap();
            assert!(!statement.contains("canary"), "{statement}");
        }
    }
}

#[test]
fn what_a_base_adds_is_a_source_too() {
    let content = Arc::new(Mutex::new("one".to_owned()));
    let address = serve(Arc::clone(&content));
    let bench = Bench::new();
    let name = ImageName::new();
    images(&name, &["base"]);
    let base = of(&name, "base");
    let trigger = of(&name, "trigger");
    // It says so itself, and its Dockerfile is nowhere.
    let text = format!(
        "FROM {base}\nLABEL {}\nONBUILD ADD http://{address}/f /g\n",
        name.label()
    );
    let mut made = Command::new("docker")
        .args(["build", "--quiet", "--tag", &trigger, "-"])
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    made.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(made.wait().unwrap().success());
    bench.write("context/Dockerfile", &format!("FROM {trigger}\n"));
    let build = || built(&mut name.build(&bench, &[&CONTEXT[..], &["--provenance"]].concat()));
    let first = build();
    assert_eq!(file_of(name.as_str(), "/g"), b"one");
    assert_eq!(base_name(&name), format!("docker.io/library/{trigger}"));
    let text = fs::read_to_string(
        bench
            .path()
            .join("context")
            .join(first["provenance"].as_str().unwrap()),
    );
    let statement: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let dependencies = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    let id = docker(&["inspect", "--format", "{{.Id}}", &trigger]);
    let id = id.trim().strip_prefix("sha256:").unwrap();
    assert_eq!(
        dependencies.as_array().unwrap()[2..],
        [
            json!({ "name": format!("docker.io/library/{trigger}"), "digest": { "sha256": id } }),
            json!({ "uri": format!("http://{address}/f") }),
        ]
    );
    "two".clone_into(&mut content.lock().unwrap());
    assert_eq!(build()["state"], "built");
    assert_eq!(file_of(name.as_str(), "/g"), b"two");
}

/// Engines without here-documents take `FROM` for the base, the others what is before it.
#[test]
fn a_base_that_can_not_be_read_is_labelled_as_it_is() {
    let bench = Bench::new();
    let name = ImageName::new();
    images(&name, &["one", "two"]);
    let (one, two) = (of(&name, "one"), of(&name, "two"));
    let text = format!("FROM {one}\nRUN cat <<'WORKDIR /x'\nFROM {two}\nWORKDIR /x\nRUN true\n");
    bench.write("context/Dockerfile", &text);
    let flags = [&CONTEXT[..], &["--no-cache"]].concat();
    assert_eq!(built(&mut name.build(&bench, &flags))["state"], "built");
    let which = String::from_utf8(file_of(name.as_str(), "/f")).unwrap();
    let base = format!("docker.io/library/{}", of(&name, &which));
    assert_eq!(base_name(&name), base);
    let sources: Value = serde_json::from_str(&label(&name, "dev.jobctl.sources")).unwrap();
    let id = docker(&["inspect", "--format", "{{.Id}}", &of(&name, &which)]);
    assert_eq!(sources, json!([{ "name": base, "digest": id.trim() }]));
    // The image whose label was wrong is gone.
    let filter = format!("label={}", name.label());
    let unnamed = [
        "images",
        "--quiet",
        "--filter",
        "dangling=true",
        "--filter",
        &filter,
    ];
    assert_eq!(docker(&unnamed), "");
    let build = || built(&mut name.build(&bench, &CONTEXT));
    assert_eq!(build()["state"], "up_to_date");
    let unused = if which == "one" { &two } else { &one };
    tiny(&name, unused, "changed");
    assert_eq!(build()["state"], "up_to_date");
    tiny(&name, &of(&name, &which), "changed");
    assert_eq!(build()["state"], "built");
    assert_eq!(file_of(name.as_str(), "/f"), b"changed");
}

#[test]
fn steps_that_were_run_anew_are_in_the_image_whose_label_is_right() {
    ensure_debian();
    let bench = Bench::new();
    let name = ImageName::new();
    let same = of(&name, "same");
    docker(&["tag", DEBIAN, &same]);
    // Which of the two it begins from depends on the engine.
    let text = format!(
        "FROM {same}\nRUN cat <<'WORKDIR /x'\nFROM {DEBIAN}\nWORKDIR /x\nRUN date +%s%N > /time\n"
    );
    bench.write("context/Dockerfile", &text);
    let flags = [&CONTEXT[..], &["--no-cache"]].concat();
    let times = [(); 3].map(|()| {
        built(&mut name.build(&bench, &flags));
        file_of(name.as_str(), "/time")
    });
    docker(&["rmi", &same]);
    let mut times = times.to_vec();
    times.dedup();
    assert_eq!(times.len(), 3);
}

#[test]
fn an_image_is_pulled_with_credentials_once_the_engine_asks_for_it() {
    let registry = Registry::with_password();
    let server = registry.address().to_string();
    let bench = Bench::new();
    let name = ImageName::new();
    let image = format!("{server}/{}:1", name.as_str());
    tiny(&name, &image, "private");
    let config = bench.path().join("home/.docker");
    let config = config.to_str().unwrap();
    docker(&[
        "--config",
        config,
        "login",
        "--username",
        USER,
        "--password",
        PASSWORD,
        &server,
    ]);
    docker(&["--config", config, "push", "--quiet", &image]);
    docker(&["rmi", &image]);
    // What a variable of a stage is can't be read.
    let text = format!("FROM {image}\nARG F=Dockerfile\nADD ${{F}} /d\n");
    bench.write("context/Dockerfile", &text);
    assert_eq!(built(&mut name.build(&bench, &CONTEXT))["state"], "built");
    assert_eq!(file_of(name.as_str(), "/f"), b"private");
    assert_eq!(base_name(&name), image);
    let digest = registry.digest(name.as_str(), "1");
    assert_eq!(label(&name, "org.opencontainers.image.base.digest"), digest);
    assert_eq!(
        built(&mut name.build(&bench, &CONTEXT))["state"],
        "up_to_date"
    );
    docker(&["rmi", &image]);
}

#[test]
fn labels_of_a_base_are_not_inherited() {
    let bench = Bench::new();
    let name = ImageName::new();
    images(&name, &["one"]);
    let digest = format!("sha256:{}", "a".repeat(64));
    let labels = [
        "org.opencontainers.image.base.name=docker.io/library/other:1".to_owned(),
        format!("org.opencontainers.image.base.digest={digest}"),
        "dev.jobctl.sources=[]".to_owned(),
    ];
    let two = of(&name, "two");
    let archive = docker(&[
        "create",
        "--label",
        &name.label(),
        &of(&name, "one"),
        "none",
    ]);
    let mut commit = vec!["commit".to_owned()];
    for label in labels {
        commit.extend(["--change".to_owned(), format!("LABEL {label}")]);
    }
    commit.extend([archive.trim().to_owned(), two.clone()]);
    docker(&commit.iter().map(String::as_str).collect::<Vec<_>>());
    docker(&["rm", archive.trim()]);
    for step in ["CMD [\"x\"]", "ARG F=Dockerfile\nADD ${F} /d"] {
        bench.write("context/Dockerfile", &format!("FROM {two}\n{step}\n"));
        built(&mut name.build(&bench, &CONTEXT));
        assert_eq!(base_name(&name), format!("docker.io/library/{two}"));
        assert_eq!(label(&name, "org.opencontainers.image.base.digest"), "");
        let sources = label(&name, "dev.jobctl.sources");
        assert!(sources.contains(&two), "{sources}");
    }
}

#[test]
fn a_dry_run_says_what_an_image_is_made_from() {
    let address = "ADD https://u:canary@x.example/f /f";
    for (text, sources, human) in [
        (
            format!("FROM a:1 AS one\nFROM b\nCOPY --from=one / /\n{address}\n"),
            json!({
                "images": ["b", "a:1"],
                "urls": ["https://x.example/f"],
                "base": "b",
                "certain": true,
            }),
            "from b (base), a:1, https://x.example/f",
        ),
        (
            "FROM scratch\nCOPY . /\n".to_owned(),
            json!({ "images": [], "urls": [], "base": null, "certain": true }),
            "from nothing",
        ),
        (
            "# syntax=docker/dockerfile:1\nFROM a\n".to_owned(),
            json!({ "images": ["a"], "urls": [], "base": "a", "certain": false }),
            "from a (base); not certain: the engine names them when it builds",
        ),
        (
            "FROM a\nRUN cat <<'WORKDIR /'\nFROM b\nWORKDIR /\n".to_owned(),
            json!({ "images": ["a"], "urls": [], "base": null, "certain": false }),
            "from a; not certain: the engine names them when it builds",
        ),
        (
            "FROM a-$TARGETARCH\n".to_owned(),
            json!({ "images": [], "urls": [], "base": null, "certain": false }),
            "from what the engine reads; not certain: the engine names them when it builds",
        ),
    ] {
        let bench = Bench::new();
        bench.write("Dockerfile", &text);
        let dry = [
            "build",
            "--name",
            "app",
            "--dry-run",
            "--host",
            "unix:///nowhere.sock",
        ];
        let ended = run(bench.jobctl().args(dry));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(
            ended.stdout.lines().last(),
            Some(&*format!("  {human}")),
            "{text}"
        );
        let ended = run(bench.jobctl().args(dry).args(["--format", "json"]));
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(document["steps"][0]["sources"], sources, "{text}");
    }
    let bench = Bench::new();
    let ended = run(bench.jobctl().args(["build", "--name", "app", "--dry-run"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("there is no Dockerfile at"),
        "{ended:?}"
    );
}
