//! Fine-tuning: the recipe of BERT's paper, with AdamW, a learning rate that rises and then falls to
//! zero, and clipped gradients.

mod losses;
mod outcome;
mod record;
mod steps;
mod trace;
mod trained;
mod validation;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use self::losses::Losses;
use self::trace::Trace;
pub use self::trained::{check_weights, is_trained, is_trained_here, trained_positions};
use crate::batches::Examples;
use crate::checkpoint::{self, Position, Resume, TokenizerFiles};
use crate::config::{BASE_MODEL, Config, DEFAULT_POSITIONS};
use crate::data::{self, ModelLabels};
use crate::evaluate::{Labelled, Report};
use crate::files;
use crate::load;
use crate::model::{Architecture, Learner, Model, Pooling};
use crate::process::KeptMemory;
use crate::progress::say;
use crate::runtime::Runtime;
use crate::stop::Stop;
use crate::tokenize::{Tokenizer, tokenize};

/// What a trained model follows from.
const METADATA: &str = "metadata.json";

/// Models of the last so many epochs are kept, and as many of those between epochs.
const KEPT_CHECKPOINTS: usize = 3;

/// What training came to.
#[derive(Debug)]
pub enum Outcome {
    /// The model is in the directory.
    Done(Report),
    /// It was asked to stop, and continues from there when it is called again.
    Stopped,
}

/// Trains as `config` says. While steps are made, `stop` is looked at after each; else it ends the process
/// itself.
///
/// # Errors
/// Model, tokenizer, data or an earlier checkpoint can't be used, or a file can't be written.
pub fn train(
    config: &Config,
    runtime: &Runtime,
    stop: &Stop,
) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    if runtime.is_int8 {
        return Err(
            "PRECISION=int8: a model is trained in fp32 or bf16; int8 is for evaluate, predict \
                    and serve"
                .into(),
        );
    }
    let _memory = KeptMemory::start();
    let base = config
        .model
        .clone()
        .unwrap_or_else(|| PathBuf::from(BASE_MODEL));
    let pooling = if config.training.train_body {
        Pooling::First
    } else {
        Pooling::Mean
    };
    // What is cheap to find wrong comes first, and nothing is written before all is found right.
    let architecture = Architecture::read(&base)?;
    let positions = positions(config, &architecture)?;
    let tokenizer = Tokenizer::open_to_train(&base, positions, architecture.vocab_size as usize)?;
    tokenizer.check_special_tokens()?;
    let tokenizer_files = TokenizerFiles {
        tokenizer: tokenizer.file()?,
        config: tokenizer.config_file(),
    };
    let reviews = data::read(&config.data, ModelLabels::Base(&architecture.labels))?;
    data::check_label_names(&reviews.labels)
        .map_err(|problem| format!("{}: {problem}", config.data.path.display()))?;
    validation::check(config, &reviews)?;
    let seed = config.training.seed;
    let (model, replaced) = Model::load_to_train(&base, &reviews.labels, pooling, seed)?;
    files::make_directory(&config.output_dir)?;
    let _kept = files::lock_directory(&config.output_dir)?;
    let checkpoints = config.output_dir.join(checkpoint::DIRECTORY);
    if checkpoints.exists() {
        files::make_directory(&checkpoints)?;
        for entry in fs::read_dir(&checkpoints).into_iter().flatten().flatten() {
            files::make_directory(&entry.path())?;
        }
    }
    if let Some(replaced) = replaced {
        say(&format!(
            "the model's classifier is for other labels ({}), and is replaced by a new one ({})",
            replaced.join(", "),
            reviews.labels.join(", ")
        ));
    }
    for warning in reviews
        .warnings
        .iter()
        .map(String::as_str)
        .chain(tokenizer.warning())
    {
        say(&format!("warning: {warning}"));
    }
    load::warn_of_unused_layers(&model);
    if !model.has_pooler {
        say("the model has no pooler, and gets a new one");
    }
    say(&format!(
        "training on {} reviews, validating with {}, testing with {}; {runtime}",
        reviews.train.len(),
        reviews.valid.len(),
        reviews.test.len()
    ));

    if reviews.duplicates > 0 {
        say(&format!("duplicates left out: {}", reviews.duplicates));
    }

    let identity = record::identity(
        config,
        runtime,
        &reviews,
        &model,
        &tokenizer_files,
        positions,
    );
    let tokenize = |examples, name| tokenize(&tokenizer, examples, runtime.threads, name);
    let parts = Parts {
        train: tokenize(&reviews.train, "reading training reviews")?.into(),
        valid: tokenize(&reviews.valid, "reading validation reviews")?.into(),
        test: tokenize(&reviews.test, "reading test reviews")?.into(),
    };
    let mut training = Training::new(config, runtime, model, parts, identity, tokenizer_files)?;
    training.prepare();
    training.start_trace()?;
    stop.defer(true);
    let is_whole = training.run(stop)?;
    stop.defer(false);
    // All steps are written; a signal that came meanwhile is obeyed before the test.
    if !is_whole || stop.is_requested() {
        say("stopped; run it again with the same OUTPUT_DIR to continue");
        return Ok(Outcome::Stopped);
    }
    let report = training.finish(&reviews)?;
    Ok(Outcome::Done(report))
}

/// The tokens of a review that are read in training.
fn positions(config: &Config, architecture: &Architecture) -> Result<usize, String> {
    let most = architecture.max_positions as usize;
    match config.data.max_positions {
        Some(given) if given > most => Err(format!(
            "NUM_MAX_POSITIONS={given}: this model reads at most {most} tokens"
        )),
        given => Ok(given.unwrap_or(DEFAULT_POSITIONS).min(most)),
    }
}

/// Examples of a part of the data.
struct Part {
    inputs: Examples,
    /// Numbers of labels.
    labels: Vec<usize>,
}

impl From<Labelled> for Part {
    fn from(labelled: Labelled) -> Self {
        Self {
            inputs: Examples::Sequences(labelled.sequences),
            labels: labelled.labels,
        }
    }
}

/// The parts of the data.
struct Parts {
    train: Part,
    valid: Part,
    test: Part,
}

struct Training<'a> {
    config: &'a Config,
    runtime: &'a Runtime,
    learner: Learner,
    parts: Parts,
    position: Position,
    losses: Losses,
    /// What an example's loss is multiplied with, by its label; none: 1.
    class_weights: Option<Vec<f32>>,
    trace: Option<Trace>,
    resume: Resume,
    identity: Map<String, Value>,
    tokenizer_files: TokenizerFiles,
}

impl<'a> Training<'a> {
    fn new(
        config: &'a Config,
        runtime: &'a Runtime,
        model: Model,
        parts: Parts,
        identity: Map<String, Value>,
        tokenizer_files: TokenizerFiles,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let class_weights = config
            .training
            .class_weights
            .are_balanced()
            .then(|| balanced_weights(&parts.train.labels, model.architecture.labels.len()));
        let mut training = Self {
            class_weights,
            trace: None,
            learner: Learner::new(model, &config.training, runtime),
            resume: Resume::new(&config.output_dir, identity.clone()),
            position: Position::default(),
            losses: Losses::new(&Position::default(), runtime.device),
            config,
            runtime,
            parts,
            identity,
            tokenizer_files,
        };
        if let Some(position) = training.resume.read(&mut training.learner.state())? {
            say(&format!("continuing after step {}", position.step));
            training.learner.restored(position.step as u64);
            training.losses = Losses::new(&position, runtime.device);
            training.position = position;
            // Else a best model that is missing would be noticed after the last step.
            if let Some(best) = training.best() {
                let parameters = training.learner.state()[0].1.empty_like();
                training.resume.read_best(best.step, parameters)?;
            }
        }
        record::cut(&training.metrics_path(), training.position.metrics_bytes)?;
        Ok(training)
    }
}

/// Weights by which the labels count the same, with a mean of 1 over all examples: scikit-learn's
/// `class_weight="balanced"`. A label that no example has gets 0.
fn balanced_weights(labels: &[usize], label_count: usize) -> Vec<f32> {
    let mut counts = vec![0_usize; label_count];
    for &label in labels {
        counts[label] += 1;
    }
    let occurring = counts.iter().filter(|count| **count > 0).count();
    let weight = |count| match count {
        0 => 0.0,
        _ => labels.len() as f32 / (occurring * count) as f32,
    };
    counts.into_iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `sklearn.utils.class_weight.compute_class_weight("balanced", …)`.
    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        let labels = [0, 0, 0, 0, 0, 0, 1, 1, 3];
        assert_eq!(balanced_weights(&labels, 4), [0.5, 1.5, 0.0, 3.0]);
    }
}
