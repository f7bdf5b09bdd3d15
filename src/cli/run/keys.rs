//! Keys that let go of a job: docker's `--detach-keys`.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc::UnboundedSender;

use super::signals::note_parting;
use crate::exit::Exit;
use crate::ops::run::Control;

/// docker's own: Ctrl-P, Ctrl-Q.
pub(in crate::cli) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// The bytes of `ctrl-p,ctrl-q`, `ctrl-@,a` (moby/term, `ascii.go`).
pub(in crate::cli) fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| {
            let bytes = key.as_bytes();
            if let ([byte], true) = (bytes, key.is_ascii()) {
                return Ok(*byte);
            }
            match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([b'@']) => Ok(0),
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some([mark @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(mark - b'[' + 27),
                _ => Err(format!("`{key}` is not a key; write `a` or `ctrl-a`")),
            }
        })
        .collect()
}

/// What is typed, until the keys that let go.
pub(in crate::cli) struct Typed<R> {
    inner: R,
    keys: Vec<u8>,
    /// How many of the keys were typed in a row; they are held back.
    matched: usize,
    /// What was held back and is no beginning of the keys after all, and what came with it.
    ready: std::collections::VecDeque<u8>,
    controls: UnboundedSender<Control>,
    is_over: bool,
}

impl<R> Typed<R> {
    pub(in crate::cli) fn new(inner: R, keys: Vec<u8>, controls: UnboundedSender<Control>) -> Self {
        Self {
            inner,
            keys,
            matched: 0,
            ready: std::collections::VecDeque::new(),
            controls,
            is_over: false,
        }
    }

    fn take(&mut self, byte: u8) {
        if self.keys.is_empty() {
            self.ready.push_back(byte);
            return;
        }
        if byte == self.keys[self.matched] {
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.is_over = true;
                note_parting(Exit::Success);
                let _ = self.controls.send(Control::Detach);
            }
            return;
        }
        self.ready.extend(&self.keys[..self.matched]);
        self.matched = 0;
        if byte == self.keys[0] {
            self.matched = 1;
        } else {
            self.ready.push_back(byte);
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Typed<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            if !self.ready.is_empty() {
                let count = self.ready.len().min(into.remaining());
                let bytes: Vec<u8> = self.ready.drain(..count).collect();
                into.put_slice(&bytes);
                return Poll::Ready(Ok(()));
            }
            // The end of what is typed would end the job's input as well, which goes on without us.
            if self.is_over {
                return Poll::Pending;
            }
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    for byte in buffer.filled().to_vec() {
                        if self.is_over {
                            break;
                        }
                        self.take(byte);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        for (text, keys) in [
            ("ctrl-p,ctrl-q", Ok(vec![16, 17])),
            ("a", Ok(vec![b'a'])),
            ("ctrl-@,ctrl-[,ctrl-_", Ok(vec![0, 27, 31])),
            ("ctrl-A", Err(())),
            ("ab", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(parse(text).map_err(|_| ()), keys, "{text}");
        }
    }

    #[tokio::test]
    async fn all_but_the_keys_goes_through() {
        for (typed, expected, is_detached) in [
            (b"abc".as_slice(), b"abc".as_slice(), false),
            (b"a\x10b", b"a\x10b", false),
            (b"a\x10\x10b", b"a\x10\x10b", false),
            (b"a\x10\x11never", b"a", true),
            (b"\x10\x10\x11", b"\x10", true),
        ] {
            let (sender, mut receiver) = unbounded_channel();
            let mut keys = Typed::new(typed, vec![16, 17], sender);
            let mut read = vec![0; expected.len()];
            keys.read_exact(&mut read).await.unwrap();
            assert_eq!(read, expected);
            let more = tokio::select! {
                biased;
                more = keys.read_u8() => more.is_ok(),
                () = std::future::ready(()) => false,
            };
            assert!(!more);
            assert_eq!(receiver.try_recv().is_ok(), is_detached, "{typed:?}");
        }
    }
}
