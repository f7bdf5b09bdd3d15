//! What an engine says of itself.

use std::path::PathBuf;

use jiff::Timestamp;

/// What an engine says of itself. `None` where it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version: `20.10.24`.
    pub version: String,
    /// The newest API it speaks: `1.41`.
    pub api_version: String,
    /// Whether it is Podman.
    pub is_podman: bool,
    /// Whether it builds with BuildKit.
    pub has_buildkit: bool,
    /// Its operating system's kind and its processor: `linux/x86_64`.
    pub platform: String,
    /// Where it keeps images and containers, on its own machine.
    pub root_dir: Option<PathBuf>,
    /// How it stores layers: `overlay2`, `overlayfs` (containerd's store).
    pub storage_driver: String,
    /// 1 or 2.
    pub cgroup_version: Option<u8>,
    /// Whether it can limit a container's memory.
    pub can_limit_memory: bool,
    /// The names of its runtimes, sorted: `nvidia`, `runc`.
    pub runtimes: Vec<String>,
    /// Names of CDI devices that it found, or folders that it searches for them.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// What it confines containers with: `apparmor`, `rootless`, `seccomp`.
    pub security: Vec<String>,
    /// Whether it has an init process to put into containers; Podman does not say.
    pub has_init: Option<bool>,
    /// Whether containers keep running while it restarts, if it says so.
    pub has_live_restore: Option<bool>,
    /// Its clock, when it was asked.
    pub time: Option<Timestamp>,
}
