//! Has the engine pull images, and shows how far it is.

use crate::engine::docker::credentials::Keyring;
use crate::engine::docker::{DockerEngine, EngineError, LocalImage};
use crate::engine::registry::{Registry, Trusted};
use crate::event::{Event, Events, Outcome};
use crate::facts::Environment;
use crate::model::{Digest, ImageRef};

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name.
    pub name: ImageRef,
    /// What the engine has under the name now.
    pub image: LocalImage,
    /// The digest that the name has in its registry; nothing where that can't be found out.
    pub digest: Option<Digest>,
}

/// Pulls an image, for a platform if one is given. The digest that the name has in the registry, if the
/// engine says it.
///
/// # Errors
///
/// See [`DockerEngine::pull`].
pub async fn pull(
    engine: &DockerEngine,
    image: &ImageRef,
    platform: Option<&str>,
    events: &Events,
) -> Result<Option<Digest>, EngineError> {
    let step = events.step(None, format!("pull {}", image.familiar()));
    let pulled = engine.pull(image, platform, &step).await;
    step.finish(match &pulled {
        Ok(_) => Outcome::Done,
        // Whoever asked for it says why.
        Err(_) => Outcome::Failed(String::new()),
    });
    pulled
}

/// Pulls an image, and finds out the digest that its name has in the registry.
///
/// # Errors
///
/// See [`DockerEngine::pull`].
pub async fn pull_and_resolve(
    engine: &DockerEngine,
    environment: &Environment,
    name: &ImageRef,
    platform: Option<&str>,
    events: &Events,
) -> Result<Pulled, EngineError> {
    let said = pull(engine, name, platform, events).await?;
    let shown = name.familiar().to_string();
    let image = engine.image(&shown).await?;
    let image = image.ok_or_else(|| EngineError::Failed {
        message: format!("`{shown}` is not there after all"),
    })?;
    let digest = match said.or_else(|| name.digest().cloned()) {
        Some(digest) => Some(digest),
        None => resolve(engine, environment, name, &image).await,
    };
    if digest.is_none() {
        events.send(Event::Warning(format!(
            "the engine does not say which digest `{shown}` has, and its registry can't be asked from here"
        )));
    }
    Ok(Pulled {
        name: name.clone(),
        image,
        digest,
    })
}

/// The digest of a name that was pulled by an engine that does not say it. The image may have several: of
/// an index and of what the index lists, and of earlier pulls and pushes.
async fn resolve(
    engine: &DockerEngine,
    environment: &Environment,
    name: &ImageRef,
    image: &LocalImage,
) -> Option<Digest> {
    let known = image.digests_in(name);
    if let [only] = known.as_slice() {
        return Some(only.clone());
    }
    if !engine.is_local() {
        return None;
    }
    let insecure = engine.insecure_registries().await.ok()?;
    let canonical = name.canonical();
    let domain = canonical.domain().unwrap_or("docker.io");
    let credentials = Keyring::open(environment).ok()?.find(domain).await.ok()?;
    let trusted = Trusted::of_engine(insecure);
    let found = Registry::of(name, &trusted, credentials)
        .manifest(name)
        .await;
    let found = found.ok()??.digest;
    // The tag may have moved since.
    known.contains(&found).then_some(found)
}
