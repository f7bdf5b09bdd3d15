//! Files that are read whole.

use std::fs::{File, FileType};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Reads a file that has at most so many bytes. What is no file is refused at once: a device never
/// ends, and a named pipe that nobody writes to never begins. A pipe that this process was given is
/// read, as the shell's `<(…)` is one.
///
/// # Errors
///
/// It is not there, no file, larger ([`io::ErrorKind::FileTooLarge`]), or can't be read.
pub fn read_small(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    // Opening a device may do something.
    let kind = std::fs::metadata(path)?.file_type();
    let is_given_pipe = is_given_pipe(path);
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    if !is_given_pipe {
        refuse_other(kind)?;
        flags |= OFlags::NONBLOCK;
    }
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !is_given_pipe {
        // What lies there now may be something else.
        refuse_other(file.metadata()?.file_type())?;
    }
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        let message = format!("it has more than {most_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn refuse_other(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a directory, not a file",
        ));
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let message = format!("it is {what}, not a file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Whether a path names a pipe that this process was given. It can be read once only.
#[must_use]
pub fn is_given_pipe(path: &Path) -> bool {
    let places = ["/dev/fd", "/proc/self/fd", "/dev/stdin"];
    places.iter().any(|place| path.starts_with(place))
        && std::fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::read_small;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, 0o600.into(), 0).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, said) in [
            (pipe.as_path(), "it is a named pipe, not a file"),
            ("/dev/zero".as_ref(), "it is a device, not a file"),
            (socket.as_path(), "it is a socket, not a file"),
            (folder.path(), "it is a directory, not a file"),
        ] {
            let error = read_small(path, 10).unwrap_err();
            assert_eq!(error.to_string(), said, "{}", path.display());
        }
    }

    #[test]
    fn a_file_has_its_limit_and_a_pipe_that_was_given_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_small(&path, 5).unwrap(), b"12345");
        let error = read_small(&path, 4).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"12345").unwrap();
        drop(writer);
        let given = format!("/dev/fd/{}", reader.as_raw_fd());
        assert_eq!(read_small(given.as_ref(), 5).unwrap(), b"12345");
    }
}
