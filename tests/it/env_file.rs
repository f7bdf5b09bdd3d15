//! Env files: docker's own client as the judge of the raw grammar, and `jobctl validate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use jobctl::diagnostic::Severity;
use jobctl::facts::Environment;
use jobctl::manifest::env_file::{EnvFile, Reading, Unset};
use jobctl::manifest::schema::EnvFileFormat;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::docker::{Container, EmptyImage, LABEL};
use crate::support::{Bench, run};

/// What a job would get.
type Variables = BTreeMap<String, String>;

/// The environment that both are called with.
const CALLER: [(&str, &str); 3] = [("SET", "from caller"), ("EMPTY", ""), ("T.x-y", "1")];

/// What docker makes of a file, or nothing if it refuses it.
fn docker(bench: &Bench, image: &EmptyImage, bytes: &[u8]) -> Option<Variables> {
    let path = bench.path().join("test.env");
    std::fs::write(&path, bytes).unwrap();
    let created = bench
        .command("docker")
        .envs(CALLER)
        .args(["create", "--label", LABEL, "--env-file"])
        .arg(&path)
        .arg(image.id())
        .output()
        .unwrap();
    if !created.status.success() {
        return None;
    }
    let id = String::from_utf8(created.stdout).unwrap();
    let container = Container(id.trim().to_owned());
    let inspected = Command::new("docker")
        .args(["inspect", "--format", "{{json .Config.Env}}", &container.0])
        .output()
        .unwrap();
    let variables: Option<Vec<String>> = serde_json::from_slice(&inspected.stdout).unwrap();
    let pairs = variables.into_iter().flatten().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    Some(pairs.collect())
}

/// What jobctl makes of the same file, or the rules that it breaks.
fn jobctl(bytes: &[u8]) -> Result<Variables, Vec<&'static str>> {
    let caller = Environment::new(CALLER, "/");
    let reading = Reading {
        format: EnvFileFormat::Raw,
        caller: &caller,
        unset: Unset::Allowed,
    };
    match EnvFile::parse(bytes, Path::new("test.env"), &reading) {
        Ok(file) => {
            let pairs = file.variables.iter().map(|variable| {
                let value = variable.value.expose().to_owned();
                (variable.name.to_string(), value)
            });
            Ok(pairs.collect())
        }
        Err(found) => Err(found
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| diagnostic.rule)
            .collect()),
    }
}

#[test]
fn the_raw_grammar_is_that_of_docker() {
    let bench = Bench::new();
    let image = EmptyImage::new();
    let rows: [&[u8]; 30] = [
        b"",
        b"# c\n\n  \n \t# d\n",
        b"A=\"x y\"\nB='x'\nC=\"\nD=it's\nE='\n",
        b"A=1\r\nB=2\r\n",
        b"A=1\nB=2\r",
        b"A=1\rB=2",
        b"A\rB=2",
        b"A=1\r\r\nB=2",
        b"\xEF\xBB\xBFA=1\nB=2",
        b"\xEF\xBB\xBF\xEF\xBB\xBFA=1",
        b"A=1\n\xEF\xBB\xBFB=2",
        b"\xFF\xFEA\0=\x001\0",
        b"export A=1",
        b"export\tA=1",
        b"A = 1",
        b"A =1",
        b"A= 1",
        b"  A=1\nB=1  \nC=1 # c\nD=1\t",
        b"=1",
        b"=",
        b"SET\nEMPTY\nNONE\nT.x-y",
        b"SET ",
        b"A=1\nB=2\nA=3",
        b"A=1\nB=${A}\nC=\\n\nD=b=c==\nA-B.C=1",
        b"A=1\n\xC3\x28=2",
        b"\xE2\x80\xA8A=1\n\xC2\xA0B=2\n\xE3\x80\x80# c",
        b"A\xC2\xA0B=1\nA\x0BB=2\nA:B=3\n\xC3\xBC=\xC3\xB6",
        b"some words",
        b"A",
        b"A=1\n\nB=2\n\n\n#\nC=3\n",
    ];
    for bytes in rows {
        let expected = docker(&bench, &image, bytes);
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(jobctl(bytes).ok(), expected, "{text:?}");
    }
    let large = |bytes| format!("A={}", "x".repeat(bytes));
    let four: Vec<_> = (0..4)
        .map(|index| format!("{index}{}", large(60_000)))
        .collect();
    for text in [large(65_533), four.join("\n")] {
        assert!(jobctl(text.as_bytes()).is_ok());
        assert_eq!(
            jobctl(text.as_bytes()).ok(),
            docker(&bench, &image, text.as_bytes())
        );
    }
}

#[test]
fn where_docker_is_no_model_jobctl_differs() {
    let bench = Bench::new();
    let image = EmptyImage::new();
    let long = format!("A={}", "x".repeat(100_000));
    // The file, whether docker takes it, and what jobctl says.
    let rows: [(&[u8], bool, &[&str]); 4] = [
        // Docker loses the second line without a word.
        (b"A=\"one\ntwo\"\nB=1", true, &["env-quote"]),
        // The engine refuses it as late as at the start.
        (b"A=x\0y", true, &["env-syntax"]),
        (b"A\0B=1", true, &["env-syntax"]),
        // Docker's limit is its scanner's; Linux has twice as much.
        (long.as_bytes(), false, &[]),
    ];
    for (bytes, is_taken, rules) in rows {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
        assert_eq!(
            docker(&bench, &image, bytes).is_some(),
            is_taken,
            "{text:?}"
        );
        assert_eq!(jobctl(bytes).err().unwrap_or_default(), rules, "{text:?}");
    }
}

/// Files of pieces that mean something in one grammar or the other.
fn files() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => "[A-C]=[a-z0-9]{0,3}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["SET", "EMPTY", "NONE"]).prop_map(Vec::from),
        10 => prop::sample::select(vec![
            "\n", "\r\n", "\r", " ", "\t", "=", "#", "\"", "'", "$", "\\", "export ", "\u{a0}",
            "\u{feff}", "\u{2028}", "\u{85}", "\u{b}", "ü", "${A}", ":", "\u{1f600}",
        ])
        .prop_map(Vec::from),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn random_files_are_read_as_docker_reads_them() {
    let bench = Bench::new();
    let image = EmptyImage::new();
    let cases = if std::env::var_os("JOBCTL_TEST_FULL").is_some() {
        500
    } else {
        60
    };
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let mut taken = 0;
    for _ in 0..cases {
        let file = files().new_tree(&mut runner).unwrap().current();
        let expected = docker(&bench, &image, &file);
        taken += u32::from(expected.is_some());
        let text = String::from_utf8_lossy(&file);
        match jobctl(&file) {
            Ok(variables) => assert_eq!(Some(variables), expected, "{text:?}"),
            // Where jobctl differs, it says so: a quote over two lines, a NUL.
            Err(rules) if expected.is_some() => assert!(
                rules == ["env-quote"] || file.contains(&0),
                "{text:?} is refused: {rules:?}"
            ),
            Err(_) => {}
        }
    }
    println!("{taken} of {cases} files are taken by docker");
    assert!(
        taken * 4 > cases,
        "the generator makes too few files that docker takes"
    );
}

#[test]
fn no_message_shows_anything_of_a_value() {
    // Each value is of letters that nothing else has, and that look like a name.
    let value = prop::sample::select(vec![
        "QzQzQz",
        "\"QzQz",
        "'QzQz'",
        "QzQz # QzQz",
        "${Qz}",
        "QzQz$A",
        "QzQz${NONE}",
        "QzQz\rQz",
        " QzQz ",
        "\"QzQz\"Qz",
        "QzQz\nQzQzQz\nQz/Qz+Qz==",
        "\"Qz\nQzQz=Qz\nQz\"",
        "QzQz\0",
        "${A:?QzQz}",
        "${",
        "\"\\Qz",
    ]);
    let before = prop::sample::select(vec![
        "A=",
        "B=",
        "export A=",
        "A = ",
        "=",
        " C=",
        "A: ",
        "$=",
    ]);
    let line = (before, value).prop_map(|(before, value)| format!("{before}{value}"));
    let file = prop::collection::vec(line, 1..6).prop_map(|lines| lines.join("\n"));
    let config = Config {
        cases: 5_000,
        failure_persistence: None,
        ..Config::default()
    };
    let caller = Environment::new([("A", "QzQzQz")], "/");
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let checked = TestRunner::new_with_rng(config, rng).run(&file, |text| {
        for format in [EnvFileFormat::Raw, EnvFileFormat::Compose] {
            let reading = Reading {
                format,
                caller: &caller,
                unset: Unset::Refused,
            };
            let found = match EnvFile::parse(text.as_bytes(), Path::new("test.env"), &reading) {
                Ok(file) => {
                    let shown = format!("{file:?}");
                    prop_assert!(!shown.contains("Qz"), "{shown}");
                    file.warnings
                }
                Err(found) => found,
            };
            let shown = format!("{}{found:?}", jobctl::report::diagnostics::human(&found));
            prop_assert!(!shown.contains("Qz"), "{text:?}: {shown}");
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn validate_reads_the_env_files_of_jobs() {
    let bench = Bench::new();
    bench.write(
        "project/jobs.yaml",
        "version: 1\nname: demo\njobs:\n  train:\n    image: python:3.13\n    env_file:\n      \
         - config/train.env\n      - { path: local.env, required: false }\n      \
         - { path: dot.env, format: compose }\n    environmnt: {}\n",
    );
    let train = bench.write(
        "project/config/train.env",
        "SEED=1\nexport HF_TOKEN=canary\n=canary\n",
    );
    bench.write("project/dot.env", "A=\"canary\nHERE\" # c\nNOT_SET_HERE\n");
    let validate = |directory| run(bench.jobctl().args(["-C", directory, "validate"]));
    let ended = validate("project/config");
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.stdout, "../jobs.yaml is not valid: 3 errors\n");
    for place in [
        "../jobs.yaml:10:5",
        "../config/train.env:2:1",
        "../config/train.env:3:1",
    ] {
        assert!(ended.stderr.contains(place), "{place}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);

    std::fs::write(train, "SEED=1 \n").unwrap();
    let text = std::fs::read_to_string(bench.path().join("project/jobs.yaml")).unwrap();
    bench.write(
        "project/jobs.yaml",
        text.trim_end_matches("    environmnt: {}\n"),
    );
    let ended = validate("project");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "jobs.yaml is valid, with 1 warning: 1 job, 0 images\n"
    );
    assert!(
        ended.stderr.contains("config/train.env:1:7"),
        "{}",
        ended.stderr
    );
}
