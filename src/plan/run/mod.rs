//! What is run, as what, and what is done with it.

mod decide;
mod environment;
mod flags;
mod key;
mod manifest_json;
mod mount;
mod policy;
mod subject;
#[cfg(test)]
mod tests;
mod why;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::Discretion;
use super::build::{BuildSpec, Item};
use crate::engine::run::RunSpec;
use crate::model::{ContainerPath, Devices, Gate, GpuRequest, ImageRef, Name, Secret, Sensitive};
use crate::records::{Policy, VariableRecord, spec};

pub use decide::{JOB_LABEL, PROJECT_LABEL, label, plan};
pub(in crate::plan) use environment::HELD_BYTES;
pub use environment::{CA_BUNDLE_TARGET, EnvFiles};
pub use flags::{Building, RunFlags};
pub use key::{Handed, key};
pub use mount::bound;
pub use policy::outputs;
pub use subject::Subject;
pub use why::{Aspect, Difference, Known, Planned, differences};

/// A run as it was asked for.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The project; nothing where there is no jobs.yaml.
    pub project: Option<Name>,
    /// The job; nothing for an image that is run by its name.
    pub job: Option<Name>,
    /// Where its image comes from.
    pub image: ImageChoice,
    /// When it is pulled.
    pub pull: Pull,
    /// The container. Image, name and the labels of the run are put in when they are known, and so
    /// are the mounts of inputs and of other runs' outputs.
    pub spec: RunSpec,
    /// The container's name, where the user says it.
    pub name: Option<String>,
    /// What GPUs were asked for.
    pub gpus: GpuChoice,
    /// The variables for the record, in the order of those of the container.
    pub variables: Vec<VariableRecord>,
    /// The values that nobody may see.
    pub secrets: Vec<Secret>,
    /// What else is a secret.
    pub sensitive: Sensitive,
    /// Files and folders that it reads.
    pub inputs: BTreeMap<Name, PlannedInput>,
    /// Outputs of other jobs that it reads: by job and output, where each appears.
    pub needs: BTreeMap<Name, BTreeMap<Name, ContainerPath>>,
    /// What the metrics of some of these jobs must fulfil.
    pub gates: BTreeMap<Name, Gate>,
    /// What is done with it while it runs and when it ends.
    pub policy: Policy,
    /// Its job as jobs.yaml has it, for the record: secrets masked.
    pub manifest: Option<Value>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl RunPlan {
    /// What may be shown of it.
    #[must_use]
    pub fn discretion(&self) -> Discretion {
        Discretion::new(self.sensitive.clone(), &self.secrets)
    }

    /// The container as a record may keep it.
    #[must_use]
    pub fn container(&self) -> Value {
        self.discretion().document(&spec::to_json(&self.spec))
    }

    /// Settles whether a run that takes GPUs where there are some gets them.
    pub fn settle_gpus(&mut self, are_there: bool) {
        if self.gpus != GpuChoice::Optional {
            return;
        }
        if are_there {
            self.spec.gpus = vec![GpuRequest::of(Devices::All)];
        } else {
            environment::hide_gpus(self);
        }
    }
}

/// Where a run's image comes from.
#[derive(Debug, Clone)]
pub enum ImageChoice {
    /// These are built, in order; the last one is run.
    Build(Vec<Item>),
    /// It was built before: the newest image of that job's that the engine has is run.
    Built(Box<BuildSpec>),
    /// It is named.
    Named(ImageRef),
    /// It is the very image that another job ran last.
    OfJob(Name),
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// Where the engine does not have it.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What GPUs were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GpuChoice {
    /// None: the container sees none, whatever its image says.
    #[default]
    None,
    /// All, where the engine can give some; else none, and the user is told.
    Optional,
    /// Those in the container's description, or an error.
    Required,
}

/// A file or folder that a run reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedInput {
    /// Where it is; absolute.
    pub source: PathBuf,
    /// The same as the user wrote it.
    pub shown: String,
    /// Where it appears in the container, read-only.
    pub target: ContainerPath,
}
