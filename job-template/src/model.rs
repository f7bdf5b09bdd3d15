//! The model: what answers, and what learns. All that the job knows of how a model computes is in this
//! file; with another model it is the one to replace.
//!
//! Here, it is [`bert_encoder`], whose forward and backward passes are written out.

mod gradient;

use bert_encoder::{
    AdamW, Batch, Dropout, Encoder, Int8Encoder, Parameters, Slot, Targets, to_device,
};
pub use bert_encoder::{Architecture, ModelError, Pooling, Problem};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use text_server::Classify;

use self::gradient::StepGradient;
use crate::batches::{Examples, MicroBatch, by_length};
use crate::checkpoint::PARAMETERS;
use crate::config::TrainingConfig;
use crate::evaluate::scores;
use crate::runtime::Runtime;

/// Tokens that are computed together where nothing is learned: enough for the processor's speed, and
/// little memory.
const CPU_TOKENS: usize = 2048;
const GPU_TOKENS: usize = 65_536;

/// A model that classifies texts.
#[derive(Debug)]
pub struct Model {
    /// Its sizes, labels and pooling.
    pub architecture: Architecture,
    /// SHA-256 of the files that its weights were read from, in hexadecimal.
    pub sha256: String,
    /// Whether its directory has a pooler.
    pub has_pooler: bool,
    /// Encoder layers that its directory's weights have.
    pub stored_layers: usize,
    /// Whether its directory has a classifier, for these labels.
    pub has_classifier: bool,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Float(Encoder),
    Int8(Int8Encoder),
}

impl Model {
    /// Reads a Hugging Face directory.
    ///
    /// # Errors
    /// A file is missing, damaged, or not of a supported model.
    pub fn load(directory: &Path) -> Result<Self, ModelError> {
        Encoder::load(directory).map(Self::of)
    }

    /// Reads a Hugging Face directory to train the model for these labels, and gives the labels of a
    /// classifier that can't be kept for it.
    ///
    /// # Errors
    /// As of [`Model::load`].
    pub fn load_to_train(
        directory: &Path,
        labels: &[String],
        pooling: Pooling,
        seed: u64,
    ) -> Result<(Self, Option<Vec<String>>), ModelError> {
        let (encoder, replaced) = Encoder::load_to_train(directory, labels, pooling, seed)?;
        Ok((Self::of(encoder), replaced))
    }

    fn of(encoder: Encoder) -> Self {
        Self {
            architecture: encoder.architecture.clone(),
            sha256: encoder.sha256.clone(),
            has_pooler: encoder.has_pooler,
            stored_layers: encoder.stored_layers,
            has_classifier: encoder.has_classifier,
            weights: Weights::Float(encoder),
        }
    }

    /// The same model as `runtime` has it compute: on its device, in its precision.
    #[must_use]
    pub fn prepare(self, runtime: &Runtime) -> Self {
        let weights = match self.weights {
            Weights::Float(encoder) if runtime.is_int8 => {
                Weights::Int8(Int8Encoder::quantize(&encoder))
            }
            Weights::Float(encoder) => Weights::Float(encoder.to(runtime.device, runtime.kind)),
            int8 @ Weights::Int8(_) => int8,
        };
        Self { weights, ..self }
    }

    fn device(&self) -> Device {
        match &self.weights {
            Weights::Float(encoder) => encoder.device(),
            Weights::Int8(_) => Device::Cpu,
        }
    }

    /// The logits of many sequences of token ids, [sequences, labels] in their order. `progress` is called with
    /// how many more are done.
    pub fn logits_of_all(
        &self,
        sequences: &[Vec<u32>],
        progress: impl FnMut(usize),
    ) -> Vec<Vec<f32>> {
        let mut logits = vec![Vec::new(); sequences.len()];
        for_each_batch(sequences, self.device(), progress, |indexes, batch| {
            let rows = batch.rows_as_given(&self.forward(batch));
            for (&index, row) in indexes.iter().zip(rows) {
                logits[index] = row;
            }
        });
        logits
    }

    /// The labels' logits, [sequences, labels] in the batch's order.
    fn forward(&self, batch: &Batch) -> Tensor {
        match &self.weights {
            Weights::Float(encoder) => encoder.forward(batch),
            Weights::Int8(encoder) => encoder.forward(batch),
        }
    }
}

impl Classify for Model {
    fn scores(&self, logits: &[f32]) -> Vec<f32> {
        scores(self.architecture.problem, logits)
    }

    fn logits(&self, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
        let batch = Batch::new(sequences, self.device());
        batch.rows_as_given(&self.forward(&batch))
    }

    fn share(&self) -> Self {
        Self {
            architecture: self.architecture.clone(),
            sha256: self.sha256.clone(),
            weights: match &self.weights {
                Weights::Float(encoder) => Weights::Float(encoder.share()),
                Weights::Int8(encoder) => Weights::Int8(encoder.share()),
            },
            ..*self
        }
    }
}

/// Calls `body` with batches of all sequences, and the indexes of each one's.
fn for_each_batch(
    sequences: &[Vec<u32>],
    device: Device,
    mut progress: impl FnMut(usize),
    mut body: impl FnMut(&[usize], &Batch),
) {
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let most_tokens = if device == Device::Cpu {
        CPU_TOKENS
    } else {
        GPU_TOKENS
    };
    for indexes in by_length(&lengths, most_tokens) {
        body(&indexes, &Batch::of(sequences, &indexes, device));
        progress(indexes.len());
    }
}

/// A model that learns: its gradients, and the optimizer.
pub struct Learner {
    encoder: Encoder,
    /// All parameters in binary32; the encoder's own, unless it computes in another precision.
    master: Tensor,
    /// The part of `master` that is trained.
    trained: Tensor,
    gradients: Parameters,
    /// The same part of the gradients.
    gradient: StepGradient,
    optimizer: AdamW,
    max_norm: Option<f64>,
    seed: u64,
}

impl Learner {
    /// A model that learns as `config` says, where `runtime` has it compute.
    ///
    /// # Panics
    /// Where the model is in int8.
    #[must_use]
    pub fn new(model: Model, config: &TrainingConfig, runtime: &Runtime) -> Self {
        let Weights::Float(encoder) = model.weights else {
            panic!("int8 isn't trained")
        };
        let mut slots = bert_encoder::layout(&encoder.architecture);
        if !config.train_body {
            slots.retain(Slot::is_of_head);
        }
        let (start, len) = (slots[0].offset, slots.iter().map(Slot::len).sum());
        let master = encoder.parameters.flat_params.to_device(runtime.device);
        let encoder = encoder.to(runtime.device, runtime.kind);
        let gradients = Parameters::zeros(&encoder.architecture, runtime.kind, runtime.device);
        let (gradient, architecture) = (
            gradients.flat_params.narrow(0, start, len),
            &encoder.architecture,
        );
        Self {
            trained: master.narrow(0, start, len),
            gradient: StepGradient::new(
                gradient,
                [architecture.vocab_size, architecture.hidden_size],
            ),
            optimizer: AdamW::new(&slots, config.weight_decay, runtime.device),
            max_norm: config.max_norm,
            seed: config.seed,
            encoder,
            master,
            gradients,
        }
    }

    /// What the encoder makes of all sequences, for training the head.
    #[must_use]
    pub fn features(&self, sequences: &[Vec<u32>], progress: impl FnMut(usize)) -> Examples {
        let device = self.encoder.device();
        let (hidden, kind) = (
            self.encoder.architecture.hidden_size,
            self.encoder.parameters.flat_params.kind(),
        );
        let mut features = Tensor::zeros([sequences.len() as i64, hidden], (kind, device));
        for_each_batch(sequences, device, progress, |indexes, batch| {
            let rows = index_tensor(&batch.arrange(indexes), device);
            let computed = self.encoder.features(batch, Pooling::Mean);
            let _ = features.index_copy_(0, &rows, &computed);
        });
        Examples::Features(features)
    }

    /// The logits of all examples, [examples, labels] in their order.
    pub fn logits(&self, examples: &Examples, progress: impl FnMut(usize)) -> Vec<Vec<f32>> {
        match examples {
            Examples::Features(features) => {
                let logits = self.encoder.head(features);
                let logits = logits.to_kind(Kind::Float).to_device(Device::Cpu);
                Vec::try_from(logits).expect("rows of binary32 numbers")
            }
            Examples::Sequences(sequences) => {
                Model::of(self.encoder.share()).logits_of_all(sequences, progress)
            }
        }
    }

    /// Computes the gradients of a micro-batch, adds them to those of others since the last update, and gives its
    /// part of the loss, a tensor of one number: on a GPU, to read it waits for the computation.
    pub fn backward(&mut self, examples: &Examples, batch: &MicroBatch<'_>) -> Tensor {
        let device = self.encoder.device();
        self.gradient.keep();
        let architecture = &self.encoder.architecture;
        let dropout = Dropout::new(architecture.dropout, self.seed, batch.number)
            .with_classifier(architecture.classifier_dropout);
        let (loss, ids) = match examples {
            Examples::Sequences(sequences) => {
                let packed = Batch::of(sequences, batch.indexes, device);
                let labels = index_tensor(&packed.arrange(batch.labels), device);
                let weights = batch
                    .weights
                    .map(|weights| to_device(&packed.arrange(weights), device));
                let targets = Targets {
                    labels: &labels,
                    weights: weights.as_ref(),
                    normalizer: batch.normalizer,
                };
                let loss =
                    self.encoder
                        .loss_and_gradients(&self.gradients, &packed, targets, dropout);
                (loss, Some(sequences_ids(sequences, batch.indexes)))
            }
            Examples::Features(features) => {
                let features = features.index_select(0, &index_tensor(batch.indexes, device));
                let weights = batch.weights.map(|weights| to_device(weights, device));
                let targets = Targets {
                    labels: &index_tensor(batch.labels, device),
                    weights: weights.as_ref(),
                    normalizer: batch.normalizer,
                };
                let (loss, _) = self.encoder.head_loss_and_gradients(
                    &self.gradients,
                    &features,
                    targets,
                    dropout,
                );
                (loss, None)
            }
        };
        self.gradient.add(ids);
        loss
    }

    /// What the next update learns from: where the encoder is trained, the ids of the words that have a gradient,
    /// `[ids]`, and theirs, `[ids, hidden]`; then that of all other parameters, `[numbers]`.
    #[must_use]
    pub fn gradient(&self) -> Vec<Tensor> {
        self.gradient.parts()
    }

    /// Changes the parameters by the gradients, and gives these' norm, a tensor of one number.
    pub fn update(&mut self, lr: f64) -> Tensor {
        let gradient = self.gradient.flat().shallow_clone();
        let word_ids = self.gradient.finish();
        let norm = self.optimizer.step(
            &mut self.trained,
            &gradient,
            word_ids.map(|ids| Tensor::from_slice(&ids)).as_ref(),
            lr,
            self.max_norm,
        );
        self.update_encoder();
        norm
    }

    /// The encoder computes with the parameters that are trained.
    fn update_encoder(&mut self) {
        let computed = &mut self.encoder.parameters.flat_params;
        if computed.kind() != Kind::Float {
            computed.copy_(&self.master);
        }
    }

    /// All that continuing after a break needs, by name. Each is binary32, one-dimensional.
    pub fn state(&self) -> [(&'static str, Tensor); 3] {
        [
            (PARAMETERS, self.trained.shallow_clone()),
            ("exp_avg", self.optimizer.exp_avg.shallow_clone()),
            ("exp_avg_sq", self.optimizer.exp_avg_sq.shallow_clone()),
        ]
    }

    /// To be called after the tensors of [`Learner::state`] were written to: so many updates are in them.
    pub fn restored(&mut self, updates: u64) {
        self.optimizer.steps = updates;
        self.update_encoder();
    }

    /// The model's sizes, labels and pooling.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.encoder.architecture
    }

    /// The bytes of a model.safetensors.
    #[must_use]
    pub fn to_safetensors(&self) -> Vec<u8> {
        bert_encoder::to_safetensors(&self.master, &self.encoder.architecture)
    }
}

/// The token ids of some of the sequences.
fn sequences_ids(sequences: &[Vec<u32>], indexes: &[usize]) -> Vec<i64> {
    let ids = indexes.iter().flat_map(|&index| &sequences[index]);
    ids.map(|&id| i64::from(id)).collect()
}

/// Numbers of examples or labels, as libtorch takes them.
fn index_tensor(indexes: &[usize], device: Device) -> Tensor {
    let indexes: Vec<i64> = indexes.iter().map(|&index| index as i64).collect();
    to_device(&indexes, device)
}

#[cfg(test)]
#[path = "../models/autograd.rs"]
pub mod autograd;

#[cfg(test)]
mod tests;
