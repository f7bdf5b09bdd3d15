//! The command line → what it asks for, with all that is wrong in it at once.

use std::path::Path;

use super::args::{ConfinementArgs, ContainerArgs, EndingArgs, RunArgs};
use crate::cli::context::Context;
use crate::diagnostic::Diagnostic;
use crate::engine::run::{Limits, RunSpec};
use crate::facts::{Environment, read_small};
use crate::model::{ByteSize, ContainerPath, Duration, EnvName, ImageRef, Secret, ValueError};
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
        name: findings.one("--name", args.container.name.as_ref(), name),
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
        gpus: findings.one("--gpus", args.container.gpus.as_ref(), str::parse),
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
    // Nothing is a limit that is none.
    let size = |text: &str| text.parse::<ByteSize>();
    let limit = |size: &ByteSize| size.bytes() > 0;
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
        workdir: findings.one("--workdir", args.workdir.as_ref(), |text| {
            let path: ContainerPath = text.parse()?;
            Ok(path.to_string())
        }),
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
        network: findings.one("--network", args.network.as_ref(), network),
        devices: findings.all("--device", &args.device, device),
        runtime: args.runtime.clone().filter(|runtime| !runtime.is_empty()),
        limits: Limits {
            cpus: findings.one("--cpus", args.cpus.as_ref(), str::parse),
            memory: findings
                .one("--memory", args.memory.as_ref(), size)
                .filter(limit),
            shm_size: findings
                .one("--shm-size", args.shm_size.as_ref(), size)
                .filter(limit),
            ulimits,
        },
        ipc: findings.one("--ipc", args.ipc.as_ref(), ipc),
        hostname: args.hostname.clone().filter(|name| !name.is_empty()),
        extra_hosts: findings.all("--add-host", &args.add_host, host),
        ..RunSpec::default()
    }
}

/// A capability as engines name it: `CAP_CHOWN` for `chown` (docker/cli, `opts/capabilities.go`).
fn capability(text: &str) -> String {
    let name = text.trim().to_ascii_uppercase();
    if name == "ALL" || name.starts_with("CAP_") {
        name
    } else {
        format!("CAP_{name}")
    }
}

fn confinement(
    args: &ConfinementArgs,
    environment: &Environment,
    spec: &mut RunSpec,
    findings: &mut Findings,
) {
    spec.init = args.init;
    spec.cap_add = args.cap_add.iter().map(|text| capability(text)).collect();
    spec.cap_drop = args.cap_drop.iter().map(|text| capability(text)).collect();
    spec.is_privileged = args.privileged.unwrap_or(false);
    spec.is_read_only = args.read_only.unwrap_or(false);
    spec.security = findings.all("--security-opt", &args.security_opt, |text| {
        security(text, environment)
    });
}

fn ending(args: &EndingArgs, spec: &mut RunSpec, findings: &mut Findings) {
    let grace = findings.one("--grace", args.grace.as_ref(), str::parse::<Duration>);
    let seconds = findings.one("--stop-timeout", args.stop_timeout.as_ref(), |text| {
        text.parse().map_err(|_| {
            ValueError::new("this is not a number of seconds")
                .help("write `--stop-timeout 30`, or `--grace 30s`")
        })
    });
    spec.stop_grace = grace
        .map(Duration::get)
        .or(seconds.map(std::time::Duration::from_secs));
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

fn network(text: &str) -> Result<String, ValueError> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let word = text.strip_prefix("container:").unwrap_or(text);
    if word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(is_word) {
        return Ok(text.to_owned());
    }
    Err(ValueError::new("this is not the name of a network").help(
        "write `bridge`, `none`, `host`, `container:NAME`, or a name that `docker network ls` shows",
    ))
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

/// `/dev/NAME[:TARGET[:rwm]]`, or a CDI name (`vendor.com/class=name`).
fn device(text: &str) -> Result<String, ValueError> {
    let is_cdi = !text.starts_with('/') && text.contains('/') && text.contains('=');
    let parts = text.split(':').count();
    if is_cdi || (text.starts_with('/') && parts <= 3) {
        return Ok(text.to_owned());
    }
    Err(ValueError::new("this is not a device")
        .help("write `/dev/NAME`, `/dev/NAME:/dev/TARGET:rwm`, or a CDI name: `nvidia.com/gpu=0`"))
}

/// `NAME:ADDRESS`; docker takes `NAME=ADDRESS` as well.
fn host(text: &str) -> Result<String, ValueError> {
    let parts = match text.split_once('=') {
        Some(parts) => Some(parts),
        None => text.split_once(':'),
    };
    match parts {
        Some((name, address)) if !name.is_empty() && is_address(address) => {
            let bare = address
                .strip_prefix('[')
                .and_then(|address| address.strip_suffix(']'));
            Ok(format!("{name}:{}", bare.unwrap_or(address)))
        }
        _ => Err(ValueError::new("this is not a name and an address")
            .help("write `--add-host NAME:10.0.0.1`, or `NAME:host-gateway`")),
    }
}

fn is_address(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok()
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
