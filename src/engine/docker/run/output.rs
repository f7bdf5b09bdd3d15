//! A container's output as it comes.

use bytes::BytesMut;
use futures_util::Stream;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, ReadHalf};

use super::super::endpoint::Address;
use super::super::error::EngineError;
use super::super::request::Answer;
use super::frames::{Found, FrameError, Frames};
use crate::engine::run::{Chunk, RunError};

/// How much is read at once.
const READ: usize = 64 << 10;

/// A container's output as it comes, with standard output and standard error apart.
pub struct Output {
    source: Source,
    frames: Frames,
    address: Address,
    is_over: bool,
}

/// Where it comes from.
enum Source {
    /// A connection that is no longer HTTP.
    Attached {
        connection: ReadHalf<TokioIo<Upgraded>>,
        buffer: BytesMut,
    },
    /// The body of an answer.
    Answer(Answer),
}

impl Output {
    pub(super) fn attached(
        connection: ReadHalf<TokioIo<Upgraded>>,
        frames: Frames,
        address: Address,
    ) -> Self {
        let buffer = BytesMut::new();
        let source = Source::Attached { connection, buffer };
        Self::new(source, frames, address)
    }

    pub(super) fn answered(answer: Answer, frames: Frames, address: Address) -> Self {
        Self::new(Source::Answer(answer), frames, address)
    }

    fn new(source: Source, frames: Frames, address: Address) -> Self {
        Self {
            source,
            frames,
            address,
            is_over: false,
        }
    }

    /// Whether it comes from the container itself, rather than from the engine's log. Following a log, an engine may
    /// end before it has sent the last lines.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(self.source, Source::Attached { .. })
    }

    /// The next bytes; `None` after the last ones, and after an error. May be dropped before it is
    /// done, and loses nothing.
    ///
    /// An attached container's output ends in the same way when the container ends and when the
    /// engine goes away: [`Waiting`](super::Waiting) tells which it was.
    ///
    /// # Errors
    ///
    /// The engine went away in the middle, or failed.
    pub async fn next(&mut self) -> Option<Result<Chunk, RunError>> {
        if self.is_over {
            return None;
        }
        let next = self.found().await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.map_err(RunError::from).transpose()
    }

    /// The same as a stream.
    pub fn stream(self) -> impl Stream<Item = Result<Chunk, RunError>> {
        futures_util::stream::unfold(self, async |mut output| {
            output.next().await.map(|next| (next, output))
        })
    }

    async fn found(&mut self) -> Result<Option<Chunk>, EngineError> {
        loop {
            match self.frames.next() {
                Ok(Found::Chunk(chunk)) => return Ok(Some(chunk)),
                Ok(Found::Nothing) => {}
                Err(error) => return Err(self.said(error)),
            }
            if self.receive().await? {
                continue;
            }
            if self.frames.is_between() {
                return Ok(None);
            }
            return Err(EngineError::Gone {
                address: self.address.to_string(),
                reason: "the output ends in the middle".to_owned(),
            });
        }
    }

    /// Whether more was received; not at the end.
    async fn receive(&mut self) -> Result<bool, EngineError> {
        match &mut self.source {
            Source::Attached { connection, buffer } => {
                // Takes the old memory again where nobody holds on to it.
                buffer.reserve(READ);
                let read = connection.read_buf(buffer).await;
                let length = read.map_err(|error| EngineError::gone(&error, &self.address))?;
                self.frames.receive(buffer.split().freeze());
                Ok(length > 0)
            }
            Source::Answer(answer) => match answer.part(&self.address).await? {
                Some(part) => {
                    self.frames.receive(part);
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }

    fn said(&self, error: FrameError) -> EngineError {
        match error {
            FrameError::Said(message) => EngineError::Failed { message },
            FrameError::NoFrames => EngineError::NotAnEngine {
                address: self.address.to_string(),
                reason: error.to_string(),
            },
        }
    }
}
