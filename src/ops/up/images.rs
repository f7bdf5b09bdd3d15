//! The images of a pipeline: all are there before its first step runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::engine::docker::DockerEngine;
use crate::event::Events;
use crate::model::{ImageRef, Name};
use crate::ops::build::{self, History};
use crate::ops::pull::pull;
use crate::ops::run::{RunFailure, built_image};
use crate::plan::build::Item;
use crate::plan::run::ImageChoice;
use crate::plan::up::Step;
use crate::records::{ImageRecord, Store};

/// Builds what is to be built, each once, and pulls what is not there. The images by job; those of jobs
/// that run another job's are not among them.
pub(super) async fn make(
    engine: &DockerEngine,
    store: &Store,
    steps: &[Step],
    cache: Option<&PathBuf>,
    events: &Events,
) -> Result<BTreeMap<Name, ImageRecord>, RunFailure> {
    let mut images = BTreeMap::new();
    let mut built = BTreeSet::new();
    let history = History::new(store, cache.map(PathBuf::as_path));
    for step in steps {
        match &step.plan.image {
            ImageChoice::Build(items) => {
                let is_new = |item: &&Item| built.insert(title(item));
                // What a job builds comes last, and is its own.
                let items: Vec<_> = items.iter().filter(is_new).cloned().collect();
                let made = build::build(engine, &items, cache, None, events).await;
                let made = made.map_err(|failure| RunFailure::Build(Box::new(failure)))?;
                build::forget_replaced(engine, &history, &items, &made, events).await;
                if let Some(image) = made.last() {
                    let record = built_image(engine, store, image).await?;
                    images.insert(step.job.clone(), record);
                }
            }
            ImageChoice::Named(image) => {
                let record = named(engine, image, step.plan.spec.platform.as_deref(), events);
                images.insert(step.job.clone(), record.await?);
            }
            ImageChoice::OfJob(_) | ImageChoice::Built(_) => {}
        }
    }
    Ok(images)
}

/// What tells apart what is built.
fn title(item: &Item) -> (bool, String) {
    match item {
        Item::Base(spec) => (true, spec.title.clone()),
        Item::Build(spec) => (false, format!("{}\0{}", spec.title, spec.name)),
    }
}

/// An image that is named: as it is on the engine, or as the registry has it.
async fn named(
    engine: &DockerEngine,
    image: &ImageRef,
    platform: Option<&str>,
    events: &Events,
) -> Result<ImageRecord, RunFailure> {
    let name = image.familiar().to_string();
    let mut found = engine.image_details(&name).await?;
    if found.is_none() {
        let pulling = pull(engine, image, platform, events);
        pulling.await.map_err(|reason| RunFailure::Pull {
            image: name.clone(),
            reason,
        })?;
        found = engine.image_details(&name).await?;
    }
    Ok(ImageRecord {
        name,
        id: found.as_ref().map(|found| found.id.to_string()),
        content: found.map(|found| found.content.to_string()),
        ..ImageRecord::default()
    })
}
