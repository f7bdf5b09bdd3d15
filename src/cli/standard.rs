//! This process's standard output and standard error.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::event::Stream;
use crate::report::{Guard, Marks};

/// What keeps the CI system that this process is a step of from reading commands out of standard output and
/// standard error.
static GUARDS: OnceLock<[Option<Arc<Mutex<Guard>>>; 2]> = OnceLock::new();

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

    fn guard_of(self) -> Option<&'static Mutex<Guard>> {
        let [stdout, stderr] = GUARDS.get()?;
        match self.0 {
            Stream::Stdout => stdout.as_deref(),
            Stream::Stderr => stderr.as_deref(),
        }
    }

    /// From now on nothing that is written is taken for a command of the CI system whose log it is. What is
    /// redirected to a file is no log, and stays as it is. Where both streams are one pipe, as after `2>&1`,
    /// they have one guard: a line that one begins may be the other's to end.
    pub(super) fn guard(marks: Marks) {
        let stat = |stream| rustix::fs::fstat(Self(stream).descriptor()).ok();
        let is_log = |file: &Stat| FileType::from_raw_mode(file.st_mode) != FileType::RegularFile;
        let new = || Arc::new(Mutex::new(Guard::new(marks)));
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(stat);
        let is_one = stdout
            .zip(stderr)
            .is_some_and(|(one, other)| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino));
        // What is known of neither is no file that stays.
        let [stdout, stderr] =
            [stdout, stderr].map(|file| file.as_ref().is_none_or(is_log).then(new));
        let stderr = if is_one { stdout.clone() } else { stderr };
        // It is called once, before anything is written.
        let _ = GUARDS.set([stdout, stderr]);
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
        match self.guard_of() {
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

    /// Writes a text, without its styles where they are not wanted. In a CI system's log it begins a line.
    pub(super) fn write_text(self, text: &str, color: ColorChoice) -> io::Result<()> {
        let color = match (color, self.0) {
            (ColorChoice::Auto, Stream::Stdout) => AutoStream::choice(&io::stdout()),
            (ColorChoice::Auto, Stream::Stderr) => AutoStream::choice(&io::stderr()),
            (color, _) => color,
        };
        match color {
            ColorChoice::Never => Lines(self.0).write_all(strip_str(text).to_string().as_bytes()),
            _ => Lines(self.0).write_all(text.as_bytes()),
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

/// One of the two, for whole lines of ours. In a CI system's log they begin a line, also where a job has left
/// one without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines(pub(super) Stream);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let on_a_line = |guard: &mut Guard| {
            let mut line = guard.end_line();
            line.extend(guard.pass(bytes));
            line
        };
        Standard(self.0).guarded(on_a_line, Some(bytes))
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

fn wait_until_writable(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    match poll(
        &mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)],
        None,
    ) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
