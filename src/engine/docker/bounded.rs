//! How much of an answer is taken. An engine that answers without end, or what takes its place, must
//! not fill this machine's memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// No answer that is taken whole has more, and no line of those that are taken line by line, in
/// bytes. Thousands of containers are listed in less.
pub(super) const LARGEST: usize = 16 << 20;
/// So much is read of why an engine refuses, and so much of it is shown.
const REFUSAL: usize = 64 << 10;
const SHOWN: usize = 2 << 10;
/// How long it may take to say that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which part of an answer is held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Held {
    /// All of it.
    Whole,
    /// One line at a time.
    Lines,
    /// What comes is passed on.
    Nothing,
}

impl Held {
    /// What bollard holds of the answer to a request.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        if *method == Method::GET && ends(&["/get", "/archive"]) {
            Self::Nothing
        } else if ends(&["/build", "/images/load", "/events", "/stats"]) {
            Self::Lines
        } else {
            Self::Whole
        }
    }
}

/// An answer was longer than any is.
#[derive(Debug, thiserror::Error)]
#[error("its answer does not end")]
pub(super) struct Endless;

/// A connection on which an answer ends at some time, counted from the request before it.
pub(super) struct Bounded<S> {
    stream: S,
    held: Held,
    bytes: usize,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, held: Held) -> Self {
        let bytes = 0;
        Self {
            stream,
            held,
            bytes,
        }
    }

    fn count(&mut self, received: &[u8]) -> io::Result<()> {
        match self.held {
            Held::Whole => self.bytes += received.len(),
            Held::Lines => match received.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => self.bytes = received.len() - end - 1,
                None => self.bytes += received.len(),
            },
            Held::Nothing => {}
        }
        if self.bytes > LARGEST {
            return Err(io::Error::other(Endless));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.count(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bytes = 0;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bytes = 0;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
}

/// Why an engine refuses, in its words, as far as they are of use.
pub(super) async fn refusal(mut body: Incoming) -> Result<String, hyper::Error> {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let mut text = Vec::new();
    let reading = async {
        while text.len() < REFUSAL
            && let Some(frame) = body.frame().await
        {
            let bytes = frame?.into_data().unwrap_or_else(|_| Bytes::new());
            text.extend_from_slice(&bytes[..bytes.len().min(REFUSAL - text.len())]);
        }
        Ok::<_, hyper::Error>(())
    };
    // What came until then is what there is.
    timeout(PATIENCE, reading).await.unwrap_or(Ok(()))?;
    let said = match serde_json::from_slice::<Refusal>(&text) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(&text).trim().to_owned(),
    };
    Ok(shortened(said))
}

/// What an engine says, without what is too long to be shown.
pub(super) fn shortened(mut said: String) -> String {
    if said.len() > SHOWN {
        said.truncate(said.floor_char_boundary(SHOWN));
        said.push('…');
    }
    said
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn answers_are_held_as_bollard_holds_them() {
        for (method, path, held) in [
            (Method::GET, "/v1.41/info", Held::Whole),
            (Method::GET, "/v1.41/containers/json", Held::Whole),
            (Method::GET, "/v1.41/images/a/get", Held::Nothing),
            (Method::GET, "/v1.41/containers/a/archive", Held::Nothing),
            (Method::PUT, "/v1.41/containers/a/archive", Held::Whole),
            (Method::POST, "/v1.41/build", Held::Lines),
            (Method::GET, "/v1.41/containers/a/stats", Held::Lines),
        ] {
            assert_eq!(Held::of(&method, path), held, "{path}");
        }
    }

    #[tokio::test]
    async fn only_what_is_held_is_counted() {
        let block = [b'x'; 1 << 10];
        let line = [&[b'x'; 1 << 10][..], b"\n"].concat();
        for (held, block, ends) in [
            (Held::Whole, &block[..], true),
            (Held::Whole, &line, true),
            (Held::Lines, &block, true),
            (Held::Lines, &line, false),
            (Held::Nothing, &block, false),
        ] {
            let mut bounded = Bounded::new(std::io::Cursor::new(Vec::new()), held);
            let times = 2 * LARGEST / block.len();
            let counted = (0..times).try_for_each(|_| bounded.count(block));
            assert_eq!(counted.is_err(), ends, "{held:?}");
            assert!(bounded.bytes <= LARGEST + block.len());
            // The next answer is another.
            bounded.write_all(b"GET").await.unwrap();
            assert_eq!(bounded.bytes, 0);
            bounded.read_to_end(&mut Vec::new()).await.unwrap();
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_letters() {
        assert_eq!(shortened("no".to_owned()), "no");
        let long = format!("a{}", "é".repeat(SHOWN));
        let shown = shortened(long);
        assert!(shown.ends_with("é…"), "{shown}");
        assert!(shown.len() <= SHOWN + '…'.len_utf8());
    }
}
