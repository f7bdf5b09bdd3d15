//! What is done before a run is submitted: its image, its inputs, its record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inputs::describe_all;
use super::needs::{Needs, needs};
use super::source::PATCH;
use super::{Prepared, RunFailure};
use crate::engine::docker::{DockerEngine, LocalImage};
use crate::engine::gpu::{GpuHost, gpu_problem};
use crate::engine::run::{Bound, BoundKind, RunError, RunSpec};
use crate::event::{Event, Events};
use crate::facts::host;
use crate::model::{Digest, ImageRef, Name, Port, RunId, Tag};
use crate::ops::build::{self, History};
use crate::plan::build::{BuildSpec, Item, VersionChoice};
use crate::plan::run::{GpuChoice, Handed, ImageChoice, Planned, Pull, RunPlan, key};
use crate::plan::tags::{is_of_context, moves};
use crate::records::{
    EngineRecord, HostRecord, ImageRecord, InputRecord, Key, Policy, Record, RolledBackFrom,
    SourceRecord, Store, VariableRecord,
};

/// What a run is asked for with.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The command line, secrets masked.
    pub argv: Vec<String>,
    /// Whether nobody waits for it at its terminal.
    pub is_detached: bool,
    /// Where what is remembered of contexts is kept.
    pub cache: Option<PathBuf>,
    /// Where `nvidia-container-runtime-hook` is, if it is.
    pub nvidia_hook: Option<PathBuf>,
}

/// What was made for a run already, by job: earlier steps of the same pipeline.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Images that were built, or that a job ran.
    pub images: BTreeMap<Name, ImageRecord>,
    /// Runs whose outputs are read.
    pub runs: BTreeMap<Name, RunId>,
}

/// A run of which all is there that it needs.
#[derive(Debug)]
pub struct Ready {
    pub(super) plan: RunPlan,
    pub(super) image: ImageRecord,
    pub(super) inputs: BTreeMap<String, InputRecord>,
    pub(super) parents: BTreeMap<String, RunId>,
    /// What it is handed by these.
    pub(super) handed: Handed,
    pub(super) environment: Vec<VariableRecord>,
    /// Files and directories that it is given: from here, to there.
    pub(super) shared: Vec<(PathBuf, String)>,
    pub(super) key: String,
}

/// Sees to all that a run needs, and records it.
///
/// # Errors
///
/// See [`RunFailure`]. Nothing is recorded then.
pub async fn prepare(
    engine: &DockerEngine,
    store: &Store,
    plan: RunPlan,
    asked: &Asked,
    events: &Events,
) -> Result<Prepared, RunFailure> {
    let given = Given::default();
    let ready = Box::pin(ready(engine, store, plan, asked, &given, events)).await?;
    begin(engine, store, ready, asked).await
}

/// Sees to all that a run needs.
///
/// # Errors
///
/// See [`RunFailure`].
pub async fn ready(
    engine: &DockerEngine,
    store: &Store,
    mut plan: RunPlan,
    asked: &Asked,
    given: &Given,
    events: &Events,
) -> Result<Ready, RunFailure> {
    see_to_gpus(engine, &mut plan, asked, events).await?;
    let image = image(engine, store, &plan, asked, given, events).await?;
    plan.spec.image = image.id.clone().unwrap_or_else(|| image.name.clone());
    let inputs = describe_all(store, plan.inputs.clone()).await?;
    let mut shared: Vec<_> = (plan.inputs.values())
        .map(|input| (input.source.clone(), input.target.as_str().to_owned()))
        .collect();
    let Needs { parents, handed } = needs(store, &plan, given, &mut shared)?;
    let project = store.key()?;
    let environment = variables(&project, &plan);
    let key = key(&plan, &project, &inputs, &handed);
    Ok(Ready {
        plan,
        image,
        inputs,
        parents,
        handed,
        environment,
        shared,
        key,
    })
}

impl Ready {
    /// Whether another run has an image with the same content, and the same of all else that decides what
    /// comes of it.
    #[must_use]
    pub fn is_alike(&self, record: &Record) -> bool {
        self.image.is_alike(&record.image) && record.key.as_ref() == Some(&self.key)
    }

    /// Whether it is what a service was rolled back from.
    #[must_use]
    pub fn is_rolled_back(&self, from: &RolledBackFrom) -> bool {
        self.image.is_alike(&from.image()) && from.key.as_ref() == Some(&self.key)
    }

    /// The digest of all but the image that decides what comes of it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its image.
    #[must_use]
    pub fn image(&self) -> &ImageRecord {
        &self.image
    }

    /// What is said of its outputs.
    #[must_use]
    pub fn outputs(&self) -> &Policy {
        &self.plan.policy
    }

    /// How it is run.
    #[must_use]
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    /// The container that is to be made.
    #[must_use]
    pub fn spec(&self) -> &RunSpec {
        &self.plan.spec
    }

    /// What of it is compared with earlier runs.
    #[must_use]
    pub fn planned(&self) -> Planned<'_> {
        Planned {
            plan: &self.plan,
            image: &self.image,
            inputs: &self.inputs,
            handed: &self.handed,
            environment: &self.environment,
        }
    }

    /// Publishes other ports than were asked for.
    pub fn publish(&mut self, ports: Vec<Port>) {
        self.plan.spec.ports = ports;
    }
}

/// Records a run.
///
/// # Errors
///
/// It can't be recorded.
pub async fn begin(
    engine: &DockerEngine,
    store: &Store,
    ready: Ready,
    asked: &Asked,
) -> Result<Prepared, RunFailure> {
    let Ready {
        mut plan,
        image,
        inputs,
        parents,
        handed,
        environment,
        shared,
        key,
    } = ready;
    let source = source(&plan).await;
    let copied = share(engine, store, &mut plan.spec, shared).await;
    let id = RunId::new(host::now());
    plan.spec.name = plan
        .name
        .clone()
        .unwrap_or_else(|| container_name(&plan, id));
    let mut record = Record::new(id, host::now());
    record.project = plan.project.as_ref().map(ToString::to_string);
    record.job = plan.job.as_ref().map(ToString::to_string);
    record.is_detached = asked.is_detached;
    record.key = Some(key);
    record.argv.clone_from(&asked.argv);
    record.image = image;
    let mut patch = None;
    if let Some((source, found, warning)) = source {
        record.source = Some(source);
        record.warnings.extend(warning);
        patch = found;
    }
    record.container = plan.container();
    record.manifest = plan.manifest;
    record.environment = environment;
    record.inputs = inputs;
    record.parents = parents;
    record.handed = (handed.into_iter())
        .map(|(job, outputs)| {
            let targets = outputs.into_iter();
            let targets = targets.map(|(output, (_, target))| (output, target));
            (job, targets.collect())
        })
        .collect();
    record.policy = plan.policy;
    record.engine = Some(engine_record(engine));
    record.host = Some(host_record());
    build::note_run(engine, store, asked.cache.as_ref(), &record.image).await;
    let run = store.begin(&record)?;
    if let Some(patch) = patch {
        run.folder.write_file(PATCH, &patch)?;
    }
    Ok(Prepared {
        record,
        run,
        spec: plan.spec,
        copied,
        pull: plan.pull,
        secrets: plan.secrets,
    })
}

fn engine_record(engine: &DockerEngine) -> EngineRecord {
    let server = engine.server().unwrap_or_default();
    let (name, system) = server.split_once(' ').unwrap_or((server, ""));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    EngineRecord {
        address: engine.endpoint().address.to_string(),
        version: some(name.rsplit('/').next().unwrap_or_default()),
        kernel: engine.is_local().then(host::kernel),
        system: some(system.trim_matches(['(', ')'])),
    }
}

fn host_record() -> HostRecord {
    let machine = host::machine();
    HostRecord {
        name: machine.name,
        cpu: machine.cpu,
        cpus: machine.cpus,
        cpu_flags: machine.cpu_flags,
        gpus: machine.gpus,
        nvidia_driver: machine.nvidia_driver,
    }
}

/// Sees to it that GPUs which are asked for can be had, before anything is built for them.
async fn see_to_gpus(
    engine: &DockerEngine,
    plan: &mut RunPlan,
    asked: &Asked,
    events: &Events,
) -> Result<(), RunFailure> {
    if plan.gpus == GpuChoice::None {
        return Ok(());
    }
    let facts = engine.facts().await?;
    let nvidia = host::nvidia();
    let host = engine.is_local().then_some(GpuHost {
        nvidia: &nvidia,
        hook: asked.nvidia_hook.as_deref(),
    });
    let problem = gpu_problem(&facts, host, plan.spec.runtime.as_deref());
    let is_optional = plan.gpus == GpuChoice::Optional;
    if is_optional {
        plan.settle_gpus(problem.is_none());
    }
    let Some(problem) = problem else {
        return Ok(());
    };
    if !is_optional {
        return Err(problem.into());
    }
    events.send(Event::Warning(format!(
        "GPUs are optional, and there are none: {}; the job runs without",
        match &problem {
            RunError::NoGpu { message } => message.clone(),
            other => other.to_string(),
        }
    )));
    Ok(())
}

/// What git knows of what the image is built from, and what differs from the commit.
async fn source(plan: &RunPlan) -> Option<(SourceRecord, Option<Vec<u8>>, Option<String>)> {
    let ImageChoice::Build(items) = &plan.image else {
        return None;
    };
    let Some(Item::Build(spec)) = items.last() else {
        return None;
    };
    let (context, dockerfile) = (spec.recipe.context.clone(), spec.recipe.dockerfile.clone());
    let secrets = plan.secrets.clone();
    let asking = move || super::source::source(&context, &dockerfile, &secrets);
    tokio::task::spawn_blocking(asking).await.ok().flatten()
}

/// The image, which is built if it is to be.
async fn image(
    engine: &DockerEngine,
    store: &Store,
    plan: &RunPlan,
    asked: &Asked,
    given: &Given,
    events: &Events,
) -> Result<ImageRecord, RunFailure> {
    let source = match &plan.image {
        ImageChoice::OfJob(other) => Some(other),
        _ => plan.job.as_ref(),
    };
    if let Some(image) = source.and_then(|job| given.images.get(job)) {
        return Ok(image.clone());
    }
    match &plan.image {
        ImageChoice::Named(name) => Ok(ImageRecord {
            name: name.familiar().to_string(),
            ..ImageRecord::default()
        }),
        ImageChoice::Built(spec) => {
            let history = History::new(store, asked.cache.as_deref());
            last_built(engine, &history, plan, spec, events).await
        }
        ImageChoice::OfJob(job) => {
            let found = store.latest(job.as_str(), |record| record.image.id.is_some())?;
            let Some(record) = found else {
                return Err(RunFailure::NeverRun { job: job.clone() });
            };
            Ok(record.image)
        }
        ImageChoice::Build(items) => {
            let built = build::build(engine, items, asked.cache.as_ref(), None, events).await;
            let images = built.map_err(|failure| RunFailure::Build(Box::new(failure)))?;
            let history = History::new(store, asked.cache.as_deref());
            build::forget_replaced(engine, &history, items, &images, events).await;
            let image = images.last().expect("a job that builds has an image");
            built_image(engine, store, image).await
        }
    }
}

/// The newest image that was built of a job, for the platform that it is to run on. Where there is none, the
/// name by which a registry may have it.
///
/// # Errors
///
/// There is none, and no registry has such a name; or the engine can't be used.
pub async fn last_built(
    engine: &DockerEngine,
    history: &History<'_>,
    plan: &RunPlan,
    spec: &BuildSpec,
    events: &Events,
) -> Result<ImageRecord, RunFailure> {
    let version = match &spec.version {
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => Some(version),
        VersionChoice::None | VersionChoice::Git => None,
    };
    let names = spec.names(version, None).unwrap_or_default();
    let platform = plan.spec.platform.as_deref();
    // What is always pulled is whatever the registry has under the name.
    if plan.pull != Pull::Always
        && let Some(built) = history.built_last(engine, spec, platform, events).await?
    {
        let name = named_best(&built, &names);
        return recorded(engine, name, &built.id).await;
    }
    let name = names
        .first()
        .map_or_else(|| spec.name.clone(), ToString::to_string);
    // One without a path would be looked for among Docker Hub's own images.
    if plan.pull == Pull::Never || !name.contains('/') {
        let job = spec.title.clone();
        let platform = platform.map(str::to_owned);
        return Err(RunFailure::NotBuilt { job, platform });
    }
    Ok(ImageRecord {
        name,
        ..ImageRecord::default()
    })
}

/// What a record says of an image that was built; what it was built from is kept.
pub(in crate::ops) async fn built_image(
    engine: &DockerEngine,
    store: &Store,
    image: &build::Image,
) -> Result<ImageRecord, RunFailure> {
    store.keep_context(image.id.as_str(), &image.files)?;
    let name = image.tags.first().map(ToString::to_string);
    recorded(engine, name, &image.id).await
}

/// What a record says of an image of a job's own.
async fn recorded(
    engine: &DockerEngine,
    name: Option<String>,
    id: &Digest,
) -> Result<ImageRecord, RunFailure> {
    let found = engine.image_details(id.as_str()).await?;
    Ok(ImageRecord {
        name: name.unwrap_or_else(|| id.to_string()),
        id: Some(id.to_string()),
        content: found.map(|found| found.content.to_string()),
        ..ImageRecord::default()
    })
}

/// The name of an image that says most: one that its job has now, or a version's rather than one that moves.
fn named_best(image: &LocalImage, wanted: &[ImageRef]) -> Option<String> {
    let names = image.tags.iter();
    let names: Vec<ImageRef> = names.filter_map(|name| name.parse().ok()).collect();
    let rank = |name: &&ImageRef| {
        let tag = name.tag().map_or("latest", Tag::as_str);
        let place = wanted
            .iter()
            .position(|wanted| wanted.canonical() == name.canonical());
        let is_telling = !moves(tag) && !is_of_context(name);
        (
            is_of_context(name),
            !is_telling,
            place.unwrap_or(usize::MAX),
        )
    };
    names.iter().min_by_key(rank).map(ToString::to_string)
}

/// Mounts files and folders of this machine, read-only; or names those that are to be copied, where
/// the engine does not see them.
async fn share(
    engine: &DockerEngine,
    store: &Store,
    spec: &mut RunSpec,
    shared: Vec<(PathBuf, String)>,
) -> Vec<(PathBuf, String)> {
    if shared.is_empty() {
        return shared;
    }
    let paths: Vec<_> = shared.iter().map(|(path, _)| path.as_path()).collect();
    let (state, scratch) = (store.path(), store.staging());
    if !engine.sees_our_files(state, &scratch, &paths).await {
        return shared;
    }
    spec.bound
        .extend(shared.into_iter().map(|(source, target)| {
            Bound::of(BoundKind::Bind, Some(absolute(&source)), target).read_only()
        }));
    Vec::new()
}

fn absolute(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.to_string_lossy().into_owned()
}

/// `PROJECT-JOB-…`, which nobody else has.
fn container_name(plan: &RunPlan, id: RunId) -> String {
    let mut parts = Vec::new();
    parts.extend(plan.project.as_ref().map(Name::as_str));
    parts.push(plan.job.as_ref().map_or("run", Name::as_str));
    let suffix = id.suffix();
    parts.push(&suffix);
    parts.join("-")
}

/// The variables for the record: of the values of secrets, digests under the project's own key.
fn variables(project: &Key, plan: &RunPlan) -> Vec<VariableRecord> {
    let mut variables = plan.variables.clone();
    for (variable, (_, value)) in variables.iter_mut().zip(&plan.spec.environment) {
        if let (true, Some(value)) = (variable.is_secret, value) {
            variable.digest = Some(project.digest(value.expose().as_bytes()));
        }
    }
    variables
}
