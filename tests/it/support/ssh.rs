//! An OpenSSH server of a test's own, and an `ssh` that trusts it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{Bench, run};

/// A server that ends with its value.
pub(crate) struct SshServer {
    server: Child,
    pub(crate) port: u16,
    /// What it says of its connections.
    log: PathBuf,
    /// A folder with an `ssh` that has the right key, to be put first in `PATH`.
    pub(crate) client: PathBuf,
}

impl SshServer {
    pub(crate) fn start(bench: &Bench) -> Self {
        Self::with(bench, "")
    }

    /// With more in its configuration.
    pub(crate) fn with(bench: &Bench, more: &str) -> Self {
        // The server's own folder, which Debian's unit would make.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let folder = bench.path();
        for key in ["host_key", "client_key"] {
            let path = folder.join(key);
            let made = run(bench
                .command("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path));
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        let show = |name: &str| folder.join(name).display().to_string();
        // A port that was free a moment ago can be taken by another test; then the next one is.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let config = bench.write(
                "sshd_config",
                &format!(
                    "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\n\
                     StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n\
                     PermitRootLogin prohibit-password\n{more}\n",
                    show("host_key"),
                    show("client_key.pub"),
                ),
            );
            let log = folder.join("sshd.log");
            let mut server = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(config)
                .stderr(std::fs::File::create(&log).unwrap())
                .spawn()
                .unwrap();
            if is_up(&mut server, port) {
                let client = client(bench, "client", &show("client_key"));
                return Self {
                    server,
                    port,
                    log,
                    client,
                };
            }
        }
        panic!("sshd does not start");
    }
}

impl SshServer {
    /// How many connections it has let in.
    pub(crate) fn logins(&self) -> usize {
        let log = std::fs::read(&self.log).unwrap();
        let log = String::from_utf8_lossy(&log);
        log.matches("Accepted publickey for").count()
    }
}

fn is_up(server: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && server.try_wait().unwrap().is_none() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = server.kill();
    let _ = server.wait();
    false
}

/// A folder with an `ssh` that uses this key and no other.
pub(crate) fn client(bench: &Bench, name: &str, key: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F none -o IdentityFile={key} -o IdentitiesOnly=yes \
         -o IdentityAgent=none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o LogLevel=ERROR -o BatchMode=yes \"$@\"\n"
    );
    let path = bench.write(&format!("{name}/ssh"), &script);
    make_executable(&path);
    path.parent().unwrap().to_owned()
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
