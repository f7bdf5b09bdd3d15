//! What a run needs to know of its image.

use std::collections::BTreeMap;

use bollard::models::ImageConfig;
use serde_json::{Value, json};

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::model::labels::content_labels;
use crate::model::{Digest, Platform};

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
    /// The digest of what is in it: layers, configuration and platform, without the labels that jobctl
    /// set and without times, names and authors. Two images that differ in these alone run the same.
    pub content: Digest,
}

impl ImageDetails {
    /// Whether it is made for a platform, as far as the two can be read.
    #[must_use]
    pub fn is_for(&self, platform: &str) -> bool {
        match (self.platform.parse::<Platform>(), platform.parse()) {
            (Ok(found), Ok(wanted)) => found == wanted,
            _ => true,
        }
    }
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
        let mut config = found.config.unwrap_or_default();
        let mut platform = vec![
            found.os.unwrap_or_default(),
            found.architecture.unwrap_or_default(),
        ];
        platform.extend(found.variant.filter(|variant| !variant.is_empty()));
        let platform = platform.join("/");
        let layers = found.root_fs.and_then(|root| root.layers);
        let layers = layers.unwrap_or_default();
        let labels = config.labels.take().unwrap_or_default();
        let labels = labels.into_iter().collect();
        let content = content(&platform, &layers, &config, &labels);
        let environment = config.env.unwrap_or_default();
        let mut volumes = config.volumes.unwrap_or_default();
        volumes.sort();
        Ok(Some(ImageDetails {
            id,
            tags: found.repo_tags.unwrap_or_default(),
            repo_digests: found.repo_digests.unwrap_or_default(),
            layers,
            labels,
            environment: environment
                .iter()
                .map(|variable| variable.split('=').next().unwrap_or_default().to_owned())
                .collect(),
            user: config.user.filter(|user| !user.is_empty()),
            volumes,
            platform,
            content,
        }))
    }
}

/// The digest of what is in an image. Engines write what is not set as nothing, as an empty text, or as
/// an empty list.
fn content(
    platform: &str,
    layers: &[String],
    config: &ImageConfig,
    labels: &BTreeMap<String, String>,
) -> Digest {
    let sorted = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.sort();
        list
    };
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let health = config.healthcheck.as_ref();
    let health = health.filter(|health| health.test.as_ref().is_some_and(|test| !test.is_empty()));
    let health = health.map(|health| {
        json!([
            health.test,
            health.interval.unwrap_or(0),
            health.timeout.unwrap_or(0),
            health.start_period.unwrap_or(0),
            health.start_interval.unwrap_or(0),
            health.retries.unwrap_or(0),
        ])
    });
    let content: Value = json!({
        "content": 1,
        "platform": platform,
        "layers": layers,
        "user": text(&config.user),
        "ports": sorted(&config.exposed_ports),
        "environment": list(&config.env),
        "entrypoint": list(&config.entrypoint),
        "command": list(&config.cmd),
        "health": health,
        "volumes": sorted(&config.volumes),
        "workdir": text(&config.working_dir),
        "on_build": list(&config.on_build),
        "stop_signal": text(&config.stop_signal),
        "shell": list(&config.shell),
        "labels": content_labels(labels),
    });
    Digest::of(content.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::labels::STAMPED_LABEL;

    fn digest(change: impl FnOnce(&mut ImageConfig, &mut BTreeMap<String, String>)) -> Digest {
        let mut config = ImageConfig {
            env: Some(vec!["PATH=/bin".to_owned()]),
            cmd: Some(vec!["sh".to_owned()]),
            ..ImageConfig::default()
        };
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut labels = BTreeMap::from([
            label("team", "a"),
            label(STAMPED_LABEL, "revision"),
            label("org.opencontainers.image.revision", "1"),
            label("dev.jobctl.context", "1"),
        ]);
        change(&mut config, &mut labels);
        content("linux/amd64", &["sha256:1".to_owned()], &config, &labels)
    }

    #[test]
    fn where_an_image_comes_from_is_not_its_content() {
        let same = digest(|_, _| {});
        let again = digest(|config, labels| {
            for name in ["org.opencontainers.image.revision", "dev.jobctl.context"] {
                labels.insert(name.to_owned(), "2".to_owned());
            }
            // As another engine writes the same.
            config.user = Some(String::new());
            config.entrypoint = Some(Vec::new());
            config.healthcheck = Some(bollard::models::HealthConfig::default());
        });
        assert_eq!(again, same);
    }

    #[test]
    fn what_a_container_is_started_with_is_content() {
        let same = digest(|_, _| {});
        let some = |text: &str| Some(vec![text.to_owned()]);
        let digests = [
            same,
            digest(|config, _| config.user = Some("1".to_owned())),
            digest(|config, _| config.env = some("PATH=/usr/bin")),
            digest(|config, _| config.cmd = some("bash")),
            digest(|config, _| config.entrypoint = some("sh")),
            digest(|config, _| config.volumes = some("/data")),
            digest(|config, _| config.exposed_ports = some("80/tcp")),
            digest(|config, _| config.working_dir = Some("/".to_owned())),
            digest(|config, _| config.stop_signal = Some("INT".to_owned())),
            digest(|config, _| config.shell = some("bash")),
            digest(|config, _| {
                config.healthcheck = Some(bollard::models::HealthConfig {
                    test: some("CMD"),
                    ..Default::default()
                });
            }),
            digest(|_, labels| drop(labels.insert("team".to_owned(), "b".to_owned()))),
        ];
        let different: std::collections::BTreeSet<_> = digests.iter().map(Digest::as_str).collect();
        assert_eq!(different.len(), digests.len());
    }
}
