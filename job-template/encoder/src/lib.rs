#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | `encoder` | [`Encoder`]: loading, inference, the loss and its gradients |
//! | `int8` | [`Int8Encoder`]: quantization and inference in int8 |
//! | `architecture` | [`Architecture`]: config.json, and [`ModelError`] |
//! | `weights` | reading model.safetensors |
//! | `parameters` | [`Parameters`], their [`layout`], and [`to_safetensors`] |
//! | `batch` | [`Batch`]: packed sequences |
//! | `layers` | the encoder's layers, forward and backward |
//! | `attention`, `cls` | attention of all tokens; of `[CLS]` alone |
//! | `normalize` | bias, dropout, residual and layer normalization |
//! | `activation` | bias and [`Activation`] function |
//! | `math` | elementary functions for vectorized loops |
//! | `head` | the classification head, the cross-entropy, and its [`Targets`] |
//! | `dropout` | [`Dropout`]: masks by a hash of the position |
//! | `adamw` | [`AdamW`]: gradient clipping and the optimizer |
//! | [`random`] | the generator for weights and orders |
//! | `slices`, [`threads`] | tensors as slices; parallel loops on libtorch's threads |
//! | [`cpu`] | what the processor can do, and MKL's choice by it |

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
mod math;
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
