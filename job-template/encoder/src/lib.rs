//! A BERT encoder with a classification head, for inference and fine-tuning, on packed sequences.

pub mod cpu;
pub mod random;
pub mod threads;

mod activation;
mod adamw;
mod architecture;
mod attention;
mod batch;
mod cls;
mod dropout;
mod encoder;
mod head;
mod int8;
mod layers;
mod normalize;

mod parameters;
mod slices;
mod weights;

pub use activation::Activation;
pub use adamw::AdamW;
pub use architecture::{Architecture, ModelError, Pooling, Problem};
pub use batch::{Batch, to_device};
pub use dropout::Dropout;
pub use encoder::Encoder;
pub use head::Targets;
pub use int8::Int8Encoder;
pub use parameters::{Parameters, Slot, layout, to_safetensors};
