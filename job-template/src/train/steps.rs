//! The steps of a training, and what is written between them.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tch::Tensor;

use super::losses::Look;
use super::outcome::Subset;
use super::record::Line;
use super::{KEPT_CHECKPOINTS, Part, Parts, Training};
use crate::batches;
use crate::checkpoint;
use crate::files::WriteError;
use crate::model::{Examples, MicroBatch};
use crate::process::cpu_seconds;
use crate::progress::{Progress, say};
use crate::stop::Stop;

/// Steps between two lines of metrics.
const LOG_EVERY: usize = 10;

impl Training<'_> {
    pub(super) fn metrics_path(&self) -> PathBuf {
        self.config.output_dir.join("metrics.jsonl")
    }

    fn add_line(&mut self, line: &Line) -> Result<(), WriteError> {
        self.position.metrics_bytes += line.append(&self.metrics_path())?;
        Ok(())
    }

    /// Examples that a step learns from; the last one of an epoch from what is left.
    pub(super) fn step_size(&self) -> usize {
        let training = &self.config.training;
        training.batch_size * training.gradient_accumulation
    }

    pub(super) fn steps_per_epoch(&self) -> usize {
        self.parts.train.labels.len().div_ceil(self.step_size())
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
    pub(super) fn prepare(&mut self) {
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
    pub(super) fn run(&mut self, stop: &Stop) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (seed, step_size) = (self.config.training.seed, self.step_size());
        let per_epoch = self.steps_per_epoch();
        let mut progress = Progress::new("step", self.steps(), self.position.step);
        let mut detail = String::new();
        let first_epoch = self.position.step / per_epoch;
        for epoch in first_epoch..self.config.training.epochs {
            let batches = batches::shuffled(self.parts.train.labels.len(), step_size, seed, epoch);
            let done = self.position.step - epoch * per_epoch;
            for indexes in &batches[done..] {
                let (start, cpu_start) = (Instant::now(), cpu_seconds());
                self.step(indexes);
                let step = self.position.step;
                let is_last = step.is_multiple_of(per_epoch);
                let is_logged = step.is_multiple_of(LOG_EVERY) || is_last;
                let is_stopping = stop.is_requested() && !is_last;
                let look = if is_logged || is_stopping {
                    Some(self.losses.read(step)?)
                } else {
                    None
                };
                self.position.seconds += start.elapsed().as_secs_f64();
                self.position.cpu_seconds += cpu_seconds() - cpu_start;
                if let Some(look) = look {
                    self.position.loss_sum = look.loss_sum;
                    detail = format!("loss={:.4}", self.mean_loss());
                }
                progress.advance(1, &detail);
                if let Some(look) = look.filter(|_| is_logged) {
                    self.log_loss(look)?;
                }
                if is_stopping {
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

    /// A step, which learns from the mean loss of these examples, whatever the micro-batches' sizes.
    fn step(&mut self, indexes: &[usize]) {
        let Part { inputs, labels } = &self.parts.train;
        let config = &self.config.training;
        let weights = self.class_weights.as_ref().map(|of_labels| {
            let weights = indexes.iter().map(|&index| of_labels[labels[index]]);
            weights.collect::<Vec<f32>>()
        });
        let normalizer = match &weights {
            Some(weights) => weights.iter().copied().map(f64::from).sum(),
            None => indexes.len() as f64,
        };
        let first_number = self.position.step * config.gradient_accumulation;
        let mut step_loss: Option<Tensor> = None;
        for (number, indexes) in indexes.chunks(config.batch_size).enumerate() {
            let labels: Vec<usize> = indexes.iter().map(|&index| labels[index]).collect();
            let start = number * config.batch_size;
            let batch = MicroBatch {
                indexes,
                labels: &labels,
                weights: weights
                    .as_ref()
                    .map(|weights| &weights[start..start + indexes.len()]),
                normalizer,
                number: (first_number + number) as u64,
            };
            let loss = self.learner.backward(inputs, &batch);
            step_loss = Some(match step_loss {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        let loss = step_loss.expect("a step learns from at least one example");
        let norm = self.learner.update(self.lr(self.position.step));
        self.losses.add(&loss, norm, indexes.len());
        self.position.loss_examples += indexes.len();
        self.position.step += 1;
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

    /// The mean loss since the last line of metrics, as of when it was last read.
    fn mean_loss(&self) -> f64 {
        self.position.loss_sum / self.position.loss_examples as f64
    }

    fn log_loss(&mut self, look: Look) -> Result<(), WriteError> {
        let line = Line {
            loss: Some(self.mean_loss()),
            lr: Some(self.lr(self.position.step - 1)),
            gradient_norm: Some(look.norm),
            ..self.line()
        };
        self.losses.restart();
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
