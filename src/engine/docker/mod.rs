//! The Docker Engine (and Podman's socket). The only place that names bollard.
//!
//! [`endpoint`] decides where the engine is, as docker's own client decides it; `transport` gets
//! there; [`client`] talks to it; [`run`] runs containers on it.

mod bounded;
mod build;
mod buildkit;
mod classic;
pub mod client;
pub mod config;
pub mod credentials;
pub mod endpoint;
mod error;
mod images;
mod request;
pub mod run;
mod sight;
mod transfer;
pub(in crate::engine) mod transport;
mod upgrade;

pub use client::DockerEngine;
pub use config::DockerConfig;
pub use endpoint::{Address, Endpoint, EndpointFlags, Origin};
pub use error::EngineError;
pub use images::LocalImage;
pub(crate) use transfer::PUSH_SILENCE;
