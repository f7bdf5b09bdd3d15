//! A connection that doesn't wait for ever for a client that won't read, and on which every error has its form. hyper has
//! no time limit for writing, and answers a head that it can't read by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::error::ApiError;
use crate::slots::ConnState;

/// A TCP stream with a limit on the time that an answer takes to be read, from when it first had to
/// wait for the client.
pub(crate) struct TimedStream {
    inner: TcpStream,
    state: Arc<ConnState>,
    write_time: Duration,
    linger: Duration,
    /// When an answer has to be read; after the last, when the client has to be quiet.
    deadline: Option<Pin<Box<Sleep>>>,
    is_shut: bool,
    /// What is still to be sent instead of hyper's own answer.
    replacement: Vec<u8>,
}

impl TimedStream {
    pub(crate) fn new(
        inner: TcpStream,
        state: Arc<ConnState>,
        write_time: Duration,
        linger: Duration,
    ) -> Self {
        Self {
            inner,
            state,
            write_time,
            linger,
            deadline: None,
            is_shut: false,
            replacement: Vec::new(),
        }
    }

    /// Takes hyper's own answer, which it gives to a head that it can't read, and gives another with the same
    /// status. None: it is an answer of ours.
    fn replace(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.state.is_idle() {
            return None;
        }
        self.replacement = ApiError::of_head(bytes)?.to_bytes();
        Some(bytes.len())
    }

    /// Sends what replaces an answer.
    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            match Pin::new(&mut self.inner).poll_write(context, &self.replacement) {
                Poll::Pending => return self.stalled(context),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => drop(self.replacement.drain(..count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What to say while the client doesn't read.
    fn stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let write_time = self.write_time;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(write_time)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_replacement(context))?;
        if let Some(count) = self.replace(bytes) {
            return Poll::Ready(Ok(count));
        }
        match Pin::new(&mut self.inner).poll_write(context, bytes) {
            Poll::Pending => self.stalled(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_replacement(context))?;
        // It's small, and in one piece.
        if let [only] = bytes
            && let Some(count) = self.replace(only)
        {
            return Poll::Ready(Ok(count));
        }
        match Pin::new(&mut self.inner).poll_write_vectored(context, bytes) {
            Poll::Pending => self.stalled(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Comes when all of an answer is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        if !self.is_shut {
            self.deadline = None;
            self.state.flushed();
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the answer, then reads for a moment what the client still sends. To close at once would
    /// reset the connection, and a client that is still sending wouldn't see its answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(self.poll_replacement(context))?;
            ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
            self.is_shut = true;
            self.deadline = Some(Box::pin(sleep(self.linger)));
        }
        loop {
            if let Some(deadline) = &mut self.deadline
                && deadline.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
