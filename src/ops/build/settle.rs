//! What is known of a build beforehand: the version that it gets, and so its names.

use std::path::PathBuf;

use super::prepare::digest_apart;
use super::{Failure, Reason, git};
use crate::event::{Event, Events};
use crate::model::Digest;
use crate::plan::build::{BuildSpec, Item, VersionChoice};

/// Replaces what versions depend on (git, and whether the context is as it was committed) with the versions that
/// images get. No engine is asked.
///
/// # Errors
///
/// git, or the context, can't be read where the version depends on it; or the version can't be a tag.
pub async fn settle(
    mut items: Vec<Item>,
    cache: Option<&PathBuf>,
    events: &Events,
) -> Result<Vec<Item>, Failure> {
    for item in &mut items {
        if let Item::Build(spec) = item {
            let version = version(spec, cache, events).await;
            spec.version = version.map_err(|reason| Failure::of_build(spec, reason))?;
            let version = match &spec.version {
                VersionChoice::Exact(version) => Some(version),
                _ => None,
            };
            if let Err(error) = spec.names(version, None) {
                return Err(Failure::of_build(spec, Reason::Name(error)));
            }
        }
    }
    Ok(items)
}

async fn version(
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    events: &Events,
) -> Result<VersionChoice, Reason> {
    if matches!(spec.version, VersionChoice::None | VersionChoice::Exact(_)) {
        return Ok(spec.version.clone());
    }
    let asking = tokio::task::spawn_blocking({
        let spec = spec.clone();
        move || git::ask(&spec)
    });
    let (known, warnings) = asking.await.unwrap_or_else(|_| Ok((None, Vec::new())))?;
    for warning in warnings {
        events.send(Event::Warning(warning));
    }
    let is_dirty = known.as_ref().is_some_and(|git| git.is_dirty);
    let context = if is_dirty {
        Digest::from(digest_apart(spec, cache).await?.0.sha256)
    } else {
        Digest::from([0; 32])
    };
    let version = spec.version_of(known.as_ref(), &context);
    Ok(version.map_or(VersionChoice::None, VersionChoice::Exact))
}
