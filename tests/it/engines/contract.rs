//! What the documentation promises, in the order in which it is checked.

use serde_json::Value;

use super::{CONTEXT, Kind, Lab};
use crate::support::{doctor, jobctl};

/// How `jobctl build --verify` judges a `COPY` of a file into a directory that the base image has.
pub(super) const VERDICTS: [(Kind, &str); 4] = [
    (Kind::Engine26, "same_content"),
    (Kind::Engine28, "same_content"),
    (Kind::Containerd28, "identical"),
    // It writes names of its own, drawn at random, into an image's history.
    (Kind::Podman, "differs"),
];

/// A check of the contract.
type Check = fn(&Lab);

/// In their order: each uses what the ones before it have left.
const CONTRACT: [(&str, Check); 10] = [
    ("doctor", doctor_finds_nothing),
    ("build", images_are_built_when_something_changed),
    ("push", the_newest_image_is_pushed),
    ("pull", the_digest_is_that_of_the_name),
    ("run", a_run_ends_as_its_job),
    ("outputs", outputs_and_logs_are_kept),
    ("oom", full_memory_is_named),
    ("exec", programs_run_beside_the_job),
    ("platform", an_image_is_for_the_platform_that_was_asked_for),
    ("verify", a_verdict_is_not_by_luck),
];

#[expect(
    clippy::print_stdout,
    reason = "the harness shows it where the test fails"
)]
pub(super) fn holds(lab: &Lab) {
    let (base, debian) = (lab.base(), &lab.debian);
    lab.output(&["tag", debian, &base]);
    for (name, check) in CONTRACT {
        println!("{:?}: {name}", lab.kind);
        check(lab);
    }
}

fn doctor_finds_nothing(lab: &Lab) {
    let (code, found) = doctor(&mut lab.command(jobctl()));
    assert_eq!(code, Some(0), "{found:?}");
    let status = |check: &str| found[check].0.as_str();
    for check in [
        "engine",
        "engine-api",
        "init",
        "memory-limit",
        "engine-clock",
    ] {
        assert_eq!(status(check), "ok", "{check}: {found:?}");
    }
    let (name, buildkit) = match lab.kind {
        Kind::Podman => ("Podman", "warning"),
        Kind::Engine26 => ("Docker Engine 26.", "ok"),
        _ => ("Docker Engine ", "ok"),
    };
    assert!(found["engine"].1.starts_with(name), "{found:?}");
    assert_eq!(status("buildkit"), buildkit);
}

fn images_are_built_when_something_changed(lab: &Lab) {
    let base = lab.base();
    lab.output(&["push", &base]);
    for expected in ["(built)", "(up to date)"] {
        let built = lab.build(&[]);
        assert_eq!(built.code, Some(0), "{built:?}");
        assert!(built.stdout.trim_end().ends_with(expected), "{built:?}");
    }
}

fn the_newest_image_is_pushed(lab: &Lab) {
    let mut digests = Vec::new();
    for words in ["one", "two"] {
        lab.words(words);
        assert_eq!(lab.build(&[]).code, Some(0));
        let pushed = lab.output(&["push", "app"]);
        let digest = pushed.lines().last().unwrap().to_owned();
        assert_eq!(
            digest,
            lab.registry.digest(&lab.repository(), "latest"),
            "{pushed}"
        );
        assert!(!digests.contains(&digest), "{digests:?}");
        digests.push(digest);
    }
}

fn the_digest_is_that_of_the_name(lab: &Lab) {
    let repository = lab.repository();
    let latest = lab.registry.digest(&repository, "latest");
    let index = lab
        .registry
        .put_index(&repository, "index", &[("latest", "amd64")]);
    // One image has both digests then.
    for (tag, digest) in [("latest", &latest), ("index", &index), ("latest", &latest)] {
        let name = lab.image(&repository, tag);
        let pulled = lab.output(&["pull", &name]);
        assert_eq!(pulled, format!("{name} {digest}\n"));
    }
}

fn a_run_ends_as_its_job(lab: &Lab) {
    for (code, ending) in [(0, "success"), (3, "error"), (137, "error"), (255, "error")] {
        let ended = lab.jobctl(&["run", "-e", &format!("CODE={code}"), "app"]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert_eq!(lab.record()["ending"], ending, "{ended:?}");
    }
    for (program, code) in [("/no/such", 127), ("no-such", 127), ("/etc/passwd", 126)] {
        let ended = lab.jobctl(&["run", "app", "--", program]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        // Without an init process it is the engine that does not find it.
        let ended = lab.jobctl(&["run", "--init=false", "app", "--", program]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

fn outputs_and_logs_are_kept(lab: &Lab) {
    lab.output(&["run", "-e", "CODE=0", "app"]);
    let id = lab.record()["id"].as_str().unwrap().to_owned();
    let file = format!(".jobctl/runs/{id}/outputs/result/file");
    let kept = std::fs::read_to_string(lab.bench.path().join(file));
    assert_eq!(kept.unwrap(), "kept\n");
    let logs = lab.jobctl(&["logs", "app"]);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("out\n", "err\n")
    );
}

fn full_memory_is_named(lab: &Lab) {
    let ended = lab.jobctl(&["run", "hungry"]);
    assert_eq!(ended.code, Some(137), "{ended:?}");
    assert!(ended.stderr.contains("out of memory"), "{ended:?}");
    assert_eq!(lab.record()["ending"], "oom");
}

fn programs_run_beside_the_job(lab: &Lab) {
    lab.output(&["run", "-d", "app", "--", "sleep", "1000"]);
    let record = lab.record();
    let container = record["attempts"][0]["container_id"].as_str().unwrap();
    let ended = lab.jobctl(&["exec", "app", "sh", "-c", "echo here; exit 7"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(7), "here\n"),
        "{ended:?}"
    );
    for program in ["/no/such", "no-such", "/etc/passwd"] {
        let docker = lab.docker(&["exec", container, program]);
        let ended = lab.jobctl(&["exec", "app", program]);
        assert_eq!(ended.code, docker.code, "{ended:?} {docker:?}");
        let expected = match lab.kind {
            Kind::Engine26 => Some(126),
            Kind::Here => docker.code,
            _ if program == "/etc/passwd" => Some(126),
            _ => Some(127),
        };
        assert_eq!(ended.code, expected, "{program} {ended:?}");
    }
    lab.output(&["stop", "app"]);
    lab.jobctl(&["wait", "app"]);
    assert_eq!(lab.record()["ending"], "stopped");
}

fn an_image_is_for_the_platform_that_was_asked_for(lab: &Lab) {
    let (base, repository) = (lab.base(), lab.repository());
    let image = lab.image(&repository, "latest");
    let before = lab.processor(&image);
    let foreign = ["--platform", "linux/arm64"];
    let built = lab.build(&foreign);
    assert_eq!(built.code, Some(1), "{built:?}");
    let expected = "a base image is for another platform";
    assert!(built.stderr.contains(expected), "{built:?}");
    assert_eq!(lab.processor(&image), before);
    let ran = lab.jobctl(
        &[
            &["run"],
            &foreign[..],
            &["--network", "none", "--image", &base, "true"],
        ]
        .concat(),
    );
    assert_eq!(ran.code, Some(125), "{ran:?}");

    // From nothing, for both; then from what the registry has for each.
    let base = format!("{}-both", lab.name());
    for processor in ["amd64", "arm64"] {
        lab.bench.write(
            &format!("{CONTEXT}/Dockerfile"),
            "FROM scratch\nCOPY words /first\n",
        );
        let built = lab.build(&["--platform", &format!("linux/{processor}")]);
        assert_eq!(built.code, Some(0), "{built:?}");
        let name = lab.image(&base, processor);
        lab.output(&["tag", &image, &name]);
        lab.output(&["push", &name]);
    }
    let listed = [("amd64", "amd64"), ("arm64", "arm64")];
    lab.registry.put_index(&base, "1", &listed);
    lab.from(&lab.image(&base, "1"));
    for processor in ["amd64", "arm64"] {
        let built = lab.build(&["--platform", &format!("linux/{processor}")]);
        assert_eq!(built.code, Some(0), "{built:?}");
        let found = lab.processor(&image);
        assert!(found.starts_with(processor), "{found}");
    }
    lab.from(&lab.base());
}

fn a_verdict_is_not_by_luck(lab: &Lab) {
    let ended = lab.build(&["--verify", "--format", "json"]);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let verdict = &document["images"][0]["verdict"];
    match VERDICTS.iter().find(|(kind, _)| *kind == lab.kind) {
        Some((_, expected)) => assert_eq!(verdict, expected, "{document:#}"),
        None => assert_ne!(verdict, "differs", "{document:#}"),
    }
}
