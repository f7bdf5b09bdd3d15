//! The releases that an engine has.

use crate::engine::docker::{DockerEngine, EngineError};
use crate::model::ImageRef;
use crate::plan::build::BuildSpec;
use crate::plan::push::is_release;

/// The names of an image's releases that an engine has.
///
/// # Errors
///
/// The engine stopped answering.
pub(super) async fn on_engine(
    engine: &DockerEngine,
    spec: &BuildSpec,
) -> Result<Vec<ImageRef>, EngineError> {
    let patterns = spec.repositories().into_iter().collect();
    let images = engine.images_named(patterns).await?;
    let names = images.iter().flat_map(|image| &image.tags);
    let names = names.filter_map(|name| name.parse::<ImageRef>().ok());
    Ok(names
        .filter(|name| spec.owns(name) && is_release(name))
        .collect())
}
