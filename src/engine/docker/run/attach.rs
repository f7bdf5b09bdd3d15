//! Connecting to a container's streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, WriteHalf};

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use super::super::request::{Request, escaped};
use super::frames::Frames;
use super::output::Output;
use crate::engine::run::{AttachRequest, RunError};

/// A connection to a container's streams.
pub struct Attachment {
    /// What it writes.
    pub output: Output,
    /// What it reads, if it was asked for.
    pub input: Option<Input>,
}

/// A container's standard input. Shutting it down ends the input and leaves the output; without
/// that, it ends with the output's connection.
pub struct Input(WriteHalf<TokioIo<Upgraded>>);

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl DockerEngine {
    /// Connects to a container's streams. When this is done the engine has answered: nothing that
    /// the container writes after a later start is missed.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn attach(
        &self,
        container: &str,
        how: &AttachRequest,
    ) -> Result<Attachment, RunError> {
        let mut request = Request::post(format!("/containers/{}/attach", escaped(container)))
            .query("stream", "1")
            .query("stdout", "1")
            .query("stderr", "1");
        if how.stdin {
            request = request.query("stdin", "1");
        }
        if let Some(keys) = &how.detach_keys {
            request = request.query("detachKeys", keys);
        }
        self.streams(request, how.tty, how.stdin)
            .await
            .map_err(|error| match error {
                EngineError::Refused { status: 404, .. } => super::of_container(error, container),
                // Podman looks for the command already now.
                error => super::start::of_start(error, container),
            })
    }

    /// Sends a request whose connection becomes a process's streams.
    pub(super) async fn streams(
        &self,
        request: Request,
        tty: bool,
        stdin: bool,
    ) -> Result<Attachment, EngineError> {
        let address = self.connector.address();
        let request = request.upgrade("tcp");
        let connection = self.accepted(request).await?.upgraded(address).await?;
        let (output, input) = tokio::io::split(TokioIo::new(connection));
        Ok(Attachment {
            output: Output::attached(output, Frames::new(tty, false), address.clone()),
            input: stdin.then_some(Input(input)),
        })
    }
}
