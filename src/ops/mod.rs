//! One file per operation: what a verb does, with no clap, no bollard, no printing.

pub mod build;
pub mod doctor;
pub mod get;
pub mod metrics;
pub mod runs;
pub mod validate;
