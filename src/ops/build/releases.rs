//! The releases that an engine has.

use std::collections::BTreeSet;

use crate::engine::docker::{DockerEngine, EngineError};
use crate::model::{ImageRef, Version};
use crate::plan::build::BuildSpec;
use crate::plan::push::{is_release, version};

/// The releases of an image that an engine has.
///
/// # Errors
///
/// The engine stopped answering.
pub(super) async fn on_engine(
    engine: &DockerEngine,
    spec: &BuildSpec,
) -> Result<BTreeSet<Version>, EngineError> {
    let patterns = spec.repositories().into_iter().collect();
    let images = engine.images_named(patterns).await?;
    let names = images.iter().flat_map(|image| &image.tags);
    let names = names.filter_map(|name| name.parse::<ImageRef>().ok());
    let releases = names.filter(|name| spec.owns(name) && is_release(name));
    Ok(releases.filter_map(|name| version(&name)).collect())
}
