//! What a command line means: a job, or an image.

use crate::manifest::Manifest;
use crate::manifest::schema::Job;
use crate::manifest::suggest::nearest;
use crate::model::{ImageRef, Name};
use crate::plan::build::PlanError;

/// What is run.
#[derive(Debug, Clone)]
pub enum Subject<'a> {
    /// A job of a manifest.
    Job(&'a Manifest, &'a Name, &'a Job),
    /// An image by its name.
    Image(ImageRef),
}

impl<'a> Subject<'a> {
    /// The job of that name, or the only one.
    ///
    /// # Errors
    ///
    /// There is no such job, or there are several and none is named.
    pub fn job(manifest: &'a Manifest, name: Option<&str>) -> Result<Self, PlanError> {
        let jobs = &manifest.root.jobs;
        let shown = manifest.path.display();
        let known: Vec<_> = jobs.keys().map(|name| format!("`{name}`")).collect();
        let there_are = || match known.len() {
            0 => format!("{shown} has no jobs; write one under `jobs`"),
            _ => format!("there are {}", known.join(", ")),
        };
        let Some(name) = name else {
            return match jobs.iter().next() {
                Some((name, job)) if jobs.len() == 1 => Ok(Self::Job(manifest, name, &job.value)),
                _ => Err(PlanError::new(
                    "which job is to be run is not said",
                    format!("name it: `jobctl run JOB`; {}", there_are()),
                )),
            };
        };
        if let Some((name, job)) = jobs.iter().find(|(known, _)| known.as_str() == name) {
            return Ok(Self::Job(manifest, name, &job.value));
        }
        let help = match nearest(name, jobs.keys().map(Name::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if name.contains([':', '/']) => {
                format!("to run an image, write `jobctl run --image {name}`")
            }
            None => there_are(),
        };
        Err(PlanError::new(
            format!("`{name}` is not a job of {shown}"),
            help,
        ))
    }
}
