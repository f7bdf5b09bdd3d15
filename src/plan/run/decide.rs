//! Job, flags and defaults → what is run.

use std::collections::BTreeMap;

use super::environment::{self, Settled, Variables};
use super::manifest_json::job_json;
use super::policy::{fill_policy, not_kept, policy};
use super::{
    Building, CA_BUNDLE_TARGET, EnvFiles, GpuChoice, ImageChoice, PlannedInput, RunFlags, RunPlan,
    Subject,
};
use crate::diagnostic::Diagnostic;
use crate::engine::run::{Bound, BoundKind, Health, Limits, RunSpec};
use crate::facts::Environment;
use crate::manifest::Manifest;
use crate::manifest::schema::{Healthcheck, ImageSource, Job};
use crate::model::labels::{OWN_LABELS, TEST_LABEL};
use crate::model::{
    ContainerPath, Devices, Gate, Gpus, Mount, MountSource, Name, NetworkAttachment, Restart,
    ValueError, clean,
};
use crate::plan::Discretion;
use crate::plan::build::{self, Item, PlanError};

/// The label of a container's job.
pub const JOB_LABEL: &str = "dev.jobctl.job";
/// The label of a container's project.
pub const PROJECT_LABEL: &str = "dev.jobctl.project";
/// The option that keeps processes from gaining privileges.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Decides what is run.
///
/// # Errors
///
/// All that is wrong: variables that the caller must supply, flags that do not fit the job.
pub fn plan(
    subject: &Subject<'_>,
    flags: &RunFlags,
    files: &EnvFiles,
    caller: &Environment,
) -> Result<RunPlan, Vec<Diagnostic>> {
    let mut variables = Variables::collect(subject, flags, files, caller);
    let mut errors = std::mem::take(&mut variables.errors);
    let mut warnings = std::mem::take(&mut variables.warnings);
    let image = image(subject, flags, caller).unwrap_or_else(|error| {
        errors.push(error.into());
        ImageChoice::Build(Vec::new())
    });
    if let (Subject::Job(manifest, ..), ImageChoice::Build(items)) = (subject, &image) {
        errors.extend(build::file_errors(manifest, items));
    }
    let mut spec = flags.spec.clone();
    let mut inputs = BTreeMap::new();
    let (mut needs, mut gates) = (BTreeMap::new(), BTreeMap::new());
    let mut policy = policy(flags);
    let is_service = matches!(subject, Subject::Job(_, _, job) if job.is_service());
    if spec.restart.is_some_and(|restart| restart != Restart::No) && !is_service {
        errors.push(Diagnostic::from(PlanError::new(
            "`--restart`: a job runs once, and its end is its result",
            "leave it out; `--retries N` runs it again when the engine fails it, and `service: \
             true` in jobs.yaml makes a job that stays up",
        )));
    }
    let gpus = gpus(subject, flags, &mut spec);
    if let Subject::Job(manifest, name, job) = subject {
        fill(&mut spec, manifest, job, flags.is_foreground);
        spec.labels.insert(JOB_LABEL.to_owned(), name.to_string());
        let project = manifest.root.name.to_string();
        spec.labels.insert(PROJECT_LABEL.to_owned(), project);
        fill_policy(&mut policy, job, flags);
        inputs = planned_inputs(manifest, job);
        (needs, gates) = planned_needs(job, flags);
    }
    spec.restart = spec.restart.filter(|restart| *restart != Restart::No);
    absolute(&mut spec, caller);
    let outputs = policy.outputs.iter();
    let lost = outputs.filter_map(|output| not_kept(&spec, output));
    let wrong = spec.mounts.iter().filter_map(colon).chain(lost);
    errors.extend(wrong.map(Diagnostic::from));
    confine(&mut spec, flags);
    if let Some(bundle) = &flags.ca_bundle {
        variables.add_ca_bundle();
        let source = Some(bundle.to_string_lossy().into_owned());
        let bound = Bound::of(BoundKind::Bind, source, CA_BUNDLE_TARGET);
        spec.bound.push(bound.read_only());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let words = [&spec.command, &spec.entrypoint];
    for words in words.into_iter().flatten() {
        variables.add_words(words);
    }
    let Settled {
        variables,
        records,
        secrets,
        sensitive,
        warnings: doubts,
    } = variables.finish();
    warnings.extend(doubts);
    spec.environment = variables;
    let discretion = Discretion::new(sensitive.clone(), &secrets);
    warnings.extend(doubtful(&spec, flags));
    let (project, job, manifest) = match subject {
        Subject::Job(manifest, name, job) => (
            Some((*manifest.root.name).clone()),
            Some((*name).clone()),
            Some(discretion.document(&job_json(job))),
        ),
        Subject::Image(_) => (None, None, None),
    };
    let mut plan = RunPlan {
        project,
        job,
        image,
        pull: flags.pull.unwrap_or_default(),
        spec,
        name: flags.name.clone(),
        gpus,
        variables: records,
        secrets,
        sensitive,
        inputs,
        needs,
        gates,
        policy,
        manifest,
        warnings,
    };
    // Who names NVIDIA's runtime wants what the image says.
    let runtime = plan.spec.runtime.as_deref();
    let is_nvidia = runtime.is_some_and(|name| name.contains("nvidia"));
    if gpus == GpuChoice::None && !is_nvidia {
        environment::hide_gpus(&mut plan);
    }
    without_secret_name(plan)
}

/// Refuses a plan whose container's name has a secret in it.
fn without_secret_name(plan: RunPlan) -> Result<RunPlan, Vec<Diagnostic>> {
    let shown = plan.name.as_ref().map(|name| plan.discretion().text(name));
    if shown == plan.name {
        return Ok(plan);
    }
    Err(vec![Diagnostic::from(PlanError::new(
        "`--name` has a secret in it, but a container's name is stored and shown as it is",
        "choose a name without it",
    ))])
}

impl From<PlanError> for Diagnostic {
    fn from(error: PlanError) -> Self {
        Self::error("usage", error.message).help(error.help)
    }
}

/// A label as docker's `--label` takes it.
///
/// # Errors
///
/// It has no name, or one of jobctl's own.
pub fn label(text: &str) -> Result<(String, String), ValueError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let blanks = [' ', '\t'];
    // docker takes the blanks in front for a part of the name, which nobody means.
    let name = name.trim_start_matches(blanks);
    if name.is_empty() {
        return Err(ValueError::new("a label has a name").help("write `NAME=VALUE`"));
    }
    if name.contains(blanks) {
        return Err(ValueError::new("a label's name has no blanks in it")
            .help(format!("write `{}`", name.trim_end().replace(blanks, "-"))));
    }
    if name.starts_with(OWN_LABELS) && name != TEST_LABEL {
        return Err(
            ValueError::new(format!("`{name}` is a label of jobctl's own"))
                .help("take a name of your own: `org.example.…`"),
        );
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn image(
    subject: &Subject<'_>,
    flags: &RunFlags,
    environment: &Environment,
) -> Result<ImageChoice, PlanError> {
    let (manifest, name, job) = match subject {
        Subject::Image(image) => return Ok(ImageChoice::Named(image.clone())),
        Subject::Job(manifest, name, job) => (manifest, name, job),
    };
    if job.build.is_some() {
        let names = [name.to_string()];
        let mut items = build::plan(Some(manifest), &names, &flags.build, environment)?;
        if flags.building != Building::Never {
            return Ok(ImageChoice::Build(items));
        }
        if let Some(Item::Build(spec)) = items.pop() {
            return Ok(ImageChoice::Built(spec));
        }
    }
    if flags.building == Building::Asked {
        return Err(PlanError::new(
            format!("`--build`: job `{name}` has no `build`"),
            "leave `--build` out",
        ));
    }
    match job.image.as_deref() {
        Some(ImageSource::Reference(image)) => Ok(ImageChoice::Named(image.clone())),
        Some(ImageSource::Job(other)) => Ok(ImageChoice::OfJob(other.clone())),
        None => Err(PlanError::new(
            format!("job `{name}` has no image"),
            "give it a `build` or an `image`",
        )),
    }
}

/// Puts GPUs into the container's description, where it is decided.
fn gpus(subject: &Subject<'_>, flags: &RunFlags, spec: &mut RunSpec) -> GpuChoice {
    let of_job = match subject {
        Subject::Job(_, _, job) => job.gpus.as_deref().map(|gpus| &gpus.0),
        Subject::Image(_) => None,
    };
    match flags.gpus.as_ref().or(of_job) {
        None | Some(Gpus::None) => GpuChoice::None,
        Some(Gpus::Optional) => GpuChoice::Optional,
        // An engine would leave the image's own wish in force.
        Some(Gpus::Request(request)) if request.devices == Devices::Count(0) => GpuChoice::None,
        Some(Gpus::Request(request)) => {
            spec.gpus = vec![request.clone()];
            GpuChoice::Required
        }
    }
}

/// Takes from the job what the command line does not say.
fn fill(spec: &mut RunSpec, manifest: &Manifest, job: &Job, is_foreground: bool) {
    // As compose has it: a command is written for its entry point.
    let has_program = spec
        .entrypoint
        .as_ref()
        .is_some_and(|words| !words.is_empty());
    if spec.command.is_none() && !has_program {
        spec.command = job.command.as_deref().map(|command| command.0.clone());
    }
    if spec.entrypoint.is_none() {
        spec.entrypoint = job.entrypoint.as_deref().map(|words| words.0.clone());
    }
    if spec.user.is_none() {
        spec.user = job.user.as_ref().map(|user| user.to_string());
    }
    if spec.workdir.is_none() {
        spec.workdir = job.working_dir.as_ref().map(|path| path.to_string());
    }
    if let Some(resources) = &job.resources {
        let Limits {
            cpus,
            memory,
            shm_size,
            ulimits: _,
        } = &mut spec.limits;
        *cpus = cpus.take().or(resources.cpus.as_deref().cloned());
        *memory = memory.take().or(resources.memory.as_deref().cloned());
        *shm_size = shm_size.take().or(resources.shm_size.as_deref().cloned());
    }
    if spec.networks.is_empty() {
        let of_job = job.network.iter();
        spec.networks = of_job
            .map(|name| NetworkAttachment::of(name.to_string()))
            .collect();
    }
    let targets = spec.mounts.iter().map(|mount| mount.target().as_str());
    let targets: Vec<_> = targets
        .chain(spec.bound.iter().map(|bound| bound.target.as_str()))
        .chain(spec.tmpfs.keys().map(String::as_str))
        .collect();
    let of_job = job.volumes.iter().map(|mount| &**mount);
    let of_job = of_job.filter(|mount| !targets.contains(&mount.target().as_str()));
    let of_job = of_job.map(|mount| of_project(mount, manifest)).collect();
    let of_flags = std::mem::replace(&mut spec.mounts, of_job);
    spec.mounts.extend(of_flags);
    let of_job = job.ports.iter().map(|port| (**port).clone()).collect();
    let of_flags = std::mem::replace(&mut spec.ports, of_job);
    spec.ports.extend(of_flags);
    spec.health = if job.is_service() {
        job.healthcheck.as_deref().map(health)
    } else {
        // What ends by itself is judged by its end; the image's check would cost it time.
        Some(Health::none())
    };
    if job.is_service() && !is_foreground {
        let of_job = job.restart.as_deref().copied();
        let restart = spec.restart.or(of_job).unwrap_or(Restart::UnlessStopped);
        spec.restart = Some(restart);
    }
}

/// A mount of a manifest's: folders are relative to its own, volumes are the project's, as compose
/// has them.
fn of_project(mount: &Mount, manifest: &Manifest) -> Mount {
    let source = match mount.source() {
        MountSource::Anonymous => MountSource::Anonymous,
        MountSource::Volume(name) => MountSource::Volume(format!("{}_{name}", *manifest.root.name)),
        MountSource::Path(path) => {
            let path = clean(&manifest.folder.join(path));
            MountSource::Path(path.to_string_lossy().into_owned())
        }
    };
    mount.clone().with_source(source)
}

/// Makes paths of the command line absolute.
fn absolute(spec: &mut RunSpec, environment: &Environment) {
    for mount in &mut spec.mounts {
        if let MountSource::Path(path) = mount.source()
            && !path.starts_with('/')
        {
            let path = clean(&environment.current_dir().join(path));
            let source = MountSource::Path(path.to_string_lossy().into_owned());
            *mount = mount.clone().with_source(source);
        }
    }
}

/// A folder that the engine would take for a folder and a target.
fn colon(mount: &Mount) -> Option<PlanError> {
    match mount.source() {
        MountSource::Path(path) if path.contains(':') => Some(PlanError::new(
            format!("the directory `{path}` can't be a volume: there is a colon in its path"),
            format!(
                "write `--mount 'type=bind,source={path},target={}'`",
                mount.target()
            ),
        )),
        _ => None,
    }
}

/// Our defaults, where nothing else is said.
fn confine(spec: &mut RunSpec, flags: &RunFlags) {
    spec.init = spec.init.or(Some(true));
    let is_said = |option: &String| option.starts_with(NO_NEW_PRIVILEGES);
    let is_wanted = flags
        .no_new_privileges
        .unwrap_or_else(|| !spec.is_privileged && !spec.security.iter().any(is_said));
    if is_wanted {
        spec.security.retain(|option| !is_said(option));
        spec.security.insert(0, NO_NEW_PRIVILEGES.to_owned());
    }
}

fn health(check: &Healthcheck) -> Health {
    let time = |time: &Option<crate::manifest::Located<crate::model::Duration>>| {
        time.as_deref().map(|time| time.get())
    };
    Health {
        test: check
            .test
            .as_deref()
            .map(|test| test.0.clone())
            .unwrap_or_default(),
        interval: time(&check.interval),
        timeout: time(&check.timeout),
        start_period: time(&check.start_period),
        retries: check.retries.as_deref().copied(),
    }
}

fn planned_inputs(manifest: &Manifest, job: &Job) -> BTreeMap<Name, PlannedInput> {
    let planned = |(name, input): (
        &Name,
        &crate::manifest::Entry<Name, crate::manifest::schema::Input>,
    )| {
        let input = &input.value;
        let planned = PlannedInput {
            source: clean(&manifest.folder.join(input.source.as_path())),
            shown: input.source.to_string(),
            target: (*input.target).clone(),
        };
        (name.clone(), planned)
    };
    job.inputs.iter().map(planned).collect()
}

/// Where each output of other jobs appears, and what these jobs' metrics must fulfil.
fn planned_needs(
    job: &Job,
    flags: &RunFlags,
) -> (
    BTreeMap<Name, BTreeMap<Name, ContainerPath>>,
    BTreeMap<Name, Gate>,
) {
    let (mut needs, mut gates) = (BTreeMap::new(), BTreeMap::new());
    for (name, need) in &job.needs.0 {
        let outputs = need.value.outputs.iter();
        let outputs = outputs.map(|(name, path)| (name.clone(), (*path.value).clone()));
        needs.insert(name.clone(), outputs.collect());
        let gate = need.value.gate.as_deref().filter(|_| !flags.ignores_gates);
        gates.extend(gate.map(|gate| (name.clone(), gate.clone())));
    }
    (needs, gates)
}

/// What is likely not meant, of flags: jobs.yaml is checked by itself.
fn doubtful(spec: &RunSpec, flags: &RunFlags) -> Option<String> {
    let is_of_flags = !flags.spec.networks.is_empty() || !flags.spec.ports.is_empty();
    let mut networks = spec.networks.iter();
    let is_hosts = networks.any(|network| network.name == "host") && !spec.ports.is_empty();
    (is_of_flags && is_hosts)
        .then(|| "the network is the host's: published ports mean nothing".to_owned())
}
