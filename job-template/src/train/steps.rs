//! The steps of a training, and what is written between them.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tch::Tensor;

use super::losses::Look;
use super::record::{self, Line};
use super::{KEPT_CHECKPOINTS, Part, Parts, Training};
use crate::batches::{self, Examples, MicroBatch};
use crate::checkpoint;
use crate::files::WriteError;
use crate::process::cpu_seconds;
use crate::progress::{Progress, say};
use crate::stop::Stop;

/// Steps between two lines of metrics.
const LOG_EVERY: usize = 10;

impl Training<'_> {
    pub(super) fn metrics_path(&self) -> PathBuf {
        self.config.output_dir.join("metrics.jsonl")
    }

    pub(super) fn add_line(&mut self, line: &Line) -> Result<(), WriteError> {
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

    pub(super) fn steps(&self) -> usize {
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
        let config = self.config;
        let (seed, step_size) = (config.training.seed, self.step_size());
        let per_epoch = self.steps_per_epoch();
        let mut progress = Progress::new("step", self.steps(), self.position.step);
        let mut detail = String::new();
        while !self.is_finished() {
            let epoch = self.position.step / per_epoch;
            let batches = batches::shuffled(self.parts.train.labels.len(), step_size, seed, epoch);
            let done = self.position.step % per_epoch;
            for indexes in &batches[done..] {
                let (start, cpu_start) = (Instant::now(), cpu_seconds());
                self.step(indexes)?;
                let step = self.position.step;
                let is_due = |every: Option<usize>| every.is_some_and(|it| step.is_multiple_of(it));
                let is_last = is_due(Some(per_epoch));
                let is_logged = is_due(Some(LOG_EVERY)) || is_last;
                let is_validated = is_due(config.training.eval_steps) || is_last;
                let is_saved = is_due(config.training.save_steps) || is_last;
                let is_read = is_logged || is_validated || is_saved || stop.is_requested();
                let look = is_read.then(|| self.losses.read(step)).transpose()?;
                self.position.seconds += start.elapsed().as_secs_f64();
                self.position.cpu_seconds += cpu_seconds() - cpu_start;
                let Some(look) = look else {
                    progress.advance(1, &detail);
                    continue;
                };
                self.position.loss_sum = look.loss_sum;
                detail = format!("loss={:.4}", self.mean_loss());
                progress.advance(1, &detail);
                if is_logged {
                    self.log_loss(look)?;
                }
                if is_validated {
                    let place = if is_last {
                        format!("epoch {}", epoch + 1)
                    } else {
                        format!("step {step}")
                    };
                    self.validate(&place)?;
                }
                if is_saved {
                    self.write_checkpoint()?;
                }
                let is_finished = self.is_finished();
                let is_stopping = stop.is_requested();
                if is_saved || is_finished || is_stopping {
                    self.write_state()?;
                }
                if is_finished {
                    break;
                }
                if is_stopping {
                    return Ok(false);
                }
            }
        }
        drop(progress);
        if let Some(reason) = self.early_stop() {
            say(&reason);
        }
        Ok(true)
    }

    fn is_finished(&self) -> bool {
        self.position.step == self.steps() || self.early_stop().is_some()
    }

    /// A step, which learns from the mean loss of these examples, whatever the micro-batches' sizes.
    fn step(&mut self, indexes: &[usize]) -> Result<(), WriteError> {
        let config = &self.config.training;
        let weights = self.class_weights.as_ref().map(|of_labels| {
            let labels = indexes.iter().map(|&index| self.parts.train.labels[index]);
            labels.map(|label| of_labels[label]).collect::<Vec<f32>>()
        });
        self.trace_batch(indexes, weights.as_deref());
        let Part { inputs, labels } = &self.parts.train;
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
        self.trace_gradients(&loss);
        let norm = self.learner.update(self.lr(self.position.step));
        self.trace_update()?;
        self.losses.add(&loss, norm, indexes.len());
        self.position.loss_examples += indexes.len();
        self.position.step += 1;
        Ok(())
    }

    pub(super) fn line(&self) -> Line {
        Line {
            step: self.position.step,
            epoch: self.position.step as f64 / self.steps_per_epoch() as f64,
            loss: None,
            lr: None,
            gradient_norm: None,
            valid_loss: None,
            valid_accuracy: None,
            valid_macro_f1: None,
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

    /// Writes what continuing needs. The lines that it counts are on the disk before it is.
    fn write_state(&mut self) -> Result<(), WriteError> {
        record::sync(&self.metrics_path())?;
        self.sync_trace()?;
        self.resume.write(&self.learner.state(), &self.position)
    }

    /// Writes the model as it is now, and removes what isn't kept any more.
    fn write_checkpoint(&self) -> Result<(), WriteError> {
        let directory = self.config.output_dir.join(checkpoint::DIRECTORY);
        let (kept, old) = self.checkpoints();
        let weights = self.learner.to_safetensors();
        let (architecture, tokenizer) = (self.learner.architecture(), &self.tokenizer_files);
        let newest = directory.join(&kept[0]);
        checkpoint::write_model(&newest, architecture, &weights, tokenizer, &[])?;
        for old in old {
            let _ = fs::remove_dir_all(directory.join(old));
        }
        Ok(())
    }

    /// The names of the checkpoints that are kept by now, and of those that the next older ones had. The first is
    /// that of the last step, where it has one.
    pub(super) fn checkpoints(&self) -> (Vec<String>, Vec<String>) {
        let (step, per_epoch) = (self.position.step, self.steps_per_epoch());
        let save_steps = self.config.training.save_steps.unwrap_or(usize::MAX);
        let epochs = (1..=step / per_epoch).rev();
        let mut epochs = epochs.map(|epoch| format!("epoch-{epoch}"));
        let steps = (1..=step / save_steps)
            .rev()
            .map(|number| number * save_steps);
        let mut steps = steps
            .filter(|step| !step.is_multiple_of(per_epoch))
            .map(|step| format!("step-{step}"));
        let kept_epochs: Vec<String> = epochs.by_ref().take(KEPT_CHECKPOINTS).collect();
        let kept_steps: Vec<String> = steps.by_ref().take(KEPT_CHECKPOINTS).collect();
        let old = epochs.next().into_iter().chain(steps.next()).collect();
        let kept = if step.is_multiple_of(per_epoch) {
            [kept_epochs, kept_steps].concat()
        } else {
            [kept_steps, kept_epochs].concat()
        };
        (kept, old)
    }
}
