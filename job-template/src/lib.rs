//! The reference job: fine-tunes a BERT-like transformer to tell the sentiment of film reviews, and
//! serves it over HTTP.
//!
//! | module | what it does |
//! |---|---|
//! | [`commands`] | `train`, `evaluate`, `serve`, `predict`, `health` |
//! | [`config`] | variables of the environment → typed values, with everything that is wrong |
//! | [`runtime`] | libtorch: its threads, its device, what it finds |
//! | [`data`] | a CSV file → reviews to train on, to validate with, to test on |
//! | [`tokenize`] | text → token ids |
//! | [`batches`] | which reviews are computed together |
//! | [`model`] | what answers, and what learns: all that is known of how a model computes |
//! | [`train`] | all steps, and what is written of them |
//! | [`checkpoint`] | what training leaves on disk |
//! | [`evaluate`] | how good a model is |
//! | [`load`] | a fine-tuned model that is used |
//! | [`log`] | what is reported, to people or programs |
//! | [`serve`] | a model over HTTP, by [`text_server`] |
//! | [`stop`] | the end of a training that is signalled to end |
//! | [`progress`], [`files`], [`process`] | progress bars; files that are written whole; what the system knows of the process |
//!
//! To read it in an evening: `commands`, `data`, `tokenize`, `train` with `train/steps.rs`, `model`, `evaluate`,
//! `serve`. The variables are in `config`; how a model computes is in the crate [`bert_encoder`], whose README has
//! the derivations, and how requests are answered in [`text_server`].

pub mod batches;
pub mod checkpoint;
pub mod commands;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod files;
pub mod load;
pub mod log;
#[cfg_attr(feature = "autograd", path = "../models/autograd.rs")]
pub mod model;
pub mod process;
pub mod progress;
pub mod runtime;
pub mod serve;
pub mod stop;
pub mod tokenize;
pub mod train;
