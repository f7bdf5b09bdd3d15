//! The model with libtorch's automatic differentiation: the same BERT and the same public interface as
//! `src/model.rs`, whose place this file takes with the feature `autograd`, or when it is copied there.
//!
//! Only the forward pass is written out, over padded batches with an attention mask. Of `bert_encoder` it
//! uses what reads and writes Hugging Face directories.

use std::collections::HashMap;
use std::path::Path;

use bert_encoder::{Activation, Encoder, Slot};
pub use bert_encoder::{Architecture, ModelError, Pooling, Problem};
use tch::{Device, Kind, Reduction, Tensor};
use text_server::Classify;

use crate::batches::{Examples, MicroBatch, by_length};
use crate::checkpoint::PARAMETERS;
use crate::config::TrainingConfig;
use crate::evaluate::scores;
use crate::log::say;
use crate::runtime::Runtime;

/// Tokens, without padding, that are computed together in inference.
const MAX_TOKENS: usize = 2048;
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;

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
    /// All parameters in binary32, `[numbers]`, as [`bert_encoder::layout`] has them.
    master: Tensor,
    /// Leaves of the automatic differentiation by their names: views of `master`.
    leaves: HashMap<String, Tensor>,
    /// The precision to compute in.
    kind: Kind,
    /// Whether dropout is applied.
    is_training: bool,
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
            leaves: HashMap::new(),
            kind: Kind::Float,
            is_training: false,
            sha256: encoder.sha256,
            has_pooler: encoder.has_pooler,
            stored_layers: encoder.stored_layers,
            has_classifier: encoder.has_classifier,
            master: encoder.parameters.flat_params,
            architecture: encoder.architecture,
        }
        .with_leaves()
    }

    fn with_leaves(mut self) -> Self {
        let slots = bert_encoder::layout(&self.architecture).into_iter();
        self.leaves = slots
            .map(|slot| {
                let values = self.master.narrow(0, slot.offset, slot.len());
                (slot.name, values.view(slot.shape.as_slice()).detach())
            })
            .collect();
        self
    }

    /// The same model on `runtime`'s device, in its precision. There is no int8: a warning is printed, and
    /// binary32 is used.
    #[must_use]
    pub fn prepare(self, runtime: &Runtime) -> Self {
        if runtime.is_int8 {
            say("warning: this model has no int8; it computes in fp32");
        }
        Self {
            master: self.master.to_device(runtime.device),
            kind: runtime.kind,
            ..self
        }
        .with_leaves()
    }

    /// The logits of many sequences of token ids, [sequences, labels] in their order. `progress` is called with
    /// how many more are done.
    pub fn logits_of_all(
        &self,
        sequences: &[Vec<u32>],
        progress: impl FnMut(usize),
    ) -> Vec<Vec<f32>> {
        rows(&self.for_all(sequences, progress, |batch| {
            self.head(&self.features(batch, self.architecture.pooling))
        }))
    }

    /// What `compute` gives for all sequences, [sequences, _] in their order.
    fn for_all(
        &self,
        sequences: &[Vec<u32>],
        mut progress: impl FnMut(usize),
        compute: impl Fn(&Padded) -> Tensor,
    ) -> Tensor {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let (mut order, mut results) = (Vec::new(), Vec::new());
        for indexes in by_length(&lengths, MAX_TOKENS) {
            let chosen: Vec<&[u32]> = indexes.iter().map(|&index| &*sequences[index]).collect();
            let batch = Padded::new(&chosen, self.master.device());
            results.push(tch::no_grad(|| compute(&batch)));
            progress(indexes.len());
            order.extend(indexes);
        }
        let order = index_tensor(&order, self.master.device()).argsort(0, false);
        Tensor::cat(&results, 0).index_select(0, &order)
    }

    /// A parameter in the precision to compute in; its gradient is binary32.
    fn parameter(&self, name: &str) -> Tensor {
        self.leaves[name].to_kind(self.kind)
    }

    fn linear(&self, name: &str, x: &Tensor) -> Tensor {
        let weight = self.parameter(&format!("{name}.weight"));
        x.linear(&weight, Some(self.parameter(&format!("{name}.bias"))))
    }

    fn layer_norm(&self, name: &str, x: &Tensor) -> Tensor {
        let [weight, bias] =
            ["weight", "bias"].map(|part| self.parameter(&format!("{name}.LayerNorm.{part}")));
        let shape = [self.architecture.hidden_size];
        x.layer_norm(
            shape,
            Some(weight),
            Some(bias),
            self.architecture.norm_eps,
            true,
        )
    }

    fn dropout(&self, x: &Tensor) -> Tensor {
        x.dropout(self.architecture.dropout, self.is_training)
    }

    fn classifier_dropout(&self, x: &Tensor) -> Tensor {
        x.dropout(self.architecture.classifier_dropout, self.is_training)
    }

    /// A vector for each sequence, [sequences, hidden].
    fn features(&self, batch: &Padded, pooling: Pooling) -> Tensor {
        let table = |name: &str, ids: &Tensor| {
            let weight = self.parameter(&format!("embeddings.{name}_embeddings.weight"));
            Tensor::embedding(&weight, ids, -1, false, false)
        };
        let length = batch.ids.size()[1];
        let positions = Tensor::arange(length, (Kind::Int64, batch.ids.device()));
        let embedded = table("word", &batch.ids)
            + table("position", &positions)
            + table("token_type", &positions.zeros_like());
        let mut x = self.dropout(&self.layer_norm("embeddings", &embedded));
        for layer in 0..self.architecture.layers {
            x = self.layer(&format!("encoder.layer.{layer}"), &x, batch);
        }
        match pooling {
            Pooling::First => x.select(1, 0),
            Pooling::Mean => {
                let mask = batch.mask.unsqueeze(-1).to_kind(self.kind);
                let sums = (x * &mask).sum_dim_intlist(1, false, self.kind);
                sums / mask.sum_dim_intlist(1, false, self.kind)
            }
        }
    }

    /// An encoder layer, [sequences, tokens, hidden].
    fn layer(&self, name: &str, x: &Tensor, batch: &Padded) -> Tensor {
        let shape = x.size();
        let heads = [shape[0], shape[1], self.architecture.heads, -1];
        let [query, key, value] = ["query", "key", "value"].map(|part| {
            let all = self.linear(&format!("{name}.attention.self.{part}"), x);
            all.view(heads).transpose(1, 2)
        });
        // [sequences, 1, 1, tokens]
        let mask = batch.mask.unsqueeze(1).unsqueeze(1);
        let context = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            Some(mask),
            0.0,
            false,
            None,
            false,
        );
        let context = context.transpose(1, 2).reshape(&shape);
        let attended = self.linear(&format!("{name}.attention.output.dense"), &context);
        let x = self.layer_norm(
            &format!("{name}.attention.output"),
            &(self.dropout(&attended) + x),
        );
        let inner = self.linear(&format!("{name}.intermediate.dense"), &x);
        let inner = match self.architecture.activation {
            Activation::Gelu => inner.gelu("none"),
            Activation::GeluTanh => inner.gelu("tanh"),
            Activation::Relu => inner.relu(),
        };
        let outer = self.linear(&format!("{name}.output.dense"), &inner);
        self.layer_norm(&format!("{name}.output"), &(self.dropout(&outer) + x))
    }

    /// The labels' logits, [sequences, labels], from features, [sequences, hidden].
    fn head(&self, features: &Tensor) -> Tensor {
        let pooled = self.linear("pooler.dense", features).tanh();
        self.linear("classifier", &self.classifier_dropout(&pooled))
    }
}

impl Classify for Model {
    fn scores(&self, logits: &[f32]) -> Vec<f32> {
        scores(self.architecture.problem, logits)
    }

    fn logits(&self, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
        let batch = Padded::new(sequences, self.master.device());
        rows(&tch::no_grad(|| {
            self.head(&self.features(&batch, self.architecture.pooling))
        }))
    }

    fn share(&self) -> Self {
        Self {
            architecture: self.architecture.clone(),
            sha256: self.sha256.clone(),
            master: self.master.shallow_clone(),
            leaves: HashMap::new(),
            ..*self
        }
        .with_leaves()
    }
}

/// Sequences that are computed together, padded to the longest.
struct Padded {
    /// Token ids, int64 [sequences, tokens].
    ids: Tensor,
    /// Whether there is a token, [sequences, tokens].
    mask: Tensor,
}

impl Padded {
    fn new(sequences: &[&[u32]], device: Device) -> Self {
        let length = sequences.iter().map(|it| it.len()).max().unwrap_or(0);
        let tokens = sequences.iter().flat_map(|sequence| {
            let ids = sequence.iter().map(|&id| i64::from(id));
            ids.chain(std::iter::repeat(-1)).take(length)
        });
        let ids: Vec<i64> = tokens.collect();
        let ids = Tensor::from_slice(&ids).view([sequences.len() as i64, length as i64]);
        let ids = ids.to_device(device);
        Self {
            mask: ids.ge(0),
            ids: ids.clamp_min(0),
        }
    }
}

/// A model that learns: its gradients, and the optimizer (AdamW over one flat tensor, as `tch::nn`'s doesn't
/// give its moments, which continuing after a break needs).
pub struct Learner {
    model: Model,
    /// What is trained, as it lies in `model.master`.
    slots: Vec<Slot>,
    trained: Tensor,
    /// What a weight decays by, `[numbers]`: 0 for biases and layer normalization.
    decay: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    updates: u64,
    max_norm: Option<f64>,
    seed: u64,
}

impl Learner {
    /// A model that learns as `config` says, where `runtime` has it compute.
    #[must_use]
    pub fn new(model: Model, config: &TrainingConfig, runtime: &Runtime) -> Self {
        let model = model.prepare(runtime);
        let mut slots = bert_encoder::layout(&model.architecture);
        if !config.train_body {
            slots.retain(Slot::is_of_head);
        }
        for slot in &slots {
            let _ = model.leaves[&slot.name].set_requires_grad(true);
        }
        let len = slots.iter().map(Slot::len).sum();
        let trained = model.master.narrow(0, slots[0].offset, len);
        let decays = slots.iter().map(|slot| {
            let decay = config.weight_decay * f64::from(u8::from(slot.decays()));
            Tensor::full([slot.len()], decay, (Kind::Float, runtime.device))
        });
        Self {
            decay: Tensor::cat(&decays.collect::<Vec<_>>(), 0),
            exp_avg: trained.zeros_like(),
            exp_avg_sq: trained.zeros_like(),
            trained,
            updates: 0,
            max_norm: config.max_norm,
            seed: config.seed,
            slots,
            model,
        }
    }

    /// What the encoder makes of all sequences, for training the head.
    #[must_use]
    pub fn features(&self, sequences: &[Vec<u32>], progress: impl FnMut(usize)) -> Examples {
        let compute = |batch: &Padded| self.model.features(batch, Pooling::Mean);
        Examples::Features(self.model.for_all(sequences, progress, compute))
    }

    /// The logits of all examples, [examples, labels] in their order.
    pub fn logits(&self, examples: &Examples, progress: impl FnMut(usize)) -> Vec<Vec<f32>> {
        match examples {
            Examples::Features(features) => rows(&tch::no_grad(|| self.model.head(features))),
            Examples::Sequences(sequences) => self.model.logits_of_all(sequences, progress),
        }
    }

    /// Computes the gradients of a micro-batch, and gives its part of the loss, a tensor of one number. Those of
    /// several micro-batches add up, until [`Learner::update`].
    pub fn backward(&mut self, examples: &Examples, batch: &MicroBatch<'_>) -> Tensor {
        let device = self.model.master.device();
        // So that training that continues drops what it would have dropped.
        tch::manual_seed((self.seed ^ batch.number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as i64);
        self.model.is_training = true;
        let loss = tch::with_grad(|| {
            let features = match examples {
                Examples::Features(features) => {
                    features.index_select(0, &index_tensor(batch.indexes, device))
                }
                Examples::Sequences(sequences) => {
                    let chosen = batch.indexes.iter().map(|&index| &*sequences[index]);
                    let padded = Padded::new(&chosen.collect::<Vec<_>>(), device);
                    self.model.features(&padded, Pooling::First)
                }
            };
            let logits = self.model.head(&features).to_kind(Kind::Float);
            let labels = index_tensor(batch.labels, device);
            let mut losses =
                logits.cross_entropy_loss(&labels, None::<&Tensor>, Reduction::None, -100, 0.0);
            if let Some(weights) = batch.weights {
                losses *= Tensor::from_slice(weights).to_device(device);
            }
            losses.sum(Kind::Float) / batch.normalizer
        });
        loss.backward();
        self.model.is_training = false;
        loss.detach()
    }

    /// What the next update learns from: the gradients of all parameters that are trained, each of its shape.
    #[must_use]
    pub fn gradient(&self) -> Vec<Tensor> {
        let gradients = self.slots.iter();
        gradients
            .map(|slot| self.model.leaves[&slot.name].grad())
            .collect()
    }

    /// Changes the parameters by the gradients, and gives these' norm, a tensor of one number.
    pub fn update(&mut self, lr: f64) -> Tensor {
        let gradients = self.slots.iter().map(|slot| {
            let mut gradient = self.model.leaves[&slot.name].grad();
            let copy = gradient.copy().view(-1);
            let _ = gradient.zero_();
            copy
        });
        let gradient = Tensor::cat(&gradients.collect::<Vec<_>>(), 0);
        let norm = gradient.norm();
        let gradient = match self.max_norm {
            Some(max) => gradient * ((&norm + 1e-6).reciprocal() * max).clamp_max(1.0),
            None => gradient,
        };
        self.updates += 1;
        let steps = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let (correction_1, correction_2) = (1.0 - BETA_1.powi(steps), 1.0 - BETA_2.powi(steps));
        tch::no_grad(|| {
            self.exp_avg *= BETA_1;
            self.exp_avg += &gradient * (1.0 - BETA_1);
            self.exp_avg_sq *= BETA_2;
            self.exp_avg_sq += gradient.square() * (1.0 - BETA_2);
            let denominator = self.exp_avg_sq.sqrt() / correction_2.sqrt() + EPS;
            self.trained -= &self.trained * &self.decay * lr;
            self.trained -= &self.exp_avg / denominator * (lr / correction_1);
        });
        norm
    }

    /// All that continuing after a break needs, by name. Each is binary32, one-dimensional.
    pub fn state(&self) -> [(&'static str, Tensor); 3] {
        [
            (PARAMETERS, self.trained.shallow_clone()),
            ("exp_avg", self.exp_avg.shallow_clone()),
            ("exp_avg_sq", self.exp_avg_sq.shallow_clone()),
        ]
    }

    /// To be called after the tensors of [`Learner::state`] were written to: so many updates are in them.
    pub fn restored(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// The model's sizes, labels and pooling.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.model.architecture
    }

    /// The bytes of a model.safetensors.
    #[must_use]
    pub fn to_safetensors(&self) -> Vec<u8> {
        bert_encoder::to_safetensors(&self.model.master, &self.model.architecture)
    }
}

/// A matrix as rows of binary32 numbers.
fn rows(matrix: &Tensor) -> Vec<Vec<f32>> {
    let matrix = matrix.to_kind(Kind::Float).to_device(Device::Cpu);
    Vec::try_from(matrix).expect("rows of binary32 numbers")
}

/// Numbers of examples or labels, as libtorch takes them.
fn index_tensor(indexes: &[usize], device: Device) -> Tensor {
    let indexes: Vec<i64> = indexes.iter().map(|&index| index as i64).collect();
    Tensor::from_slice(&indexes).to_device(device)
}
