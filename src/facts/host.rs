//! What this machine says of itself.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that this user can still write.
    pub bytes: u64,
    /// Files that this user can still make; nothing where the file system does not count them.
    pub files: Option<u64>,
}

/// The room on the file system that a path is on.
///
/// # Errors
///
/// The path is not there, or not for this user.
pub fn room(path: &Path) -> io::Result<Room> {
    let status = rustix::fs::statvfs(path)?;
    Ok(Room {
        bytes: status.f_bavail.saturating_mul(status.f_frsize),
        files: (status.f_files > 0).then_some(status.f_favail),
    })
}

/// What there is of NVIDIA's on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NvidiaFacts {
    /// The kernel driver's version.
    pub driver: Option<String>,
    /// CDI specifications that name NVIDIA's devices.
    pub cdi_specs: Vec<PathBuf>,
}

/// Looks for NVIDIA's driver and for CDI specifications in the folders that engines search.
#[must_use]
pub fn nvidia() -> NvidiaFacts {
    // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  …"
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version")
        .ok()
        .map(|text| {
            let words = text.lines().next().unwrap_or_default().split_whitespace();
            let is_version =
                |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
            words
                .clone()
                .find(is_version)
                .unwrap_or("unknown")
                .to_owned()
        });
    let cdi_specs = ["/etc/cdi", "/var/run/cdi"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().contains("nvidia"))
        .collect();
    NvidiaFacts { driver, cdi_specs }
}

/// This machine's clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "facts are where the clock is read"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// What this machine is: what a run's record says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The processor's model.
    pub cpu: Option<String>,
    /// How many processors this process may use.
    pub cpus: u32,
    /// What the processor can do, sorted.
    pub cpu_flags: Vec<String>,
    /// The GPUs' models, as NVIDIA's driver names them.
    pub gpus: Vec<String>,
    /// The version of NVIDIA's driver.
    pub nvidia_driver: Option<String>,
}

/// Looks at this machine.
#[must_use]
pub fn machine() -> Machine {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let flags = field("flags")
        .or_else(|| field("Features"))
        .unwrap_or_default();
    let mut cpu_flags: Vec<_> = flags.split_whitespace().map(str::to_owned).collect();
    cpu_flags.sort();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Machine {
        name: name(),
        cpu: field("model name"),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        cpu_flags,
        gpus: gpus(),
        nvidia_driver: nvidia().driver,
    }
}

/// This machine's name.
#[must_use]
pub fn name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// This machine's kernel: `6.1.0-28-amd64`.
#[must_use]
pub fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn gpus() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/driver/nvidia/gpus") else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path().join("information"))
        .collect();
    files.sort();
    let model = |file: PathBuf| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(line.trim().to_owned())
    };
    files.into_iter().filter_map(model).collect()
}
