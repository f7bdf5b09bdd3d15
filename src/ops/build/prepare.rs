//! What must be known before a build: its context's digest, what git says.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Reason, git};
use crate::context::{ContextDigest, ContextError, Filter, LARGEST_BUILD_FILE, StatCache, digest};
use crate::engine::build::{BuildError, FileClock, Recipe, Reuse};
use crate::engine::docker::DockerEngine;
use crate::event::{Event, Events, Outcome, StepId};
use crate::facts::{GitFacts, read_small};
use crate::model::{Digest, ImageRef, Platform};
use crate::plan::build::{BuildFacts, BuildPlan, BuildSpec};
use crate::plan::dockerfile::Sources;

/// Below this, the time that the engine is told is the content's, not the file's: nobody sees
/// microseconds, and BuildKit, which compares times and sizes only, then notices every edit.
const CONTENT_NANOSECONDS: u32 = 1_000_000;

/// Bytes of a context that hardly anybody means to send.
const LARGE_CONTEXT: u64 = 10_000_000_000;

/// A build of which everything is known.
pub struct Prepared {
    /// Names and labels.
    pub plan: BuildPlan,
    /// The context's digest.
    pub context: Digest,
    /// The files of the context and the Dockerfile, each with a digest; nothing where they are too many.
    pub files: Vec<(String, [u8; 32])>,
    /// The Dockerfile.
    pub dockerfile: Vec<u8>,
    /// What git says of the context.
    pub git: Option<GitFacts>,
    /// What it is made from, as far as the Dockerfile tells before it is built.
    pub sources: Sources,
    /// Whether an image with the same plan is as good as a new one.
    pub may_be_there: bool,
    /// When the engine is told that files were changed.
    pub clock: Arc<FileClock>,
}

/// What an image will be made from, as far as its Dockerfile tells.
///
/// # Errors
///
/// The Dockerfile can't be read.
pub(super) fn foreseen(spec: &BuildSpec) -> Result<Sources, Reason> {
    Ok(spec.sources(&read_dockerfile(&spec.recipe.dockerfile)?))
}

/// Finds out what must be known before a build.
///
/// # Errors
///
/// The Dockerfile or the context can't be read, or the image can't be named.
pub async fn prepare(
    engine: &DockerEngine,
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    events: &Events,
    parent: StepId,
) -> Result<Prepared, Reason> {
    let dockerfile = read_dockerfile(&spec.recipe.dockerfile)?;
    let sources = spec.sources(&dockerfile);
    if let Some(platform) = &spec.recipe.platform
        && sources.is_certain
        && !String::from_utf8_lossy(&dockerfile).contains("--platform")
    {
        check_platform(engine, platform, &sources, events, parent).await?;
    }
    let asking = tokio::task::spawn_blocking({
        let spec = spec.clone();
        move || git::ask(&spec)
    });
    let (digested, git) = tokio::join!(digest_apart(spec, cache), asking);
    let (digest, cache) = digested?;
    let (git, warnings) = git.unwrap_or_else(|_| Ok((None, Vec::new())))?;
    for warning in warnings {
        events.send(Event::Warning(warning));
    }
    warn_of_content(&digest, events);
    let context = Digest::from(digest.sha256);
    let files = files(spec, digest, &dockerfile);
    let facts = BuildFacts {
        context: context.clone(),
        dockerfile,
        git,
    };
    let plan = spec.decide(&facts).map_err(Reason::Name)?;
    let is_asked_anew = spec.recipe.reuse == Reuse::Nothing || spec.pulls;
    Ok(Prepared {
        plan,
        context,
        files,
        dockerfile: facts.dockerfile,
        git: facts.git,
        sources,
        // An image for another platform may have the same name.
        may_be_there: spec.recipe.platform.is_none() && !is_asked_anew,
        clock: clock(spec, cache),
    })
}

/// What is built from, by name. The Dockerfile may be elsewhere, or left out of the context.
fn files(spec: &BuildSpec, digest: ContextDigest, dockerfile: &[u8]) -> Vec<(String, [u8; 32])> {
    if digest.listed.is_empty() {
        return Vec::new();
    }
    let name = |path: Vec<u8>| String::from_utf8_lossy(&path).into_owned();
    let listed = digest.listed.into_iter();
    let mut files: Vec<_> = listed.map(|(path, sha256)| (name(path), sha256)).collect();
    let Recipe {
        context,
        dockerfile: path,
        ..
    } = &spec.recipe;
    let path = path.strip_prefix(context).unwrap_or(path);
    let path = path.display().to_string();
    if !files.iter().any(|(name, _)| *name == path) {
        files.push((path, Sha256::digest(dockerfile).into()));
    }
    files
}

/// Warns of what is left out, and of what had better be.
fn warn_of_content(digest: &ContextDigest, events: &Events) {
    let name = |path: &[u8]| format!("`{}`", String::from_utf8_lossy(path));
    for (path, skip) in &digest.skipped {
        events.send(Event::Warning(format!(
            "{} is left out of the build: it is {skip}",
            name(path)
        )));
    }
    if let [first, rest @ ..] = digest.secrets.as_slice() {
        let others = match rest {
            [] => String::new(),
            rest => format!(" and {} more", rest.len()),
        };
        events.send(Event::Warning(format!(
            "the engine gets {}{others}, where secrets usually are; name them in .dockerignore, or \
             the Dockerfile may copy them into the image",
            name(first)
        )));
    }
    if digest.bytes > LARGE_CONTEXT {
        events.send(Event::Warning(format!(
            "the context has {} GB in {} files; name what the image doesn't need in .dockerignore",
            digest.bytes / 1_000_000_000,
            digest.files
        )));
    }
}

/// Whether the Dockerfile and the context are still as they were.
///
/// # Errors
///
/// They can't be read.
pub(super) async fn is_unchanged(
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
    prepared: &Prepared,
) -> Result<bool, Reason> {
    if read_dockerfile(&spec.recipe.dockerfile)? != prepared.dockerfile {
        return Ok(false);
    }
    let (digest, _) = digest_apart(spec, cache).await?;
    Ok(Digest::from(digest.sha256) == prepared.context)
}

/// Digests the context on a thread that may wait for the disk.
pub(super) async fn digest_apart(
    spec: &BuildSpec,
    cache: Option<&PathBuf>,
) -> Result<(ContextDigest, StatCache), ContextError> {
    let (context, dockerfile) = (spec.recipe.context.clone(), spec.recipe.dockerfile.clone());
    let cache = cache.map(|folder| folder.join(cache_name(&context)));
    let digesting = tokio::task::spawn_blocking(move || {
        digest_context(&context, &dockerfile, cache.as_deref())
    });
    digesting.await.map_err(|error| ContextError::Unreadable {
        path: spec.recipe.context.clone(),
        source: io::Error::other(error),
    })?
}

fn read_dockerfile(path: &Path) -> Result<Vec<u8>, Reason> {
    read_small(path, LARGEST_BUILD_FILE).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Reason::NoDockerfile(path.to_owned())
        }
        _ => ContextError::Unreadable {
            path: path.to_owned(),
            source,
        }
        .into(),
    })
}

/// What is remembered of a context's files lies under the name of the folder.
fn cache_name(context: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;

    let digest = Sha256::digest(context.as_os_str().as_bytes());
    format!("context-{digest:x}")
}

fn digest_context(
    context: &Path,
    dockerfile: &Path,
    cache_path: Option<&Path>,
) -> Result<(ContextDigest, StatCache), ContextError> {
    let filter = Filter::of_build(context, dockerfile)?;
    let mut cache = cache_path.map_or_else(StatCache::default, StatCache::load);
    let digest = digest(context, &filter, &mut cache)?;
    // What can't be remembered is found out again.
    if let Err(error) = cache.save() {
        tracing::debug!(%error, "the digests are not kept");
    }
    Ok((digest, cache))
}

/// Sees to it that base images can be had for the platform that is built for: not every builder minds
/// another one (BuildKit before Engine 27, Podman's), and the result would say that it is for the platform.
///
/// A Dockerfile that names platforms itself may mean others.
async fn check_platform(
    engine: &DockerEngine,
    platform: &str,
    sources: &Sources,
    events: &Events,
    parent: StepId,
) -> Result<(), Reason> {
    let Ok(wanted) = platform.parse::<Platform>() else {
        return Ok(());
    };
    for name in &sources.images {
        let Ok(image) = name.parse::<ImageRef>() else {
            continue;
        };
        let local = engine.image_details(name).await?;
        if local.as_ref().is_some_and(|local| local.is_for(platform)) {
            continue;
        }
        let found = if engine.is_podman() {
            // It can't be asked what a registry has.
            let step = events.step(Some(parent), format!("pull {name} for {wanted}"));
            match engine.pull(&image, Some(platform), &step).await {
                Ok(_) => step.finish(Outcome::Done),
                Err(error) => step.finish(Outcome::Skipped(error.to_string())),
            }
            let pulled = engine.image_details(name).await?;
            pulled.and_then(|pulled| Some(vec![pulled.platform.parse().ok()?]))
        } else {
            engine.platforms_in_registry(&image).await
        };
        // Where nobody says, the builder finds out.
        let found = found.unwrap_or_default();
        if !found.is_empty() && !found.contains(&wanted) {
            let found: Vec<_> = found.iter().map(Platform::to_string).collect();
            let message = format!("`{name}` is for {}, not for {wanted}", found.join(", "));
            return Err(Reason::Build(BuildError::ForeignBase { message }));
        }
    }
    Ok(())
}

/// The file's time, with the content's digest where nobody looks. With a time that all files are
/// to have at most, that one.
fn clock(spec: &BuildSpec, cache: StatCache) -> Arc<FileClock> {
    let limit = spec.epoch.and_then(|epoch| i64::try_from(epoch).ok());
    Arc::new(move |entry| {
        let (seconds, nanoseconds) = entry.modified;
        let tag = cache.known(entry).map_or(0, |digest| {
            u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % CONTENT_NANOSECONDS
        });
        let (seconds, nanoseconds) = match limit {
            Some(limit) if seconds >= limit => (limit, 0),
            _ => (seconds, nanoseconds),
        };
        let nanoseconds = nanoseconds / CONTENT_NANOSECONDS * CONTENT_NANOSECONDS + tag;
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(nanoseconds))
    })
}
