//! What training leaves on disk: a Hugging Face directory, and what is needed to go on after a break.

mod resume;

use std::path::Path;

use serde_json::Value;

pub use self::resume::{Best, PARAMETERS, Position, Resume, ResumeError};
use crate::files::{self, WriteError};
use crate::model::Architecture;

/// The directory of checkpoints, in `OUTPUT_DIR`.
pub const DIRECTORY: &str = "checkpoints";
/// The file without which a directory has no model.
pub const WEIGHTS: &str = "model.safetensors";
/// What is said of weights that are replaced.
const OF_OLD_WEIGHTS: &[&str] = &[
    "metadata.json",
    "metrics.json",
    "timings.json",
    "split.json",
    "eval.json",
];

/// A tokenizer's files.
#[derive(Debug)]
pub struct TokenizerFiles {
    /// tokenizer.json
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`
    pub config: Value,
}

/// Writes `directory` as Python's transformers read it: the model, what it is like, its tokenizer, and other
/// files of JSON.
///
/// What was there is no model any more from the first moment on, and what is written is one from the last
/// on: whatever ends the program meanwhile, labels never lie beside the weights of others.
///
/// # Errors
/// A file can't be written.
pub fn write_model(
    directory: &Path,
    architecture: &Architecture,
    weights: &[u8],
    tokenizer: &TokenizerFiles,
    others: &[(&str, Value)],
) -> Result<(), WriteError> {
    files::make_directory(directory)?;
    for name in [WEIGHTS].iter().chain(OF_OLD_WEIGHTS) {
        files::remove(&directory.join(name))?;
    }
    files::write_json(&directory.join("config.json"), &architecture.to_json())?;
    files::write(&directory.join("tokenizer.json"), &tokenizer.tokenizer)?;
    files::write_json(&directory.join("tokenizer_config.json"), &tokenizer.config)?;
    for (name, value) in others {
        files::write_json(&directory.join(name), value)?;
    }
    files::write(&directory.join(WEIGHTS), weights)
}
