//! Building: with BuildKit, or with the classic builder where there is none.

use super::client::DockerEngine;
use super::error::EngineError;
use crate::engine::build::{BuildError, BuildRequest, BuiltImage};
use crate::event::{Events, StepId};

/// What an engine with containerd's image store says of its storage.
const CONTAINERD_STORE: [&str; 2] = ["driver-type", "io.containerd.snapshotter.v1"];

impl DockerEngine {
    /// Builds an image.
    ///
    /// Dropping the future cancels the build on the engine too.
    ///
    /// # Errors
    ///
    /// See [`BuildError`]; nothing is named then.
    pub async fn build(
        &self,
        request: &BuildRequest,
        events: &Events,
        parent: Option<StepId>,
    ) -> Result<BuiltImage, BuildError> {
        match self.solve(request, events, parent).await? {
            Some(built) => Ok(built),
            None => self.build_classic(request, events, parent).await,
        }
    }

    /// Whether the engine can give the files in layers a time: with containerd's image store.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn can_rewrite_times(&self) -> Result<bool, EngineError> {
        let info = self.call(self.docker.info()).await?;
        // The store has drivers of its own, and says so beside their name.
        let status = info.driver_status.unwrap_or_default();
        Ok(status.iter().any(|pair| *pair == CONTAINERD_STORE))
    }
}
