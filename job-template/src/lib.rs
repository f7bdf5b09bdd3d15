//! The reference job: fine-tunes a BERT-like transformer to tell the sentiment of film reviews, and
//! serves it over HTTP.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | variables of the environment → typed values, with everything that is wrong |
//! | [`tokenize`] | text → token ids |
//! | [`classify`] | what serving needs of a model |
//! | [`serve`] | a model → answers over HTTP |

pub mod classify;
pub mod config;
pub mod serve;
pub mod tokenize;
