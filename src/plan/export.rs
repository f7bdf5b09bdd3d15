//! A pipeline, as compose has it.

mod networks;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::values::{asked_for, environment, gpus, health, plain, seconds, texts};
use super::build::{Item, VersionChoice};
use super::run::{ImageChoice, RunPlan};
use super::up::Step;
use crate::engine::run::{Bound, BoundKind};
use crate::manifest::Manifest;
use crate::manifest::schema::Job;
use crate::model::{ByteSize, HostPath, MountSource, Name, Restart, STARS, clean, seen_from};

/// The longest time that compose, which is written in Go, can say.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(9_223_372_036);

/// A compose file, and what of the pipeline it does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The file.
    pub document: Value,
    /// What compose has no word for, or what is otherwise there.
    pub notes: Vec<String>,
}

/// Says in compose's words how a pipeline is run. Paths are relative to the manifest's folder.
///
/// What jobs hand on are volumes; nothing is collected, judged, retried or stopped in time, and the notes
/// say so. A value that was given as a secret is asked of the user.
#[must_use]
pub fn compose(manifest: &Manifest, steps: &[Step]) -> Export {
    let mut notes = Vec::new();
    let mut services = Map::new();
    let (mut volumes, mut networks) = (Map::new(), Map::new());
    let images = images(steps);
    let absolute = absolute_paths(manifest);
    for step in steps {
        let image = images.get(&step.job).cloned().unwrap_or_default();
        let mut service = Service {
            keys: Map::new(),
            directory: &manifest.folder,
            absolute: &absolute,
        };
        service.put("image", json!(image));
        build(&mut service, step, &mut notes);
        let job = manifest.root.jobs.get(&step.job);
        service.container(&step.plan, job.map(|job| &job.value), &mut networks);
        let written = service.mounts(step, steps, &mut volumes);
        let opener = opener(&service, step, &written);
        let opener = opener.map(|opener| (free_name(&step.job, steps), opener));
        service.relations(step, steps, opener.as_ref().map(|(name, _)| name.as_str()));
        notes.extend(unsaid(step, job.map(|job| &job.value)));
        if let Some((name, opener)) = opener {
            notes.push(format!(
                "{}: `{name}` makes its volumes writable for the job's user, with the image's `chmod`",
                step.job
            ));
            services.insert(name, opener);
        }
        services.insert(step.job.to_string(), Value::Object(service.keys));
    }
    let mut document = json!({ "services": services });
    if !volumes.is_empty() {
        document["volumes"] = Value::Object(volumes);
    }
    if !networks.is_empty() {
        document["networks"] = Value::Object(networks);
    }
    Export { document, notes }
}

/// The name of each job's image.
fn images(steps: &[Step]) -> BTreeMap<Name, String> {
    let mut images: BTreeMap<Name, String> = BTreeMap::new();
    for step in steps {
        let image = match &step.plan.image {
            ImageChoice::Named(image) => image.to_string(),
            ImageChoice::OfJob(job) => images.get(job).cloned().unwrap_or_default(),
            ImageChoice::Built(spec) => spec.name.clone(),
            ImageChoice::Build(items) => items.last().map(built).unwrap_or_default(),
        };
        images.insert(step.job.clone(), image);
    }
    images
}

fn built(item: &Item) -> String {
    let spec = match item {
        Item::Base(base) => return base.image.to_string(),
        Item::Build(spec) => spec,
    };
    let version = match &spec.version {
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => Some(version),
        VersionChoice::None | VersionChoice::Git => None,
    };
    // One that can't be named is refused when it is built.
    let names = spec.names(version, None).unwrap_or_default();
    names
        .first()
        .map_or_else(|| spec.name.clone(), ToString::to_string)
}

/// How the image is built, if compose can.
fn build(service: &mut Service<'_>, step: &Step, notes: &mut Vec<String>) {
    let ImageChoice::Build(items) = &step.plan.image else {
        return;
    };
    let (Some(Item::Build(spec)), 1) = (items.last(), items.len()) else {
        notes.push(format!(
            "{job}: its image needs others that only jobctl builds: `jobctl build {job}` first",
            job = step.job
        ));
        return;
    };
    let recipe = &spec.recipe;
    if !recipe.secrets.is_empty() || !recipe.agents.is_empty() {
        notes.push(format!(
            "{job}: its image is built with secrets: `jobctl build {job}` first",
            job = step.job
        ));
        return;
    }
    let mut build = Map::new();
    build.insert("context".to_owned(), json!(service.path(&recipe.context)));
    let dockerfile = seen_from(&recipe.dockerfile, &recipe.context);
    build.insert("dockerfile".to_owned(), json!(dockerfile.to_string_lossy()));
    if let Some(target) = &recipe.target {
        build.insert("target".to_owned(), json!(plain(target)));
    }
    let args = spec.shown_args().into_iter();
    let args: BTreeMap<_, _> = args
        .filter(|(name, _)| !super::build::is_proxy(name))
        .map(|(name, value)| (name, value.map_or_else(|| asked_for(name), plain)))
        .collect();
    if !args.is_empty() {
        build.insert("args".to_owned(), json!(args));
    }
    service.put("build", Value::Object(build));
}

/// A service that runs once before a job: a new volume belongs to root, and the job may be another user.
fn opener(service: &Service<'_>, step: &Step, written: &[(String, String)]) -> Option<Value> {
    let user = step.plan.spec.user.as_deref().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    if written.is_empty() || ["0", "root"].contains(&user) {
        return None;
    }
    let paths = written.iter().map(|(_, path)| path.as_str());
    let words: Vec<_> = ["chmod", "a+rwx"].into_iter().chain(paths).collect();
    let volumes = written.iter().map(|(name, path)| format!("{name}:{path}"));
    let mut keys = Map::new();
    for key in ["image", "build", "platform"] {
        let value = service.keys.get(key);
        keys.extend(value.map(|value| (key.to_owned(), value.clone())));
    }
    keys.insert("user".to_owned(), json!("0"));
    keys.insert("entrypoint".to_owned(), json!(words));
    keys.insert("network_mode".to_owned(), json!("none"));
    keys.insert("volumes".to_owned(), json!(volumes.collect::<Vec<_>>()));
    Some(Value::Object(keys))
}

/// A service's name that no job has.
fn free_name(job: &Name, steps: &[Step]) -> String {
    let mut name = format!("{job}-volumes");
    while steps.iter().any(|step| step.job.as_str() == name) {
        name.push_str("-of-jobctl");
    }
    name
}

/// The paths of this machine that a manifest writes as absolute ones: as they are, they are exported.
fn absolute_paths(manifest: &Manifest) -> BTreeSet<PathBuf> {
    let root = &manifest.root;
    let builds = root
        .jobs
        .values()
        .filter_map(|job| job.value.build.as_ref());
    let contexts = builds.filter_map(|build| build.context.as_deref());
    let inputs = root.jobs.values().flat_map(|job| job.value.inputs.values());
    let sources = inputs.map(|input| &*input.value.source);
    let named = contexts.chain(sources).map(HostPath::as_path);
    let mounts = root.jobs.values().flat_map(|job| &job.value.volumes);
    let mounts = mounts.filter_map(|mount| match mount.source() {
        MountSource::Path(path) => Some(Path::new(path)),
        _ => None,
    });
    let all = named.chain(mounts).filter(|path| path.is_absolute());
    all.map(clean).collect()
}

/// What compose has no word for.
fn unsaid(step: &Step, written: Option<&Job>) -> Vec<String> {
    let job = &step.job;
    let policy = &step.plan.policy;
    let mut unsaid = Vec::new();
    let spec = &step.plan.spec;
    let health = spec.health.as_ref().map(|health| &health.test);
    let commands = [spec.command.as_ref(), spec.entrypoint.as_ref(), health];
    let discretion = step.plan.discretion();
    if (commands.into_iter().flatten()).any(|words| discretion.words(words) != *words) {
        unsaid.push(format!(
            "{job}: a secret in its command is not written: `{STARS}` is in its place"
        ));
    }
    for (need, gate) in &step.plan.gates {
        unsaid.push(format!(
            "{job}: Compose ignores the gate `{gate}` of `{need}`, and runs it in any case"
        ));
    }
    if let Some(timeout) = written.and_then(|job| job.timeout.as_deref()) {
        unsaid.push(format!("{job}: Compose ignores `timeout: {timeout}`"));
    }
    if policy.retry.attempts > 1 {
        unsaid.push(format!("{job}: Compose ignores `retry`"));
    }
    if !policy.outputs.is_empty() {
        unsaid.push(format!(
            "{job}: Compose does not collect `outputs`; those that other jobs read stay in volumes"
        ));
    }
    if policy.has_metrics() {
        unsaid.push(format!("{job}: Compose ignores `metrics`"));
    }
    unsaid
}

/// A service of a compose file.
struct Service<'a> {
    keys: Map<String, Value>,
    /// The manifest's.
    directory: &'a Path,
    /// What the manifest writes as absolute paths.
    absolute: &'a BTreeSet<PathBuf>,
}

impl Service<'_> {
    fn put(&mut self, key: &str, value: Value) {
        let is_nothing = match &value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(is_so) => !is_so,
            _ => false,
        };
        if !is_nothing {
            self.keys.insert(key.to_owned(), value);
        }
    }

    /// What is asked of the container itself.
    fn container(&mut self, plan: &RunPlan, job: Option<&Job>, networks: &mut Map<String, Value>) {
        let spec = &plan.spec;
        let discretion = plan.discretion();
        let words = |words: &Vec<String>| {
            let words = discretion.words(words);
            words.iter().map(|word| plain(word)).collect::<Vec<_>>()
        };
        self.put("platform", json!(spec.platform));
        if let Some(entrypoint) = &spec.entrypoint {
            // An empty one is not none: it takes the image's away.
            let entrypoint = json!(words(entrypoint));
            self.keys.insert("entrypoint".to_owned(), entrypoint);
        }
        self.put("command", json!(spec.command.as_ref().map(words)));
        self.put("environment", json!(environment(plan, job)));
        self.put("user", json!(spec.user));
        self.put("working_dir", json!(spec.workdir));
        self.put("ports", json!(texts(&spec.ports)));
        let (key, attached) = networks::attached(&spec.networks, networks);
        self.put(key, attached);
        self.put("init", json!(spec.init));
        self.put("security_opt", json!(spec.security));
        self.put("cap_add", json!(spec.cap_add));
        self.put("cap_drop", json!(spec.cap_drop));
        self.put("privileged", json!(spec.is_privileged));
        self.put("read_only", json!(spec.is_read_only));
        self.put("devices", json!(texts(&spec.devices)));
        self.put("runtime", json!(spec.runtime));
        self.put("ipc", json!(spec.ipc));
        self.put("stop_signal", json!(spec.stop_signal));
        let grace = std::time::Duration::from_millis(plan.policy.grace_ms).min(LONGEST);
        self.put("stop_grace_period", json!(seconds(grace)));
        let limits = &spec.limits;
        let cpus = limits
            .cpus
            .as_ref()
            .and_then(|cpus| cpus.in_usual_form().to_string().parse::<f64>().ok());
        self.put("cpus", json!(cpus));
        self.put(
            "mem_limit",
            json!(limits.memory.as_ref().map(ByteSize::bytes)),
        );
        self.put(
            "shm_size",
            json!(limits.shm_size.as_ref().map(ByteSize::bytes)),
        );
        self.put("healthcheck", health(spec, words));
        self.put("deploy", gpus(spec));
        let restart = spec.restart.unwrap_or(Restart::No);
        self.put("restart", json!(restart.to_string()));
    }

    /// What the container sees of files: its own volumes and directories, inputs, and what jobs hand on. Returns
    /// the volumes that other jobs read, and where this one writes them.
    fn mounts(
        &mut self,
        step: &Step,
        steps: &[Step],
        volumes: &mut Map<String, Value>,
    ) -> Vec<(String, String)> {
        let mut written = Vec::new();
        let plan = &step.plan;
        let mut mounts = Vec::new();
        for mount in &plan.spec.mounts {
            match mount.source() {
                MountSource::Anonymous => {}
                MountSource::Volume(name) => {
                    // Under this very name runs have it; else compose puts its own project's before it.
                    volumes.insert(name.clone(), json!({ "name": plain(name) }));
                }
                MountSource::Path(path) => {
                    let source = MountSource::Path(self.path(Path::new(path)));
                    mounts.push(json!(plain(&mount.clone().with_source(source).to_string())));
                    continue;
                }
            }
            mounts.push(json!(plain(&mount.to_string())));
        }
        mounts.extend(plan.spec.bound.iter().map(|bound| self.bound(bound)));
        for input in plan.inputs.values() {
            mounts.push(json!({
                "type": "bind",
                "source": plain(&self.path(&input.source)),
                "target": plain(input.target.as_str()),
                "read_only": true,
            }));
        }
        let volume = |job: &Name, output: &str| format!("{job}-{output}");
        for (output, path) in &plan.policy.outputs {
            let is_read = |reader: &Step| {
                let outputs = reader.plan.needs.get(&step.job);
                outputs.is_some_and(|outputs| outputs.keys().any(|name| name.as_str() == output))
            };
            if steps.iter().any(is_read) {
                let name = volume(&step.job, output);
                mounts.push(json!(format!("{name}:{}", plain(path))));
                volumes.insert(name.clone(), json!({}));
                written.push((name, plain(path)));
            }
        }
        for (need, outputs) in &plan.needs {
            for (output, target) in outputs {
                let name = volume(need, output.as_str());
                mounts.push(json!(format!("{name}:{}:ro", plain(target.as_str()))));
            }
        }
        self.put("volumes", Value::Array(mounts));
        let tmpfs = plan.spec.tmpfs.iter();
        let tmpfs = tmpfs.map(|(target, options)| match options.as_str() {
            "" => target.clone(),
            options => format!("{target}:{options}"),
        });
        self.put("tmpfs", json!(tmpfs.collect::<Vec<_>>()));
        written
    }

    fn bound(&self, bound: &Bound) -> Value {
        let kind = match bound.kind {
            BoundKind::Bind => "bind",
            BoundKind::Volume => "volume",
            BoundKind::Tmpfs => "tmpfs",
        };
        let mut fields = json!({ "type": kind, "target": plain(&bound.target) });
        if let Some(source) = &bound.source {
            let path = Path::new(source);
            let path = match path.strip_prefix(self.directory) {
                Ok(_) => self.path(path),
                // It is this machine's own: its certificate authorities.
                Err(_) => source.clone(),
            };
            fields["source"] = json!(plain(&path));
        }
        if bound.is_read_only {
            fields["read_only"] = json!(true);
        }
        if let Some(propagation) = &bound.propagation {
            fields["bind"] = json!({ "propagation": propagation });
        }
        if bound.is_not_copied_to {
            fields["volume"] = json!({ "nocopy": true });
        }
        let size = bound.size.as_ref().map(ByteSize::bytes);
        if let Some(size) = size {
            fields["tmpfs"]["size"] = json!(size);
        }
        if let Some(mode) = bound.mode {
            fields["tmpfs"]["mode"] = json!(mode);
        }
        if let Some(consistency) = &bound.consistency {
            fields["consistency"] = json!(consistency);
        }
        fields
    }

    /// What must have come to what before it starts.
    fn relations(&mut self, step: &Step, steps: &[Step], opener: Option<&str>) {
        let mut after = Map::new();
        if let Some(opener) = opener {
            let condition = "service_completed_successfully";
            after.insert(opener.to_owned(), json!({ "condition": condition }));
        }
        for need in &step.after {
            let is_service = steps
                .iter()
                .any(|other| other.job == *need && other.is_service);
            let condition = if is_service {
                "service_started"
            } else {
                "service_completed_successfully"
            };
            after.insert(need.to_string(), json!({ "condition": condition }));
        }
        self.put("depends_on", Value::Object(after));
    }

    /// A path as seen from the manifest's directory, unless the manifest has it as an absolute one.
    fn path(&self, path: &Path) -> String {
        if self.absolute.contains(path) {
            return path.display().to_string();
        }
        let seen = seen_from(path, &clean(self.directory));
        if seen.as_os_str().is_empty() {
            ".".to_owned()
        } else if seen.starts_with("..") {
            seen.display().to_string()
        } else {
            format!("./{}", seen.display())
        }
    }
}
