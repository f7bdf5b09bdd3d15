//! Running containers.
//!
//! A job is run in docker's own order, which loses neither output nor exit code: [`create`],
//! [`attach`], [`wait`], [`start`]; each has answered before the next is asked. What a lost
//! connection leaves open, [`container`] and [`logs`] tell afterwards.
//!
//! bollard is used where its requests do: it can't say when a wait is on its way, and mistakes a
//! terminal's bytes for frames, so attaching, waiting, logs and exec are requests of our own.
//!
//! [`create`]: super::DockerEngine::create
//! [`attach`]: super::DockerEngine::attach
//! [`wait`]: super::DockerEngine::wait
//! [`start`]: super::DockerEngine::start
//! [`container`]: super::DockerEngine::container
//! [`logs`]: super::DockerEngine::logs

mod attach;
mod container;
mod copy;
mod create;
mod devices;
mod end;
mod environment;
mod exec;
mod frames;
mod host;
mod image;
mod logs;
mod memory;
mod networks;
mod output;
mod ports;
mod program;
mod start;
mod wait;
mod witness;

pub use attach::{Attachment, Input};
pub use environment::Given;
pub use image::ImageDetails;
pub use output::Output;
pub use wait::Waiting;

use std::time::Duration;

use super::client::DockerEngine;
use super::error::EngineError;
use super::request::{self, Answer, Request};
use crate::engine::run::RunError;

/// How long making, starting and removing a container may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

impl DockerEngine {
    /// The answer to a request, unless the engine refuses.
    async fn accepted(&self, request: Request) -> Result<Answer, EngineError> {
        request::send(&self.connector, request, self.deadlines.call)
            .await?
            .accepted(self.connector.address())
            .await
    }
}

/// An engine's "not found" about a container.
fn of_container(error: EngineError, container: &str) -> RunError {
    match error {
        EngineError::Refused { status: 404, .. } => RunError::NoContainer {
            container: container.to_owned(),
        },
        error => error.into(),
    }
}
