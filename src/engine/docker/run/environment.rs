//! What a container was given: its user, and what may be a secret.

use bollard::models::ContainerConfig;
use bollard::query_parameters::InspectContainerOptions;

use super::super::client::DockerEngine;
use crate::engine::run::RunError;
use crate::model::Secret;

/// What a container was given that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its variables, its image's among them.
    pub environment: Vec<(String, Secret)>,
    /// Its entry point.
    pub entrypoint: Vec<Secret>,
    /// Its command.
    pub command: Vec<Secret>,
}

impl DockerEngine {
    /// What a container was given.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn given_to(&self, container: &str) -> Result<Given, RunError> {
        let config = self.config_of(container).await?;
        let variables = config.env.unwrap_or_default().into_iter();
        let environment = variables.filter_map(|variable| {
            let (name, value) = variable.split_once('=')?;
            Some((name.to_owned(), Secret::new(value)))
        });
        let words = |words: Option<Vec<String>>| {
            let words = words.unwrap_or_default().into_iter();
            words.map(Secret::new).collect()
        };
        Ok(Given {
            environment: environment.collect(),
            entrypoint: words(config.entrypoint),
            command: words(config.cmd),
        })
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
