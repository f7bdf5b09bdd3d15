//! The tokenizer of the real weights gives what Python's transformers give.
//!
//! `bench/parity --fixture` wrote what they give.

use std::path::{Path, PathBuf};

use finetuning_job::tokenize::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    max_positions: usize,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    text: String,
    ids: Vec<u32>,
}

/// Where the real weights are: what `JOB_TEST_MODEL` names, or where ./check puts them.
fn model_directory() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/model");
    std::env::var_os("JOB_TEST_MODEL").map_or_else(default, PathBuf::from)
}

#[test]
fn token_ids_are_those_of_transformers() {
    let fixture = include_str!("../encoder/tests/fixtures/parity.json");
    let fixture: Fixture = serde_json::from_str(fixture).unwrap();
    let tokenizer = Tokenizer::open(&model_directory(), fixture.max_positions, 30522).unwrap();
    for Example { text, ids } in fixture.examples {
        assert_eq!(tokenizer.encode(&text).unwrap().ids, ids, "{text}");
    }
}
