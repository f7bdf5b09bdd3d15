//! The fine-tuned model that `evaluate`, `predict` and `serve` use.

use std::error::Error;
use std::path::PathBuf;

use crate::config::{BASE_MODEL, Config, DEFAULT_POSITIONS};
use crate::data::check_label_names;
use crate::model::{Model, Problem};
use crate::progress::say;
use crate::runtime::Runtime;
use crate::tokenize::Tokenizer;
use crate::train;

/// The directory of the fine-tuned model: the one named, else what training wrote, else the base.
fn model_directory(config: &Config) -> PathBuf {
    config.model.clone().unwrap_or_else(|| {
        if train::is_trained(&config.output_dir) {
            config.output_dir.clone()
        } else {
            PathBuf::from(BASE_MODEL)
        }
    })
}

/// Warns where the weights have more layers than `config.json`.
pub fn warn_of_unused_layers(model: &Model) {
    let (stored, used) = (model.stored_layers, model.architecture.layers);
    if stored > used {
        say(&format!(
            "warning: the weights have {stored} layers, and `num_hidden_layers` of config.json is {used}: only these \
             are used"
        ));
    }
}

/// Reads a fine-tuned model and its tokenizer.
///
/// # Errors
/// The model is missing, damaged, or can't classify a text; or its tokenizer can't be used.
pub fn read_model(
    config: &Config,
    runtime: &Runtime,
) -> Result<(Model, Tokenizer), Box<dyn Error + Send + Sync>> {
    let directory = model_directory(config);
    let model = Model::load(&directory)?;
    train::check_weights(&directory, &model.sha256)?;
    let in_directory = |problem: &str| format!("{}: {problem}", directory.display());
    let in_config = |problem: &str| format!("{}/config.json: {problem}", directory.display());
    if !model.has_classifier {
        return Err(in_directory(
            "has no classifier: these are base weights. Train first, or name a trained model's \
             directory in MODEL",
        )
        .into());
    }
    if !model.has_pooler {
        return Err(in_directory(
            "has a classifier but no pooler, as models that label tokens have it; texts can't be \
             classified with it. To train it for that, name it in MODEL, and train",
        )
        .into());
    }
    if model.architecture.problem == Problem::Regression {
        return Err(in_config(
            "`problem_type` is \"regression\"; models that give labels are supported: \
             single_label_classification and multi_label_classification",
        )
        .into());
    }
    check_label_names(&model.architecture.labels)
        .map_err(|problem| in_config(&format!("`id2label`: {problem}")))?;
    let trained = train::trained_positions(&directory)?;
    let positions = config.data.max_positions.or(trained);
    if let (Some(positions), Some(trained)) = (positions, trained)
        && train::is_trained_here(&directory)
        && positions != trained
    {
        say(&format!(
            "warning: NUM_MAX_POSITIONS={positions}: the model was trained with {trained}"
        ));
    }
    let most = model.architecture.max_positions as usize;
    let positions = positions.unwrap_or(DEFAULT_POSITIONS).min(most);
    let tokenizer = Tokenizer::open(
        &directory,
        positions,
        model.architecture.vocab_size as usize,
    )?;
    tokenizer.check_special_tokens()?;
    warn_of_unused_layers(&model);
    if let Some(warning) = tokenizer.warning() {
        say(&format!("warning: {warning}"));
    }
    Ok((model.prepare(runtime), tokenizer))
}
