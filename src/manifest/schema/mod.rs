//! What may stand in `jobs.yaml`: one type per mapping, one field per key.
//!
//! The doc comments are the descriptions in the JSON Schema, so they speak to whoever writes a
//! manifest. Fields are in the order in which `jobs.yaml` is best written.

mod build;
mod command;
mod env_files;
mod gpus;
mod image;
mod job;
mod metrics;
mod need;
mod outcome;
mod root;
mod variables;

pub use build::{Build, CaBundle};
pub use command::Command;
pub use env_files::{EnvFile, EnvFileFormat, EnvFiles};
pub use gpus::GpusKey;
pub use image::{BaseImage, ImageDefaults, Latest, VersionSource};
pub use job::{HealthTest, Healthcheck, ImageSource, Input, Job, Network, Output, Resources, User};
pub use metrics::{LogMetric, LogMetrics, Metrics};
pub use need::{Need, Needs};
pub use outcome::{Retry, RetryCause};
pub use root::{FormatVersion, Root, Secret};
pub use variables::{Variable, Variables};
