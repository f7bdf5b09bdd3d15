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

/// A BERT encoder with its classification head (Devlin et al., 2019).
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
    /// Encoder layers that the directory's weights have; those beyond the architecture's are not used.
    pub stored_layers: usize,
    /// Whether the directory has a classifier, for these labels.
    pub has_classifier: bool,
}

impl Encoder {
    /// Reads a Hugging Face directory: `config.json`, and `model.safetensors` or several files with
    /// `model.safetensors.index.json`. The model computes in binary32 on the CPU; see [`Encoder::to`].
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

    /// Reads a Hugging Face directory to train the model for these labels. Gives also the labels of the
    /// directory's classifier if that was replaced.
    ///
    /// A classifier of the same labels in the same order is kept; another is replaced by a new one. A missing
    /// classifier or pooler is new, too. New weights are determined by `seed`.
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
            stored_layers: weights.stored_layers,
            has_classifier: weights.has_classifier,
        }
    }

    /// The model on a device in a precision: `Kind::Float`, or `Kind::BFloat16` on a GPU.
    #[must_use]
    pub fn to(self, device: Device, kind: Kind) -> Self {
        let flat_params = self.parameters.flat_params.to_device(device).to_kind(kind);
        Self {
            parameters: Parameters::of(flat_params, &self.architecture),
            ..self
        }
    }

    /// Another handle of the model, for another thread; the parameters are shared.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            parameters: self.parameters.share(&self.architecture),
            architecture: self.architecture.clone(),
            sha256: self.sha256.clone(),
            ..*self
        }
    }

    /// The device of its parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters.flat_params.device()
    }

    /// The logits, [sequences, labels] in the batch's order, without dropout. With
    /// [`Batch::rows_as_given`] they are in the order of the sequences given to [`Batch::new`].
    pub fn forward(&self, batch: &Batch) -> Tensor {
        self.head(&self.features(batch, self.architecture.pooling))
    }

    /// The head's input: a vector for each sequence, [sequences, hidden] in the batch's order, without dropout.
    pub fn features(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        pooling.pool(self.encode(batch, pooling), batch)
    }

    /// The logits, [sequences, labels], from [`Encoder::features`], without dropout.
    pub fn head(&self, features: &Tensor) -> Tensor {
        head::forward(&self.parameters, features, None).0
    }

    /// transformers' `pooler_output`: `[CLS]` after the head's hidden layer and tanh, [sequences, hidden] in the
    /// batch's order.
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

    /// The forward and the backward pass over the whole model with [`Pooling::First`]: gives the loss, a tensor of one
    /// number, and writes the gradients of all parameters. On a CPU, rows of the word embeddings whose token ids the
    /// batch doesn't have keep what they held; [`AdamW::step`](crate::AdamW::step) ignores them.
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

    /// The forward and the backward pass over the head alone, from features, [sequences, hidden]: gives the loss and
    /// the gradient by the features, and writes the gradients of the head's parameters.
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
    use crate::adamw::AdamW;
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
            stored_layers: 3,
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

    fn assert_all_close(ours: &[f32], theirs: &[f32]) {
        let difference = difference(&Tensor::from_slice(ours), &Tensor::from_slice(theirs));
        assert!(difference < 1e-5, "differ by {difference}");
    }

    /// Logits in the order of the sequences.
    fn logits(forward: impl Fn(&Batch) -> Tensor, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let batch = Batch::new(&slices(sequences), Device::Cpu);
        batch.rows_as_given(&forward(&batch))
    }

    #[test]
    fn gradients_match_automatic_differentiation() {
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
    fn logits_do_not_depend_on_the_rest_of_the_batch_or_its_order() {
        for pooling in [Pooling::First, Pooling::Mean] {
            let (model, sequences) = small(pooling);
            let int8 = Int8Encoder::quantize(&model);
            let models: [&dyn Fn(&Batch) -> Tensor; 2] =
                [&|batch| model.forward(batch), &|batch| int8.forward(batch)];
            for forward in models {
                let expected = logits(forward, &sequences).concat();
                let mut found: Vec<Vec<f32>> = sequences
                    .chunks(1)
                    .flat_map(|alone| logits(forward, alone))
                    .collect();
                assert_all_close(&found.concat(), &expected);
                for shift in 1..sequences.len() {
                    let mut shifted = sequences.clone();
                    shifted.rotate_left(shift);
                    found = logits(forward, &shifted);
                    found.rotate_right(shift);
                    assert_all_close(&found.concat(), &expected);
                }
            }
        }
    }

    #[test]
    fn int8_logits_are_near_those_of_binary32() {
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
    fn int8_features_are_bit_equal_for_any_number_of_threads() {
        let (model, sequences) = small(Pooling::Mean);
        let model = Int8Encoder::quantize(&model);
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let [one, two, three] = with_threads(|| model.features(&batch, Pooling::Mean));
        assert_eq!(one, two);
        assert_eq!(one, three);
    }

    const STEPS: usize = 8;

    /// Some steps of training: the loss and the gradient's norm of each, and all parameters.
    fn train() -> (Vec<f64>, Tensor) {
        let (mut model, sequences) = small(Pooling::First);
        let gradients = Parameters::zeros(&model.architecture, Kind::Float, Device::Cpu);
        let mut optimizer = AdamW::new(&layout(&model.architecture), 0.01, Device::Cpu);
        let mut scalars = Vec::new();
        for step in 0..STEPS {
            let batch = Batch::new(&slices(&sequences), Device::Cpu);
            let labels = Tensor::from_slice(&batch.arrange(&[0_i64, 1, 2, 0, 1]));
            let targets = Targets {
                labels: &labels,
                weights: None,
                normalizer: 5.0,
            };
            let dropout = Dropout::new(0.1, 1, step as u64);
            let loss = model.loss_and_gradients(&gradients, &batch, targets, dropout);
            let flat_params = &mut model.parameters.flat_params;
            let ids = Some(&batch.ids);
            let norm = optimizer.step(flat_params, &gradients.flat_params, ids, 1e-3, Some(1.0));
            scalars.extend([loss, norm].map(|scalar| scalar.double_value(&[])));
        }
        (scalars, model.parameters.flat_params)
    }

    /// libtorch's products may round otherwise with another number of threads; with the same one, they don't.
    #[test]
    fn training_is_bit_equal_every_time_and_close_for_any_number_of_threads() {
        let outcomes = with_threads(|| {
            let outcome = train();
            assert_eq!(train(), outcome);
            outcome
        });
        let (losses, parameters) = &outcomes[0];
        assert!(losses[2 * (STEPS - 1)] < losses[0] - 0.1, "{losses:?}");
        for other in &outcomes[1..] {
            let pairs = losses.iter().zip(&other.0);
            assert!(pairs.clone().all(|(one, other)| (one - other).abs() < 1e-4));
            assert!(difference(parameters, &other.1) < 1e-3);
        }
    }

    #[test]
    fn inference_has_no_dropout() {
        let (model, sequences) = small(Pooling::First);
        let first = logits(|batch| model.forward(batch), &sequences);
        assert_eq!(first, logits(|batch| model.forward(batch), &sequences));
    }

    #[test]
    fn the_last_layer_for_cls_matches_the_one_for_all_tokens() {
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
    fn what_to_safetensors_writes_is_read_back() {
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
