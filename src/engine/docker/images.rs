//! The engine's images: which there are, naming, pulling, loading.

use std::collections::{BTreeMap, HashMap};

use bollard::query_parameters::{
    CreateImageOptions, ImportImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;

use super::client::DockerEngine;
use super::error::EngineError;
use crate::event::{Step, Unit};
use crate::model::{Digest, ImageRef, Tag};

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Its id.
    pub id: Digest,
    /// What it is named: `debian:trixie-slim`.
    pub tags: Vec<String>,
    /// The digests under which registries have it: `debian@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl LocalImage {
    /// The digest that a registry has it under, for the repository of a reference.
    #[must_use]
    pub fn digest_in(&self, reference: &ImageRef) -> Option<Digest> {
        let repository = reference.canonical().repository();
        self.repo_digests.iter().find_map(|text| {
            let known: ImageRef = text.parse().ok()?;
            (known.canonical().repository() == repository)
                .then(|| known.digest().cloned())
                .flatten()
        })
    }
}

impl DockerEngine {
    /// An image by its name or id; `None` if the engine does not have it.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn image(&self, name: &str) -> Result<Option<LocalImage>, EngineError> {
        let found = match self.call(self.docker.inspect_image(name)).await {
            Ok(found) => found,
            Err(EngineError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let labels = found.config.and_then(|config| config.labels);
        let Some(id) = found.id.and_then(|id| id.parse().ok()) else {
            return Ok(None);
        };
        Ok(Some(LocalImage {
            id,
            tags: found.repo_tags.unwrap_or_default(),
            repo_digests: found.repo_digests.unwrap_or_default(),
            labels: labels.unwrap_or_default().into_iter().collect(),
        }))
    }

    /// The images that have a label of this value, the newest first.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn images_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, EngineError> {
        let filter = vec![format!("{label}={value}")];
        let options = ListImagesOptions {
            filters: Some(HashMap::from([("label".to_owned(), filter)])),
            ..ListImagesOptions::default()
        };
        let mut found = self.call(self.docker.list_images(Some(options))).await?;
        found.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(found
            .into_iter()
            .filter_map(|image| {
                Some(LocalImage {
                    id: image.id.parse().ok()?,
                    tags: image.repo_tags,
                    repo_digests: image.repo_digests,
                    labels: image.labels.into_iter().collect(),
                })
            })
            .collect())
    }

    /// Names an image; the name moves from whatever had it.
    ///
    /// # Errors
    ///
    /// The engine refused, or stopped answering.
    pub async fn tag(&self, image: &Digest, name: &ImageRef) -> Result<(), EngineError> {
        let options = TagImageOptions {
            repo: Some(name.repository()),
            tag: Some(name.tag().map_or("latest", Tag::as_str).to_owned()),
        };
        self.call(self.docker.tag_image(image.as_str(), Some(options)))
            .await
    }

    /// Pulls an image, without credentials. `step` is told how far it is; whoever began it ends it.
    ///
    /// # Errors
    ///
    /// The registry does not have it or can't be reached, or the engine stopped answering.
    pub async fn pull(
        &self,
        name: &ImageRef,
        platform: Option<&str>,
        step: &Step,
    ) -> Result<(), EngineError> {
        let tag = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => "latest".to_owned(),
        };
        let options = CreateImageOptions {
            from_image: Some(name.repository()),
            tag: Some(tag),
            platform: platform.unwrap_or_default().to_owned(),
            ..CreateImageOptions::default()
        };
        let mut told = Box::pin(self.docker.create_image(Some(options), None, None));
        // By layer: how much there is of it, and of how much.
        let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        while let Some(told) = told.next().await {
            let told =
                told.map_err(|error| EngineError::of_bollard(&error, &self.endpoint().address))?;
            let is_download = told.status.as_deref() == Some("Downloading");
            if let (true, Some(id), Some(detail)) = (is_download, told.id, told.progress_detail) {
                let part = |value: Option<i64>| value.and_then(|value| value.try_into().ok());
                layers.insert(
                    id,
                    (
                        part(detail.current).unwrap_or(0),
                        part(detail.total).unwrap_or(0),
                    ),
                );
                let current = layers.values().map(|(current, _)| current).sum();
                let total = layers.values().map(|(_, total)| total).sum();
                step.progress(current, Some(total), Unit::Bytes);
            }
        }
        Ok(())
    }

    /// Takes images from an archive such as `docker save` writes.
    ///
    /// # Errors
    ///
    /// The archive can't be read or is none, or the engine stopped answering.
    pub async fn load<S>(&self, archive: S) -> Result<(), EngineError>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let options = ImportImageOptions {
            quiet: true,
            ..ImportImageOptions::default()
        };
        let body = bollard::body_try_stream(archive);
        let mut told = Box::pin(self.docker.import_image(options, body, None));
        while let Some(told) = told.next().await {
            told.map_err(|error| EngineError::of_bollard(&error, &self.endpoint().address))?;
        }
        Ok(())
    }

    /// The archive of an image, such as `docker save` writes, as it comes.
    pub fn save(&self, image: &Digest) -> impl Stream<Item = Result<Bytes, EngineError>> + '_ {
        self.docker.export_image(image.as_str()).map(|part| {
            part.map_err(|error| EngineError::of_bollard(&error, &self.endpoint().address))
        })
    }

    /// Removes an image, or only one of its names. One that is not there is no error.
    ///
    /// # Errors
    ///
    /// A container uses it, or the engine stopped answering.
    pub async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let removing = self
            .docker
            .remove_image(name, None::<RemoveImageOptions>, None);
        match self.call(removing).await {
            Ok(_) | Err(EngineError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
