//! Which image of a job was built last.

use std::path::Path;

use jiff::Timestamp;

use super::unneeded::{claim, claimed_at};
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::model::{Digest, ImageRef};
use crate::plan::push::{self, Built};
use crate::records::Store;

/// What is written down of the images that a project has built.
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
        claimed_at(self.cache?, self.store, image)
    }

    /// Writes down that an image was pulled as a job's. Without that, an older build would be taken for newer.
    pub fn keep_pulled(&self, image: &Digest) {
        if let Some(cache) = self.cache
            && let Err(error) = claim(cache, self.store, image)
        {
            tracing::info!("{image} was pulled: {error}");
        }
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
                tagged: found.and_then(|image| image.tagged),
            });
        }
        Ok(push::newest(built))
    }
}
