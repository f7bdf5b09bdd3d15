//! Engines: where they are and how to talk to them.

pub mod archive;
pub mod build;
pub mod docker;
pub mod gpu;
pub mod registry;
pub mod run;
pub mod tar_names;

/// What the names of directories begin with that engines are asked whether they see them.
pub(crate) const PROBE: &str = "jobctl-probe-";
