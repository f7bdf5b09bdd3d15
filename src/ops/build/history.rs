//! Which image of a job was built last.

use std::path::Path;

use jiff::Timestamp;

use super::claims::{Kind, claim, had_at};
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::model::{Digest, ImageRef};
use crate::plan::build::BuildSpec;
use crate::plan::push::{self, Built};
use crate::records::Store;

/// What is written down of the images that a project has built or pulled.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// The project's state directory.
    pub store: &'a Store,
    /// Where what is remembered of builds is kept; nothing where there is no such place.
    pub cache: Option<&'a Path>,
}

impl History<'_> {
    /// When the project has last built an image, found it up to date, or pulled it as a job's.
    #[must_use]
    pub fn claimed(&self, image: &Digest) -> Option<Timestamp> {
        had_at(self.cache?, Some(self.store), image).ok()?
    }

    /// Whether any project of the user's has built an image, found it up to date, or pulled it as a job's. Labels
    /// alone don't tell: what is made from a job's image inherits them.
    #[must_use]
    pub fn knows(&self, image: &Digest) -> bool {
        let had = self.cache.map(|cache| had_at(cache, None, image));
        matches!(had, Some(Ok(Some(_))))
    }

    /// Writes down that an image was pulled as a job's. Without that, an older build would be taken for newer. It
    /// was not built here for that, and is never up to date.
    pub fn keep_pulled(&self, image: &Digest) {
        if let Some(cache) = self.cache
            && let Err(error) = claim(cache, self.store, image, Kind::Pulled)
        {
            tracing::info!("{image} was pulled: {error}");
        }
    }

    /// The image of a job that was built or pulled last, whatever its version; of those for a platform, if one is
    /// given. Where none is known, what the engine has under the job's names.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn built_last(
        &self,
        engine: &DockerEngine,
        spec: &BuildSpec,
        platform: Option<&str>,
    ) -> Result<Option<LocalImage>, EngineError> {
        let patterns = spec.repositories().into_iter().collect();
        let mut images = engine.images_named(patterns).await?;
        if let Some(platform) = platform {
            let mut fitting = Vec::new();
            for image in images {
                let details = engine.image_details(image.id.as_str()).await?;
                if details.is_some_and(|details| details.is_for(platform)) {
                    fitting.push(image);
                }
            }
            images = fitting;
        }
        let named = images.iter().filter_map(|image| {
            let names = image.tags.iter().filter_map(|name| name.parse().ok());
            let names: Vec<_> = names.filter(|name| spec.owns(name)).collect();
            (!names.is_empty()).then_some((image, names))
        });
        let newest = self.newest(engine, named.collect()).await?;
        Ok(newest.map(|newest| newest.image.clone()))
    }

    /// Sorts images by when this user's projects have built or pulled them, or by their own time: the newest first.
    pub fn sort(&self, images: &mut [LocalImage]) {
        images.sort_by_cached_key(|image| {
            let claimed = self
                .cache
                .and_then(|cache| had_at(cache, None, &image.id).ok()?);
            std::cmp::Reverse(claimed.or(image.created))
        });
    }

    /// Of images and their names, the one that was built last.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn newest<'a>(
        &self,
        engine: &DockerEngine,
        named: Vec<(&'a LocalImage, Vec<ImageRef>)>,
    ) -> Result<Option<Built<'a>>, EngineError> {
        let mut built = Vec::new();
        for (image, names) in named {
            // A list of images does not have it.
            let found = engine.image(image.id.as_str()).await?;
            built.push(Built {
                image,
                names,
                claimed: self.claimed(&image.id),
                is_known: self.knows(&image.id),
                tagged: found.and_then(|image| image.tagged),
            });
        }
        Ok(push::newest(built))
    }
}
