//! The model: a BERT encoder and a classifier on top of it.

mod activation;
mod architecture;
mod attention;
mod batch;
mod dropout;
mod encoder;
mod first;
mod head;
mod int8;
mod normalize;
mod parameters;
mod weights;

use std::path::Path;

use tch::{Device, Kind, Tensor};

pub use activation::Activation;
pub use architecture::{Architecture, ModelError, Pooling, Problem, check_label_names};
pub use batch::Batch;
pub use dropout::Dropout;
pub use parameters::{Parameters, Slot, layout, to_safetensors};

use self::weights::{WeightFiles, Weights};
use crate::classify::{Classify, sigmoid, softmax};

/// What is added so that the fraction of a small number is rounded away, and its integer is in the
/// lowest bits: 1.5 times the number from which on binary32 has no fractions.
const ROUNDING: f32 = 12_582_912.0;

/// A model: what it is like, and its parameters.
pub struct Model {
    /// Its sizes, labels and pooling.
    pub architecture: Architecture,
    /// Its parameters, on its device.
    pub parameters: Parameters,
    /// SHA-256 of the files that the parameters were read from, in hexadecimal.
    pub sha256: String,
    /// Whether the folder has a pooler.
    pub has_pooler: bool,
    /// Whether the folder has a classifier, for these labels.
    pub has_classifier: bool,
    /// The encoder's layers in int8; the parameters then have none. None: they compute as they are.
    int8: Option<int8::Encoder>,
}

impl Model {
    /// Reads a Hugging Face folder.
    ///
    /// # Errors
    /// A file is missing, damaged, or not of a BERT as this job knows it.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let architecture = Architecture::read(folder)?;
        let files = WeightFiles::read(folder)?;
        let tensors = files.tensors()?;
        let architecture = match tensors.classifier_labels() {
            Some(columns) => architecture.for_columns(columns),
            None => architecture,
        };
        let weights = tensors.weights(&architecture, true)?;
        Ok(Self::of(weights, architecture, files.sha256))
    }

    /// Reads a Hugging Face folder to train it for these labels, and gives the labels of a classifier
    /// that can't be kept for it.
    ///
    /// A classifier of the same labels, in the same order, is kept. Another, or none, is replaced by new
    /// weights, which follow from the seed; so is a pooler that isn't there.
    ///
    /// # Errors
    /// As of [`Model::read`].
    pub fn read_for(
        folder: &Path,
        labels: &[String],
        pooling: Pooling,
        seed: u64,
    ) -> Result<(Self, Option<Vec<String>>), ModelError> {
        let architecture = Architecture::read(folder)?;
        let files = WeightFiles::read(folder)?;
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
            int8: None,
        }
    }

    /// The same model on a device, computing in numbers of a kind.
    #[must_use]
    pub fn to(self, device: Device, kind: Kind) -> Self {
        let row = self.parameters.row.to_device(device).to_kind(kind);
        Self {
            parameters: Parameters::of(row, &self.architecture),
            ..self
        }
    }

    /// The same model with an encoder that computes in int8, for inference on a CPU. Of the binary32
    /// parameters, only those around the encoder's layers are kept.
    ///
    /// # Panics
    /// Where the parameters aren't in binary32 on a CPU, or are in int8 already.
    #[must_use]
    pub fn quantized(self) -> Self {
        assert!(self.int8.is_none(), "it has layers to be rounded");
        let encoder = int8::Encoder::new(&self.parameters, &self.architecture);
        Self {
            parameters: self.parameters.without_layers(&self.architecture),
            int8: Some(encoder),
            ..self
        }
    }

    /// The device that it computes on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters.row.device()
    }

    /// The labels' logits, [sequences, labels] in the batch's order, without dropout.
    pub fn logits(&self, batch: &Batch) -> Tensor {
        head::forward(
            &self.parameters,
            &self.features(batch, self.architecture.pooling),
            None,
        )
        .0
    }

    /// What the head's hidden layer gives, [sequences, hidden], by the first tokens.
    pub fn pooled(&self, batch: &Batch) -> Tensor {
        head::pooled(&self.parameters, &self.features(batch, Pooling::First))
    }

    /// A vector for each token, [rows, hidden], without dropout.
    pub fn vectors(&self, batch: &Batch) -> Tensor {
        self.encode(batch, Pooling::Mean)
    }

    fn encode(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        let (parameters, architecture) = (&self.parameters, &self.architecture);
        match &self.int8 {
            Some(encoder) => encoder.forward(parameters, architecture, batch, pooling),
            None => encoder::forward(parameters, architecture, batch, None, pooling).0,
        }
    }

    /// A vector for each sequence, [sequences, hidden] in the batch's order, without dropout.
    pub fn features(&self, batch: &Batch, pooling: Pooling) -> Tensor {
        let x = self.encode(batch, pooling);
        match pooling {
            Pooling::First => x,
            Pooling::Mean => batch.means(&x),
        }
    }

    /// The labels' logits from features, without dropout.
    pub fn logits_of_features(&self, features: &Tensor) -> Tensor {
        head::forward(&self.parameters, features, None).0
    }

    /// A step's forward and backward pass over the whole model: the batch's mean loss. The gradients
    /// of all parameters are written, but on a CPU those of words that the batch doesn't have.
    #[must_use]
    pub fn train(
        &self,
        gradients: &Parameters,
        batch: &Batch,
        labels: &Tensor,
        dropout: Dropout,
    ) -> f64 {
        let (parameters, architecture) = (&self.parameters, &self.architecture);
        let (features, tape) = encoder::forward(
            parameters,
            architecture,
            batch,
            Some(dropout),
            Pooling::First,
        );
        let (loss, gradient) = self.train_head(gradients, &features, labels, dropout);
        encoder::backward(
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

    /// The same for the head alone, which gives the features' gradient too.
    pub fn train_head(
        &self,
        gradients: &Parameters,
        features: &Tensor,
        labels: &Tensor,
        dropout: Dropout,
    ) -> (f64, Tensor) {
        let mask = dropout.mask(1 + 2 * self.architecture.layers);
        let (logits, saved) = head::forward(&self.parameters, features, Some(mask));
        let (loss, gradient) = head::cross_entropy(&logits, labels);
        (
            loss,
            head::backward(&self.parameters, gradients, &saved, &gradient),
        )
    }
}

impl Classify for Model {
    fn scores(&self, logits: &[f32]) -> Vec<f32> {
        match self.architecture.problem {
            Problem::SingleLabel => softmax(logits),
            Problem::MultiLabel => logits.iter().copied().map(sigmoid).collect(),
            Problem::Regression => logits.to_vec(),
        }
    }

    fn logits(&self, batch: &[&[u32]]) -> Vec<Vec<f32>> {
        let batch = Batch::new(batch, self.device());
        batch.rows_as_given(&Model::logits(self, &batch))
    }

    fn share(&self) -> Self {
        Self {
            parameters: self.parameters.share(&self.architecture),
            architecture: self.architecture.clone(),
            sha256: self.sha256.clone(),
            has_pooler: self.has_pooler,
            has_classifier: self.has_classifier,
            int8: self.int8.as_ref().map(int8::Encoder::share),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parallel::with_threads;
    use crate::random::tensor;

    /// A small model with random parameters, and sequences for it.
    fn small(pooling: Pooling) -> (Model, Vec<Vec<u32>>) {
        let fields = json!({
            "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
            "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 40,
            "type_vocab_size": 2,
        });
        let labels = ["bad".to_owned(), "so-so".to_owned(), "good".to_owned()];
        let architecture = Architecture::of(fields.as_object().unwrap().clone())
            .unwrap()
            .with_classifier(&labels, pooling);
        let row = tensor(11, &[parameters::count(&architecture)]) * 0.2;
        let parameters = Parameters::of(row, &architecture);
        let model = Model {
            architecture,
            parameters,
            sha256: String::new(),
            has_pooler: true,
            has_classifier: true,
            int8: None,
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

    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let (model, sequences) = small(Pooling::First);
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let labels = Tensor::from_slice(&[0_i64, 1, 2, 0, 1]);
        let dropout = Dropout::new(0.1, 1, 1);
        let ours = Parameters::zeros(&model.architecture, Kind::Float, Device::Cpu);
        let loss = model.train(&ours, &batch, &labels, dropout);

        let row = model.parameters.row.copy().set_requires_grad(true);
        let parameters = Parameters::of(row.shallow_clone(), &model.architecture);
        let (features, _) = encoder::forward(
            &parameters,
            &model.architecture,
            &batch,
            Some(dropout),
            Pooling::First,
        );
        let (logits, _) = head::forward(&parameters, &features, Some(dropout.mask(7)));
        let theirs = logits.cross_entropy_for_logits(&labels);
        theirs.backward();
        assert!((loss - theirs.double_value(&[])).abs() < 1e-6);
        let gradient = row.grad();
        for slot in layout(&model.architecture) {
            let part = |row: &Tensor| row.narrow(0, slot.offset, slot.len());
            let difference = difference(&part(&gradient), &part(&ours.row));
            assert!(difference < 1e-5, "{}: {difference}", slot.name);
        }
    }

    #[test]
    fn a_sequence_scores_the_same_alone_and_in_a_batch() {
        for pooling in [Pooling::First, Pooling::Mean] {
            let (model, sequences) = small(pooling);
            let together = Classify::logits(&model, &slices(&sequences));
            for (sequence, together) in sequences.iter().zip(together) {
                let alone = Classify::logits(&model, &[sequence]).remove(0);
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
            let scores = Classify::logits(&model, &slices(&sequences));
            let model = model.quantized();
            let near = Tensor::cosine_similarity(&exact, &model.features(&batch, pooling), 1, 0.0);
            assert!(near.min().double_value(&[]) > 0.995, "{near}");
            let rounded = Classify::logits(&model, &slices(&sequences));
            let pairs = scores.concat().into_iter().zip(rounded.concat());
            for (one, other) in pairs {
                assert!((one - other).abs() < 0.1, "{one} and {other}");
            }
            assert_eq!(
                rounded,
                Classify::logits(&model.share(), &slices(&sequences))
            );
        }
    }

    #[test]
    fn in_int8_a_sequence_scores_the_same_alone_and_in_a_batch() {
        for pooling in [Pooling::First, Pooling::Mean] {
            let (model, sequences) = small(pooling);
            let model = model.quantized();
            let together = Classify::logits(&model, &slices(&sequences));
            for (sequence, together) in sequences.iter().zip(together) {
                let alone = Classify::logits(&model, &[sequence]).remove(0);
                let pairs = alone.iter().zip(&together);
                assert!(pairs.clone().all(|(one, other)| (one - other).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn in_int8_threads_do_not_change_a_bit() {
        let (model, sequences) = small(Pooling::Mean);
        let model = model.quantized();
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let [one, two, three] = with_threads(|| model.vectors(&batch));
        assert_eq!(one, two);
        assert_eq!(one, three);
    }

    /// The original job never left training's mode, so that a sentence scored differently each time.
    #[test]
    fn a_sequence_scores_the_same_every_time() {
        let (model, sequences) = small(Pooling::First);
        let first = Classify::logits(&model, &slices(&sequences));
        assert_eq!(first, Classify::logits(&model, &slices(&sequences)));
    }

    #[test]
    fn the_last_layer_of_first_tokens_is_that_of_all() {
        let (model, sequences) = small(Pooling::First);
        let batch = Batch::new(&slices(&sequences), Device::Cpu);
        let (first, _) = encoder::forward(
            &model.parameters,
            &model.architecture,
            &batch,
            None,
            Pooling::First,
        );
        let (all, _) = encoder::forward(
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
        let folder = tempfile::tempdir().unwrap();
        let bytes = to_safetensors(&model.parameters.row, &model.architecture);
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        let config = model.architecture.to_json().to_string();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let read = Model::read(folder.path()).unwrap();
        assert_eq!(read.parameters.row, model.parameters.row);
        assert_eq!(read.architecture.labels, ["bad", "so-so", "good"]);
        assert_eq!(read.architecture.pooling, Pooling::Mean);
        assert!(read.has_classifier);
    }
}
