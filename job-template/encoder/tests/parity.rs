//! The encoder with real weights gives what Python's transformers give.
//!
//! `bench/parity --fixture` wrote what they give.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};

use bert_encoder::{Batch, Encoder, Int8Encoder, Pooling};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Fixture {
    pooled_every: usize,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    ids: Vec<u32>,
    /// Every so-manieth number of the pooler's output.
    pooled: Vec<f32>,
    /// The first numbers of the first token's vector.
    hidden_first: Vec<f32>,
    /// Of the last token's.
    hidden_last: Vec<f32>,
}

/// Where the real weights are: what `JOB_TEST_MODEL` names, or where ./check puts them.
fn model_directory() -> PathBuf {
    let directory = std::env::var_os("JOB_TEST_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/model"),
        PathBuf::from,
    );
    assert!(
        directory.join("model.safetensors").exists(),
        "no weights: job-template/fetch-model {}",
        directory.display()
    );
    directory
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/parity.json")).unwrap()
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-5, "{what}: {ours} and {theirs}");
    }
}

fn row(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float).contiguous()).unwrap()
}

#[test]
fn vectors_are_those_of_transformers_alone_and_packed() {
    let _guard = tch::no_grad_guard();
    let fixture = fixture();
    let model = Encoder::load(&model_directory()).unwrap();
    let all: Vec<&[u32]> = fixture
        .examples
        .iter()
        .map(|example| example.ids.as_slice())
        .collect();
    let alone: Vec<Vec<&[u32]>> = all.iter().map(|ids| vec![*ids]).collect();
    for sequences in alone.iter().chain([&all]) {
        let batch = Batch::new(sequences, Device::Cpu);
        let pooled = batch.rows_as_given(&model.pooler_output(&batch));
        let first = batch.rows_as_given(&model.features(&batch, Pooling::First));
        for (index, ids) in sequences.iter().enumerate() {
            let example = fixture
                .examples
                .iter()
                .find(|example| example.ids == *ids)
                .unwrap();
            let some: Vec<f32> = pooled[index]
                .iter()
                .copied()
                .step_by(fixture.pooled_every)
                .collect();
            assert_close(&some, &example.pooled, "pooled");
            assert_close(&first[index][..8], &example.hidden_first, "first token");
        }
    }
}

#[test]
fn the_last_tokens_vector_is_that_of_transformers() {
    let _guard = tch::no_grad_guard();
    let model = Encoder::load(&model_directory()).unwrap();
    for example in fixture().examples {
        let batch = Batch::new(&[&example.ids], Device::Cpu);
        let vectors = model.last_hidden_state(&batch);
        let last = row(&vectors.get(vectors.size()[0] - 1));
        assert_close(&last[..8], &example.hidden_last, "last token");
    }
}

#[test]
fn in_int8_vectors_are_near_those_without_rounding() {
    let _guard = tch::no_grad_guard();
    let exact = Encoder::load(&model_directory()).unwrap();
    let rounded = Int8Encoder::quantize(&exact);
    for pooling in [Pooling::First, Pooling::Mean] {
        let near = fixture().examples.into_iter().map(|example| {
            let batch = Batch::new(&[&example.ids], Device::Cpu);
            let (exact, rounded) = (
                exact.features(&batch, pooling),
                rounded.features(&batch, pooling),
            );
            Tensor::cosine_similarity(&exact, &rounded, 1, 0.0).double_value(&[0])
        });
        let near: Vec<f64> = near.collect();
        let mean = near.iter().sum::<f64>() / near.len() as f64;
        // A text of two words is the farthest.
        assert!(
            mean > 0.993 && near.iter().all(|&near| near > 0.97),
            "{pooling:?}: {near:?}"
        );
    }
}
