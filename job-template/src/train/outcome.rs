//! How good what was trained is, and what is written of it.

use serde_json::json;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::{METADATA, Source, Training};
use crate::checkpoint;
use crate::data::{Example, Reviews};
use crate::evaluate::{self, Report};
use crate::files::{self, WriteError};
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
        let folder = &self.config.output_dir;
        // An earlier training's doesn't vouch for these weights.
        files::remove(&folder.join(METADATA))?;
        let weights =
            checkpoint::write_model(folder, &self.model, &self.master, &self.tokenizer_files)?;
        let rows_of = |examples: &[Example]| examples.iter().map(|it| it.row).collect::<Vec<_>>();
        files::write_json(
            &folder.join("split.json"),
            &json!({
                "train": rows_of(&reviews.train),
                "valid": rows_of(&reviews.valid),
                "test": rows_of(&reviews.test),
            }),
        )?;
        let training = json!({
            "samples": self.examples.train.labels.len() * self.config.training.epochs,
            "steps": self.position.step,
            "seconds": self.position.seconds,
            "cpu_seconds": self.position.cpu_seconds,
        });
        files::write_json(
            &folder.join(METADATA),
            &json!({
                "schema": 1,
                "given": self.identity,
                "weights_sha256": format!("{:x}", Sha256::digest(&weights)),
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
                    "equal weights for an equal image, processor, number of threads, and `given`"
                } else {
                    "not asked for"
                },
                "processor": processor(),
            }),
        )?;
        files::write_json(
            &folder.join("metrics.json"),
            &json!({
                "accuracy": report.accuracy,
                "loss": report.loss,
                "macro_f1": report.macro_f1,
                "majority_baseline": report.majority_baseline,
                "test": report,
                "valid": self.report(Part::Valid),
                "training": training,
                "peak_memory_bytes": peak_memory(),
                "device": self.runtime.to_string(),
            }),
        )?;
        self.resume.clear();
        Ok(report)
    }
}

fn rows(logits: &Tensor) -> Vec<Vec<f32>> {
    let logits = logits.to_kind(Kind::Float).to_device(Device::Cpu);
    (0..logits.size()[0])
        .map(|row| Vec::try_from(logits.get(row)).expect("a row of binary32 numbers"))
        .collect()
}
