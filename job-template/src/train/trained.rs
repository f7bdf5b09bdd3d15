//! What a directory says of the model in it, if training wrote it.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::METADATA;
use crate::checkpoint::WEIGHTS;
use crate::files;
use crate::tokenize::model_max_length;

/// Whether a directory has a model that was trained here. One that can't be looked into may have: to read it says why
/// not.
#[must_use]
pub fn is_trained(directory: &Path) -> bool {
    fs::exists(directory.join(WEIGHTS)).unwrap_or(true)
}

/// Whether a directory's model has the metadata of a training of this job.
#[must_use]
pub fn is_trained_here(directory: &Path) -> bool {
    directory.join(METADATA).exists()
}

/// The tokens of a text that a directory's model was trained to read, where it was trained here, or says.
///
/// # Errors
/// A file of the directory isn't JSON.
pub fn trained_positions(directory: &Path) -> Result<Option<usize>, Box<dyn Error + Send + Sync>> {
    if let Some(metadata) = metadata(directory)?
        && let Some(positions) = metadata["given"]["NUM_MAX_POSITIONS"].as_u64()
    {
        return Ok(Some(positions as usize));
    }
    Ok(model_max_length(directory)?)
}

fn metadata(directory: &Path) -> Result<Option<Value>, String> {
    let path = directory.join(METADATA);
    // Base weights, or another program's.
    let text = files::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let Some(text) = text else {
        return Ok(None);
    };
    let metadata = serde_json::from_slice(&text);
    Ok(Some(metadata.map_err(|reason| {
        format!("{}: not JSON: {reason}", path.display())
    })?))
}

/// Whether a directory's weights are those that training wrote, where it says which these are.
///
/// # Errors
/// They have changed since: a bit of a number is as good as any other, and only this tells.
pub fn check_weights(directory: &Path, sha256: &str) -> Result<(), String> {
    let Some(metadata) = metadata(directory)? else {
        return Ok(());
    };
    match metadata["weights_sha256"].as_str() {
        Some(noted) if noted != sha256 => Err(format!(
            "{}: damaged, or not of the training that {METADATA} beside it tells of; remove that \
             if you changed the weights",
            directory.join("model.safetensors").display()
        )),
        _ => Ok(()),
    }
}
