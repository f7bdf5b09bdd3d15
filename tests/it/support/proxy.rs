//! A proxy in front of the real engine that replaces bytes on their way, for faults that no real
//! engine at hand has.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::SOCKET;

/// Bytes to look for, and bytes of the same length to put in their place.
pub(crate) type Replacement = (&'static str, &'static str);

/// Listens on a socket in `folder`; ends with the test's process.
pub(crate) fn start(folder: &Path, request: Replacement, answer: Replacement) -> PathBuf {
    listen(folder, SOCKET.into(), request, answer)
}

/// Listens on a socket in `folder` that leads to an engine's, as `ssh -L` makes it; ends with the test's
/// process.
pub(crate) fn forward(folder: &Path, engine: PathBuf) -> PathBuf {
    listen(folder, engine, ("", ""), ("", ""))
}

fn listen(folder: &Path, engine: PathBuf, request: Replacement, answer: Replacement) -> PathBuf {
    let socket = folder.join("proxy.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // An engine of a test's own may be gone.
            let Ok(engine) = UnixStream::connect(&engine) else {
                continue;
            };
            let pairs = [
                (client.try_clone(), engine.try_clone(), request),
                (Ok(engine), Ok(client), answer),
            ];
            for (from, to, replacement) in pairs {
                let (from, to) = (from.unwrap(), to.unwrap());
                std::thread::spawn(move || pass(from, to, replacement));
            }
        }
    });
    socket
}

/// Passes bytes on until one side ends. Heads and answers here are small enough to come in one read.
fn pass(mut from: UnixStream, mut to: UnixStream, (wanted, other): Replacement) {
    assert_eq!(
        wanted.len(),
        other.len(),
        "lengths are announced beforehand"
    );
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let mut passed = bytes[..count].to_vec();
        for at in 0..=count.saturating_sub(wanted.len()) {
            if !wanted.is_empty() && passed[at..].starts_with(wanted.as_bytes()) {
                passed[at..at + other.len()].copy_from_slice(other.as_bytes());
            }
        }
        if to.write_all(&passed).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
