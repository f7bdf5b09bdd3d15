//! What the engine saw happen to a container.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt as _;
use jiff::Timestamp;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::engine::run::RunError;
use crate::facts::host;

impl DockerEngine {
    /// Whether the engine remembers an event of a container's, such as `die` or `oom`, by its own clock.
    /// Up to a time that is to come, it waits.
    ///
    /// It remembers a few hundred events, and none from before its own start: of a container that
    /// went down with its machine, it has only a guess at the exit code.
    ///
    /// Podman calls a container's end `died`, and does not tell of full memory everywhere; the kernel's own
    /// log does, where this process may read it.
    ///
    /// # Errors
    ///
    /// The engine refused or stopped answering.
    pub async fn saw(
        &self,
        event: &str,
        container: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<bool, RunError> {
        let event = match event {
            "die" if self.is_podman => "died",
            "oom" if self.is_podman => {
                return Ok(self.is_local() && host::has_run_out_of_memory(container));
            }
            event => event,
        };
        let filters = HashMap::from([
            ("container".to_owned(), vec![container.to_owned()]),
            ("event".to_owned(), vec![event.to_owned()]),
        ]);
        let options = EventsOptions {
            since: Some(since.as_second().to_string()),
            until: Some(format!(
                "{}.{:09}",
                until.as_second(),
                until.subsec_nanosecond()
            )),
            filters: Some(filters),
        };
        let mut events = Box::pin(self.docker.events(Some(options)));
        let address = &self.endpoint().address;
        match tokio::time::timeout(self.deadlines.call, events.next()).await {
            Ok(Some(Ok(_))) => Ok(true),
            Ok(None) => Ok(false),
            Ok(Some(Err(error))) => Err(EngineError::of_bollard(&error, address).into()),
            Err(_) => Err(self.hung(self.deadlines.call).into()),
        }
    }
}
