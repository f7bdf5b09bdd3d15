//! The command line → what it asks for, with all that is wrong in it at once.

use std::path::Path;

use super::args::{ConfinementArgs, ContainerArgs, EndingArgs, RunArgs};
use crate::cli::context::Context;
use crate::diagnostic::Diagnostic;
use crate::engine::run::{Limits, RunSpec};
use crate::facts::{Environment, read_small};
use crate::model::{
    ContainerPath, Duration, EnvName, ExtraHost, Gpus, ImageRef, NetworkAttachment, Secret,
    ValueError, WorkingDir, check_networks,
};
use crate::plan::build::{BuildFlags, host_authorities};
use crate::plan::run::{Building, Pull, RunFlags, bound, label};

/// The longest value of a flag that an error shows.
const MAX_SHOWN: usize = 80;

/// The largest seccomp profile that is read, in bytes.
const LARGEST_PROFILE: u64 = 16 << 20;

/// What is wrong with a command line.
#[derive(Default)]
struct Findings(Vec<Diagnostic>);

impl Findings {
    /// A flag's value, or nothing if it is wrong.
    fn take<T>(&mut self, flag: &str, value: Result<T, ValueError>) -> Option<T> {
        value
            .map_err(|error| {
                let mut found = Diagnostic::error("usage", format!("{flag}: {error}"));
                found.help.extend(error.help);
                self.0.push(found);
            })
            .ok()
    }

    /// The value of a flag that is given once.
    fn one<T>(
        &mut self,
        flag: &str,
        text: Option<&String>,
        read: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        text.and_then(|text| self.take(&shown(flag, text), read(text)))
    }

    /// The values of a flag that may be given often.
    fn all<T>(
        &mut self,
        flag: &str,
        texts: &[String],
        read: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Vec<T> {
        let values = texts
            .iter()
            .map(|text| self.take(&shown(flag, text), read(text)));
        values.flatten().collect()
    }
}

/// A flag with its value, unless that may be a secret's or is long.
fn shown(flag: &str, text: &str) -> String {
    match flag {
        "--env" => flag.to_owned(),
        _ if text.len() > MAX_SHOWN => flag.to_owned(),
        _ => format!("{flag} `{text}`"),
    }
}

/// What the command line asks for, and the image if one is run by its name.
///
/// # Errors
///
/// All that is wrong in it.
pub(super) fn flags(
    args: &RunArgs,
    context: &Context,
) -> Result<(Option<ImageRef>, RunFlags), Vec<Diagnostic>> {
    let environment = &context.environment;
    let mut findings = Findings::default();
    let image = findings.one("--image", args.image.image.as_ref(), str::parse);
    let mut spec = container(&args.container, environment, &mut findings);
    confinement(&args.confinement, environment, &mut spec, &mut findings);
    ending(&args.ending, &mut spec, &mut findings);
    spec.command = (!args.args.is_empty()).then(|| args.args.clone());
    spec.tty = args.terminal.tty.unwrap_or(false);
    spec.stdin = args.terminal.interactive.unwrap_or(false);
    let platform = args.image.platform.clone();
    spec.platform = platform.filter(|platform| !platform.is_empty());
    let pull = args.image.pull.map(Pull::from);
    let ending = &args.ending;
    let timeout = findings.one("--timeout", ending.timeout.as_ref(), str::parse::<Duration>);
    let retries = findings.one("--retries", ending.retries.as_ref(), |text| {
        text.parse().map_err(|_| {
            ValueError::new("this is not a number of retries").help("write `--retries 2`")
        })
    });
    let usual = usual(context, &mut findings);
    let flags = RunFlags {
        name: findings.one("--name", non_empty(args.container.name.as_ref()), name),
        pull,
        building: match (args.image.build, args.image.no_build) {
            (true, _) => Building::Asked,
            (_, true) => Building::Never,
            _ => Building::Usual,
        },
        build: BuildFlags {
            platform: spec.platform.clone(),
            pulls: pull == Some(Pull::Always),
            trust: args.image.trust.get(context),
            ..usual.build
        },
        environment: findings.all("--env", &args.variables.env, variable),
        env_files: args.variables.env_file.clone(),
        proxies: usual.proxies,
        allows_unset: args.variables.allow_unset,
        ca_bundle: args
            .variables
            .ca_bundle
            .as_ref()
            .and_then(|path| findings.take("--ca-bundle", authorities(path, environment))),
        gpus: gpus(&args.container.gpus, &mut findings),
        no_new_privileges: args.confinement.no_new_privileges,
        timeout: timeout.map(|time| Some(time.get()).filter(|time| !time.is_zero())),
        retries,
        fails_on_oom: ending.fail_on_oom,
        ignores_gates: ending.ignore_gates,
        is_kept: ending.keep || ending.rm == Some(false),
        is_foreground: args.terminal.detach != Some(true),
        spec,
    };
    if findings.0.is_empty() {
        Ok((image, flags))
    } else {
        Err(findings.0)
    }
}

/// What holds for a run of which the command line says nothing.
///
/// # Errors
///
/// All that is wrong in the process's environment.
pub(in crate::cli) fn no_flags(context: &Context) -> Result<RunFlags, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let flags = usual(context, &mut findings);
    if findings.0.is_empty() {
        Ok(flags)
    } else {
        Err(findings.0)
    }
}

/// What the process's environment and docker's configuration say.
fn usual(context: &Context, findings: &mut Findings) -> RunFlags {
    let environment = &context.environment;
    let proxies = context.proxy_args();
    let epoch = environment.get_non_empty("SOURCE_DATE_EPOCH");
    RunFlags {
        build: BuildFlags {
            configured_proxies: proxies.clone(),
            ca_bundle: environment
                .path("JOBCTL_CA_BUNDLE")
                .map(|path| bundle(&path, environment)),
            epoch: findings.one(
                "SOURCE_DATE_EPOCH",
                epoch.map(str::to_owned).as_ref(),
                |text| {
                    text.parse()
                        .map_err(|_| ValueError::new("this is not a number of seconds since 1970"))
                },
            ),
            ..BuildFlags::default()
        },
        proxies,
        ..RunFlags::default()
    }
}

fn container(args: &ContainerArgs, environment: &Environment, findings: &mut Findings) -> RunSpec {
    let here = environment.current_dir();
    let mut ulimits: Vec<crate::model::Ulimit> = findings.all("--ulimit", &args.ulimit, str::parse);
    // Of a limit that is given twice, the last counts.
    let names: Vec<_> = ulimits.iter().map(crate::model::Ulimit::name).collect();
    let mut at = 0;
    ulimits.retain(|limit| {
        at += 1;
        !names[at..].contains(&limit.name())
    });
    RunSpec {
        entrypoint: args.entrypoint.as_ref().map(|program| {
            let program = Some(program.clone()).filter(|program| !program.is_empty());
            program.into_iter().collect()
        }),
        user: args.user.clone().filter(|user| !user.is_empty()),
        workdir: findings
            .one("--workdir", non_empty(args.workdir.as_ref()), str::parse)
            .map(|path: WorkingDir| path.to_string()),
        labels: findings
            .all("--label", &args.label, label)
            .into_iter()
            .collect(),
        mounts: findings.all("--volume", &args.volume, str::parse),
        bound: findings.all("--mount", &args.mount, |text| bound(text, here)),
        tmpfs: findings
            .all("--tmpfs", &args.tmpfs, |text| {
                let (target, options) = text.split_once(':').unwrap_or((text, ""));
                let target: ContainerPath = target.parse()?;
                Ok((target.to_string(), options.to_owned()))
            })
            .into_iter()
            .collect(),
        ports: findings.all("--publish", &args.publish, str::parse),
        networks: networks(&args.network, findings),
        devices: findings.all("--device", &args.device, str::parse),
        runtime: args.runtime.clone().filter(|runtime| !runtime.is_empty()),
        limits: Limits {
            cpus: findings.one("--cpus", args.cpus.as_ref(), str::parse),
            memory: findings.one("--memory", args.memory.as_ref(), str::parse),
            shm_size: findings.one("--shm-size", args.shm_size.as_ref(), str::parse),
            ulimits,
        },
        ipc: findings.one("--ipc", args.ipc.as_ref(), ipc),
        hostname: args.hostname.clone().filter(|name| !name.is_empty()),
        extra_hosts: findings
            .all("--add-host", &args.add_host, str::parse)
            .iter()
            .map(ExtraHost::to_string)
            .collect(),
        ..RunSpec::default()
    }
}

/// A capability as engines name it: `CAP_CHOWN` for `chown` (docker/cli, `opts/capabilities.go`).
fn capability(text: &str) -> Result<String, ValueError> {
    let name = text.trim().to_ascii_uppercase();
    if name.is_empty() {
        return Err(ValueError::new("a capability has a name")
            .help("write `SYS_PTRACE`, or `ALL`; `man capabilities` lists them"));
    }
    if name == "ALL" || name.starts_with("CAP_") {
        Ok(name)
    } else {
        Ok(format!("CAP_{name}"))
    }
}

fn confinement(
    args: &ConfinementArgs,
    environment: &Environment,
    spec: &mut RunSpec,
    findings: &mut Findings,
) {
    spec.init = args.init;
    spec.cap_add = findings.all("--cap-add", &args.cap_add, capability);
    spec.cap_drop = findings.all("--cap-drop", &args.cap_drop, capability);
    spec.is_privileged = args.privileged.unwrap_or(false);
    spec.is_read_only = args.read_only.unwrap_or(false);
    spec.security = findings.all("--security-opt", &args.security_opt, |text| {
        security(text, environment)
    });
}

fn ending(args: &EndingArgs, spec: &mut RunSpec, findings: &mut Findings) {
    let grace = findings.one("--grace", args.grace.as_ref(), str::parse::<Duration>);
    let seconds = findings.one("--stop-timeout", args.stop_timeout.as_ref(), |text| {
        text.parse::<i64>().map_err(|_| {
            ValueError::new("this is not a number of seconds").help(
                "write `--stop-timeout 30`, or `--grace 30s`; `--stop-timeout -1` waits as long as it takes",
            )
        })
    });
    let seconds = seconds.map(|seconds| match u64::try_from(seconds) {
        Ok(seconds) => std::time::Duration::from_secs(seconds),
        Err(_) => std::time::Duration::MAX,
    });
    spec.stop_grace = grace.map(Duration::get).or(seconds);
    spec.stop_signal = args.stop_signal.clone().filter(|signal| !signal.is_empty());
    spec.restart = findings.one("--restart", args.restart.as_ref(), str::parse);
}

/// `NAME=VALUE`, or `NAME` for the caller's. No error shows the value.
fn variable(text: &str) -> Result<(EnvName, Option<Secret>), ValueError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(Secret::new(value))),
        None => (text, None),
    };
    Ok((name.parse()?, value))
}

/// A container's name, as the engine takes it.
fn name(text: &str) -> Result<String, ValueError> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_name = text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(is_word);
    if is_name {
        return Ok(text.to_owned());
    }
    Err(ValueError::new("this can't be a container's name")
        .help("use two or more letters, digits, `_`, `.`, `-`; a letter or digit first"))
}

/// The GPUs. docker sends each `--gpus` as a request of its own, of which NVIDIA's runtime takes one.
fn gpus(texts: &[String], findings: &mut Findings) -> Option<Gpus> {
    let mut gpus = findings.all("--gpus", texts, str::parse);
    if texts.len() > 1 {
        findings.take(
            "--gpus",
            Err::<(), _>(
                ValueError::new("it is given twice")
                    .help("give it once: `--gpus 2`, `--gpus device=0,2`"),
            ),
        );
    }
    gpus.pop()
}

/// The networks, which docker attaches all.
fn networks(texts: &[String], findings: &mut Findings) -> Vec<NetworkAttachment> {
    let networks = findings.all("--network", texts, str::parse);
    findings.take("--network", check_networks(&networks));
    networks
}

/// As docker has it, an empty text says nothing.
fn non_empty(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

fn ipc(text: &str) -> Result<String, ValueError> {
    let is_other = text
        .strip_prefix("container:")
        .is_some_and(|name| !name.is_empty());
    if is_other || matches!(text, "" | "none" | "private" | "shareable" | "host") {
        return Ok(text.to_owned());
    }
    Err(ValueError::new("this is not a kind of IPC")
        .help("write `private`, `shareable`, `host`, `none` or `container:NAME`"))
}

/// An option of the engine's confinement; the file of a seccomp profile is read, as docker's
/// client does.
fn security(text: &str, environment: &Environment) -> Result<String, ValueError> {
    let (key, value) = match text.split_once(['=', ':']) {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    match (key, value) {
        ("no-new-privileges", None | Some("true" | "false")) => Ok(text.to_owned()),
        ("seccomp", Some("unconfined" | "builtin")) => Ok(text.to_owned()),
        ("seccomp", Some(file)) => {
            let refuse = |why: String| {
                ValueError::new(format!("the seccomp profile `{file}` {why}"))
                    .help("name a file of JSON, or `seccomp=unconfined`")
            };
            let path = environment.current_dir().join(file);
            let profile = read_small(&path, LARGEST_PROFILE)
                .map_err(|_| refuse("can't be read".to_owned()))?;
            let profile: serde_json::Value = serde_json::from_slice(&profile)
                .map_err(|error| refuse(format!("is not JSON (line {})", error.line())))?;
            Ok(format!("seccomp={profile}"))
        }
        ("systempaths", _) => Err(ValueError::new("jobctl can't pass `systempaths` on")
            .help("`--privileged` lifts it, with all else")),
        (_, Some(_)) => Ok(text.to_owned()),
        (_, None) => Err(ValueError::new("an option has a value")
            .help("write `seccomp=unconfined`, `apparmor=PROFILE` or `no-new-privileges`")),
    }
}

/// The file of the certificate authorities that are meant.
fn bundle(path: &Path, environment: &Environment) -> std::path::PathBuf {
    match path.to_str() {
        Some("host") => host_authorities(environment),
        _ => environment.current_dir().join(path),
    }
}

fn authorities(path: &Path, environment: &Environment) -> Result<std::path::PathBuf, ValueError> {
    let path = bundle(path, environment);
    if path.is_file() {
        return Ok(path);
    }
    Err(
        ValueError::new(format!("`{}` is not there", path.display()))
            .help("name a file in PEM, or `host`"),
    )
}

#[cfg(test)]
mod tests;
