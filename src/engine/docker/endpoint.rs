//! Where the engine is: `--host`, `--context`, variables, contexts, in docker's own order.
//!
//! The order is that of docker/cli's code (`cli/command/cli.go`), in which `DOCKER_HOST` comes
//! before `DOCKER_CONTEXT`: `--context`, `--host`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current
//! context of `config.json`, the default socket.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::{self, ConfigError, DockerConfig};
use crate::facts::Environment;

/// Where docker's engine listens if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// What the command line says about the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointFlags {
    /// `--host`
    pub host: Option<String>,
    /// `--context`
    pub context: Option<String>,
}

/// An engine's place, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// Who said so.
    pub origin: Origin,
    /// The context that is not used because `DOCKER_HOST` is set.
    pub overridden: Option<String>,
}

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A port, in clear or with TLS.
    Tcp {
        /// Name or address; an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Nothing: in clear.
        tls: Option<Tls>,
    },
    /// A machine that is reached by OpenSSH, and has docker's client.
    Ssh(SshTarget),
}

/// Files for TLS. Certificate and key are for engines and registries that want to know their clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whom the other side's certificate may come from.
    pub authorities: Authorities,
    /// The client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the other side's certificate is checked at all.
    pub is_verified: bool,
}

/// Files of authorities that certificates may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// This one alone, not the system's.
    Only(PathBuf),
    /// The system's, and these.
    SystemAnd(Vec<PathBuf>),
}

/// A machine as OpenSSH names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// The user, if not OpenSSH's choice.
    pub user: Option<String>,
    /// The machine, or an alias of OpenSSH's configuration.
    pub host: String,
    /// The port, if not OpenSSH's choice.
    pub port: Option<u16>,
    /// The socket on that machine, if not docker's choice.
    pub socket: Option<String>,
}

/// Who said where the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--context NAME`
    ContextFlag(String),
    /// `--host`
    HostFlag,
    /// `DOCKER_HOST`
    HostVariable,
    /// `DOCKER_CONTEXT=NAME`
    ContextVariable(String),
    /// The current context of `config.json`.
    CurrentContext(String),
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContextFlag(name) => write!(f, "`--context {name}`"),
            Self::HostFlag => f.write_str("`--host`"),
            Self::HostVariable => f.write_str("`DOCKER_HOST`"),
            Self::ContextVariable(name) => write!(f, "`DOCKER_CONTEXT={name}`"),
            Self::CurrentContext(name) => write!(f, "docker's current context `{name}`"),
            Self::Default => f.write_str("docker's default"),
        }
    }
}

impl fmt::Display for Address {
    /// As `DOCKER_HOST` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh(target) => {
                f.write_str("ssh://")?;
                if let Some(user) = &target.user {
                    write!(f, "{user}@")?;
                }
                f.write_str(&target.host)?;
                if let Some(port) = target.port {
                    write!(f, ":{port}")?;
                }
                f.write_str(target.socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Why it can't be told where the engine is.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Both flags are given.
    #[error("`--host` and `--context` are both given")]
    Conflict,
    /// No context has this name.
    #[error("the context `{name}` that {origin} names does not exist")]
    UnknownContext {
        /// The name.
        name: String,
        /// Who named it.
        origin: String,
        /// The contexts that exist.
        known: Vec<String>,
    },
    /// The context has no place for docker.
    #[error("the context `{name}` does not say where a Docker Engine is")]
    EmptyContext {
        /// The name.
        name: String,
    },
    /// The address is not one.
    #[error("{origin} is not an engine's address: {reason}")]
    BadAddress {
        /// Who gave it.
        origin: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// docker's configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl EndpointError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Conflict => "keep one of the two".to_owned(),
            Self::UnknownContext { known, .. } => {
                format!(
                    "use one of: {}; or make it: `docker context create NAME`",
                    known.join(", ")
                )
            }
            Self::EmptyContext { name } => format!("look at it: `docker context inspect {name}`"),
            Self::BadAddress { .. } => "write `unix:///var/run/docker.sock`, `tcp://host:2376` or \
                                        `ssh://user@host`"
                .to_owned(),
            Self::Config(error) => error.help(),
        }
    }
}

/// Decides where the engine is.
///
/// # Errors
///
/// The flags contradict each other, a context does not exist, an address is none, or docker's
/// configuration can't be read.
pub fn resolve(
    flags: &EndpointFlags,
    environment: &Environment,
    config: &DockerConfig,
) -> Result<Endpoint, EndpointError> {
    let host_variable = environment.get_non_empty("DOCKER_HOST");
    let context_variable = environment.get_non_empty("DOCKER_CONTEXT");
    let current = context_variable.or(config.current_context.as_deref());
    match (&flags.context, &flags.host) {
        (Some(_), Some(_)) => Err(EndpointError::Conflict),
        (Some(name), None) => {
            of_context(name, Origin::ContextFlag(name.clone()), environment, config)
        }
        (None, Some(host)) => of_host(host, Origin::HostFlag, environment),
        (None, None) => match (host_variable, current) {
            (Some(host), overridden) => Ok(Endpoint {
                overridden: overridden
                    .filter(|name| *name != "default")
                    .map(str::to_owned),
                ..of_host(host, Origin::HostVariable, environment)?
            }),
            (None, Some(name)) if context_variable.is_some() => of_context(
                name,
                Origin::ContextVariable(name.to_owned()),
                environment,
                config,
            ),
            (None, Some(name)) => of_context(
                name,
                Origin::CurrentContext(name.to_owned()),
                environment,
                config,
            ),
            (None, None) => default_endpoint(Origin::Default, environment),
        },
    }
}

/// Whether `--host` can be an engine's address: docker refuses one that can't before it does anything.
///
/// # Errors
///
/// It can't.
pub fn check_host(host: &str) -> Result<(), EndpointError> {
    match parse(host, None) {
        Ok(_) => Ok(()),
        Err(reason) => Err(EndpointError::BadAddress {
            origin: Origin::HostFlag.to_string(),
            reason,
        }),
    }
}

/// docker's socket; its port with TLS, where variables ask for that.
fn default_endpoint(origin: Origin, environment: &Environment) -> Result<Endpoint, EndpointError> {
    of_host("", origin, environment)
}

fn of_host(
    host: &str,
    origin: Origin,
    environment: &Environment,
) -> Result<Endpoint, EndpointError> {
    let address = parse(host, variables_tls(environment)).map_err(|reason| {
        let origin = origin.to_string();
        EndpointError::BadAddress { origin, reason }
    })?;
    Ok(Endpoint {
        address,
        origin,
        overridden: None,
    })
}

/// What a context's `meta.json` says about docker.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextMeta {
    endpoints: Option<ContextEndpoints>,
}

#[derive(Default, Deserialize)]
struct ContextEndpoints {
    docker: Option<ContextEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify")]
    skip_tls_verify: Option<bool>,
}

fn of_context(
    name: &str,
    origin: Origin,
    environment: &Environment,
    config: &DockerConfig,
) -> Result<Endpoint, EndpointError> {
    if name == "default" {
        // The context `default` is whatever the variables say.
        return match environment.get_non_empty("DOCKER_HOST") {
            Some(host) => of_host(host, Origin::HostVariable, environment),
            None => default_endpoint(origin, environment),
        };
    }
    let unknown = || EndpointError::UnknownContext {
        name: name.to_owned(),
        origin: origin.to_string(),
        known: config.context_names(),
    };
    let (meta, keys) = config.context_paths(name).ok_or_else(unknown)?;
    let meta: ContextMeta = config::read_json(&meta)?.ok_or_else(unknown)?;
    let endpoint = meta.endpoints.unwrap_or_default().docker;
    let skips_verification = endpoint.as_ref().and_then(|known| known.skip_tls_verify);
    let host = endpoint.and_then(|endpoint| endpoint.host);
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        let name = name.to_owned();
        return Err(EndpointError::EmptyContext { name });
    };
    let tls = keys
        .is_dir()
        .then(|| Tls::in_folder(&keys, !skips_verification.unwrap_or(false)));
    let address = parse(&host, tls).map_err(|reason| EndpointError::BadAddress {
        origin: format!("the context `{name}`"),
        reason,
    })?;
    Ok(Endpoint {
        address,
        origin,
        overridden: None,
    })
}

impl Tls {
    /// The files of a folder by docker's names, those that are there.
    fn in_folder(folder: &Path, is_verified: bool) -> Self {
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
        Self {
            authorities: file("ca.pem")
                .map_or(Authorities::SystemAnd(Vec::new()), Authorities::Only),
            identity: file("cert.pem").zip(file("key.pem")),
            is_verified,
        }
    }
}

/// TLS as the variables ask for it: `DOCKER_TLS_VERIFY`, or `DOCKER_TLS` for TLS without a check;
/// set to anything but the empty text they count.
fn variables_tls(environment: &Environment) -> Option<Tls> {
    let is_verified = environment.get_non_empty("DOCKER_TLS_VERIFY").is_some();
    if !is_verified && environment.get_non_empty("DOCKER_TLS").is_none() {
        return None;
    }
    let folder = environment
        .path("DOCKER_CERT_PATH")
        .or_else(|| config::folder(environment))?;
    Some(Tls::in_folder(&folder, is_verified))
}

/// Reads an address as docker's `--host` does (docker/cli, `opts/hosts.go`); `tls` is for TCP.
fn parse(text: &str, tls: Option<Tls>) -> Result<Address, &'static str> {
    let text = match text.trim() {
        "" if tls.is_some() => "tcp://",
        "" => "unix://",
        text => text,
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    match scheme {
        "unix" if rest.is_empty() => Ok(Address::Unix(PathBuf::from(DEFAULT_SOCKET))),
        "unix" if rest.contains("://") => Err("there are two schemes"),
        "unix" => Ok(Address::Unix(PathBuf::from(rest))),
        "tcp" => {
            let default_port = if tls.is_some() { 2376 } else { 2375 };
            let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))?;
            Ok(Address::Tcp {
                host: if host.is_empty() {
                    "127.0.0.1".to_owned()
                } else {
                    host.to_owned()
                },
                port: port.unwrap_or(default_port),
                tls,
            })
        }
        "ssh" => ssh(rest).map(Address::Ssh),
        "http" | "https" => Err("docker writes `tcp://`, with TLS if DOCKER_TLS_VERIFY is set"),
        "npipe" => Err("named pipes are for Windows"),
        "fd" => Err("`fd://` is for the engine itself"),
        _ => Err("the scheme is not known"),
    }
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    if text.contains("://") {
        return Err("there are two schemes");
    }
    if text.contains('/') {
        return Err("an address has no path");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("there is a blank in it");
    }
    if text.contains('@') {
        return Err("an engine takes no user or password");
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, parse_port(port)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("a bracket is followed by something else than a port"),
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Err("an IPv6 address needs brackets"),
        Some((host, port)) => Ok((host, parse_port(port)?)),
        None => Ok((text, None)),
    }
}

/// A port; an empty one is the usual one.
fn parse_port(text: &str) -> Result<Option<u16>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| is_number);
    port.map(Some).ok_or("the port is not a number up to 65535")
}

fn ssh(text: &str) -> Result<SshTarget, &'static str> {
    let (authority, socket) = match text.find('/') {
        Some(slash) => (&text[..slash], &text[slash..]),
        None => (text, ""),
    };
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("a password can't be part of it; use a key");
    }
    let (host, port) = host_and_port(place)?;
    // OpenSSH would take a name that begins with a dash for a flag.
    if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return Err("the machine's name is missing");
    }
    Ok(SshTarget {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
        socket: (socket.len() > 1).then(|| socket.to_owned()),
    })
}

#[cfg(test)]
mod tests;
