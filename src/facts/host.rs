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

/// Whether the kernel's log, which not every user may read, says that it killed a process in a control
/// group with this in its name because the group's memory was full.
///
/// The line is that of `dump_oom_victim` in Linux' `mm/oom_kill.c`, since 4.20.
#[must_use]
pub fn has_run_out_of_memory(group: &str) -> bool {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    // No record is larger (`CONSOLE_EXT_LOG_MAX`).
    let mut record = [0; 8192];
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(log) = rustix::fs::open("/dev/kmsg", flags, Mode::empty()) else {
        return false;
    };
    loop {
        match rustix::io::read(&log, &mut record) {
            Ok(0) => return false,
            Ok(length) if is_oom_of(&String::from_utf8_lossy(&record[..length]), group) => {
                return true;
            }
            // What was to be read next has been overwritten meanwhile.
            Ok(_) | Err(Errno::PIPE | Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn is_oom_of(record: &str, group: &str) -> bool {
    let Some((_, facts)) = record.split_once(";oom-kill:") else {
        return false;
    };
    let named = facts
        .split(',')
        .find_map(|fact| fact.strip_prefix("oom_memcg="));
    !group.is_empty() && named.is_some_and(|named| named.contains(group))
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

#[cfg(test)]
mod tests {
    use super::is_oom_of;

    #[test]
    fn the_kernels_log_says_whose_memory_was_full() {
        let record = "6,2410,23692346939,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),\
                      cpuset=libpod-ab12,mems_allowed=0,oom_memcg=/libpod_parent/libpod-ab12,\
                      task_memcg=/libpod_parent/libpod-ab12/child,task=tail,pid=16946,uid=0";
        assert!(is_oom_of(record, "ab12"));
        // The machine's own memory was full, and the task just happened to be in a group.
        let machine = record.replace("oom_memcg=/libpod_parent/libpod-ab12", "global_oom");
        for (record, group) in [
            (record, "cd34"),
            (record, ""),
            (machine.as_str(), "ab12"),
            ("6,1,1,-;usb 1-1: ab12", "ab12"),
        ] {
            assert!(!is_oom_of(record, group), "{record} {group}");
        }
    }
}
