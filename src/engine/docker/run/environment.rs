//! What a container was given: its variables, its user.

use bollard::models::ContainerConfig;
use bollard::query_parameters::InspectContainerOptions;

use super::super::client::DockerEngine;
use crate::engine::run::RunError;
use crate::model::Secret;

impl DockerEngine {
    /// The variables that a container was given, its image's among them.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn environment_of(&self, container: &str) -> Result<Vec<(String, Secret)>, RunError> {
        let config = self.config_of(container).await?;
        let variables = config.env.unwrap_or_default();
        Ok(variables
            .into_iter()
            .filter_map(|variable| {
                let (name, value) = variable.split_once('=')?;
                Some((name.to_owned(), Secret::new(value)))
            })
            .collect())
    }

    /// The user that a container's program runs as, as docker's `--user` takes it; empty for root.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn user_of(&self, container: &str) -> Result<String, RunError> {
        let config = self.config_of(container).await?;
        Ok(config.user.unwrap_or_default())
    }

    async fn config_of(&self, container: &str) -> Result<ContainerConfig, RunError> {
        let asking = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let found = self
            .call(asking)
            .await
            .map_err(|error| super::of_container(error, container))?;
        Ok(found.config.unwrap_or_default())
    }
}
