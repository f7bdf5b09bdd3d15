//! What tests need of the world: jobctl itself, engines of their own, a way to see what is left.

pub(crate) mod certificates;
pub(crate) mod container;
pub(crate) mod docker;
pub(crate) mod engine;
pub(crate) mod image;
pub(crate) mod project;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod recorder;
pub(crate) mod registry;
pub(crate) mod results;
pub(crate) mod ssh;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The engine that tests run against, started by `./check`.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// A folder with a home, from which jobctl is called with nothing but what a test gives it.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    place: PathBuf,
}

/// What a call of jobctl ended with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        // Some tests call jobctl as another user.
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        std::fs::create_dir_all(folder.path().join("home/.docker")).unwrap();
        let place = folder.path().to_owned();
        Self { folder, place }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.place
    }

    /// Moves all that is on it to another place.
    pub(crate) fn relocate(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("moved");
        std::fs::rename(&self.place, &place).unwrap();
        (self.folder, self.place) = (folder, place);
    }

    /// Writes a file of the bench.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A program, to be called on the bench with a clean environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path().join("home"))
            .current_dir(self.path());
        command
    }

    /// jobctl, to be called on the bench with a clean environment.
    pub(crate) fn jobctl(&self) -> Command {
        // Whoever calls the tests may do so with `nohup`, and what is ignored stays so.
        if !ignores_signals() {
            return self.command(jobctl());
        }
        let mut command = self.command("/usr/bin/env");
        command.arg("--default-signal=HUP,INT").arg(jobctl());
        command
    }
}

/// Whether this process ignores SIGHUP or SIGINT.
fn ignores_signals() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 0b11 != 0
}

/// The program under test.
pub(crate) fn jobctl() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_jobctl"))
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    command.output().unwrap().into()
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let ended = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        results::assert_documented(&ended.stdout);
        ended
    }
}

/// What `jobctl doctor --format json` found: status and detail by check.
pub(crate) fn doctor(command: &mut Command) -> (Option<i32>, BTreeMap<String, (String, String)>) {
    let ended = run(command.args(["--format", "json", "doctor"]));
    let document: serde_json::Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let checks = document["checks"].as_array().unwrap().iter();
    let found = checks.map(|check| {
        let text = |key: &str| check[key].as_str().unwrap().to_owned();
        (text("check"), (text("status"), text("detail")))
    });
    (ended.code, found.collect())
}

/// Whether a test that needs root can run; says so loudly if it can't.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped(test, "needs root");
    }
    is_root
}

/// Says loudly that a test did not run: the harness swallows what is printed otherwise.
pub(crate) fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Waits for what happens by itself, but not for ever.
pub(crate) fn wait_for(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "it does not happen"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
