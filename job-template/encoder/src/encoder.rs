//! The model: a BERT encoder and a classification head on top of it.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::architecture::{Architecture, ModelError, Pooling, Problem};
use crate::batch::Batch;
use crate::dropout::Dropout;
use crate::head::{self, Targets};
use crate::layers;
use crate::parameters::{self, Parameters};
use crate::weights::{WeightFiles, Weights};

/// A BERT encoder with its classification head: what it is like, and its parameters.
#[derive(Debug)]
pub struct Encoder {
    /// Its sizes, labels and pooling.
    pub architecture: Architecture,
    /// Its parameters, on its device.
    pub parameters: Parameters,
    /// SHA-256 of the files that the parameters were read from, in hexadecimal.
    pub sha256: String,
    /// Whether the directory has a pooler.
    pub has_pooler: bool,
    /// Whether the directory has a classifier, for these labels.
    pub has_classifier: bool,
}

impl Encoder {
    /// Reads a Hugging Face directory, to compute in binary32 on the CPU.
    ///
    /// # Errors
    /// A file is missing, damaged, or not of a supported BERT.
    pub fn load(directory: &Path) -> Result<Self, ModelError> {
        let architecture = Architecture::read(directory)?;
        let files = WeightFiles::read(directory)?;
        let tensors = files.tensors()?;
        let architecture = match tensors.classifier_labels() {
            Some(columns) => architecture.for_columns(columns),
            None => architecture,
        };
        let weights = tensors.weights(&architecture, true)?;
        Ok(Self::of(weights, architecture, files.sha256))
    }

    /// Reads a Hugging Face directory to train the model for these labels, and gives the labels of a
    /// classifier that can't be kept for it.
    ///
    /// A classifier of the same labels, in the same order, is kept. Another, or none, is replaced by new
    /// weights, which follow from the seed; so is a pooler that isn't there.
    ///
    /// # Errors
    /// As of [`Encoder::load`].
    pub fn load_to_train(
        directory: &Path,
        labels: &[String],
        pooling: Pooling,
        seed: u64,
    ) -> Result<(Self, Option<Vec<String>>), ModelError> {
        let architecture = Architecture::read(directory)?;
        let files = WeightFiles::read(directory)?;
        let tensors = files.tensors()?;
        let before = tensors
            .classifier_labels()
            .map(|columns| architecture.clone().for_columns(columns));
        let is_kept = before.as_ref().is_some_and(|before| {
            before.labels == labels && before.problem == Problem::SingleLabel
        });
        let replaced = before.filter(|_| !is_kept).map(|before| before.labels);
        let architecture = architecture.with_classifier(labels, pooling);
        let weights = tensors.weights(&architecture, is_kept)?;
        for (layer, is_there) in [
            ("pooler", weights.has_pooler),
            ("classifier", weights.has_classifier),
        ] {
            if !is_there {
                parameters::initialize(&weights.flat_params, &architecture, layer, seed);
            }
        }
        Ok((Self::of(weights, architecture, files.sha256), replaced))
    }

    fn of(weights: Weights, architecture: Architecture, sha256: String) -> Self {
        Self {
            parameters: Parameters::of(weights.flat_params, &architecture),
            architecture,
            sha256,
            has_pooler: weights.has_pooler,
            has_classifier: weights.has_classifier,
        }
    }

    /// The same model on a device, computing in numbers of a kind: `Kind::Float`, or `Kind::BFloat16` on a
    /// GPU.
    #[must_use]
    pub fn to(self, device: Device, kind: Kind) -> Self {
        let flat_params = self.parameters.flat_params.to_device(device).to_kind(kind);
        Self {
            parameters: Parameters::of(flat_params, &self.architecture),
            ..self
        }
    }

    /// The same model, for another thread; the parameters are shared.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            parameters: self.parameters.share(&self.architecture),
            architecture: self.architecture.clone(),
            sha256: self.sha256.clone(),
            ..*self
        }
    }

    /// The device that it computes on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters.flat_params.device()
    }

    /// The labels' logits, [sequences, labels] in the batch's order, without dropout.
    pub fn forward(&self, batch: &Batch) -> Tensor {
        self.head(&self.features(batch, self.architecture.pooling))
    }

    /// What the head is given: a vector for each sequence, [sequences, hidden] in the batch's order, without
    /// dropout.
    pub fn features(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        pooling.pool(self.encode(batch, pooling), batch)
    }

    /// The labels' logits, [sequences, labels], from [`Encoder::features`], without dropout.
    pub fn head(&self, features: &Tensor) -> Tensor {
        head::forward(&self.parameters, features, None).0
    }

    /// transformers' `pooler_output`: of `[CLS]` after the head's hidden layer, [sequences, hidden].
    pub fn pooler_output(&self, batch: &Batch) -> Tensor {
        head::pooled(&self.parameters, &self.features(batch, Pooling::First))
    }

    /// transformers' `last_hidden_state`, packed: a vector for each token, [tokens, hidden], without dropout.
    pub fn last_hidden_state(&self, batch: &Batch) -> Tensor {
        self.encode(batch, Pooling::Mean)
    }

    fn encode(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        layers::forward(&self.parameters, &self.architecture, batch, None, pooling).0
    }

    /// The forward and the backward pass over the whole model, by `[CLS]`: gives the loss, a tensor of one number,
    /// and writes the gradients of all parameters, but on a CPU those of words that the batch doesn't have.
    pub fn loss_and_gradients(
        &self,
        gradients: &Parameters,
        batch: &Batch,
        targets: Targets<'_>,
        dropout: Dropout,
    ) -> Tensor {
        let (parameters, architecture) = (&self.parameters, &self.architecture);
        let (features, tape) = layers::forward(
            parameters,
            architecture,
            batch,
            Some(dropout),
            Pooling::First,
        );
        let (loss, gradient) = self.head_loss_and_gradients(gradients, &features, targets, dropout);
        layers::backward(
            parameters,
            gradients,
            architecture,
            batch,
            &tape,
            dropout,
            gradient,
        );
        loss
    }

    /// The same for the head alone, given features, [sequences, hidden]; gives their gradient, too.
    pub fn head_loss_and_gradients(
        &self,
        gradients: &Parameters,
        features: &Tensor,
        targets: Targets<'_>,
        dropout: Dropout,
    ) -> (Tensor, Tensor) {
        let mask = dropout.head_mask(self.architecture.layers);
        let (logits, saved) = head::forward(&self.parameters, features, Some(mask));
        let (loss, gradient) = head::cross_entropy(&logits, targets);
        let gradient = head::backward(&self.parameters, gradients, &saved, &gradient);
        (loss, gradient)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::int8::Int8Encoder;
    use crate::parameters::{layout, to_safetensors};
    use crate::random::tensor;
    use crate::threads::with_threads;

    /// A small model with random parameters, and sequences for it.
    fn small(pooling: Pooling) -> (Encoder, Vec<Vec<u32>>) {
        let fields = json!({
            "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
            "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 40,
            "type_vocab_size": 2,
        });
        let labels = ["bad".to_owned(), "so-so".to_owned(), "good".to_owned()];
        let architecture = Architecture::of(fields.as_object().unwrap().clone())
            .unwrap()
            .with_classifier(&labels, pooling);
        let flat_params = tensor(11, &[parameters::count(&architecture)]) * 0.2;
        let parameters = Parameters::of(flat_params, &architecture);
        let model = Encoder {
            architecture,
            parameters,
            sha256: String::new(),
            has_pooler: true,
            has_classifier: true,
        };
        let sequences = [7, 3, 7, 40, 1].map(|length| {
            (0..length)
                .map(|index| (index * 13 + length) % 100)
                .collect()
        });
        (model, sequences.to_vec())
    }

    fn slices(sequences: &[Vec<u32>]) -> Vec<&[u32]> {
        sequences.iter().map(Vec::as_slice).collect()
    }

    fn difference(left: &Tensor, right: &Tensor) -> f64 {
        (left - right).abs().max().double_value(&[])
    }

    /// Logits in the order of the sequences.
    fn logits(forward: impl Fn(&Batch) -> Tensor, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let batch = Batch::new(&slices(sequences), Device::Cpu);
        batch.rows_as_given(&forward(&batch))
    }

    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let (model, sequences) = small(Pooling::First);
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let labels = Tensor::from_slice(&[0_i64, 1, 2, 0, 1]);
        let dropout = Dropout::new(0.1, 1, 1);
        let weights = Tensor::from_slice(&[1.0_f32, 0.5, 2.0, 1.0, 0.25]);
        for (weights, normalizer) in [(None, 5.0), (Some(&weights), 4.75), (Some(&weights), 9.5)] {
            let targets = Targets {
                labels: &labels,
                weights,
                normalizer,
            };
            let ours = Parameters::zeros(&model.architecture, Kind::Float, Device::Cpu);
            let loss = model.loss_and_gradients(&ours, &batch, targets, dropout);

            let flat_params = model.parameters.flat_params.copy().set_requires_grad(true);
            let parameters = Parameters::of(flat_params.shallow_clone(), &model.architecture);
            let (features, _) = layers::forward(
                &parameters,
                &model.architecture,
                &batch,
                Some(dropout),
                Pooling::First,
            );
            let mask = dropout.head_mask(model.architecture.layers);
            let (logits, _) = head::forward(&parameters, &features, Some(mask));
            let losses = logits.cross_entropy_loss(
                &labels,
                None::<&Tensor>,
                tch::Reduction::None,
                -100,
                0.0,
            );
            let ones = losses.ones_like();
            let theirs = (losses * weights.unwrap_or(&ones)).sum(Kind::Float) / normalizer;
            theirs.backward();
            assert!((loss - &theirs).abs().double_value(&[]) < 1e-6);
            let gradient = flat_params.grad();
            for slot in layout(&model.architecture) {
                let part = |flat: &Tensor| flat.narrow(0, slot.offset, slot.len());
                let difference = difference(&part(&gradient), &part(&ours.flat_params));
                assert!(difference < 1e-5, "{}: {difference}", slot.name);
            }
        }
    }

    #[test]
    fn a_sequence_scores_the_same_alone_and_in_a_batch() {
        for pooling in [Pooling::First, Pooling::Mean] {
            let (model, sequences) = small(pooling);
            let together = logits(|batch| model.forward(batch), &sequences);
            for (sequence, together) in sequences.iter().zip(together) {
                let alone =
                    logits(|batch| model.forward(batch), std::slice::from_ref(sequence)).remove(0);
                let pairs = alone.iter().zip(&together);
                assert!(pairs.clone().all(|(one, other)| (one - other).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn int8_scores_are_near_those_of_binary32() {
        for pooling in [Pooling::First, Pooling::Mean] {
            let (model, sequences) = small(pooling);
            let batch = Batch::new(&slices(&sequences), Device::Cpu);
            let exact = model.features(&batch, pooling);
            let scores = logits(|batch| model.forward(batch), &sequences);
            let model = Int8Encoder::quantize(&model);
            let near = Tensor::cosine_similarity(&exact, &model.features(&batch, pooling), 1, 0.0);
            assert!(near.min().double_value(&[]) > 0.995, "{near}");
            let rounded = logits(|batch| model.forward(batch), &sequences);
            let pairs = scores.concat().into_iter().zip(rounded.concat());
            for (one, other) in pairs {
                assert!((one - other).abs() < 0.1, "{one} and {other}");
            }
            assert_eq!(
                rounded,
                logits(|batch| model.share().forward(batch), &sequences)
            );
        }
    }

    #[test]
    fn in_int8_a_sequence_scores_the_same_alone_and_in_a_batch() {
        for pooling in [Pooling::First, Pooling::Mean] {
            let (model, sequences) = small(pooling);
            let model = Int8Encoder::quantize(&model);
            let together = logits(|batch| model.forward(batch), &sequences);
            for (sequence, together) in sequences.iter().zip(together) {
                let alone =
                    logits(|batch| model.forward(batch), std::slice::from_ref(sequence)).remove(0);
                let pairs = alone.iter().zip(&together);
                assert!(pairs.clone().all(|(one, other)| (one - other).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn in_int8_threads_do_not_change_a_bit() {
        let (model, sequences) = small(Pooling::Mean);
        let model = Int8Encoder::quantize(&model);
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let [one, two, three] = with_threads(|| model.features(&batch, Pooling::Mean));
        assert_eq!(one, two);
        assert_eq!(one, three);
    }

    /// The original job never left training's mode, so that a sentence scored differently each time.
    #[test]
    fn a_sequence_scores_the_same_every_time() {
        let (model, sequences) = small(Pooling::First);
        let first = logits(|batch| model.forward(batch), &sequences);
        assert_eq!(first, logits(|batch| model.forward(batch), &sequences));
    }

    #[test]
    fn the_last_layer_of_cls_is_that_of_all_tokens() {
        let (model, sequences) = small(Pooling::First);
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let (first, _) = layers::forward(
            &model.parameters,
            &model.architecture,
            &batch,
            None,
            Pooling::First,
        );
        let (all, _) = layers::forward(
            &model.parameters,
            &model.architecture,
            &batch,
            None,
            Pooling::Mean,
        );
        assert!(difference(&first, &all.index_select(0, &batch.firsts)) < 1e-5);
    }

    #[test]
    fn a_written_file_is_read_as_it_was() {
        let (model, _) = small(Pooling::Mean);
        let directory = tempfile::tempdir().unwrap();
        let bytes = to_safetensors(&model.parameters.flat_params, &model.architecture);
        std::fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
        let config = model.architecture.to_json().to_string();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let read = Encoder::load(directory.path()).unwrap();
        assert_eq!(read.parameters.flat_params, model.parameters.flat_params);
        assert_eq!(read.architecture.labels, ["bad", "so-so", "good"]);
        assert_eq!(read.architecture.pooling, Pooling::Mean);
        assert!(read.has_classifier);
    }
}
