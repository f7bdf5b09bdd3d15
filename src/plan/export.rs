//! A pipeline, as compose has it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::build::{Item, VersionChoice};
use super::run::{ImageChoice, RunPlan};
use super::up::Step;
use crate::engine::run::{Bound, BoundKind, RunSpec};
use crate::manifest::Manifest;
use crate::manifest::schema::Job;
use crate::model::{ByteSize, Devices, MountSource, Name, Restart, STARS, Secret};
use crate::records::VariableRecord;

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
/// What jobs hand on are volumes; nothing is collected, judged, tried again or stopped in time, and the
/// notes say so. A value that was given as a secret is asked of the caller.
#[must_use]
pub fn compose(manifest: &Manifest, steps: &[Step]) -> Export {
    let mut notes = Vec::new();
    let mut services = Map::new();
    let mut volumes = Map::new();
    let images = images(steps);
    for step in steps {
        let image = images.get(&step.job).cloned().unwrap_or_default();
        let mut service = Service {
            keys: Map::new(),
            folder: &manifest.folder,
        };
        service.put("image", json!(image));
        build(&mut service, step, &mut notes);
        let job = manifest.root.jobs.get(&step.job);
        service.container(&step.plan, job.map(|job| &job.value));
        service.mounts(step, steps, &mut volumes);
        service.relations(step, steps);
        notes.extend(unsaid(step));
        services.insert(step.job.to_string(), Value::Object(service.keys));
    }
    let mut document = json!({ "services": services });
    if !volumes.is_empty() {
        document["volumes"] = Value::Object(volumes);
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
    let dockerfile = recipe.dockerfile.strip_prefix(&recipe.context);
    let dockerfile = dockerfile.unwrap_or(&recipe.dockerfile);
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

/// What compose has no word for.
fn unsaid(step: &Step) -> Vec<String> {
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
            "{job}: runs whatever the metrics of {need} are; here it runs if {gate}"
        ));
    }
    if let Some(timeout) = policy.timeout_ms {
        unsaid.push(format!("{job}: is not stopped after {} s", timeout / 1000));
    }
    if policy.retry.attempts > 1 {
        unsaid.push(format!("{job}: is not tried again"));
    }
    if !policy.outputs.is_empty() {
        unsaid.push(format!(
            "{job}: its outputs stay in volumes, and are neither collected nor hashed"
        ));
    }
    if policy.has_metrics() {
        unsaid.push(format!("{job}: its metrics are not kept"));
    }
    unsaid
}

/// A service of a compose file.
struct Service<'a> {
    keys: Map<String, Value>,
    folder: &'a Path,
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
    fn container(&mut self, plan: &RunPlan, job: Option<&Job>) {
        let spec = &plan.spec;
        let discretion = plan.discretion();
        let words = |words: &Vec<String>| {
            let words = discretion.words(words);
            words.iter().map(|word| plain(word)).collect::<Vec<_>>()
        };
        self.put("platform", json!(spec.platform));
        self.put("entrypoint", json!(spec.entrypoint.as_ref().map(words)));
        self.put("command", json!(spec.command.as_ref().map(words)));
        self.put("environment", json!(environment(plan, job)));
        self.put("user", json!(spec.user));
        self.put("working_dir", json!(spec.workdir));
        self.put("ports", json!(texts(&spec.ports)));
        self.put("network_mode", json!(spec.network));
        self.put("init", json!(spec.init));
        self.put("security_opt", json!(spec.security));
        self.put("cap_add", json!(spec.cap_add));
        self.put("cap_drop", json!(spec.cap_drop));
        self.put("privileged", json!(spec.is_privileged));
        self.put("read_only", json!(spec.is_read_only));
        self.put("devices", json!(spec.devices));
        self.put("runtime", json!(spec.runtime));
        self.put("ipc", json!(spec.ipc));
        self.put("stop_signal", json!(spec.stop_signal));
        let grace = std::time::Duration::from_millis(plan.policy.grace_ms);
        self.put("stop_grace_period", json!(seconds(grace)));
        let limits = &spec.limits;
        let cpus = limits
            .cpus
            .and_then(|cpus| cpus.to_string().parse::<f64>().ok());
        self.put("cpus", json!(cpus));
        self.put("mem_limit", json!(limits.memory.map(ByteSize::bytes)));
        self.put("shm_size", json!(limits.shm_size.map(ByteSize::bytes)));
        self.put("healthcheck", health(spec, words));
        self.put("deploy", gpus(spec));
        let restart = spec.restart.unwrap_or(Restart::No);
        self.put("restart", json!(restart.to_string()));
    }

    /// What the container sees of files: its own volumes and folders, inputs, and what jobs hand on.
    fn mounts(&mut self, step: &Step, steps: &[Step], volumes: &mut Map<String, Value>) {
        let plan = &step.plan;
        let mut mounts = Vec::new();
        for mount in &plan.spec.mounts {
            match mount.source() {
                MountSource::Anonymous => {}
                MountSource::Volume(name) => {
                    volumes.insert(name.clone(), json!({}));
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
                volumes.insert(name, json!({}));
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
    }

    fn bound(&self, bound: &Bound) -> Value {
        let kind = match bound.kind {
            BoundKind::Bind => "bind",
            BoundKind::Volume => "volume",
            BoundKind::Tmpfs => "tmpfs",
        };
        let mut fields = json!({ "type": kind, "target": plain(&bound.target) });
        if let Some(source) = &bound.source {
            fields["source"] = json!(plain(&self.path(Path::new(source))));
        }
        if bound.is_read_only {
            fields["read_only"] = json!(true);
        }
        fields
    }

    /// What must have come to what before it starts.
    fn relations(&mut self, step: &Step, steps: &[Step]) {
        let mut after = Map::new();
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

    /// A path as seen from the manifest's folder, where it is below it.
    fn path(&self, path: &Path) -> String {
        match path.strip_prefix(self.folder) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            Ok(below) => format!("./{}", below.display()),
            Err(_) => path.display().to_string(),
        }
    }
}

/// The variables in their order. A secret is asked of the caller, and so is what the caller must supply.
/// Proxies are this machine's own.
fn environment(plan: &RunPlan, job: Option<&Job>) -> Vec<String> {
    let declared = job.map_or(&[][..], |job| &job.environment.0);
    let asked = declared.iter().filter(|variable| variable.value.is_none());
    let asked: Vec<_> = asked.map(|variable| variable.name.as_str()).collect();
    let given = plan.variables.iter().zip(&plan.spec.environment);
    let given = given.filter(|(variable, _)| {
        let name = variable.name.as_str();
        !asked.contains(&name) && !super::build::is_proxy(name)
    });
    let entry = |(variable, (_, value)): (&VariableRecord, &(_, Option<Secret>))| {
        let value = value.as_ref().filter(|_| !variable.is_secret);
        match value {
            Some(value) => format!("{}={}", variable.name, plain(value.expose())),
            None => required(&variable.name),
        }
    };
    let asked = asked.iter().map(|name| required(name));
    given.map(entry).chain(asked).collect()
}

fn required(name: &str) -> String {
    format!("{name}={}", asked_for(name))
}

/// A value that the user must supply.
fn asked_for(name: &str) -> String {
    format!("${{{name}:?}}")
}

fn health(spec: &RunSpec, words: impl Fn(&Vec<String>) -> Vec<String>) -> Value {
    let Some(health) = &spec.health else {
        return Value::Null;
    };
    let mut fields = Map::new();
    if health.test.first().is_some_and(|word| word == "NONE") {
        return json!({ "disable": true });
    }
    if !health.test.is_empty() {
        fields.insert("test".to_owned(), json!(words(&health.test)));
    }
    let times = [
        ("interval", health.interval),
        ("timeout", health.timeout),
        ("start_period", health.start_period),
    ];
    for (key, time) in times {
        if let Some(time) = time {
            fields.insert(key.to_owned(), json!(seconds(time)));
        }
    }
    if let Some(retries) = health.retries {
        fields.insert("retries".to_owned(), json!(retries));
    }
    Value::Object(fields)
}

fn gpus(spec: &RunSpec) -> Value {
    let devices = spec.gpus.iter().map(|request| {
        let mut device = json!({ "capabilities": request.capabilities });
        if !request.driver.is_empty() {
            device["driver"] = json!(request.driver);
        }
        match &request.devices {
            Devices::All => device["count"] = json!("all"),
            Devices::Count(count) => device["count"] = json!(count),
            Devices::Ids(ids) => device["device_ids"] = json!(ids),
        }
        device
    });
    let devices: Vec<_> = devices.collect();
    if devices.is_empty() {
        return Value::Null;
    }
    json!({ "resources": { "reservations": { "devices": devices } } })
}

/// A time as compose writes it.
fn seconds(time: std::time::Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// A text in which compose sees no variables.
fn plain(text: &str) -> String {
    text.replace('$', "$$")
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
