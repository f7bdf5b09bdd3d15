//! Between code that reads and writes and code that awaits.

use std::io::{self, Read, Write};

use hyper::body::{Buf as _, Bytes};
use tokio::sync::mpsc;

/// Parts that wait for whoever reads them; bounds the memory.
pub(super) const PARTS_WAITING: usize = 16;

/// Bytes as they come through a channel, for code that reads in a thread of its own; or why no more come.
pub(super) struct Received {
    parts: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

impl Received {
    pub(super) fn new(parts: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            parts,
            part: Bytes::new(),
        }
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        self.part.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Bytes into a channel, from code that writes in a thread of its own.
pub(super) struct Sent(pub(super) mpsc::Sender<io::Result<Bytes>>);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = Bytes::copy_from_slice(bytes);
        match self.0.blocking_send(Ok(part)) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
