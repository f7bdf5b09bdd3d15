//! How good what was trained is, and what is written of it.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::{KEPT_CHECKPOINTS, METADATA, Source, Training};
use crate::checkpoint::{self, Position};
use crate::data::{Example, Reviews};
use crate::evaluate::{self, Report};
use crate::files::WriteError;
use crate::model::to_safetensors;
use crate::process::{peak_memory, processor};
use crate::progress::Progress;

/// Reviews that a model is asked about.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Valid,
    Test,
}

impl Training<'_> {
    pub(super) fn report(&self, part: Part) -> Option<Report> {
        let labelled = match part {
            Part::Valid => &self.examples.valid,
            Part::Test => &self.examples.test,
        };
        if labelled.labels.is_empty() {
            return None;
        }
        let features = match (&self.source, part) {
            (Source::Sequences, _) => None,
            (Source::Features { valid, .. }, Part::Valid) => valid.as_ref(),
            (Source::Features { test, .. }, Part::Test) => Some(test),
        };
        let logits = match features {
            Some(features) => rows(&self.model.logits_of_features(features)),
            None => {
                let name = match part {
                    Part::Valid => "validating",
                    Part::Test => "testing",
                };
                let mut progress = Progress::new(name, labelled.labels.len(), 0);
                evaluate::logits(&self.model, &labelled.sequences, |count| {
                    progress.advance(count, "");
                })
            }
        };
        Some(evaluate::report(
            &logits,
            &labelled.labels,
            &self.model.architecture.labels,
        ))
    }

    /// Tests the model, and writes it and all that is to be known of it.
    pub(super) fn finish(&mut self, reviews: &Reviews) -> Result<Report, WriteError> {
        let report = self
            .report(Part::Test)
            .expect("there are reviews to test on");
        let weights = to_safetensors(&self.master, &self.model.architecture);
        let weights_sha256 = format!("{:x}", Sha256::digest(&weights));
        let metrics = json!({
            "accuracy": report.accuracy,
            "loss": report.loss,
            "macro_f1": report.macro_f1,
            "majority_baseline": report.majority_baseline,
            "test": report,
            "valid": self.report(Part::Valid),
            "training": { "samples": self.samples(), "steps": self.position.step },
        });
        let others = [
            ("split.json", split(reviews)),
            (METADATA, self.metadata(reviews, &weights_sha256)),
            ("metrics.json", metrics),
            ("timings.json", self.timings()),
        ];
        let folder = &self.config.output_dir;
        let (model, tokenizer) = (&self.model, &self.tokenizer_files);
        checkpoint::write_model(folder, model, &weights, tokenizer, &others)?;
        self.remove_old_checkpoints();
        self.resume.clear();
        Ok(report)
    }

    fn samples(&self) -> usize {
        self.examples.train.labels.len() * self.config.training.epochs
    }

    fn metadata(&self, reviews: &Reviews, weights_sha256: &str) -> Value {
        json!({
            "schema": 1,
            "given": self.identity,
            "weights_sha256": weights_sha256,
            "split": "a hold-out of the file by a hash of how each text begins",
            "cleaning": "`<br />` and blanks become one blank, in training and in tokenizer.json",
            "examples": {
                "rows": reviews.rows,
                "duplicates": reviews.duplicates,
                "contradictions": reviews.contradictions,
                "unlabelled": reviews.unlabelled,
                "train": reviews.train.len(),
                "valid": reviews.valid.len(),
                "test": reviews.test.len(),
            },
            "deterministic": if self.config.compute.is_deterministic {
                "equal files but for timings.json, for an equal image, processor, number of threads, \
                 and `given`"
            } else {
                "not asked for"
            },
        })
    }

    /// All that time and place decide.
    fn timings(&self) -> Value {
        let Position {
            seconds,
            cpu_seconds,
            log,
            ..
        } = &self.position;
        let batch_size = self.config.training.batch_size;
        let log = log.iter().map(|(step, seconds)| {
            json!({
                "step": step,
                "seconds": seconds,
                "samples_per_second": (step * batch_size) as f64 / seconds.max(1e-9),
            })
        });
        json!({
            "training": {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "samples_per_second": self.samples() as f64 / seconds.max(1e-9),
            },
            "peak_memory_bytes": peak_memory(),
            "device": self.runtime.to_string(),
            "processor": processor(),
            "log": log.collect::<Vec<_>>(),
        })
    }

    /// Removes the checkpoints that an earlier training left in the same folder.
    fn remove_old_checkpoints(&self) {
        let epochs = self.config.training.epochs;
        let kept = epochs.saturating_sub(KEPT_CHECKPOINTS) + 1..=epochs;
        let folder = self.config.output_dir.join("checkpoints");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let epoch = name.to_str().and_then(|name| name.strip_prefix("epoch-"));
            if let Some(epoch) = epoch.and_then(|epoch| epoch.parse().ok())
                && !kept.contains(&epoch)
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn split(reviews: &Reviews) -> Value {
    let rows_of = |examples: &[Example]| examples.iter().map(|it| it.row).collect::<Vec<_>>();
    json!({
        "train": rows_of(&reviews.train),
        "valid": rows_of(&reviews.valid),
        "test": rows_of(&reviews.test),
    })
}

fn rows(logits: &Tensor) -> Vec<Vec<f32>> {
    let logits = logits.to_kind(Kind::Float).to_device(Device::Cpu);
    (0..logits.size()[0])
        .map(|row| Vec::try_from(logits.get(row)).expect("a row of binary32 numbers"))
        .collect()
}
