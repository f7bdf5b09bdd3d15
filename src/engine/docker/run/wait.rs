//! Waiting for a container's end.

use serde::Deserialize;

use super::super::client::DockerEngine;
use super::super::endpoint::Address;
use super::super::error::EngineError;
use super::super::request::{Answer, Request, escaped};
use crate::engine::run::{RunError, Until};

/// A container's end that the engine will tell.
pub struct Waiting {
    answer: Answer,
    address: Address,
}

/// What the engine says at the end.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ended {
    status_code: i64,
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

impl DockerEngine {
    /// Waits for a container's end. When this is done the engine waits: no end after a later start
    /// is missed.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn wait(&self, container: &str, until: Until) -> Result<Waiting, RunError> {
        let condition = match until {
            Until::Stopped => "not-running",
            Until::NextExit => "next-exit",
            Until::Removed => "removed",
        };
        let request = Request::post(format!("/containers/{}/wait", escaped(container)))
            .query("condition", condition);
        let answer = self
            .accepted(request)
            .await
            .map_err(|error| super::of_container(error, container))?;
        Ok(Waiting {
            answer,
            address: self.connector.address().clone(),
        })
    }
}

impl Waiting {
    /// The exit code, as the engine has it. Takes as long as the container runs.
    ///
    /// # Errors
    ///
    /// [`EngineError::Gone`] if the engine went away: the container may run on. Or the engine
    /// failed.
    pub async fn exit(self) -> Result<i64, RunError> {
        let body = self.answer.whole(&self.address).await?;
        let ended: Ended = serde_json::from_slice(&body).map_err(|_| EngineError::Gone {
            address: self.address.to_string(),
            reason: "it did not say how the container ended".to_owned(),
        })?;
        match ended.error {
            Some(Failure { message }) if !message.is_empty() => {
                Err(EngineError::Failed { message }.into())
            }
            _ => Ok(ended.status_code),
        }
    }
}
