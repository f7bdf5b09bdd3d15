//! Has the engine pull images, and shows how far it is.

use crate::engine::docker::{DockerEngine, EngineError};
use crate::event::{Events, Outcome};
use crate::model::ImageRef;

/// Pulls an image, for a platform if one is given.
///
/// # Errors
///
/// See [`DockerEngine::pull`].
pub async fn pull(
    engine: &DockerEngine,
    image: &ImageRef,
    platform: Option<&str>,
    events: &Events,
) -> Result<(), EngineError> {
    let step = events.step(None, format!("pull {}", image.familiar()));
    let pulled = engine.pull(image, platform, &step).await;
    step.finish(match &pulled {
        Ok(()) => Outcome::Done,
        // Whoever asked for it says why.
        Err(_) => Outcome::Failed(String::new()),
    });
    pulled
}
