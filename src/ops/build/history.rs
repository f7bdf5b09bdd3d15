//! Which image of a job was built last.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::claims::{Kind, check, claim, had_at};
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::event::{Event, Events};
use crate::model::{Digest, ImageRef};
use crate::plan::build::BuildSpec;
use crate::plan::push::{self, Built, overlooked};
use crate::plan::tags::is_of_context;
use crate::records::Store;

/// What to do where nothing can be written down.
const FIX: &str = "set XDG_CACHE_HOME to the path of a directory that you can write to";

/// What is written down of the images that a project has built or pulled.
#[derive(Debug)]
pub struct History<'a> {
    /// The project's state directory.
    pub(super) store: &'a Store,
    /// Where that is kept, or why it can't be.
    cache: Result<&'a Path, String>,
    /// Whether the user was warned of that.
    is_warned: AtomicBool,
}

impl<'a> History<'a> {
    /// What is known to a project, with what is remembered of builds here; nothing where there is no such place.
    #[must_use]
    pub fn new(store: &'a Store, cache: Option<&'a Path>) -> Self {
        let cache = match cache {
            Some(cache) => check(cache)
                .map(|()| cache)
                .map_err(|error| unkept(cache, &error)),
            None => Err(format!(
                "which images are built or pulled here can't be written down: neither XDG_CACHE_HOME nor HOME is an \
                 absolute path; {FIX}"
            )),
        };
        Self {
            store,
            cache,
            is_warned: AtomicBool::new(false),
        }
    }

    pub(super) fn cache(&self) -> Option<&'a Path> {
        self.cache.as_ref().ok().copied()
    }

    /// Why nothing can be written down, if so.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.cache.as_ref().err().map(String::as_str)
    }

    /// Warns, once, if nothing can be written down, and of what follows from that.
    pub fn warn(&self, events: &Events, consequence: &str) {
        if let Err(why) = &self.cache
            && !self.is_warned.swap(true, Ordering::Relaxed)
        {
            events.send(Event::Warning(format!("{why}{consequence}")));
        }
    }

    /// The same of something that could not be written down after all.
    pub(super) fn warn_unkept(&self, events: &Events, error: &io::Error) {
        if let Ok(cache) = self.cache
            && !self.is_warned.swap(true, Ordering::Relaxed)
        {
            events.send(Event::Warning(unkept(cache, error)));
        }
    }

    /// When the project has last built an image, found it up to date, or pulled it as a job's.
    #[must_use]
    pub fn claimed(&self, image: &Digest) -> Option<Timestamp> {
        had_at(self.cache()?, Some(self.store), image).ok()?
    }

    /// Whether any project of the user's has built an image, found it up to date, or pulled it as a job's. Labels
    /// alone don't tell: what is made from a job's image inherits them. Where nothing can be written down, they are
    /// all that there is, and each image counts.
    #[must_use]
    pub fn knows(&self, image: &Digest) -> bool {
        self.cache.is_err() || self.has(image)
    }

    fn has(&self, image: &Digest) -> bool {
        let had = self.cache().map(|cache| had_at(cache, None, image));
        matches!(had, Some(Ok(Some(_))))
    }

    /// Writes down that an image was pulled as a job's. Without that, an older build would be taken for newer. It
    /// was not built here for that, and is never up to date.
    pub fn keep_pulled(&self, image: &Digest, events: &Events) {
        self.warn(events, "");
        if let Some(cache) = self.cache()
            && let Err(error) = claim(cache, self.store, image, Kind::Pulled)
        {
            self.warn_unkept(events, &error);
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
        events: &Events,
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
        let newest = self.newest(engine, named.collect(), events).await?;
        Ok(newest.map(|newest| newest.image.clone()))
    }

    /// Sorts images by when this user's projects have built or pulled them, or by their own time: the newest first.
    pub fn sort(&self, images: &mut [LocalImage]) {
        images.sort_by_cached_key(|image| {
            let claimed = self
                .cache()
                .and_then(|cache| had_at(cache, None, &image.id).ok()?);
            std::cmp::Reverse(claimed.or(image.created))
        });
    }

    /// Of images and their names, the one that was built last. Warns of others that may be newer, which no project of
    /// the user's has built or pulled, and where all of them may be such.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn newest<'i>(
        &self,
        engine: &DockerEngine,
        named: Vec<(&'i LocalImage, Vec<ImageRef>)>,
        events: &Events,
    ) -> Result<Option<Built<'i>>, EngineError> {
        let mut built = Vec::new();
        for (image, names) in named {
            // A list of images does not have it.
            let found = engine.image(image.id.as_str()).await?;
            built.push(Built {
                image,
                names,
                claimed: self.claimed(&image.id),
                is_known: self.has(&image.id),
                tagged: found.and_then(|image| image.tagged),
            });
        }
        let newest = push::newest(built.clone());
        if let Some(newest) = &newest
            && let Some(name) = newest.names.iter().min_by_key(|name| is_of_context(name))
        {
            let consequence = format!("; `{name}` is taken for the newest of the job, by its time");
            self.warn(events, &consequence);
            if let Some(other) = overlooked(&built, newest) {
                events.send(Event::Warning(format!(
                    "`{other}` is another image, which jobctl is not known to have built or pulled here: `{name}` is \
                     taken for the newest of the job; build it here, or name the image, to use the other"
                )));
            }
        }
        Ok(newest)
    }
}

/// Says that something can't be written down.
fn unkept(cache: &Path, error: &io::Error) -> String {
    let cache = cache.display();
    format!(
        "which images are built or pulled here can't be written down in `{cache}`: {error}; {FIX}"
    )
}
