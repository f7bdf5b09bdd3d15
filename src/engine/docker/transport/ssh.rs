//! Connections by OpenSSH.
//!
//! As docker's own client, jobctl has the other machine run `docker system dial-stdio` for each
//! connection. Getting there takes a handshake and a signature, and a server takes only so many at once:
//! so all connections of a process go over one of OpenSSH's (`ControlMaster` in `ssh_config(5)`), unless the
//! user's configuration shares connections already.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::ConnectError;
use crate::engine::docker::endpoint::SshTarget;

/// How long a connection stays without anybody on it, in seconds: one whose jobctl was killed ends soon.
const UNUSED: u32 = 15;
/// How long `ssh` may take to read its configuration.
const LOOK: Duration = Duration::from_secs(2);
/// The longest path of a socket that OpenSSH makes, in bytes: it adds to it while it makes it.
const LONGEST_PATH: usize = 80;

/// The way to a machine by `ssh`.
#[derive(Debug)]
pub(super) struct SshWay {
    program: PathBuf,
    shared: OnceCell<Option<Shared>>,
}

/// A connection that others go over: its socket, in a directory for this user alone.
#[derive(Debug)]
struct Shared {
    directory: TempDir,
    /// What asks it to end.
    leave: std::process::Command,
}

impl Shared {
    fn new(program: &Path, target: &SshTarget) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("jobctl-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let mut leave = std::process::Command::new(program);
        leave
            .args(["-O", "exit", "-S"])
            .arg(directory.path().join(SOCKET))
            .args(destination(target))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self { directory, leave })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }
}

/// The socket in a directory.
const SOCKET: &str = "s";

impl Drop for Shared {
    fn drop(&mut self) {
        // Without a socket it has ended already, or has never come about.
        if self.socket().exists() {
            let _ = self.leave.status();
        }
    }
}

/// The arguments that name a machine.
fn destination(target: &SshTarget) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(user) = &target.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = target.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    words.extend(["--".to_owned(), target.host.clone()]);
    words
}

impl SshWay {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            shared: OnceCell::new(),
        }
    }

    /// Runs `docker system dial-stdio` on the other machine, as docker's client does: its standard
    /// streams are the connection.
    pub(super) async fn dial_stdio(&self, target: &SshTarget) -> Result<SshStream, ConnectError> {
        // What the user's configuration of ssh reads of the environment we can't know: it has all of it.
        let mut command = Command::new(&self.program);
        command.args(["-o", "ConnectTimeout=30", "-T"]);
        if let Some(shared) = self.shared.get_or_init(|| self.share(target)).await {
            command
                .args(["-o", "ControlMaster=auto", "-o"])
                .arg(format!("ControlPersist={UNUSED}"))
                .arg("-S")
                .arg(shared.socket());
        }
        command.args(destination(target)).arg("docker");
        if let Some(socket) = &target.socket {
            command.args(["--host", &format!("unix://{socket}")]);
        }
        let child = command
            .args(["system", "dial-stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(ConnectError::NoSsh)?;
        SshStream::new(child)
    }

    /// A place for a connection to be shared at; nothing where the user's configuration shares it, or where
    /// it can't be.
    async fn share(&self, target: &SshTarget) -> Option<Shared> {
        let mut looking = Command::new(&self.program);
        looking
            .arg("-G")
            .args(destination(target))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let looked = tokio::time::timeout(LOOK, looking.output()).await;
        let configuration = looked.ok()?.ok().filter(|looked| looked.status.success())?;
        if shares_connections(&String::from_utf8_lossy(&configuration.stdout)) {
            return None;
        }
        let shared = Shared::new(&self.program, target).ok()?;
        (shared.socket().as_os_str().len() <= LONGEST_PATH).then_some(shared)
    }
}

/// Whether a configuration, as `ssh -G` prints it, has connections shared.
fn shares_connections(configuration: &str) -> bool {
    let mut settings = configuration
        .lines()
        .filter_map(|line| line.split_once(' '));
    settings.any(|(name, value)| name == "controlpath" && value != "none")
}

/// A child's standard streams as one connection. What it says on stderr becomes the error that the
/// end of the stream is reported with, since it says why (`Permission denied (publickey)`).
pub(super) struct SshStream {
    child: Child,
    said: Vec<u8>,
    is_silent: bool,
}

/// How much of OpenSSH's words is kept, in bytes.
const KEPT_WORDS: usize = 4096;

impl SshStream {
    fn new(child: Child) -> Result<Self, ConnectError> {
        if child.stdin.is_none() || child.stdout.is_none() || child.stderr.is_none() {
            let error = io::Error::other("its standard streams are missing");
            return Err(ConnectError::NoSsh(error));
        }
        Ok(Self {
            child,
            said: Vec::new(),
            is_silent: true,
        })
    }

    /// What OpenSSH said, once it has ended.
    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 512];
            let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
            let Some(stderr) = &mut self.child.stderr else {
                break;
            };
            match Pin::new(stderr).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let room = KEPT_WORDS.saturating_sub(self.said.len());
                    let kept = buffer.filled().len().min(room);
                    self.said.extend_from_slice(&buffer.filled()[..kept]);
                }
                Poll::Ready(_) => break,
            }
        }
        let said = String::from_utf8_lossy(&self.said);
        let said = said.trim();
        let said = if said.is_empty() {
            "the connection was closed"
        } else {
            said
        };
        Poll::Ready(Err(io::Error::other(SshEnded(said.to_owned()))))
    }
}

/// OpenSSH ended, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::engine::docker) struct SshEnded(pub(in crate::engine::docker) String);

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Some(stdout) = &mut self.child.stdout else {
            return Poll::Ready(Ok(()));
        };
        match Pin::new(stdout).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.is_silent = false;
                Poll::Ready(Ok(()))
            }
            // An end before the first byte is no engine's.
            Poll::Ready(Ok(())) if self.is_silent => self.poll_words(cx),
            other => other,
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(stdin) = &mut self.child.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match Pin::new(stdin).poll_write(cx, bytes) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                match self.poll_words(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            }
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.child.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The other side sees the end only when the pipe is closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stdin) = &mut self.child.stdin else {
            return Poll::Ready(Ok(()));
        };
        let flushed = std::task::ready!(Pin::new(stdin).poll_flush(cx));
        self.child.stdin = None;
        Poll::Ready(flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_enters_a_shared_connection() {
        let target = SshTarget {
            user: None,
            host: "machine".to_owned(),
            port: None,
            socket: None,
        };
        let shared = Shared::new(Path::new("true"), &target).unwrap();
        let metadata = shared.directory.path().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn connections_that_are_shared_already_are_left_alone() {
        for (configuration, expected) in [
            ("user me\ncontrolmaster false\ncontrolpersist no\n", false),
            ("controlmaster auto\ncontrolpath none\n", false),
            ("controlmaster auto\ncontrolpath /home/me/.ssh/%C\n", true),
            ("", false),
        ] {
            assert_eq!(
                shares_connections(configuration),
                expected,
                "{configuration}"
            );
        }
    }
}
