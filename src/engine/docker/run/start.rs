//! Starting a container.

use bollard::query_parameters::StartContainerOptions;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::engine::run::RunError;

impl DockerEngine {
    /// Starts a container; one that is up already is no error.
    ///
    /// # Errors
    ///
    /// The command is not there or can't be executed, the engine has no GPUs to give, there is no
    /// such container, or the engine refused or stopped answering.
    pub async fn start(&self, container: &str) -> Result<(), RunError> {
        let starting = self
            .docker
            .start_container(container, None::<StartContainerOptions>);
        self.call_within(super::LONG, starting)
            .await
            .map_err(|error| of_start(error, container))
    }
}

/// Why a container did not start, by the engine's words.
///
/// docker/cli's `toStatusError` takes any missing file for a missing command, and any refusal for a command that
/// can't be executed; here it is the command's fault only where the runtime says that it tried to execute it
/// (runc: `exec: "…": …`; crun: `executable file …`, `open executable: …`).
pub(super) fn of_start(error: EngineError, container: &str) -> RunError {
    let EngineError::Refused { status, message } = error else {
        return error.into();
    };
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let is_of_command = says(&[
        "exec: ",
        "executable file",
        "open executable",
        "exec failed",
    ]);
    if says(&[
        "could not select device driver",
        "CDI device injection failed",
        "nvidia-container-cli",
        "nvidia-container-runtime",
    ]) {
        RunError::NoGpu { message }
    } else if status == 404 && says(&["No such container", "no such container"]) {
        RunError::NoContainer {
            container: container.to_owned(),
        }
    } else if says(&["gathering device information"]) {
        RunError::NoDevice { message }
    } else if is_of_command
        && says(&[
            "executable file not found",
            "not found in $PATH",
            "no such file or directory",
            "No such file or directory",
        ])
    {
        RunError::NotFound { message }
    } else if is_of_command && says(&["ermission denied", "is a directory"]) {
        RunError::NotExecutable { message }
    } else {
        EngineError::Refused { status, message }.into()
    }
}
