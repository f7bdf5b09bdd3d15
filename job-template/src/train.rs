//! Fine-tuning: the recipe of BERT's paper, with AdamW, a learning rate that rises and then falls to
//! zero, and clipped gradients.

mod outcome;
mod record;
mod trained;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value};

use self::outcome::Subset;
use self::record::Line;
pub use self::trained::{check_weights, is_trained, is_trained_here, trained_positions};
use crate::batches;
use crate::checkpoint::{self, Position, Resume, TokenizerFiles};
use crate::config::{BASE_MODEL, Config, DEFAULT_POSITIONS};
use crate::data::{self, ModelLabels};
use crate::evaluate::{Labelled, Report};
use crate::files::{self, WriteError};
use crate::model::{Architecture, Examples, Learner, MicroBatch, Model, Pooling};
use crate::process::{KeptMemory, cpu_seconds};
use crate::progress::{Progress, say};
use crate::runtime::Runtime;
use crate::stop::Stop;
use crate::tokenize::{Tokenizer, tokenize};

/// What a trained model follows from.
const METADATA: &str = "metadata.json";

/// Steps between two lines of metrics.
const LOG_EVERY: usize = 10;
/// Models of the last so many epochs are kept.
const KEPT_CHECKPOINTS: usize = 3;

/// What training came to.
#[derive(Debug)]
pub enum Outcome {
    /// The model is in the folder.
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
    let seed = config.training.seed;
    let (model, replaced) = Model::load_to_train(&base, &reviews.labels, pooling, seed)?;
    files::make_directory(&config.output_dir)?;
    let _kept = files::lock_directory(&config.output_dir)?;
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
    if !model.has_pooler {
        say("the model has no pooler, and gets a new one");
    }
    say(&format!(
        "training on {} reviews, validating with {}, testing with {}; {runtime}",
        reviews.train.len(),
        reviews.valid.len(),
        reviews.test.len()
    ));

    let identity = record::identity(config, runtime, &reviews, &model, positions);
    let tokenize = |examples, name| tokenize(&tokenizer, examples, runtime.threads, name);
    let parts = Parts {
        train: tokenize(&reviews.train, "reading training reviews")?.into(),
        valid: tokenize(&reviews.valid, "reading validation reviews")?.into(),
        test: tokenize(&reviews.test, "reading test reviews")?.into(),
    };
    let mut training = Training::new(config, runtime, model, parts, identity, tokenizer_files)?;
    training.prepare();
    stop.defer(true);
    let is_whole = training.run(stop)?;
    stop.defer(false);
    // All steps are written; a signal that came meanwhile is obeyed before the test.
    if !is_whole || stop.is_requested() {
        say("stopped; call it again to go on");
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
        let mut training = Self {
            learner: Learner::new(model, &config.training, runtime),
            resume: Resume::new(&config.output_dir, identity.clone()),
            position: Position::default(),
            config,
            runtime,
            parts,
            identity,
            tokenizer_files,
        };
        if let Some(position) = training.resume.read(&mut training.learner.state())? {
            say(&format!("going on after step {}", position.step));
            training.learner.restored(position.step as u64);
            training.position = position;
        }
        record::cut(&training.metrics_path(), training.position.metrics_bytes)?;
        Ok(training)
    }

    fn metrics_path(&self) -> PathBuf {
        self.config.output_dir.join("metrics.jsonl")
    }

    fn add_line(&mut self, line: &Line) -> Result<(), WriteError> {
        self.position.metrics_bytes += line.append(&self.metrics_path())?;
        Ok(())
    }

    fn steps_per_epoch(&self) -> usize {
        self.parts
            .train
            .labels
            .len()
            .div_ceil(self.config.training.batch_size)
    }

    fn steps(&self) -> usize {
        self.steps_per_epoch() * self.config.training.epochs
    }

    /// The learning rate of a step, from 0: as transformers' `get_linear_schedule_with_warmup`.
    fn lr(&self, step: usize) -> f64 {
        let total = self.steps() as f64;
        let warmup = (self.config.training.warmup_pct * total).round();
        let step = step as f64;
        let share = if step < warmup {
            step / warmup
        } else {
            (total - step) / (total - warmup)
        };
        self.config.training.lr * share
    }

    /// Computes what all steps need: for the head alone, the encoder's part, once for all epochs.
    fn prepare(&mut self) {
        if self.config.training.train_body {
            return;
        }
        let Parts { train, valid, test } = &mut self.parts;
        for (part, name) in [
            (train, "features of training reviews"),
            (valid, "features of validation reviews"),
            (test, "features of test reviews"),
        ] {
            if let Examples::Sequences(sequences) = &part.inputs
                && !sequences.is_empty()
            {
                let mut progress = Progress::new(name, sequences.len(), 0);
                part.inputs = self
                    .learner
                    .features(sequences, |count| progress.advance(count, ""));
            }
        }
    }

    /// Trains to the end, or until it is asked to stop. Gives whether it came to the end.
    fn run(&mut self, stop: &Stop) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (seed, batch_size) = (self.config.training.seed, self.config.training.batch_size);
        let per_epoch = self.steps_per_epoch();
        let mut progress = Progress::new("step", self.steps(), self.position.step);
        let first_epoch = self.position.step / per_epoch;
        for epoch in first_epoch..self.config.training.epochs {
            let batches = batches::shuffled(self.parts.train.labels.len(), batch_size, seed, epoch);
            let done = self.position.step - epoch * per_epoch;
            for indexes in &batches[done..] {
                let (start, cpu_start) = (Instant::now(), cpu_seconds());
                let (loss, norm) = self.step(indexes);
                if !loss.is_finite() || !norm.is_finite() {
                    return Err(diverged(self.position.step, loss).into());
                }
                self.position.seconds += start.elapsed().as_secs_f64();
                self.position.cpu_seconds += cpu_seconds() - cpu_start;
                self.position.loss_sum += loss * indexes.len() as f64;
                self.position.loss_examples += indexes.len();
                let mean = self.position.loss_sum / self.position.loss_examples as f64;
                progress.advance(1, &format!("loss={mean:.4}"));
                let is_last = self.position.step.is_multiple_of(per_epoch);
                if self.position.step.is_multiple_of(LOG_EVERY) || is_last {
                    self.log_loss(mean, norm)?;
                }
                if stop.is_requested() && !is_last {
                    self.resume.write(&self.learner.state(), &self.position)?;
                    return Ok(false);
                }
            }
            self.end_epoch(epoch + 1)?;
            if stop.is_requested() && self.position.step < self.steps() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A step: its batch's mean loss and the gradient's norm.
    fn step(&mut self, indexes: &[usize]) -> (f64, f64) {
        let train = &self.parts.train;
        let labels: Vec<usize> = indexes.iter().map(|&index| train.labels[index]).collect();
        let batch = MicroBatch {
            indexes,
            labels: &labels,
            weights: None,
            normalizer: indexes.len() as f64,
            number: self.position.step as u64,
        };
        let loss = self.learner.backward(&train.inputs, &batch);
        let norm = self.learner.update(self.lr(self.position.step));
        self.position.step += 1;
        (loss.double_value(&[]), norm.double_value(&[]))
    }

    fn line(&self) -> Line {
        Line {
            step: self.position.step,
            epoch: self.position.step as f64 / self.steps_per_epoch() as f64,
            loss: None,
            lr: None,
            gradient_norm: None,
            valid_loss: None,
            valid_accuracy: None,
        }
    }

    fn log_loss(&mut self, loss: f64, gradient_norm: f64) -> Result<(), WriteError> {
        let lr = self.lr(self.position.step - 1);
        let line = Line {
            loss: Some(loss),
            lr: Some(lr),
            gradient_norm: Some(gradient_norm),
            ..self.line()
        };
        self.position.loss_sum = 0.0;
        self.position.loss_examples = 0;
        let time = (self.position.step, self.position.seconds);
        self.position.log.push(time);
        self.add_line(&line)
    }

    fn checkpoint(&self, epoch: usize) -> PathBuf {
        self.config
            .output_dir
            .join(format!("checkpoints/epoch-{epoch}"))
    }

    /// Validates, and writes a checkpoint of the model and of all that going on needs.
    fn end_epoch(&mut self, epoch: usize) -> Result<(), WriteError> {
        if let Some(report) = self.report(Subset::Valid) {
            say(&format!(
                "epoch {epoch}: valid_loss={:.4} valid_accuracy={:.4}",
                report.loss, report.accuracy
            ));
            let line = Line {
                valid_loss: Some(report.loss),
                valid_accuracy: Some(report.accuracy),
                ..self.line()
            };
            self.add_line(&line)?;
        }
        let folder = self.checkpoint(epoch);
        let weights = self.learner.to_safetensors();
        let (architecture, tokenizer) = (self.learner.architecture(), &self.tokenizer_files);
        checkpoint::write_model(&folder, architecture, &weights, tokenizer, &[])?;
        if let Some(old) = epoch.checked_sub(KEPT_CHECKPOINTS) {
            let _ = fs::remove_dir_all(self.checkpoint(old));
        }
        self.resume.write(&self.learner.state(), &self.position)
    }
}

fn diverged(step: usize, loss: f64) -> String {
    format!("training diverged at step {step}: the loss is {loss}; a smaller LR may help")
}
