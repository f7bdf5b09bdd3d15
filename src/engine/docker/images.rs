//! The engine's images: which there are, naming, loading.

use std::collections::{BTreeMap, HashMap};

use bollard::query_parameters::{
    ImportImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;
use jiff::Timestamp;

use super::client::DockerEngine;
use super::error::EngineError;
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
    /// Whether a build that begins from it runs instructions of its own (`ONBUILD`). Not known of a
    /// list's.
    pub has_triggers: bool,
    /// When it was made, as it says itself.
    pub created: Option<Timestamp>,
    /// When it was last named, as the engine says of a single image; not all engines do.
    pub tagged: Option<Timestamp>,
    /// How large it is unpacked, in bytes.
    pub size: u64,
}

impl LocalImage {
    /// The digest that a registry has it under, for the repository of a reference.
    #[must_use]
    pub fn digest_in(&self, reference: &ImageRef) -> Option<Digest> {
        self.digests_in(reference).into_iter().next()
    }

    /// All digests that a registry has it under, for the repository of a reference.
    #[must_use]
    pub fn digests_in(&self, reference: &ImageRef) -> Vec<Digest> {
        let repository = reference.canonical().repository();
        let known = self.repo_digests.iter().filter_map(|text| {
            let known: ImageRef = text.parse().ok()?;
            (known.canonical().repository() == repository)
                .then(|| known.digest().cloned())
                .flatten()
        });
        known.collect()
    }
}

/// Old engines list an image without a name under one.
fn named(mut tags: Vec<String>) -> Vec<String> {
    tags.retain(|tag| !tag.starts_with("<none>"));
    tags
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
        let config = found.config.unwrap_or_default();
        let has_triggers = config.on_build.is_some_and(|triggers| !triggers.is_empty());
        let labels = config.labels;
        let Some(id) = found.id.and_then(|id| id.parse().ok()) else {
            return Ok(None);
        };
        Ok(Some(LocalImage {
            id,
            tags: named(found.repo_tags.unwrap_or_default()),
            repo_digests: named(found.repo_digests.unwrap_or_default()),
            labels: labels.unwrap_or_default().into_iter().collect(),
            has_triggers,
            created: found.created.and_then(|time| time.to_string().parse().ok()),
            tagged: (found.metadata)
                .and_then(|metadata| metadata.last_tag_time)
                .and_then(|time| time.to_string().parse().ok())
                // The year 1 means "never".
                .filter(|time| *time > Timestamp::UNIX_EPOCH),
            size: found
                .size
                .and_then(|size| size.try_into().ok())
                .unwrap_or(0),
        }))
    }

    /// The steps that made an image, the first one first, as the engine words them.
    ///
    /// # Errors
    ///
    /// The engine does not have it, or stopped answering.
    pub async fn history(&self, name: &str) -> Result<Vec<String>, EngineError> {
        let steps = self.call(self.docker.image_history(name)).await?;
        let steps = steps.into_iter().rev();
        Ok(steps.map(|step| step.created_by).collect())
    }

    /// The images that have a label, of this value if one is given, the newest first.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn images_labelled(
        &self,
        label: &str,
        value: Option<&str>,
    ) -> Result<Vec<LocalImage>, EngineError> {
        let filter = vec![match value {
            Some(value) => format!("{label}={value}"),
            None => label.to_owned(),
        }];
        self.listed(HashMap::from([("label".to_owned(), filter)]))
            .await
    }

    /// The images with a name that is like one of these patterns, in which `*` is any part between slashes.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub(crate) async fn images_named(
        &self,
        patterns: Vec<String>,
    ) -> Result<Vec<LocalImage>, EngineError> {
        self.listed(HashMap::from([("reference".to_owned(), patterns)]))
            .await
    }

    /// All images.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub(crate) async fn images(&self) -> Result<Vec<LocalImage>, EngineError> {
        self.listed(HashMap::new()).await
    }

    async fn listed(
        &self,
        filters: HashMap<String, Vec<String>>,
    ) -> Result<Vec<LocalImage>, EngineError> {
        let options = ListImagesOptions {
            filters: Some(filters),
            ..ListImagesOptions::default()
        };
        let mut found = self.call(self.docker.list_images(Some(options))).await?;
        found.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(found
            .into_iter()
            .filter_map(|image| {
                Some(LocalImage {
                    id: image.id.parse().ok()?,
                    tags: named(image.repo_tags),
                    repo_digests: named(image.repo_digests),
                    labels: image.labels.into_iter().collect(),
                    has_triggers: false,
                    created: Timestamp::from_second(image.created).ok(),
                    tagged: None,
                    size: image.size.try_into().unwrap_or(0),
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
