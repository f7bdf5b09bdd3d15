//! Ending and removing containers.

use std::time::Duration;

use bollard::query_parameters::{
    KillContainerOptions, RemoveContainerOptions, ResizeContainerTTYOptions, StopContainerOptions,
};

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::engine::run::{RunError, Until};

/// A duration as the engine's API has it; a part of a second is given whole. The longest one is -1: it waits as
/// long as it takes.
pub(super) fn whole_seconds(duration: Duration) -> i64 {
    if duration == Duration::MAX {
        return -1;
    }
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

impl DockerEngine {
    /// Asks a container to end, and kills it when the grace is over; done when it has ended. One
    /// that is not running is no error. Without a signal, the container's own is sent.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn stop(
        &self,
        container: &str,
        signal: Option<&str>,
        grace: Duration,
    ) -> Result<(), RunError> {
        let Some(signal) = signal else {
            let options = StopContainerOptions {
                t: Some(i32::try_from(whole_seconds(grace)).unwrap_or(i32::MAX)),
                signal: None,
            };
            let stopping = self.docker.stop_container(container, Some(options));
            return self
                .call_within(grace.saturating_add(super::LONG), stopping)
                .await
                .map_err(|error| super::of_container(error, container));
        };
        // Engines before 23.0 take no other signal than the container's: this is what newer ones do.
        let stopped = self.wait(container, Until::Stopped).await?;
        self.kill(container, signal).await?;
        if let Ok(stopped) = tokio::time::timeout(grace, stopped.exit()).await {
            return stopped.map(drop);
        }
        self.stop_now(container).await
    }

    /// Kills a container; done when it has ended.
    async fn stop_now(&self, container: &str) -> Result<(), RunError> {
        let stopped = self.wait(container, Until::Stopped).await?;
        self.kill(container, "SIGKILL").await?;
        match tokio::time::timeout(super::LONG, stopped.exit()).await {
            Ok(stopped) => stopped.map(drop),
            Err(_) => Err(self.hung(super::LONG).into()),
        }
    }

    /// Sends a signal to a container's first process: `SIGTERM`, `9`. One that is not running is
    /// no error.
    ///
    /// # Errors
    ///
    /// There is no such container or signal, or the engine refused or stopped answering.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<(), RunError> {
        let options = KillContainerOptions {
            signal: signal.to_owned(),
        };
        let killing = self.docker.kill_container(container, Some(options));
        match self.call(killing).await {
            Ok(()) | Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            // Podman 4.3 answers 500.
            Err(EngineError::Refused { message, .. })
                if message.contains("can only kill running containers") =>
            {
                Ok(())
            }
            Err(error) => Err(super::of_container(error, container)),
        }
    }

    /// Removes a container with its nameless volumes, whether it runs or not; done when it is gone.
    /// One that is not there is no error.
    ///
    /// # Errors
    ///
    /// The engine could not, or stopped answering.
    pub async fn remove(&self, container: &str) -> Result<(), RunError> {
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            link: false,
        };
        let removing = self.docker.remove_container(container, Some(options));
        match self.call_within(super::LONG, removing).await {
            Ok(()) | Err(EngineError::Refused { status: 404, .. }) => Ok(()),
            Err(EngineError::Refused {
                status: 409,
                message,
            }) if message.contains("already in progress") => self.removed(container).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until somebody else has removed a container.
    async fn removed(&self, container: &str) -> Result<(), RunError> {
        let removed = match self.wait(container, Until::Removed).await {
            Ok(removed) => removed,
            Err(RunError::NoContainer { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        match tokio::time::timeout(super::LONG, removed.exit()).await {
            Ok(removed) => removed.map(drop),
            Err(_) => Err(self.hung(super::LONG).into()),
        }
    }

    /// Tells a container's terminal its size.
    ///
    /// # Errors
    ///
    /// There is no such container or it is not running, or the engine stopped answering.
    pub async fn resize(&self, container: &str, columns: u16, rows: u16) -> Result<(), RunError> {
        let options = ResizeContainerTTYOptions {
            h: rows.into(),
            w: columns.into(),
        };
        let resizing = self.docker.resize_container_tty(container, options);
        self.call(resizing)
            .await
            .map_err(|error| super::of_container(error, container))
    }
}
