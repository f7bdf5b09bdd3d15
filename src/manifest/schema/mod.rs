//! What may stand in `jobs.yaml`: one type per mapping, one field per key.
//!
//! The doc comments are the descriptions in the JSON Schema, so they speak to whoever writes a
//! manifest. Fields are in the order in which `jobs.yaml` is best written.

mod build;
mod command;
mod engine;
mod env_files;
mod gpus;
mod image;
mod job;
mod need;
mod notify;
mod outcome;
mod root;
mod sweep;
mod variables;

pub use build::{Build, CaBundle};
pub use command::Command;
pub use engine::Engine;
pub use env_files::{EnvFile, EnvFileFormat, EnvFiles};
pub use gpus::GpusKey;
pub use image::{BaseImage, ImageDefaults, Latest, VersionSource};
pub use job::{
    HealthTest, Healthcheck, ImageSource, Input, Job, Metrics, Network, Output, Resources,
};
pub use need::{Need, Needs};
pub use notify::{Notify, Occasion, Webhook};
pub use outcome::{Retry, RetryCause};
pub use root::{FormatVersion, Root, Schedule, Secret};
pub use sweep::{Sweep, Values};
pub use variables::{Variable, Variables};
