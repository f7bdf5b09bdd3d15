//! What a run needs to know of its image.

use std::collections::BTreeMap;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::model::Digest;

/// What a run needs to know of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetails {
    /// Its id.
    pub id: Digest,
    /// What it is named: `debian:trixie-slim`.
    pub tags: Vec<String>,
    /// The digests under which registries have it: `debian@sha256:…`.
    pub repo_digests: Vec<String>,
    /// The ids of its layers, the lowest first.
    pub layers: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of the variables that it sets.
    pub environment: Vec<String>,
    /// Its user, if not root.
    pub user: Option<String>,
    /// The folders that become nameless volumes, sorted.
    pub volumes: Vec<String>,
    /// Its operating system and processor: `linux/amd64`.
    pub platform: String,
}

impl DockerEngine {
    /// What a run needs to know of an image, by its name or id; `None` if the engine does not have
    /// it.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn image_details(&self, name: &str) -> Result<Option<ImageDetails>, EngineError> {
        let found = match self.call(self.docker.inspect_image(name)).await {
            Ok(found) => found,
            Err(EngineError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(id) = found.id.and_then(|id| id.parse().ok()) else {
            return Ok(None);
        };
        let config = found.config.unwrap_or_default();
        let environment = config.env.unwrap_or_default();
        let mut volumes = config.volumes.unwrap_or_default();
        volumes.sort();
        let mut platform = vec![
            found.os.unwrap_or_default(),
            found.architecture.unwrap_or_default(),
        ];
        platform.extend(found.variant.filter(|variant| !variant.is_empty()));
        Ok(Some(ImageDetails {
            id,
            tags: found.repo_tags.unwrap_or_default(),
            repo_digests: found.repo_digests.unwrap_or_default(),
            layers: found
                .root_fs
                .and_then(|root| root.layers)
                .unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            environment: environment
                .iter()
                .map(|variable| variable.split('=').next().unwrap_or_default().to_owned())
                .collect(),
            user: config.user.filter(|user| !user.is_empty()),
            volumes,
            platform: platform.join("/"),
        }))
    }
}
