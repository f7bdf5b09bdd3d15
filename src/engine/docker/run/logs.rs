//! What a container wrote before.

use super::super::client::DockerEngine;
use super::super::request::{Request, escaped};
use super::frames::Frames;
use super::output::Output;
use crate::engine::run::{LogRequest, RunError};

impl DockerEngine {
    /// What a container wrote, as the engine kept it; `tty` as it was made with. A chunk that is
    /// stamped is of one piece the engine kept: a line, or a part of a long one.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn logs(
        &self,
        container: &str,
        tty: bool,
        which: &LogRequest,
    ) -> Result<Output, RunError> {
        let mut request = Request::get(format!("/containers/{}/logs", escaped(container)))
            .query("stdout", "1")
            .query("stderr", "1");
        for (name, is_set) in [("follow", which.follow), ("timestamps", which.timestamps)] {
            if is_set {
                request = request.query(name, "1");
            }
        }
        for (name, time) in [("since", which.since), ("until", which.until)] {
            if let Some(time) = time {
                let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
                request = request.query(name, &format!("{seconds}.{nanoseconds:09}"));
            }
        }
        if let Some(tail) = which.tail {
            request = request.query("tail", &tail.to_string());
        }
        let answer = self
            .accepted(request)
            .await
            .map_err(|error| super::of_container(error, container))?;
        let frames = Frames::new(tty, which.timestamps);
        Ok(Output::answered(
            answer,
            frames,
            self.connector.address().clone(),
        ))
    }
}
