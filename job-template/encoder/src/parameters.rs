//! A model's parameters: one flat tensor, and views into it by name.
//!
//! The gradient's norm, the optimizer's step, and a copy in another precision are then each a single pass over
//! memory. The gradients are a flat tensor of the same layout.

use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, Tensor};

use crate::architecture::Architecture;
use crate::random::Random;

/// A parameter's place in the flat tensor.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Hugging Face's name for it, without the prefix `bert.`.
    pub name: String,
    /// Its shape: `[out, in]` of a dense layer's weight.
    pub shape: Vec<i64>,
    /// The index of its first number in the flat tensor.
    pub offset: i64,
}

impl Slot {
    /// Its number of elements.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `AdamW`'s weight decay applies: not to biases and layer normalization (as in BERT's own training;
    /// Devlin et al., 2019).
    #[must_use]
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }

    /// Whether it is the word embeddings, [vocabulary, hidden].
    #[must_use]
    pub fn is_word_embeddings(&self) -> bool {
        self.name == "embeddings.word_embeddings.weight"
    }

    /// Whether it belongs to the classification head: pooler or classifier.
    #[must_use]
    pub fn is_of_head(&self) -> bool {
        self.name.starts_with("pooler.") || self.name.starts_with("classifier.")
    }

    /// Its name in the file of a model with a classifier.
    pub(crate) fn full_name(&self) -> String {
        if self.name.starts_with("classifier.") {
            self.name.clone()
        } else {
            format!("bert.{}", self.name)
        }
    }
}

/// A dense layer's parameters: `y = x weightᵀ + bias`.
#[derive(Debug)]
pub struct Linear {
    /// [out, in]
    pub weight: Tensor,
    /// `[out]`
    pub bias: Tensor,
}

/// A layer normalization's parameters, `[hidden]` each.
#[derive(Debug)]
pub struct Norm {
    /// The scale (gamma).
    pub weight: Tensor,
    /// The shift (beta).
    pub bias: Tensor,
}

/// An encoder layer's parameters.
#[derive(Debug)]
pub struct Layer {
    /// Queries, keys and values as one dense layer, [3 hidden, hidden].
    pub query_key_value: Linear,
    /// Attention's output projection, [hidden, hidden].
    pub attention_output: Linear,
    /// After attention and its residual connection.
    pub attention_norm: Norm,
    /// The feed-forward layer's first dense layer, [intermediate, hidden].
    pub intermediate: Linear,
    /// The feed-forward layer's second dense layer, [hidden, intermediate].
    pub output: Linear,
    /// After the feed-forward layer and its residual connection.
    pub output_norm: Norm,
}

/// A model's parameters, or their gradients: views into one flat tensor.
#[derive(Debug)]
pub struct Parameters {
    /// All of them, `[numbers]`, as [`layout`] describes.
    pub flat_params: Tensor,
    /// [vocabulary, hidden]
    pub word_embeddings: Tensor,
    /// [positions, hidden]
    pub position_embeddings: Tensor,
    /// [token types, hidden]
    pub token_type_embeddings: Tensor,
    /// After the embeddings.
    pub embedding_norm: Norm,
    /// The encoder's layers, first to last.
    pub layers: Vec<Layer>,
    /// The head's hidden dense layer, [hidden, hidden], before tanh.
    pub pooler: Linear,
    /// The head's output layer, [labels, hidden].
    pub classifier: Linear,
}

/// All of a model's parameters in the order of the computation, each directly after the one before.
#[must_use]
pub fn layout(architecture: &Architecture) -> Vec<Slot> {
    let hidden = architecture.hidden_size;
    let wide = architecture.intermediate_size;
    let mut slots = Vec::new();
    let mut offset = 0;
    let mut add = |name: String, shape: &[i64]| {
        let slot = Slot {
            name,
            shape: shape.to_vec(),
            offset,
        };
        offset += slot.len();
        slots.push(slot);
    };
    let embedding = |name: &str| format!("embeddings.{name}");
    add(
        embedding("word_embeddings.weight"),
        &[architecture.vocab_size, hidden],
    );
    add(
        embedding("position_embeddings.weight"),
        &[architecture.max_positions, hidden],
    );
    add(
        embedding("token_type_embeddings.weight"),
        &[architecture.token_types, hidden],
    );
    add(embedding("LayerNorm.weight"), &[hidden]);
    add(embedding("LayerNorm.bias"), &[hidden]);
    for layer in 0..architecture.layers {
        let name = |name: &str| format!("encoder.layer.{layer}.{name}");
        // Adjacent, so that the three are one dense layer, [3 hidden, hidden].
        for part in ["query", "key", "value"] {
            add(
                name(&format!("attention.self.{part}.weight")),
                &[hidden, hidden],
            );
        }
        for part in ["query", "key", "value"] {
            add(name(&format!("attention.self.{part}.bias")), &[hidden]);
        }
        add(name("attention.output.dense.weight"), &[hidden, hidden]);
        add(name("attention.output.dense.bias"), &[hidden]);
        add(name("attention.output.LayerNorm.weight"), &[hidden]);
        add(name("attention.output.LayerNorm.bias"), &[hidden]);
        add(name("intermediate.dense.weight"), &[wide, hidden]);
        add(name("intermediate.dense.bias"), &[wide]);
        add(name("output.dense.weight"), &[hidden, wide]);
        add(name("output.dense.bias"), &[hidden]);
        add(name("output.LayerNorm.weight"), &[hidden]);
        add(name("output.LayerNorm.bias"), &[hidden]);
    }
    add("pooler.dense.weight".to_owned(), &[hidden, hidden]);
    add("pooler.dense.bias".to_owned(), &[hidden]);
    let labels = architecture.labels.len() as i64;
    add("classifier.weight".to_owned(), &[labels, hidden]);
    add("classifier.bias".to_owned(), &[labels]);
    slots
}

/// The number of a model's parameters.
pub(crate) fn count(architecture: &Architecture) -> i64 {
    layout(architecture).iter().map(Slot::len).sum()
}

impl Parameters {
    /// Views into `flat_params`, `[numbers]`.
    ///
    /// # Panics
    /// Where `flat_params` is shorter than [`layout`] describes.
    #[must_use]
    pub fn of(flat_params: Tensor, architecture: &Architecture) -> Self {
        Self::with_layers(flat_params, architecture, architecture.layers)
    }

    fn with_layers(flat_params: Tensor, architecture: &Architecture, layers: usize) -> Self {
        let hidden = architecture.hidden_size;
        let wide = architecture.intermediate_size;
        let labels = architecture.labels.len() as i64;
        let mut offset = 0;
        let mut next = |shape: &[i64]| {
            let len = shape.iter().product();
            offset += len;
            flat_params.narrow(0, offset - len, len).view(shape)
        };
        let word_embeddings = next(&[architecture.vocab_size, hidden]);
        let position_embeddings = next(&[architecture.max_positions, hidden]);
        let token_type_embeddings = next(&[architecture.token_types, hidden]);
        let embedding_norm = norm(&mut next, hidden);
        let layers = (0..layers)
            .map(|_| Layer {
                query_key_value: linear(&mut next, 3 * hidden, hidden),
                attention_output: linear(&mut next, hidden, hidden),
                attention_norm: norm(&mut next, hidden),
                intermediate: linear(&mut next, wide, hidden),
                output: linear(&mut next, hidden, wide),
                output_norm: norm(&mut next, hidden),
            })
            .collect();
        let pooler = linear(&mut next, hidden, hidden);
        let classifier = linear(&mut next, labels, hidden);
        Self {
            flat_params,
            word_embeddings,
            position_embeddings,
            token_type_embeddings,
            embedding_norm,
            layers,
            pooler,
            classifier,
        }
    }

    /// Zeros of this model's layout, for gradients.
    #[must_use]
    pub fn zeros(architecture: &Architecture, kind: Kind, device: Device) -> Self {
        Self::of(
            Tensor::zeros([count(architecture)], (kind, device)),
            architecture,
        )
    }

    /// Another handle of the same parameters, for another thread.
    #[must_use]
    pub fn share(&self, architecture: &Architecture) -> Self {
        let layers = self.layers.len();
        Self::with_layers(self.flat_params.shallow_clone(), architecture, layers)
    }

    /// A copy of embeddings and head, without the encoder's layers.
    pub(crate) fn without_layers(&self, architecture: &Architecture) -> Self {
        let slots = layout(architecture);
        let is_of_layers = |slot: &&Slot| slot.name.starts_with("encoder.");
        let first = slots.iter().find(is_of_layers);
        let start = first.map_or(0, |slot| slot.offset);
        let len: i64 = slots.iter().filter(is_of_layers).map(Slot::len).sum();
        let end = start + len;
        let head = self
            .flat_params
            .narrow(0, end, self.flat_params.size()[0] - end);
        let flat_params = Tensor::cat(&[self.flat_params.narrow(0, 0, start), head], 0);
        Self::with_layers(flat_params, architecture, 0)
    }
}

fn linear(next: &mut impl FnMut(&[i64]) -> Tensor, output: i64, input: i64) -> Linear {
    Linear {
        weight: next(&[output, input]),
        bias: next(&[output]),
    }
}

fn norm(next: &mut impl FnMut(&[i64]) -> Tensor, size: i64) -> Norm {
    Norm {
        weight: next(&[size]),
        bias: next(&[size]),
    }
}

/// Initializes a layer of the head, `pooler` or `classifier`, as transformers does: weights normally distributed
/// with the standard deviation `initializer_range`, biases 0.
pub(crate) fn initialize(
    flat_params: &Tensor,
    architecture: &Architecture,
    layer: &str,
    seed: u64,
) {
    let mut random = Random::new(seed, layer);
    let slots = layout(architecture).into_iter();
    for slot in slots.filter(|slot| slot.name.split('.').next() == Some(layer)) {
        let mut target = flat_params.narrow(0, slot.offset, slot.len());
        if slot.shape.len() == 1 {
            let _ = target.zero_();
        } else {
            let numbers: Vec<f32> = (0..slot.len())
                .map(|_| (random.normal() * architecture.initializer_range) as f32)
                .collect();
            target.copy_(&Tensor::from_slice(&numbers));
        }
    }
}

/// The bytes of a model.safetensors with these parameters, F32, as Python's transformers read it.
///
/// # Panics
/// Where `flat_params` isn't binary32, or doesn't have [`layout`]'s length.
#[must_use]
pub fn to_safetensors(flat_params: &Tensor, architecture: &Architecture) -> Vec<u8> {
    let numbers: Vec<f32> =
        Vec::try_from(flat_params.to_device(Device::Cpu)).expect("binary32 numbers");
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let views = layout(architecture).into_iter().map(|slot| {
        let range = slot.offset as usize * 4..(slot.offset + slot.len()) as usize * 4;
        let shape = slot.shape.iter().map(|&size| size as usize).collect();
        let view = TensorView::new(Dtype::F32, shape, &bytes[range]);
        (
            slot.full_name(),
            view.expect("shape and length are the slot's"),
        )
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).expect("names are unique and shapes fit")
}
