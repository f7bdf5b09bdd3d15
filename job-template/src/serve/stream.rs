//! A connection that doesn't wait for ever for a client that won't read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::places::Turn;

/// A TCP stream with a limit on the time that an answer takes to be read, from when it first had to
/// wait for the client.
pub(crate) struct TimedStream {
    inner: TcpStream,
    turn: Arc<Turn>,
    write_time: Duration,
    linger: Duration,
    /// When an answer has to be read; after the last, when the client has to be quiet.
    deadline: Option<Pin<Box<Sleep>>>,
    is_shut: bool,
}

impl TimedStream {
    pub(crate) fn new(
        inner: TcpStream,
        turn: Arc<Turn>,
        write_time: Duration,
        linger: Duration,
    ) -> Self {
        Self {
            inner,
            turn,
            write_time,
            linger,
            deadline: None,
            is_shut: false,
        }
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
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        if !self.is_shut {
            self.deadline = None;
            self.turn.flushed();
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the answer, then reads for a moment what the client still sends. To close at once would
    /// reset the connection, and a client that is still sending wouldn't see its answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
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
