//! One file per operation: what a verb does, with no clap, no bollard, no printing.

pub mod build;
pub mod doctor;
pub mod env_files;
pub mod forward;
pub mod get;
pub mod init;
pub mod metrics;
mod pipe;
pub mod ps;
pub mod pull;
pub mod push;
pub mod run;
pub mod runs;
mod tree;
pub mod up;
pub mod validate;
