//! How good what was trained is, and what is written of it.

use std::error::Error;
use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{METADATA, Training};
use crate::checkpoint::{self, Position};
use crate::data::{Example, Reviews};
use crate::evaluate::{self, Report};
use crate::process::{peak_memory, processor};
use crate::progress::Progress;

/// Reviews that a model is asked about.
#[derive(Clone, Copy)]
pub(super) enum Subset {
    Valid,
    Test,
}

impl Training<'_> {
    pub(super) fn report(&self, subset: Subset) -> Option<Report> {
        let (labelled, name) = match subset {
            Subset::Valid => (&self.parts.valid, "validating"),
            Subset::Test => (&self.parts.test, "testing"),
        };
        if labelled.labels.is_empty() {
            return None;
        }
        let mut progress = Progress::new(name, labelled.labels.len(), 0);
        let logits = self
            .learner
            .logits(&labelled.inputs, |count| progress.advance(count, ""));
        Some(evaluate::report(
            &logits,
            &labelled.labels,
            &self.learner.architecture().labels,
        ))
    }

    /// Tests the model, and writes it and all that is to be known of it.
    pub(super) fn finish(
        &mut self,
        reviews: &Reviews,
    ) -> Result<Report, Box<dyn Error + Send + Sync>> {
        self.restore_best()?;
        let report = self
            .report(Subset::Test)
            .expect("there are reviews to test on");
        let weights = self.learner.to_safetensors();
        let weights_sha256 = format!("{:x}", Sha256::digest(&weights));
        let metrics = json!({
            "accuracy": report.accuracy,
            "loss": report.loss,
            "macro_f1": report.macro_f1,
            "majority_baseline": report.majority_baseline,
            "test": report,
            "valid": self.report(Subset::Valid),
            "training": { "samples": self.samples(self.position.step), "steps": self.position.step },
        });
        let others = [
            ("split.json", split(reviews)),
            (METADATA, self.metadata(reviews, &weights_sha256)),
            ("metrics.json", metrics),
            ("timings.json", self.timings()),
        ];
        let directory = &self.config.output_dir;
        let (architecture, tokenizer) = (self.learner.architecture(), &self.tokenizer_files);
        checkpoint::write_model(directory, architecture, &weights, tokenizer, &others)?;
        self.remove_old_checkpoints();
        self.resume.clear();
        Ok(report)
    }

    /// Examples that were learned from in so many steps.
    fn samples(&self, steps: usize) -> usize {
        let (examples, per_epoch) = (self.parts.train.labels.len(), self.steps_per_epoch());
        let of_epoch = steps % per_epoch * self.step_size();
        steps / per_epoch * examples + of_epoch
    }

    fn metadata(&self, reviews: &Reviews, weights_sha256: &str) -> Value {
        json!({
            "schema": 1,
            "given": self.identity,
            "weights_sha256": weights_sha256,
            "best": self.best().map(|best| json!({ "step": best.step, "value": best.value })),
            "stopped_early": self.early_stop(),
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
        let log = log.iter().map(|(step, seconds)| {
            json!({
                "step": step,
                "seconds": seconds,
                "samples_per_second": self.samples(*step) as f64 / seconds.max(1e-9),
            })
        });
        json!({
            "training": {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "samples_per_second": self.samples(self.position.step) as f64 / seconds.max(1e-9),
            },
            "peak_memory_bytes": peak_memory(),
            "device": self.runtime.to_string(),
            "processor": processor(),
            "log": log.collect::<Vec<_>>(),
        })
    }

    /// Removes the checkpoints that an earlier training left in the same directory.
    fn remove_old_checkpoints(&self) {
        let (kept, _) = self.checkpoints();
        let directory = self.config.output_dir.join(checkpoint::DIRECTORY);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let number = ["epoch-", "step-"]
                .iter()
                .find_map(|it| name.strip_prefix(it));
            if number.is_some_and(|number| number.parse::<usize>().is_ok()) && !kept.contains(&name)
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
