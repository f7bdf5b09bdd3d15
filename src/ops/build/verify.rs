//! Builds images twice from nothing, and compares what came of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::causes::{Cause, causes, causes_of_times};
use super::compare::{Comparison, compare};
use super::origins::expected;
use super::prepare::is_unchanged;
use super::{Failure, Prepared, Reason, base, build_one, placed, prepare, request};
use crate::engine::archive::{ImageContent, read_image};
use crate::engine::build::{BuildRequest, Reuse};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::event::{Event, Events, Outcome, Step, Unit};
use crate::model::{Digest, ImageRef};
use crate::ops::pipe::{PARTS_WAITING, Received};
use crate::plan::build::{BuildSpec, Item};

/// How long after the first build the second is begun: in another second, by whichever clock.
const ANOTHER_SECOND: Duration = Duration::from_millis(1010);

/// What came of building an image twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Its job's or its own name.
    pub title: String,
    /// The ids of the two images.
    pub ids: [Digest; 2],
    /// The time that the builds were given, in seconds since 1970.
    pub epoch: Option<u64>,
    /// Whether they are the same.
    pub verdict: Verdict,
    /// Why they are not.
    pub causes: Vec<Cause>,
}

/// Whether two images are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They have the same id.
    Identical,
    /// All but times is the same.
    SameContent(Comparison),
    /// Something differs.
    Differs(Comparison),
    /// It can't be told, and why.
    Unknown(String),
}

/// Why images were not verified.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// One of them can't be built.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The user wanted no more of it.
    #[error("interrupted")]
    Interrupted,
}

/// Builds images twice, with nothing taken from earlier builds, and compares them. The images are
/// removed again, and no other is named; what others are made from is built and named as usual.
/// Once `interrupted` is ready, the engine is told to stop, and what is there is removed.
///
/// # Errors
///
/// See [`Unverified`].
pub async fn verify(
    engine: &DockerEngine,
    items: &[Item],
    cache: Option<&PathBuf>,
    events: &Events,
    interrupted: impl Future<Output = ()>,
) -> Result<Vec<Verification>, Unverified> {
    let names = Names::new();
    let outcome = tokio::select! {
        outcome = Box::pin(verify_all(engine, items, cache, events, &names)) => {
            outcome.map_err(Unverified::Failure)
        }
        () = interrupted => Err(Unverified::Interrupted),
    };
    names.remove(engine, events).await;
    outcome
}

async fn verify_all(
    engine: &DockerEngine,
    items: &[Item],
    cache: Option<&PathBuf>,
    events: &Events,
    names: &Names,
) -> Result<Vec<Verification>, Failure> {
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::Base(spec) => {
                let present = base::ensure(engine, spec, events).await;
                present.map_err(|reason| Failure::of_base(spec, reason))?;
            }
            Item::Build(spec) => {
                let verified = Box::pin(verify_one(engine, spec, cache, events, names)).await;
                names.remove(engine, events).await;
                found.push(verified.map_err(|reason| Failure::of_build(spec, reason))?);
            }
        }
    }
    Ok(found)
}

async fn verify_one(
    engine: &DockerEngine,
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    events: &Events,
    names: &Names,
) -> Result<Verification, Reason> {
    if spec.is_base {
        Box::pin(build_one(engine, spec, cache, None, events)).await?;
    }
    let step = events.step(None, format!("verify {}", spec.title));
    let verified = Box::pin(build_and_judge(engine, spec, cache, events, names, &step)).await;
    step.finish(match &verified {
        Ok(verification) => match &verification.verdict {
            Verdict::Identical | Verdict::SameContent(_) => Outcome::Done,
            Verdict::Differs(_) => Outcome::Warned("the two builds differ".to_owned()),
            Verdict::Unknown(why) => Outcome::Warned(why.clone()),
        },
        Err(_) => Outcome::Failed(String::new()),
    });
    verified
}

async fn build_and_judge(
    engine: &DockerEngine,
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    events: &Events,
    names: &Names,
    step: &Step,
) -> Result<Verification, Reason> {
    let prepared = prepare(engine, spec, cache, events, step.id()).await?;
    let expected = expected(engine, spec, &prepared.sources, events, step.id()).await?;
    let mut request = request(engine, spec, &prepared).await?;
    request.labels = prepared.plan.labels(expected.origins());
    request.recipe.reuse = Reuse::Nothing;
    let [first, second] = &names.0;
    request.tags = vec![first.clone()];
    let first = built(engine, &request, &prepared, events, step).await?;
    // Else what depends on the time could be the same by luck: layers have the times of files in seconds.
    tokio::time::sleep(ANOTHER_SECOND).await;
    request.tags = vec![second.clone()];
    let second = built(engine, &request, &prepared, events, step).await?;
    let ids = [first, second];
    let verdict = judge(engine, spec, cache, &prepared, &ids, step).await?;
    let epoch = prepared.plan.epoch;
    Ok(Verification {
        title: spec.title.clone(),
        causes: match &verdict {
            Verdict::Identical | Verdict::Unknown(_) => Vec::new(),
            Verdict::SameContent(found) => causes_of_times(&found.times, epoch.is_some()),
            Verdict::Differs(found) => causes(found),
        },
        ids,
        epoch,
        verdict,
    })
}

async fn built(
    engine: &DockerEngine,
    request: &BuildRequest,
    prepared: &Prepared,
    events: &Events,
    step: &Step,
) -> Result<Digest, Reason> {
    let built = engine.build(request, events, Some(step.id())).await;
    match built {
        Ok(image) => Ok(image.id),
        Err(error) => Err(placed(error, &prepared.dockerfile, &*request.mask).into()),
    }
}

async fn judge(
    engine: &DockerEngine,
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    prepared: &Prepared,
    ids: &[Digest; 2],
    step: &Step,
) -> Result<Verdict, Reason> {
    if ids[0] == ids[1] {
        return Ok(Verdict::Identical);
    }
    let mut contents = Vec::new();
    for id in ids {
        match content(engine, id, step).await? {
            Ok(content) => contents.push(content),
            Err(why) => return Ok(Verdict::Unknown(why)),
        }
    }
    let comparison = compare(&contents[0], &contents[1]);
    if comparison.differences.is_empty() {
        return Ok(Verdict::SameContent(comparison));
    }
    if !is_unchanged(spec, cache, prepared).await? {
        let why = "the context or the Dockerfile was changed between the two builds";
        return Ok(Verdict::Unknown(why.to_owned()));
    }
    Ok(Verdict::Differs(comparison))
}

/// What is in an image, or why that can't be told though the engine is there.
async fn content(
    engine: &DockerEngine,
    id: &Digest,
    step: &Step,
) -> Result<Result<ImageContent, String>, EngineError> {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING);
    let reading = tokio::task::spawn_blocking(move || read_image(Received::new(receiver)));
    let mut archive = Box::pin(engine.save(id));
    let mut read_bytes = 0;
    while let Some(part) = archive.next().await {
        let part = match part {
            Ok(part) => part,
            Err(error @ (EngineError::Failed { .. } | EngineError::Refused { .. })) => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        read_bytes += part.len() as u64;
        step.progress(read_bytes, None, Unit::Bytes);
        // The reader has all that it needs, or says itself why it does not go on.
        if sender.send(Ok(part)).await.is_err() {
            break;
        }
    }
    drop(sender);
    let read = reading.await.map_err(io::Error::other);
    Ok(match read {
        Ok(Ok(content)) => Ok(content),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    })
}

/// The names of the two images while they are there: nobody else's, so that they can be removed
/// whatever else has the same content.
struct Names([ImageRef; 2]);

impl Names {
    fn new() -> Self {
        let id = uuid::Uuid::new_v4().simple();
        Self(["first", "second"].map(|which| {
            let name = format!("jobctl-verify:{id}-{which}");
            name.parse().expect("digits and words are a tag")
        }))
    }

    async fn remove(&self, engine: &DockerEngine, events: &Events) {
        for name in &self.0 {
            if let Err(error) = engine.remove_image(&name.to_string()).await {
                events.send(Event::Warning(format!("`{name}` is not removed: {error}")));
            }
        }
    }
}
