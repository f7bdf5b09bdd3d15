//! `jobs.yaml`: what is refused, how it is said, and what is taken.

use std::path::{Path, PathBuf};

use jobctl::facts::Environment;
use jobctl::manifest::{self, Manifest, Rule};
use jobctl::report::diagnostics;

use crate::support::{Bench, jobctl, run};

/// A value that must never be shown.
const CANARY: &str = "canary-9f2c";

fn environment() -> Environment {
    Environment::new([("CANARY", CANARY), ("HF_TOKEN", CANARY)], "/")
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it")
        .join(name)
}

fn load(path: &Path) -> Result<Manifest, Vec<jobctl::diagnostic::Diagnostic>> {
    let shown = path.file_name().expect("a file has a name");
    manifest::load(path, Path::new(shown), &environment())
}

fn plain(diagnostics: &[jobctl::diagnostic::Diagnostic]) -> String {
    anstream::adapter::strip_str(&diagnostics::human(diagnostics)).to_string()
}

#[test]
fn each_broken_manifest_is_answered_as_recorded() {
    insta::glob!("invalid/*.yaml", |path| {
        let found = match load(path) {
            Ok(manifest) => manifest.diagnostics(),
            Err(diagnostics) => diagnostics,
        };
        assert!(!found.is_empty(), "{} is not refused", path.display());
        for diagnostic in &found {
            assert!(!diagnostic.help.is_empty(), "no help: {diagnostic:?}");
        }
        let text = plain(&found);
        assert!(
            !text.contains(CANARY) && !text.contains("canary-in-the-file"),
            "{text}"
        );
        insta::assert_snapshot!(text);
    });
}

#[test]
fn each_rule_has_an_example_named_after_it() {
    // Too large to keep here, an error only when a job is run, or found in a Dockerfile.
    let without_example = [
        Rule::TooLarge,
        Rule::EnvSize,
        Rule::EnvUnset,
        Rule::WholeContext,
    ];
    for rule in Rule::ALL
        .iter()
        .filter(|rule| !without_example.contains(rule))
    {
        let examples: Vec<_> = std::fs::read_dir(folder("invalid"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "yaml")
            })
            .filter(|path| {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                stem == rule.name() || stem.starts_with(&format!("{}-", rule.name()))
            })
            .collect();
        assert!(
            !examples.is_empty(),
            "no tests/it/invalid/{}.yaml",
            rule.name()
        );
        for example in examples {
            let found = match load(&example) {
                Ok(manifest) => manifest.diagnostics(),
                Err(diagnostics) => diagnostics,
            };
            assert!(
                found
                    .iter()
                    .any(|diagnostic| diagnostic.rule == rule.name()),
                "{} does not break its rule: {}",
                example.display(),
                plain(&found)
            );
        }
    }
}

#[test]
fn each_valid_manifest_is_taken() {
    for entry in std::fs::read_dir(folder("valid")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let manifest = load(&path).map_err(|found| plain(&found));
            let manifest = manifest.unwrap_or_else(|text| panic!("{}\n{text}", path.display()));
            assert_eq!(plain(&manifest.warnings), "", "{}", path.display());
        }
    }
}

#[test]
fn values_are_texts_as_they_are_written() {
    let manifest = load(&folder("valid/yaml-1.1-traps.yaml")).unwrap();
    let job = manifest.root.jobs.values().next().unwrap();
    let variables: Vec<_> = job
        .value
        .environment
        .0
        .iter()
        .map(|variable| {
            let value = variable.value.as_ref().map(|value| value.as_str());
            (variable.name.as_str(), value.unwrap_or("(none)"))
        })
        .collect();
    assert_eq!(
        variables,
        [
            ("NO", "no"),
            ("OCTAL", "010"),
            ("VERSION", "1.10"),
            ("EXPONENT", "1e3"),
            ("TIME", "12:30"),
            ("BIG", "99999999999999999999"),
            ("NAN", ".nan"),
            ("DATE", "2026-11-23"),
            ("HEX", "0x1F"),
            ("TILDE", "~"),
        ]
    );
}

#[test]
fn a_merge_gives_what_the_mapping_itself_does_not_have() {
    let manifest = load(&folder("valid/extensions-and-anchors.yaml")).unwrap();
    let seeds: Vec<_> = manifest
        .root
        .jobs
        .values()
        .flat_map(|job| &job.value.environment.0)
        .map(|variable| variable.value.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(seeds, ["1", "2"]);
}

#[test]
fn a_manifest_of_100_mb_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.yaml");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(100_000_000).unwrap();
    let found = load(&path).unwrap_err();
    assert_eq!(
        plain(&found),
        "error[too-large]: `jobs.yaml` has 100000000 bytes; a manifest has at most 1048576\n |\n \
         = help: is this the right file? data belongs in files that `inputs` names\n\n"
    );
}

#[test]
fn the_nearest_manifest_above_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(folder.path().join("jobs.yml"), "").unwrap();
    assert_eq!(manifest::find(&inner), Some(folder.path().join("jobs.yml")));
    std::fs::write(folder.path().join("a/jobs.yaml"), "").unwrap();
    assert_eq!(
        manifest::find(&inner),
        Some(folder.path().join("a/jobs.yaml"))
    );
}

/// Files that are read whole, and lie where they are read: a pipe that nobody writes to, and a device
/// that never ends.
#[test]
fn what_is_no_file_is_an_error_at_once() {
    const MANIFEST: &str = "version: 1\nname: a\njobs:\n  b: { build: { context: . }, \
                            env_file: [b.env] }\n";

    let names = [
        ("jobs.yaml", &["validate"][..]),
        ("b.env", &["validate"]),
        ("Dockerfile", &["build", "b"]),
        (".dockerignore", &["build", "b"]),
        ("home/.docker/config.json", &["build", "b"]),
    ];
    for (name, args) in names {
        for (target, said) in [
            ("pipe", "it is a named pipe"),
            ("/dev/zero", "it is a device"),
        ] {
            let bench = Bench::new();
            bench.write("jobs.yaml", MANIFEST);
            bench.write("b.env", "A=1\n");
            bench.write("Dockerfile", "FROM scratch\n");
            let pipe = run(bench.command("mkfifo").arg("pipe"));
            assert_eq!(pipe.code, Some(0));
            let place = bench.path().join(name);
            let _ = std::fs::remove_file(&place);
            let target = bench.path().join(target);
            std::os::unix::fs::symlink(target, place).unwrap();
            let mut command = bench.command("timeout");
            let ended = run(command.arg("20").arg(jobctl()).args(args));
            let is_refused = matches!(ended.code, Some(1 | 2 | 125));
            assert!(is_refused, "{name} {args:?}: {ended:?}");
            assert!(ended.stderr.contains(said), "{name} {args:?}: {ended:?}");
            let errors = ended.stderr.matches("error").count();
            assert_eq!(errors, 1, "{name} {args:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn validate_shows_all_errors_and_other_verbs_name_it() {
    let bench = Bench::new();
    let keys: Vec<_> = (0..41).map(|number| format!("key{number}: x\n")).collect();
    let keys = keys.concat();
    bench.write("jobs.yaml", &format!("version: 1\nname: test\n{keys}"));
    let shown = |verb: &str| {
        let ended = run(bench.jobctl().arg(verb));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let shown = ended.stderr.matches("unknown key").count();
        (
            shown,
            ended
                .stderr
                .contains("… and 21 more: `jobctl validate` shows all"),
        )
    };
    assert_eq!(shown("validate"), (41, false));
    assert_eq!(shown("build"), (20, true));
}
