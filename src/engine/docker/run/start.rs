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
    } else if let Some(missing) = missing_container(&message) {
        // Engines give the whole id or its beginning.
        if container.starts_with(&missing) {
            RunError::NoContainer {
                container: container.to_owned(),
            }
        } else {
            RunError::NoPeer { peer: missing }
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

/// The container that an engine misses: Docker's `No such container: NAME`, Podman's `no container with name or ID
/// "NAME" found: no such container`.
pub(super) fn missing_container(message: &str) -> Option<String> {
    let docker = || {
        message
            .split_once("o such container: ")
            .map(|(_, name)| name)
    };
    let podman = || {
        let (_, rest) = message.split_once("no container with name or ID \"")?;
        rest.split_once('"').map(|(name, _)| name)
    };
    let name = podman().or_else(docker)?.split_whitespace().next()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{EngineError, of_start};

    #[test]
    fn another_container_that_is_missing_is_named() {
        let own = "c0b55fb81e6e56be4d9d4012752d73d8db84201f6eae2a5faf8947c6c268b9dd";
        for (message, expected) in [
            (
                "No such container: nope".to_owned(),
                "the engine has no container `nope`, which this one is to share with",
            ),
            (
                format!("No such container: {own}"),
                &format!("the engine has no container `{own}`"),
            ),
            (
                format!("No such container: {}", &own[..12]),
                &format!("the engine has no container `{own}`"),
            ),
            (
                "no container with name or ID \"nope\" found: no such container".to_owned(),
                "the engine has no container `nope`, which this one is to share with",
            ),
        ] {
            let status = 404;
            let error = of_start(EngineError::Refused { status, message }, own);
            assert_eq!(error.to_string(), expected);
        }
    }
}
