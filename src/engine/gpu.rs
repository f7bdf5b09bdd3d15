//! Whether an engine can give containers NVIDIA's GPUs, as far as it shows beforehand.

use std::path::Path;

use super::run::RunError;
use crate::facts::EngineFacts;
use crate::facts::host::NvidiaFacts;

/// What there is for GPUs on the engine's machine, where that is this one.
#[derive(Debug, Clone, Copy)]
pub struct GpuHost<'a> {
    /// Driver and CDI specifications.
    pub nvidia: &'a NvidiaFacts,
    /// Where `nvidia-container-runtime-hook` is, which Docker Engine looks for in `PATH`.
    pub hook: Option<&'a Path>,
}

/// Why GPUs can't be had from an engine; `runtime` is the one that is asked for. An engine on
/// another machine does not show everything, and is believed: it says so when a container starts.
#[must_use]
pub fn gpu_problem(
    engine: &EngineFacts,
    host: Option<GpuHost<'_>>,
    runtime: Option<&str>,
) -> Option<RunError> {
    let has_runtime = engine.runtimes.iter().any(|name| name == "nvidia");
    let others = engine.runtimes.join(", ");
    let problem = |message| Some(RunError::NoGpu { message });
    if has_runtime {
        return None;
    }
    if runtime == Some("nvidia") {
        return problem(format!("it has no runtime `nvidia`, only {others}"));
    }
    match host {
        Some(host) if host.hook.is_some() || !host.nvidia.cdi_specs.is_empty() => None,
        Some(host) => {
            let driver = match &host.nvidia.driver {
                Some(driver) => format!("NVIDIA's driver {driver}, but"),
                None => "no driver of NVIDIA's, and".to_owned(),
            };
            problem(format!(
                "this machine has {driver} neither the runtime `nvidia` nor \
                 `nvidia-container-runtime-hook` nor a CDI specification"
            ))
        }
        // It searches folders for CDI specifications, and does not say what is in them.
        None if !engine.cdi_spec_dirs.is_empty() => None,
        None => problem(format!("it has no runtime `nvidia`, only {others}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{GpuHost, gpu_problem};
    use crate::facts::EngineFacts;
    use crate::facts::host::NvidiaFacts;

    fn engine(runtimes: &[&str], cdi: &[&str]) -> EngineFacts {
        EngineFacts {
            version: "20.10.24".to_owned(),
            api_version: "1.41".to_owned(),
            is_podman: false,
            has_buildkit: true,
            platform: "linux/x86_64".to_owned(),
            root_dir: None,
            storage_driver: "overlay2".to_owned(),
            cgroup_version: Some(1),
            can_limit_memory: true,
            runtimes: runtimes.iter().map(|name| (*name).to_owned()).collect(),
            cdi_spec_dirs: cdi.iter().map(Into::into).collect(),
            security: Vec::new(),
            has_init: Some(true),
            has_live_restore: None,
            time: None,
        }
    }

    #[test]
    fn gpus_are_had_by_runtime_by_hook_and_by_specification() {
        let nothing = NvidiaFacts::default();
        let specified = NvidiaFacts {
            driver: Some("550.54.15".to_owned()),
            cdi_specs: vec!["/etc/cdi/nvidia.yaml".into()],
        };
        let bare = GpuHost {
            nvidia: &nothing,
            hook: None,
        };
        let hooked = GpuHost {
            hook: Some(Path::new("/usr/bin/nvidia-container-runtime-hook")),
            ..bare
        };
        let with_specification = GpuHost {
            nvidia: &specified,
            hook: None,
        };
        let plain = engine(&["runc"], &[]);
        let with_runtime = engine(&["nvidia", "runc"], &[]);
        let searching = engine(&["runc"], &["/etc/cdi"]);
        for (engine, host, runtime, message) in [
            (&with_runtime, Some(bare), Some("nvidia"), None),
            (&with_runtime, None, None, None),
            (&plain, Some(hooked), None, None),
            (&plain, Some(with_specification), None, None),
            (&searching, None, None, None),
            (
                &plain,
                Some(hooked),
                Some("nvidia"),
                Some("it has no runtime `nvidia`, only runc"),
            ),
            (
                &searching,
                Some(bare),
                None,
                Some(
                    "this machine has no driver of NVIDIA's, and neither the runtime `nvidia` nor \
                     `nvidia-container-runtime-hook` nor a CDI specification",
                ),
            ),
            (
                &plain,
                None,
                None,
                Some("it has no runtime `nvidia`, only runc"),
            ),
        ] {
            let problem = gpu_problem(engine, host, runtime).map(|problem| problem.to_string());
            let expected =
                message.map(|message| format!("the engine can't give containers GPUs: {message}"));
            assert_eq!(problem, expected);
        }
    }
}
