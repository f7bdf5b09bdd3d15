//! Running a program in a container that is up.

use std::time::Duration;

use bollard::models::ExecConfig;
use bollard::query_parameters::ResizeExecOptions;
use serde_json::json;

use super::super::client::DockerEngine;
use super::super::request::{Request, escaped};
use super::attach::Attachment;
use crate::engine::run::{ExecSpec, RunError};

/// The time between two looks at whether the engine has noticed a program's end.
const LOOK: Duration = Duration::from_millis(20);

impl DockerEngine {
    /// Runs a program in a container that is up: its id, for [`Self::exec_exit`] and
    /// [`Self::exec_resize`], and its streams.
    ///
    /// # Errors
    ///
    /// There is no such container or it is not up, or the engine refused or stopped answering. That
    /// the program is not there is told by its exit code.
    pub async fn exec(
        &self,
        container: &str,
        spec: &ExecSpec,
    ) -> Result<(String, Attachment), RunError> {
        let environment = spec
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={}", value.expose()));
        let config = ExecConfig {
            attach_stdin: Some(spec.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            detach_keys: spec.detach_keys.clone(),
            tty: Some(spec.tty),
            env: Some(environment.collect()),
            cmd: Some(spec.command.clone()),
            privileged: Some(spec.is_privileged),
            user: spec.user.clone(),
            working_dir: spec.workdir.clone(),
            console_size: None,
        };
        let made = self
            .call(self.docker.create_exec(container, config))
            .await
            .map_err(|error| super::of_container(error, container))?;
        let request = Request::post(format!("/exec/{}/start", escaped(&made.id)))
            .json(&json!({ "Detach": false, "Tty": spec.tty }));
        let streams = self.streams(request, spec.tty, spec.stdin).await?;
        Ok((made.id, streams))
    }

    /// The exit code of a program that [`Self::exec`] ran, once its output is over.
    ///
    /// # Errors
    ///
    /// The engine refused or stopped answering.
    pub async fn exec_exit(&self, exec: &str) -> Result<i64, RunError> {
        loop {
            let found = self.call(self.docker.inspect_exec(exec)).await?;
            match (found.running, found.exit_code) {
                (Some(false) | None, Some(code)) => return Ok(code),
                // The output is over a moment before the engine knows the code.
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Tells a program's terminal its size.
    ///
    /// # Errors
    ///
    /// The program is not running, or the engine stopped answering.
    pub async fn exec_resize(&self, exec: &str, columns: u16, rows: u16) -> Result<(), RunError> {
        let options = ResizeExecOptions {
            h: rows.into(),
            w: columns.into(),
        };
        Ok(self.call(self.docker.resize_exec(exec, options)).await?)
    }
}
