//! Decisions: the manifest, flags and facts become plans, which are plain data. Nothing here reads
//! a file, asks an engine or knows the time.

pub mod build;
mod discretion;
pub mod dockerfile;
pub mod export;
pub mod push;
pub mod run;
pub mod tags;
pub mod up;

pub use discretion::Discretion;
