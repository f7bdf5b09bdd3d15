//! This process's standard output and standard error.

use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::event::Stream;
use crate::report::{Guard, Marks};

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

    /// From now on nothing that is written is taken for a command of the CI system whose log it is. What is
    /// redirected to a file is no log, and stays as it is.
    pub(super) fn guard(marks: Marks) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let file = rustix::fs::fstat(Self(stream).descriptor());
            let is_file = file
                .is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::RegularFile);
            if !is_file {
                // It is called once, before anything is written.
                let _ = guard_of(stream).set(Mutex::new(Guard::new(marks)));
            }
        }
    }

    /// Writes what is held back, as nothing more comes.
    pub(super) fn end() {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // There is nobody to report it to if that fails.
            let _ = Self(stream).guarded(Guard::end, None);
        }
    }

    /// Writes what the stream's guard makes of it; the bytes themselves, if it has none.
    fn guarded(
        self,
        pass: impl FnOnce(&mut Guard) -> Vec<u8>,
        bytes: Option<&[u8]>,
    ) -> io::Result<()> {
        // The lines of other threads do not get in between.
        let _lock = (self.0 == Stream::Stderr).then(|| io::stderr().lock());
        match guard_of(self.0).get() {
            Some(guard) => {
                let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
                self.put(&pass(&mut guard))
            }
            None => self.put(bytes.unwrap_or_default()),
        }
    }

    fn put(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(self.descriptor(), bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::AGAIN) => wait_until_writable(self.descriptor())?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.guarded(|guard| guard.pass(bytes), Some(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of the two, for lines that a CI system is to read as its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw(pub(super) Stream);

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let with_line = |guard: &mut Guard| [&guard.end_line(), bytes].concat();
        Standard(self.0).guarded(with_line, Some(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What keeps the CI system that this process is a step of from reading commands out of a stream.
fn guard_of(stream: Stream) -> &'static OnceLock<Mutex<Guard>> {
    static STDOUT: OnceLock<Mutex<Guard>> = OnceLock::new();
    static STDERR: OnceLock<Mutex<Guard>> = OnceLock::new();

    match stream {
        Stream::Stdout => &STDOUT,
        Stream::Stderr => &STDERR,
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
