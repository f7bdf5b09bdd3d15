//! `jobctl doctor`

use clap::Args;

use super::Ending;
use super::context::Context;
use crate::exit::Exit;
use crate::manifest;
use crate::ops::doctor::{Question, Status, diagnose};
use crate::report::{diagnosis_human, diagnosis_json};

/// Check what jobctl needs: engine, BuildKit, GPUs, disk, credentials, …
///
/// Each check is a line: ok, warn, fail or skip, and what to do about it. Ends with 0 if nothing
/// failed, 1 if something did, 125 if the engine can't be reached; within 5 seconds.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {}

pub(super) fn exec(_: &DoctorArgs, context: &mut Context) -> Ending {
    let question = Question {
        endpoint: context.endpoint(),
        environment: context.environment.clone(),
        manifest: context.manifest().ok().map(|(path, shown)| {
            let read = manifest::load(&path, &shown, &context.environment);
            let usable = match read {
                Ok(manifest) if manifest.file_errors.is_empty() => Some(Box::new(manifest)),
                _ => None,
            };
            (shown, usable)
        }),
    };
    let diagnosis = context.watch(async |events| Box::pin(diagnose(question, events)).await)?;
    context.output.styled_result(
        || diagnosis_human(&diagnosis),
        || diagnosis_json(&diagnosis),
    );
    Ok(if !diagnosis.is_engine_reached {
        Exit::Engine
    } else if diagnosis.count(Status::Failure) > 0 {
        Exit::Failed
    } else {
        Exit::Success
    })
}
