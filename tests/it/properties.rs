//! Whatever the input, it is read or refused; nothing panics.
//!
//! With `JOBCTL_TEST_FULL` a million inputs each, fewer where each is slow; with
//! `JOBCTL_TEST_CASES` as many as it says, for which `--release` is the thing.

use std::path::Path;

use jobctl::context::Patterns;
use jobctl::facts::Environment;
use jobctl::manifest;
use jobctl::manifest::env_file::{EnvFile, Reading, Unset};
use jobctl::manifest::schema::EnvFileFormat;
use jobctl::model::{ImageRef, Secret};
use jobctl::plan::dockerfile::{Dockerfile, lines_of};
use jobctl::records::mask::Masker;
use jobctl::report::diagnostics;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

const EXAMPLE: &str = include_str!("valid/full.yaml");

/// Runs a property on so many inputs; fewer where each is slow.
fn on_many<S: Strategy>(inputs: &S, slowness: u32, property: impl Fn(S::Value)) {
    let asked = std::env::var("JOBCTL_TEST_CASES").ok();
    let cases = match asked.map(|cases| cases.parse().unwrap()) {
        Some(cases) => cases,
        None if std::env::var_os("JOBCTL_TEST_FULL").is_some() => 1_000_000 / slowness,
        None => 2_000 / slowness.min(10),
    };
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // The same inputs each time: what is found here once is found again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(inputs, |input| {
            property(input);
            Ok(())
        })
        .unwrap();
}

/// A text with parts of it removed, repeated, or replaced.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    let characters: Vec<char> = text.chars().collect();
    let length = characters.len();
    let edit = (
        0..length,
        0..20_usize,
        "[ -~\\n\\t:{}\\[\\]\"'$&*!|>é]{0,6}",
    );
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut text = characters.clone();
        for (start, count, put) in edits {
            let start = start.min(text.len());
            let end = (start + count).min(text.len());
            text.splice(start..end, put.chars());
        }
        text.into_iter().collect()
    })
}

fn read_manifest(text: &str) {
    let environment = Environment::new([("HF_TOKEN", "x"), ("HOME", "/home/user")], "/");
    if let Err(found) = manifest::parse(text, Path::new("jobs.yaml"), Path::new("/"), &environment)
    {
        assert!(!found.is_empty(), "refused without a reason");
        let _ = diagnostics::human(&found);
    }
}

#[test]
fn a_damaged_manifest_is_read_or_refused() {
    on_many(&damaged(EXAMPLE), 20, |text| read_manifest(&text));
}

#[test]
fn any_text_is_a_manifest_or_refused() {
    on_many(&".{0,200}", 4, |text| read_manifest(&text));
}

#[test]
fn any_bytes_are_an_env_file_or_refused() {
    let line = "(A|B_1|export |=|\"|'|\\$\\{A:-|\\}|\\$A| |#|\\\\n|\n|\r|\t|é|\0|x)";
    let inputs = prop::collection::vec(line, 0..30);
    on_many(&inputs, 4, |words| {
        let caller = Environment::new([("A", "canary")], "/");
        for format in [EnvFileFormat::Raw, EnvFileFormat::Compose] {
            let reading = Reading {
                format,
                caller: &caller,
                unset: Unset::Refused,
            };
            let text = words.concat();
            if let Err(found) = EnvFile::parse(text.as_bytes(), Path::new("a.env"), &reading) {
                assert!(!diagnostics::human(&found).contains("canary"), "{text:?}");
            }
        }
    });
}

#[test]
fn any_text_is_a_reference_or_refused() {
    on_many(&"[a-zA-Z0-9./:@_\\[\\]é -]{0,40}", 1, |text| {
        if let Ok(reference) = text.parse::<ImageRef>() {
            assert_eq!(reference.to_string(), text);
            let full = reference.canonical();
            assert_eq!(full.to_string().parse(), Ok(full.clone()));
            assert_eq!(full.familiar().canonical(), full);
        }
    });
}

#[test]
fn any_bytes_are_an_ignore_file_or_refused() {
    let line = "[a-c*?!/.\\[\\]^\\\\ #-]{0,12}";
    let inputs = (prop::collection::vec(line, 0..5), "[a-c/.]{0,12}");
    on_many(&inputs, 10, |(lines, path)| {
        if let Ok(patterns) = Patterns::parse_ignore_file(lines.join("\n").as_bytes()) {
            let _ = patterns.matches(path.as_bytes());
            let _ = patterns.may_match_inside(path.as_bytes());
        }
    });
}

#[test]
fn any_dockerfile_is_looked_through() {
    let word = "(FROM|COPY|RUN|ARG|ADD|AS|--from=a|\\$\\{A:-b\\}|\\$A|a|<<E|E|#|\\\\|\n| |=)";
    on_many(&prop::collection::vec(word, 0..40), 4, |words| {
        let text = words.concat();
        let _ = Dockerfile::read(&text).sources(None, &std::collections::BTreeMap::new());
        let _ = lines_of(&text, Some("[1/2] RUN a"), "exit code: 1");
    });
}

/// What a masker gives out of a text that comes in pieces.
fn masked<'a>(masker: &Masker, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut masker = masker.clone();
    let mut shown = Vec::new();
    for piece in pieces {
        shown.extend_from_slice(&masker.feed(piece));
    }
    shown.extend(masker.finish());
    String::from_utf8(shown).unwrap()
}

#[test]
fn no_cut_of_a_text_lets_a_secret_through() {
    let secrets = [
        "hunter2",
        "abab",
        "ababab",
        "bab-xyz",
        "key=\"v\"",
        "aaaaaaaa",
    ];
    let masker = Masker::new(&secrets.map(Secret::new));
    let word = "(hunter2|hunter|2|abab|ab|a|b|bab-xyz|-xyz|key=|\"v\"|aaaa|aHVudGVyMg==|aHVudGVyMg| \
                |%22v%22|x|\n)";
    let inputs = (
        prop::collection::vec(word, 0..20),
        prop::collection::vec(1..6_usize, 1..20),
    );
    on_many(&inputs, 10, |(words, cuts)| {
        let text = words.concat();
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let whole = masked(&masker, [text.as_bytes()]);
        assert_eq!(masked(&masker, pieces), whole, "{text:?} as {cuts:?}");
        for secret in secrets.iter().chain(&["aHVudGVyMg"]) {
            assert!(!whole.contains(secret), "{secret} is in {whole:?}");
        }
    });
}
