//! The model's training is that of automatic differentiation.

use bert_encoder::{layout, random::Random};
use serde_json::json;

use super::*;

const LABELS: [&str; 3] = ["bad", "so-so", "good"];

/// A Hugging Face directory with a small model of random weights, without dropout.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 40,
        "type_vocab_size": 2, "hidden_dropout_prob": 0.0,
    });
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    };
    write("config.json", config.to_string().as_bytes());
    let labels = LABELS.map(str::to_owned);
    let architecture = Architecture::read(directory.path()).unwrap();
    let architecture = architecture.with_classifier(&labels, Pooling::First);
    write("config.json", architecture.to_json().to_string().as_bytes());
    let mut random = Random::new(11, "weights");
    let len: i64 = layout(&architecture).iter().map(Slot::len).sum();
    let flat: Vec<f32> = (0..len).map(|_| random.normal() as f32 * 0.2).collect();
    let bytes = bert_encoder::to_safetensors(&Tensor::from_slice(&flat), &architecture);
    write("model.safetensors", &bytes);
    directory
}

/// What training by a model comes to.
struct Outcome {
    logits: Vec<Vec<f32>>,
    /// By step: the loss, the gradient's norm, and the learner's state.
    steps: Vec<([f64; 2], [Tensor; 3])>,
    trained_logits: Vec<Vec<f32>>,
}

macro_rules! train {
    ($model:path, $train_body:literal) => {{
        use $model as model;
        let directory = directory();
        let runtime = Runtime {
            device: Device::Cpu,
            kind: Kind::Float,
            is_int8: false,
            threads: 1,
            mkl_fix: false,
        };
        let mut config = crate::config::Config::read(|_| None).unwrap().training;
        config.train_body = $train_body;
        let sequences = [7, 3, 7, 40, 1_u32].map(|length| {
            let ids = (0..length).map(|index| (index * 13 + length) % 100);
            ids.collect::<Vec<u32>>()
        });
        let pooling = if $train_body {
            Pooling::First
        } else {
            Pooling::Mean
        };
        let labels = LABELS.map(str::to_owned);
        let loaded = model::Model::load_to_train(directory.path(), &labels, pooling, 1);
        let (model, _) = loaded.unwrap();
        let logits = model.logits_of_all(&sequences, |_| ());
        let mut learner = model::Learner::new(model, &config, &runtime);
        let examples = if $train_body {
            Examples::Sequences(sequences.to_vec())
        } else {
            learner.features(&sequences, |_| ())
        };
        let steps = (0..3).map(|number| {
            let batch = MicroBatch {
                indexes: &[4, 0, 3, 1],
                labels: &[0, 2, 1, 0],
                weights: Some(&[1.0, 0.5, 2.0, 0.25]),
                normalizer: 3.75,
                number,
            };
            let loss = learner.backward(&examples, &batch).double_value(&[]);
            let norm = learner.update(1e-4).double_value(&[]);
            (
                [loss, norm],
                learner.state().map(|(_, tensor)| tensor.copy()),
            )
        });
        Outcome {
            logits,
            steps: steps.collect(),
            trained_logits: learner.logits(&examples, |_| ()),
        }
    }};
}

fn assert_close(left: &Tensor, right: &Tensor, what: &str) {
    let difference = (left - right).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{what}: {difference}");
}

fn assert_rows_close(left: &[Vec<f32>], right: &[Vec<f32>]) {
    let tensor = |rows: &[Vec<f32>]| Tensor::from_slice(&rows.concat());
    assert_close(&tensor(left), &tensor(right), "logits");
}

fn assert_same_training(ours: &Outcome, theirs: &Outcome, slots: &[Slot]) {
    assert_rows_close(&ours.logits, &theirs.logits);
    assert_rows_close(&ours.trained_logits, &theirs.trained_logits);
    assert_ne!(ours.logits, ours.trained_logits);
    for (step, (ours, theirs)) in ours.steps.iter().zip(&theirs.steps).enumerate() {
        for (ours, theirs) in ours.0.iter().zip(theirs.0) {
            assert!(
                (ours - theirs).abs() < 1e-5,
                "step {step}: {ours} and {theirs}"
            );
        }
        for (part, (ours, theirs)) in ours.1.iter().zip(&theirs.1).enumerate() {
            for slot in slots {
                // A key's bias adds the same to all scores of a query: its gradient is 0, and what
                // automatic differentiation has in its place, rounding errors, AdamW divides by itself.
                if part == 0 && slot.name.ends_with("key.bias") {
                    continue;
                }
                let start = slot.offset - slots[0].offset;
                let of = |flat: &Tensor| flat.narrow(0, start, slot.len());
                let what = format!("step {step}, part {part}, {}", slot.name);
                assert_close(&of(ours), &of(theirs), &what);
            }
        }
    }
}

fn slots() -> Vec<Slot> {
    let directory = directory();
    layout(&Architecture::read(directory.path()).unwrap())
}

#[test]
fn training_is_that_of_automatic_differentiation() {
    let ours = train!(crate::model, true);
    let theirs = train!(crate::model::autograd, true);
    assert_same_training(&ours, &theirs, &slots());
}

#[test]
fn training_the_head_is_that_of_automatic_differentiation() {
    let ours = train!(crate::model, false);
    let theirs = train!(crate::model::autograd, false);
    let mut slots = slots();
    slots.retain(Slot::is_of_head);
    assert_same_training(&ours, &theirs, &slots);
}
