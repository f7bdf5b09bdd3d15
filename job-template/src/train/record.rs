//! What is written of a training beside the model: what it was given, and how it went.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tch::{Device, Kind};

use crate::checkpoint::TokenizerFiles;
use crate::config::Config;
use crate::data::Reviews;
use crate::files::WriteError;
use crate::model::Model;
use crate::runtime::Runtime;

/// libtorch's version, which images/libtorch pins.
const LIBTORCH_VERSION: &str = "2.11.0";

/// A line of metrics.jsonl.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) step: usize,
    /// Epochs so far, with the part of the one that is under way.
    pub(super) epoch: f64,
    /// Mean loss since the last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gradient_norm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) valid_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) valid_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) valid_macro_f1: Option<f64>,
}

impl Line {
    /// Adds it to the file, and gives its bytes.
    pub(super) fn append(&self, path: &Path) -> Result<u64, WriteError> {
        let mut text = serde_json::to_vec(self).expect("lines are plain values");
        text.push(b'\n');
        append(path, &text)
    }
}

/// Adds lines to a file, and gives their bytes.
pub(super) fn append(path: &Path, lines: &[u8]) -> Result<u64, WriteError> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(lines))
        .map_err(WriteError::new(path))?;
    Ok(lines.len() as u64)
}

/// Makes the file, and cuts off what is after `bytes`.
///
/// # Errors
/// There are fewer: something else changed it.
pub(super) fn cut(path: &Path, bytes: u64) -> Result<(), WriteError> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .and_then(|file| {
            if file.metadata()?.len() < bytes {
                return Err(io::Error::other(
                    "is shorter than the training that is to continue left it; remove \
                     checkpoints/resume beside it to begin anew",
                ));
            }
            file.set_len(bytes)
        })
        .map_err(WriteError::new(path))
}

/// Has the file's lines be on the disk, whatever happens to the machine.
pub(super) fn sync(path: &Path) -> Result<(), WriteError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(WriteError::new(path))
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// All that the result follows from.
pub(super) fn identity(
    config: &Config,
    runtime: &Runtime,
    reviews: &Reviews,
    model: &Model,
    tokenizer: &TokenizerFiles,
    positions: usize,
) -> Map<String, Value> {
    let training = &config.training;
    let mut identity = json!({
        "BATCH_SIZE": training.batch_size,
        "BEST": training.best.map(|best| best.to_string()),
        "CLASS_WEIGHTS": if training.class_weights.are_balanced() { "balanced" } else { "none" },
        "DEVICE": match runtime.device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        },
        "GRADIENT_ACCUMULATION": training.gradient_accumulation,
        "LR": training.lr,
        "MAX_NORM": training.max_norm,
        "MKL_AMD_FIX": runtime.mkl_fix,
        "NUM_MAX_POSITIONS": positions,
        "N_EPOCHS": training.epochs,
        "OMP_NUM_THREADS": runtime.threads,
        "PATIENCE": training.patience,
        "PRECISION": if runtime.kind == Kind::Float { "fp32" } else { "bf16" },
        "SEED": training.seed,
        "TRACE": training.is_traced,
        "TRAIN_BODY": training.train_body,
        "VALID_PCT": config.data.valid_pct,
        "WARMUP_PCT": training.warmup_pct,
        "WEIGHT_DECAY": training.weight_decay,
        "config_sha256": sha256(model.architecture.to_json().to_string().as_bytes()),
        "data_sha256": reviews.sha256,
        "examples_sha256": examples_sha256(reviews),
        "model_sha256": model.sha256,
        "job_version": env!("CARGO_PKG_VERSION"),
        "libtorch_version": LIBTORCH_VERSION,
        "tokenizer_sha256": sha256(&tokenizer.tokenizer),
    });
    // Else, the model doesn't follow from when it was validated.
    if training.best.is_some() || training.patience.is_some() {
        identity["EVAL_STEPS"] = json!(training.eval_steps);
    }
    match identity {
        Value::Object(map) => map,
        _ => unreachable!("the macro was given an object"),
    }
}

fn examples_sha256(reviews: &Reviews) -> String {
    let mut hash = Sha256::new();
    for part in [&reviews.train, &reviews.valid, &reviews.test] {
        for example in part {
            hash.update((example.row as u64).to_le_bytes());
        }
        hash.update(u64::MAX.to_le_bytes());
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_after_a_break_are_cut_off_and_none_is_made_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        cut(&path, 0).unwrap();
        let bytes = append(&path, b"one\n").unwrap();
        append(&path, b"two\n").unwrap();
        sync(&path).unwrap();
        cut(&path, bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\n");
        let error = cut(&path, bytes + 1).unwrap_err().to_string();
        assert!(error.contains("lines: is shorter than"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"one\n");
    }
}
