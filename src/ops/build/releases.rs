//! The releases that an engine has.

use std::collections::BTreeSet;

use crate::engine::docker::{DockerEngine, EngineError};
use crate::model::{ImageRef, Version};
use crate::plan::push::{is_release, version};

/// The releases that an engine has images of in some repositories.
///
/// # Errors
///
/// The engine stopped answering.
pub(super) async fn on_engine(
    engine: &DockerEngine,
    repositories: &BTreeSet<String>,
) -> Result<BTreeSet<Version>, EngineError> {
    let mut releases = BTreeSet::new();
    for repository in repositories {
        let images = engine.images_named(repository).await?;
        let names = images.iter().flat_map(|image| &image.tags);
        let names = names.filter_map(|name| name.parse::<ImageRef>().ok());
        let names = names.filter(|name| name.canonical().repository() == canonical(repository));
        releases.extend(names.filter(is_release).filter_map(|name| version(&name)));
    }
    Ok(releases)
}

fn canonical(repository: &str) -> String {
    let name = repository.parse::<ImageRef>();
    name.map_or_else(
        |_| repository.to_owned(),
        |name| name.canonical().repository(),
    )
}
