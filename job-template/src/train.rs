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
use tch::{Kind, Tensor};

use self::outcome::Part;
use self::record::Line;
pub use self::trained::{check_weights, is_trained, is_trained_here, trained_positions};
use crate::batches;
use crate::checkpoint::{self, Position, Resume, TokenizerFiles};
use crate::config::{BASE_MODEL, Config, DEFAULT_POSITIONS};
use crate::data::{self, Example, ModelLabels};
use crate::evaluate::{self, Labelled, Report, label_tensor};
use crate::files::{self, WriteError};
use crate::model::{
    Architecture, Batch, Dropout, Model, Parameters, Pooling, check_label_names, layout,
    to_safetensors,
};
use crate::optimizer::AdamW;
use crate::process::{KeptMemory, cpu_seconds};
use crate::progress::{Progress, say};
use crate::runtime::Runtime;
use crate::stop::Stop;
use crate::tokenize::Tokenizer;

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
    check_label_names(&reviews.labels)
        .map_err(|problem| format!("{}: {problem}", config.data.path.display()))?;
    let seed = config.training.seed;
    let (model, replaced) = Model::read_for(&base, &reviews.labels, pooling, seed)?;
    files::make_folder(&config.output_dir)?;
    let _kept = files::keep_folder(&config.output_dir)?;
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
    let examples = Examples {
        train: tokenize(&tokenizer, &reviews.train, "reading training reviews")?,
        valid: tokenize(&tokenizer, &reviews.valid, "reading validation reviews")?,
        test: tokenize(&tokenizer, &reviews.test, "reading test reviews")?,
    };
    let mut training = Training::new(config, runtime, model, examples, identity, tokenizer_files)?;
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

/// Examples as the model reads them.
///
/// # Errors
/// The tokenizer can't take a text.
pub fn tokenize(
    tokenizer: &Tokenizer,
    examples: &[Example],
    name: &'static str,
) -> Result<Labelled, Box<dyn Error + Send + Sync>> {
    let mut progress = Progress::new(name, examples.len(), 0);
    let mut labelled = Labelled::default();
    for chunk in examples.chunks(64) {
        for example in chunk {
            labelled
                .sequences
                .push(tokenizer.encode(&example.text)?.ids);
            labelled.labels.push(example.label);
        }
        progress.advance(chunk.len(), "");
    }
    Ok(labelled)
}

struct Examples {
    train: Labelled,
    valid: Labelled,
    test: Labelled,
}

/// What a step learns from.
enum Source {
    /// The examples themselves: the whole model is trained.
    Sequences,
    /// Their features, [examples, hidden], computed once: the head is trained.
    Features {
        train: Tensor,
        valid: Option<Tensor>,
        test: Tensor,
    },
}

struct Training<'a> {
    config: &'a Config,
    runtime: &'a Runtime,
    model: Model,
    examples: Examples,
    source: Source,
    /// The numbers that are trained, in binary32: a part of `master`.
    trained: Tensor,
    /// All parameters in binary32; the model's own, unless it computes in another precision.
    master: Tensor,
    gradients: Parameters,
    /// The part of the gradients' row that is trained.
    gradient: Tensor,
    optimizer: AdamW,
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
        examples: Examples,
        identity: Map<String, Value>,
        tokenizer_files: TokenizerFiles,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let slots = layout(&model.architecture);
        let slots = if config.training.train_body {
            slots
        } else {
            slots
                .into_iter()
                .filter(crate::model::Slot::is_of_head)
                .collect()
        };
        let (start, len) = (
            slots[0].offset,
            slots.iter().map(crate::model::Slot::len).sum(),
        );
        let master = model.parameters.row.to_device(runtime.device);
        let model = model.to(runtime.device, runtime.kind);
        let trained = master.narrow(0, start, len);
        let gradients = Parameters::zeros(&model.architecture, runtime.kind, runtime.device);
        let gradient = gradients.row.narrow(0, start, len);
        let mut training = Self {
            optimizer: AdamW::new(&slots, config.training.weight_decay, runtime.device),
            resume: Resume::new(&config.output_dir, identity.clone()),
            source: Source::Sequences,
            position: Position::default(),
            config,
            runtime,
            model,
            examples,
            trained,
            master,
            gradients,
            gradient,
            identity,
            tokenizer_files,
        };
        if let Some(position) = training
            .resume
            .read(&mut training.trained, &mut training.optimizer)?
        {
            say(&format!("going on after step {}", position.step));
            training.position = position;
            training.update_model();
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

    /// The model computes with the numbers that are trained.
    fn update_model(&mut self) {
        if self.runtime.kind != Kind::Float {
            self.model.parameters.row.copy_(&self.master);
        }
    }

    fn steps_per_epoch(&self) -> usize {
        self.examples
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

    /// Computes what all steps need.
    fn prepare(&mut self) {
        if !self.config.training.train_body {
            self.source = self.features();
        }
    }

    /// Trains to the end, or until it is asked to stop. Gives whether it came to the end.
    fn run(&mut self, stop: &Stop) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (seed, batch_size) = (self.config.training.seed, self.config.training.batch_size);
        let per_epoch = self.steps_per_epoch();
        let mut progress = Progress::new("step", self.steps(), self.position.step);
        let first_epoch = self.position.step / per_epoch;
        for epoch in first_epoch..self.config.training.epochs {
            let batches =
                batches::shuffled(self.examples.train.labels.len(), batch_size, seed, epoch);
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
                    self.resume
                        .write(&self.trained, &self.optimizer, &self.position)?;
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
        let device = self.runtime.device;
        let dropout = Dropout::new(
            self.model.architecture.dropout,
            self.config.training.seed,
            self.position.step as u64,
        );
        let labels: Vec<usize> = indexes
            .iter()
            .map(|&index| self.examples.train.labels[index])
            .collect();
        let (loss, words) = match &self.source {
            Source::Sequences => {
                let batch = Batch::of(&self.examples.train.sequences, indexes, device);
                let labels = label_tensor(&batch.arrange(&labels), device);
                let loss = self.model.train(&self.gradients, &batch, &labels, dropout);
                (loss, Some(batch.ids))
            }
            Source::Features { train, .. } => {
                let rows: Vec<i64> = indexes.iter().map(|&index| index as i64).collect();
                let features = train.index_select(0, &Tensor::from_slice(&rows).to_device(device));
                let labels = label_tensor(&labels, device);
                let (loss, _) = self
                    .model
                    .train_head(&self.gradients, &features, &labels, dropout);
                (loss, None)
            }
        };
        let lr = self.lr(self.position.step);
        let max_norm = self.config.training.max_norm;
        let norm = self.optimizer.step(
            &mut self.trained,
            &self.gradient,
            words.as_ref(),
            lr,
            max_norm,
        );
        self.update_model();
        self.position.step += 1;
        (loss, norm)
    }

    /// The features of all examples: the encoder's part, once for all epochs.
    fn features(&self) -> Source {
        let of = |labelled: &Labelled, name| {
            let sequences = &labelled.sequences;
            let mut progress = Progress::new(name, sequences.len(), 0);
            let size = [sequences.len() as i64, self.model.architecture.hidden_size];
            let mut features = Tensor::zeros(size, (self.runtime.kind, self.runtime.device));
            for indexes in evaluate::batches(sequences, self.runtime.device) {
                let batch = Batch::of(sequences, &indexes, self.runtime.device);
                let rows: Vec<i64> = indexes.iter().map(|&index| index as i64).collect();
                let rows = Tensor::from_slice(&batch.arrange(&rows)).to_device(self.runtime.device);
                let computed = self.model.features(&batch, Pooling::Mean);
                let _ = features.index_copy_(0, &rows, &computed);
                progress.advance(indexes.len(), "");
            }
            features
        };
        let Examples { train, valid, test } = &self.examples;
        Source::Features {
            train: of(train, "features of training reviews"),
            valid: Some(valid)
                .filter(|valid| !valid.labels.is_empty())
                .map(|valid| of(valid, "features of validation reviews")),
            test: of(test, "features of test reviews"),
        }
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
        if let Some(report) = self.report(Part::Valid) {
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
        let weights = to_safetensors(&self.master, &self.model.architecture);
        let (model, tokenizer) = (&self.model, &self.tokenizer_files);
        checkpoint::write_model(&folder, model, &weights, tokenizer, &[])?;
        if let Some(old) = epoch.checked_sub(KEPT_CHECKPOINTS) {
            let _ = fs::remove_dir_all(self.checkpoint(old));
        }
        self.resume
            .write(&self.trained, &self.optimizer, &self.position)
    }
}

fn diverged(step: usize, loss: f64) -> String {
    format!("training diverged at step {step}: the loss is {loss}; a smaller LR may help")
}
