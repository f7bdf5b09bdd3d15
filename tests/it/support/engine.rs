//! A Docker Engine of a test's own.
//!
//! It lives in its own network and mount namespaces: without them it would rewrite the machine's
//! iptables, and leave mounts behind.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long an engine may take to start on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// An engine that ends with its value.
pub(crate) struct PrivateEngine {
    folder: tempfile::TempDir,
    dockerd: Child,
    start: Start,
}

/// How an engine is started.
#[derive(Clone)]
struct Start {
    /// The directory that is its `/`; this machine's own, if none.
    root: Option<PathBuf>,
    before: String,
    flags: Vec<String>,
}

/// A release of Debian, whose engine is unpacked and started where it is, and not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// Engine 26.1.
    Trixie,
    /// Debian's newest: 28.5 or later.
    Sid,
}

impl Release {
    /// The root of its engine, unpacked if it is not there yet.
    fn root(self) -> PathBuf {
        let suite = match self {
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        };
        let package = env!("CARGO_MANIFEST_DIR");
        let mut fetch = Command::new(format!("{package}/scripts/fetch-engine"));
        fetch.args([suite, &format!("{package}/target/engine-{suite}")]);
        let fetched = super::run(&mut fetch);
        assert_eq!(fetched.code, Some(0), "{}", fetched.stderr);
        PathBuf::from(fetched.stdout.trim_end())
    }
}

impl PrivateEngine {
    /// Starts an engine; `before` is shell that runs in its namespaces first, with `$T` as its
    /// folder, and `flags` are dockerd's.
    pub(crate) fn start(before: &str, flags: &[&str]) -> Self {
        Self::start_in(None, before, flags)
    }

    /// Starts the engine of a release of Debian.
    pub(crate) fn of(release: Release, flags: &[&str]) -> Self {
        Self::start_in(Some(release.root()), "", flags)
    }

    fn start_in(root: Option<PathBuf>, before: &str, flags: &[&str]) -> Self {
        let start = Start {
            root,
            before: before.to_owned(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        // A containerd that is slow to start makes dockerd give up; three times it is no accident.
        let mut log = String::new();
        for _ in 0..3 {
            match Self::try_start(&start) {
                Ok(engine) => return engine,
                Err(said) => log = said,
            }
        }
        panic!("the private engine does not start:\n{log}");
    }

    fn try_start(start: &Start) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let dockerd = dockerd(folder.path(), start);
        let mut engine = Self {
            folder,
            dockerd,
            start: start.clone(),
        };
        if engine.comes_up() {
            return Ok(engine);
        }
        Err(std::fs::read_to_string(engine.folder.path().join("log")).unwrap())
    }

    /// Starts the engine again after [`Self::kill`], on what it left.
    pub(crate) fn restart(&mut self) {
        for _ in 0..3 {
            let _ = self.dockerd.kill();
            self.dockerd.wait().unwrap();
            self.kill_containerd();
            for left in ["pid", "docker.sock", "exec/containerd/containerd.pid"] {
                let _ = std::fs::remove_file(self.path().join(left));
            }
            self.dockerd = dockerd(self.folder.path(), &self.start);
            if self.comes_up() {
                return;
            }
        }
        let log = std::fs::read_to_string(self.path().join("log")).unwrap();
        panic!("the private engine does not start again:\n{log}");
    }

    /// Whether the engine answers in time.
    fn comes_up(&mut self) -> bool {
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.answers() {
                return true;
            }
            if self.dockerd.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    fn answers(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.ends_with("OK"))
        };
        ping().unwrap_or(false)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("docker.sock")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// As `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Stops the engine's process, so that it takes connections but answers nothing.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        let tasks = format!("/proc/{}/task", self.dockerd.id());
        let is_stopped = |task: std::fs::DirEntry| {
            // `PID (NAME) STATE …`; one that has ended in the meantime answers nothing either.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ")
                .next()
                .is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
        };
        super::wait_for(|| std::fs::read_dir(&tasks).unwrap().flatten().all(is_stopped));
    }

    /// Lets a frozen engine go on.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Ends the engine as a shutdown does, and waits for its end.
    pub(crate) fn stop(&mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let _ = self.dockerd.wait();
    }

    /// Ends the engine and all that it runs at once, as a power cut would.
    pub(crate) fn cut_power(&self) {
        self.kill();
        let folder = self.path().to_str().unwrap().to_owned();
        let mut shims = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            if words.contains("containerd-shim") && words.contains(&folder) {
                shims.push(pid);
            }
        }
        for shim in shims {
            let children = format!("/proc/{shim}/task/{shim}/children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            for pid in std::iter::once(shim).chain(children) {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
    }

    /// Kills the engine, as a crash would.
    pub(crate) fn kill(&self) {
        let _ = kill_process(self.pid(), Signal::KILL);
        self.kill_containerd();
    }

    /// An engine's containerd outlives a kill.
    fn kill_containerd(&self) {
        let containerd = self.path().join("exec/containerd/containerd.pid");
        let containerd = std::fs::read_to_string(containerd).ok();
        let containerd = containerd.and_then(|text| text.trim().parse().ok());
        if let Some(containerd) = containerd.and_then(Pid::from_raw) {
            let _ = kill_process(containerd, Signal::KILL);
        }
    }

    /// Arguments of `nsenter` with which a program sees the engine's network and mounts.
    pub(crate) fn enter(&self) -> [String; 3] {
        [
            "--target".to_owned(),
            self.dockerd.id().to_string(),
            "--net".to_owned(),
        ]
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.dockerd)
    }
}

/// Gives an engine an image of the engine of all tests.
pub(crate) fn load(image: &str, socket: &Path) {
    let line = "docker save \"$1\" | docker -H \"unix://$2\" load";
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", image]).arg(socket);
    let loaded = super::run(&mut command);
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
}

/// Makes `$ROOT` the root of a mount namespace, with this machine's processes, devices, and temporary files.
/// `chroot` would not do: what runs in its containers would be looked up in this machine's root (runc).
const ENTER_ROOT: &str = r#"
    mount --bind "$ROOT" "$ROOT"
    cd "$ROOT"
    for name in proc sys dev; do mount --rbind "/$name" "$name"; done
    mkdir -p ".$TEMPORARY"
    mount --rbind "$TEMPORARY" ".$TEMPORARY"
    mount -t tmpfs tmpfs run
    pivot_root . old
    umount -l /old
    PATH=/usr/sbin:/usr/bin
"#;

fn dockerd(folder: &Path, start: &Start) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let Start {
        root,
        before,
        flags,
    } = start;
    let enter = root.as_ref().map_or("", |_| ENTER_ROOT);
    let script = format!(
        "set -e; ip link set lo up; mkdir -p \"$T/data\"; {before}\n{enter}\n\
         exec dockerd --data-root \"$T/data\" --exec-root \"$T/exec\" --pidfile \"$T/pid\" \
         -H \"unix://$T/docker.sock\" --bridge=none --iptables=false --ip-forward=false \
         --ip-masq=false \"$@\""
    );
    Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", &script, "sh"])
        .args(flags)
        .env("T", folder)
        .env("TEMPORARY", std::env::temp_dir())
        .env("ROOT", root.as_deref().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        let pid = self.pid();
        let _ = kill_process(pid, Signal::CONT);
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if matches!(self.dockerd.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill_containerd();
        let _ = self.dockerd.kill();
        let _ = self.dockerd.wait();
    }
}

/// A Podman service of a test's own.
pub(crate) struct PodmanService {
    folder: tempfile::TempDir,
    podman: Child,
}

/// `OVERLAYFS_SUPER_MAGIC` of Linux' `magic.h`.
const OVERLAYFS: i64 = 0x794c_7630;

/// What a Podman needs that runs jobs as root of a machine with limits, for `containers.conf`. The init
/// process is Docker's: Podman's own (`catatonit`) is not installed everywhere.
pub(crate) const FOR_JOBS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
init_path = "/usr/bin/docker-init"
"#;

impl PodmanService {
    pub(crate) fn start() -> Self {
        Self::with("", "")
    }

    /// With more in `containers.conf` and `registries.conf`.
    pub(crate) fn with(configuration: &str, registries: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let write = |name: &str, text: &str| {
            let file = path.join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        // One on top of another does not work.
        let driver = match rustix::fs::statfs(path).unwrap().f_type {
            OVERLAYFS => "--storage-driver=vfs",
            _ => "--storage-driver=overlay",
        };
        let configuration = write("containers.conf", configuration);
        let registries = write("registries.conf", registries);
        let socket = format!("unix://{}", path.join("podman.sock").display());
        let podman = Command::new("podman")
            // What watches containers leaves files where it was started.
            .current_dir(path)
            .env("CONTAINERS_CONF", configuration)
            .env("CONTAINERS_REGISTRIES_CONF", registries)
            .arg("--root")
            .arg(path.join("root"))
            .arg("--runroot")
            .arg(path.join("run"))
            .args(["--cgroup-manager=cgroupfs", "--events-backend=file"])
            // Podman's own choice does not run on machines with both versions of cgroups.
            .arg("--runtime=runc")
            .args([driver, "system", "service", "--time=0", &socket])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut service = Self { folder, podman };
        let deadline = Instant::now() + START_DEADLINE;
        while UnixStream::connect(service.socket()).is_err() {
            let ended = service.podman.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "podman does not start: {}",
                std::fs::read_to_string(service.folder.path().join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("podman.sock")
    }
}

impl Drop for PodmanService {
    fn drop(&mut self) {
        let _ = self.podman.kill();
        let _ = self.podman.wait();
        let path = self.folder.path();
        let _ = Command::new("podman")
            .arg("--root")
            .arg(path.join("root"))
            .arg("--runroot")
            .arg(path.join("run"))
            .args(["rm", "--all", "--force"])
            .output();
        // It mounts the directory onto itself.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(path.join("root/overlay"))
            .output();
    }
}
