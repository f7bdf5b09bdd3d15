//! This process's standard output and standard error.

use std::io::{self, Write};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::event::Stream;

/// One of the two, unbuffered.
///
/// A descriptor that does not block is waited for: whoever started this process may have made the
/// pipe so (node and some CI runners do), and what is not written then would be lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standard(pub(super) Stream);

impl Standard {
    fn descriptor(self) -> BorrowedFd<'static> {
        match self.0 {
            Stream::Stdout => rustix::stdio::stdout(),
            Stream::Stderr => rustix::stdio::stderr(),
        }
    }

    /// Writes a text, without its styles where they are not wanted.
    pub(super) fn write_text(mut self, text: &str, color: ColorChoice) -> io::Result<()> {
        let color = match (color, self.0) {
            (ColorChoice::Auto, Stream::Stdout) => AutoStream::choice(&io::stdout()),
            (ColorChoice::Auto, Stream::Stderr) => AutoStream::choice(&io::stderr()),
            (color, _) => color,
        };
        match color {
            ColorChoice::Never => self.write_all(strip_str(text).to_string().as_bytes()),
            _ => self.write_all(text.as_bytes()),
        }
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.descriptor(), bytes) {
                Err(Errno::AGAIN) => wait_until_writable(self.descriptor())?,
                written => return Ok(written?),
            }
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // The lines of other threads do not get in between.
        let _lock = (self.0 == Stream::Stderr).then(|| io::stderr().lock());
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait_until_writable(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    match poll(
        &mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)],
        None,
    ) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
