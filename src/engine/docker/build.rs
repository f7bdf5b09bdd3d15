//! Building: with BuildKit, or with the classic builder where there is none.

use super::client::DockerEngine;
use crate::engine::build::{BuildError, BuildRequest, BuiltImage};
use crate::event::{Events, StepId};

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
}
