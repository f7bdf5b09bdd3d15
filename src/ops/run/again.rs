//! Running again what was run: with the image, the container, the inputs and the outputs of other runs
//! that it had.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::RunFailure;
use super::inputs::describe_all;
use super::needs::output_of;
use super::prepare::Ready;
use crate::engine::run::{Bound, BoundKind, RunSpec};
use crate::model::{EnvName, Name, STARS, Secret};
use crate::plan::run::{Handed, ImageChoice, PlannedInput, RunPlan, key};
use crate::records::{InputRecord, Record, Store, VariableRecord, spec};

impl Ready {
    /// What was run, to be run again: its image, its container, and what it was given. Secrets, and
    /// values that the record of an earlier jobctl does not have, are those of `plan`; what is not as
    /// it was is returned in words.
    ///
    /// # Errors
    ///
    /// Its record has no container that can be made, or something that it read is gone.
    pub async fn again(
        store: &Store,
        record: &Record,
        mut plan: RunPlan,
    ) -> Result<(Self, Vec<String>), RunFailure> {
        let mut doubts = Vec::new();
        let container = with_secrets(&record.container, &plan)?;
        plan = with_environment(store, record, plan, container, &mut doubts)?;
        let inputs = inputs(store, record, &plan.inputs).await?;
        let mut shared = Vec::new();
        // A service goes by its secrets, too.
        let mut is_changed = record.policy.is_service && !doubts.is_empty();
        for (name, input) in &inputs {
            let path = input.path.clone().map(PathBuf::from);
            shared.extend(path.map(|path| (path, input.target.clone())));
            let then = &record.inputs[name];
            if (&then.sha256, then.is_executable) != (&input.sha256, input.is_executable) {
                is_changed = true;
                doubts.push(format!("the input `{name}` is not what it was then"));
            }
        }
        let handed = handed(store, record, &mut shared)?;
        forget(&mut plan.spec, &shared);
        let key = match &record.key {
            Some(key) if !is_changed => key.clone(),
            _ => key(&plan, &store.key()?, &inputs, &handed),
        };
        let ready = Self {
            image: record.image.clone(),
            inputs,
            parents: record.parents.clone(),
            handed,
            environment: plan.variables.clone(),
            plan,
            shared,
            key,
        };
        Ok((ready, doubts))
    }
}

/// A plan with the container and the environment variables of a record.
fn with_environment(
    store: &Store,
    record: &Record,
    mut plan: RunPlan,
    container: RunSpec,
    doubts: &mut Vec<String>,
) -> Result<RunPlan, RunFailure> {
    let project = store.key()?;
    let given: BTreeMap<_, _> = plan.spec.environment.iter().cloned().collect();
    plan.spec = container;
    plan.variables.clear();
    for variable in &record.environment {
        let Ok(name) = variable.name.parse::<EnvName>() else {
            continue;
        };
        let is_recorded = !variable.is_secret && variable.digest.is_none();
        let value = match &variable.value {
            Some(value) => Some(Secret::new(value.as_str())),
            None if is_recorded => None,
            None => given.get(&name).cloned().flatten(),
        };
        let text = value.as_ref().map(Secret::expose);
        let digest = text.map(|text| project.digest(text.as_bytes()));
        if variable.is_secret && value.is_none() {
            doubts.push(format!("the secret `{name}` is not given"));
        } else if variable.digest.is_some() && digest != variable.digest {
            doubts.push(format!("`{name}` has not the value that it had then"));
        }
        let is_secret =
            variable.is_secret || text.is_some_and(|text| plan.sensitive.is_value(text));
        plan.variables.push(VariableRecord {
            value: text.filter(|_| !is_secret).map(str::to_owned),
            digest: digest.filter(|_| is_secret),
            is_secret,
            ..variable.clone()
        });
        plan.spec.environment.push((name, value));
    }
    plan.policy = record.policy.clone();
    plan.manifest.clone_from(&record.manifest);
    // Nothing is built.
    plan.image = ImageChoice::Build(Vec::new());
    plan.name = None;
    Ok(plan)
}

/// A container's description as it was recorded, with the secrets that were masked: those of
/// `plan`, where all else of what they are in is the same.
fn with_secrets(recorded: &Value, plan: &RunPlan) -> Result<RunSpec, RunFailure> {
    let mut container = recorded.clone();
    let (whole, shown) = (spec::to_json(&plan.spec), plan.container());
    for (name, value) in container.as_object_mut().into_iter().flatten() {
        if !value.to_string().contains(STARS) {
            continue;
        }
        if *value == shown[name.as_str()] {
            value.clone_from(&whole[name.as_str()]);
        } else {
            let field = name.clone();
            return Err(RunFailure::SecretGone { field });
        }
    }
    Ok(spec::from_json(&container).map_err(std::io::Error::other)?)
}

/// The inputs of a run as they are today. Where one was, the record of an earlier jobctl does not say: it
/// stays a mount of the container.
async fn inputs(
    store: &Store,
    record: &Record,
    today: &BTreeMap<Name, PlannedInput>,
) -> Result<BTreeMap<String, InputRecord>, RunFailure> {
    let planned = record.inputs.iter().filter_map(|(name, input)| {
        let name = name.parse::<Name>().ok()?;
        // The project may have been moved since.
        let today = today.get(&name).filter(|today| today.shown == input.source);
        let planned = PlannedInput {
            source: match today {
                Some(today) => today.source.clone(),
                None => input.path.clone()?.into(),
            },
            shown: input.source.clone(),
            target: input.target.parse().ok()?,
        };
        Some((name, planned))
    });
    let mut inputs = describe_all(store, planned.collect()).await?;
    for (name, input) in &record.inputs {
        inputs.entry(name.clone()).or_insert_with(|| input.clone());
    }
    Ok(inputs)
}

/// What a run was handed by others, and in `shared` where that is, and where it appeared.
fn handed(
    store: &Store,
    record: &Record,
    shared: &mut Vec<(PathBuf, String)>,
) -> Result<Handed, RunFailure> {
    let mut handed = Handed::new();
    for (job, outputs) in record.places() {
        let Some(parent) = record.parents.get(&job) else {
            continue;
        };
        let parent = store.read(*parent)?;
        let of_job: &mut BTreeMap<_, _> = handed.entry(job.clone()).or_default();
        for (output, target) in outputs {
            let (Ok(job), Ok(name)) = (job.parse(), output.parse()) else {
                continue;
            };
            let (path, sha256) = output_of(store, &parent, &job, &name)?;
            shared.push((path, target.clone()));
            of_job.insert(output, (sha256, target));
        }
    }
    Ok(handed)
}

/// Takes the mounts out of a container's description that are made anew, or copied, for what is shared.
fn forget(spec: &mut RunSpec, shared: &[(PathBuf, String)]) {
    let is_shared = |bound: &Bound| {
        let is_ours = bound.kind == BoundKind::Bind && bound.is_read_only;
        is_ours && shared.iter().any(|(_, target)| *target == bound.target)
    };
    spec.bound.retain(|bound| !is_shared(bound));
}
