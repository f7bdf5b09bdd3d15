//! What goes wrong with an engine, by what the user can do about it.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounded::{Endless, shortened};
use super::endpoint::{Address, EndpointError, SshTarget};
use super::transport::{ConnectError, SshEnded};

/// What goes wrong with an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can't be told where the engine is.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nothing listens there.
    #[error("no engine is running at {address}")]
    NotRunning {
        /// The address.
        address: String,
        /// Whether it is this machine's engine.
        is_local: bool,
    },
    /// The socket is not for this user.
    #[error("no permission to use the engine's socket `{}`", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
        /// Its group's number, if it could be read.
        group: Option<u32>,
    },
    /// It takes connections, but does not answer.
    #[error("the engine at {address} is hung: no answer within {} s", waited.as_secs())]
    Hung {
        /// The address.
        address: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It answered, and then the connection broke.
    #[error("the engine at {address} went away: {reason}")]
    Gone {
        /// The address.
        address: String,
        /// What was seen of it.
        reason: String,
    },
    /// The machine does not answer at all, or its name is unknown.
    #[error("can't reach {address}: {reason}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// TLS did not come about.
    #[error("no TLS with {address}: {reason}")]
    Tls {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// It was asked in clear, and speaks TLS alone.
    #[error("the engine at {address} speaks TLS, and was asked in clear text")]
    WantsTls {
        /// The address.
        address: String,
    },
    /// It was asked with TLS, and speaks clear text alone.
    #[error("no TLS with {address}: what listens there speaks clear text")]
    SpeaksClearText {
        /// The address.
        address: String,
    },
    /// OpenSSH did not get there.
    #[error("ssh to {address} failed: {reason}")]
    Ssh {
        /// The address.
        address: String,
        /// What to call by hand: `ssh -p 2222 me@host docker`.
        command: String,
        /// What OpenSSH said.
        reason: String,
    },
    /// The engine speaks an API that is too old.
    #[error("the engine's API {version} is too old: jobctl needs {minimum} or newer")]
    TooOld {
        /// The engine's newest API.
        version: String,
        /// The oldest that jobctl speaks.
        minimum: &'static str,
    },
    /// What listens there is no engine.
    #[error("what listens at {address} is not a Docker Engine: {reason}")]
    NotAnEngine {
        /// The address.
        address: String,
        /// What it did.
        reason: String,
    },
    /// The engine began, and then failed.
    #[error("the engine failed: {message}")]
    Failed {
        /// The engine's words.
        message: String,
    },
    /// The engine refused.
    #[error("the engine refused ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
}

impl EngineError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Endpoint(error) => error.help(),
            Self::NotRunning { is_local: true, .. } => "start it: `sudo systemctl start docker`; \
                 install it: `sudo apt-get install docker.io`; or name another with `--host` or \
                 `docker context use`"
                .to_owned(),
            Self::NotRunning { .. } => {
                "start the engine on that machine, or mend the address".to_owned()
            }
            Self::Permission {
                group: Some(group), ..
            } => format!(
                "join the socket's group and log in again: `sudo usermod -aG \"$(getent group \
                 {group} | cut -d: -f1)\" \"$USER\"`"
            ),
            Self::Permission { .. } => {
                "join the group and log in again: `sudo usermod -aG docker \"$USER\"`".to_owned()
            }
            Self::Hung { .. } => {
                "look at it: `sudo journalctl -u docker -n 50`; restart it: `sudo systemctl \
                 restart docker`"
                    .to_owned()
            }
            Self::Gone { .. } => {
                "what runs there may go on: ask again when the engine is back".to_owned()
            }
            Self::Unreachable { .. } => "check the name, the port and the network".to_owned(),
            Self::Tls { .. } => "check ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH or the \
                                 context's directory"
                .to_owned(),
            Self::WantsTls { .. } => "ask it with TLS: `export DOCKER_TLS_VERIFY=1`, with ca.pem, \
                                      cert.pem and key.pem in DOCKER_CERT_PATH (else ~/.docker)"
                .to_owned(),
            Self::SpeaksClearText { .. } => {
                "name the port that speaks TLS, 2376 as a rule; in clear text, which lets everybody \
                 use the engine: `unset DOCKER_TLS_VERIFY`"
                    .to_owned()
            }
            Self::Ssh { command, .. } => {
                format!("try it by hand until it prints a version: `{command} version`")
            }
            Self::TooOld { .. } => {
                "install Docker Engine 20.10 or newer, or Podman 4 or newer".to_owned()
            }
            Self::NotAnEngine { .. } => "name the engine's own address".to_owned(),
            Self::Refused { message, .. } if message.contains("No command specified") => {
                "the image has no CMD: give `command` in jobs.yaml, or words after the job or image"
                    .to_owned()
            }
            Self::Failed { .. } | Self::Refused { .. } => "that is all that the engine says".to_owned(),
        }
    }

    /// Whether the engine is not there, or no longer: what it was asked for may have been done, and
    /// it may be asked again later.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. }
                | Self::Hung { .. }
                | Self::Gone { .. }
                | Self::Unreachable { .. }
                | Self::Ssh { .. }
        )
    }

    /// A connection that had been answered on broke.
    pub(super) fn gone(reason: &(dyn Error + 'static), address: &Address) -> Self {
        let mut deepest = reason;
        while let Some(cause) = deepest.source() {
            deepest = cause;
        }
        Self::Gone {
            address: address.to_string(),
            reason: deepest.to_string(),
        }
    }

    /// It answers, and does not come to an end.
    pub(super) fn endless(address: &Address) -> Self {
        Self::NotAnEngine {
            address: address.to_string(),
            reason: Endless.to_string(),
        }
    }

    /// An error of bollard's in the user's words.
    pub(super) fn of_bollard(error: &bollard::errors::Error, address: &Address) -> Self {
        use bollard::errors::Error as Bollard;

        match error {
            Bollard::DockerResponseServerError {
                status_code,
                message,
            } => Self::Refused {
                status: *status_code,
                message: shortened(message.clone()),
            },
            Bollard::DockerStreamError { error } => Self::Failed {
                message: shortened(error.clone()),
            },
            Bollard::JsonDataError { .. } | Bollard::APIVersionParseError {} => Self::NotAnEngine {
                address: address.to_string(),
                reason: "its answer is not an engine's".to_owned(),
            },
            error => Self::of_chain(error, address),
        }
    }

    /// An error somewhere below HTTP: the causes are searched for one that is known.
    pub(super) fn of_chain(error: &(dyn Error + 'static), address: &Address) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        let mut deepest = error;
        while let Some(current) = cause {
            deepest = current;
            if let Some(connect) = current.downcast_ref::<ConnectError>() {
                return Self::of_connect(connect, address);
            }
            if let Some(error) = current.downcast_ref::<io::Error>() {
                return Self::of_io(error, address);
            }
            if let Some(error) = current.downcast_ref::<hyper::Error>()
                && error.is_incomplete_message()
            {
                return Self::gone(error, address);
            }
            cause = current.source();
        }
        Self::NotAnEngine {
            address: address.to_string(),
            reason: deepest.to_string(),
        }
    }

    fn of_connect(error: &ConnectError, address: &Address) -> Self {
        match error {
            ConnectError::Io(error) => Self::of_io(error, address),
            ConnectError::Timeout(_) => Self::Unreachable {
                address: address.to_string(),
                reason: error.to_string(),
            },
            ConnectError::ClearText => Self::SpeaksClearText {
                address: address.to_string(),
            },
            ConnectError::Tls(reason) => Self::Tls {
                address: address.to_string(),
                reason: reason.clone(),
            },
            ConnectError::NoSsh(_) => Self::Ssh {
                address: address.to_string(),
                command: ssh_command(address),
                reason: error.to_string(),
            },
        }
    }

    fn of_io(error: &io::Error, address: &Address) -> Self {
        if let Some(ended) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<SshEnded>())
        {
            return Self::Ssh {
                address: address.to_string(),
                command: ssh_command(address),
                reason: ended.0.clone(),
            };
        }
        if let Some(inner) = error.get_ref()
            && inner.is::<Endless>()
        {
            return Self::endless(address);
        }
        if let Some(inner) = error.get_ref()
            && inner.is::<tokio_rustls::rustls::Error>()
        {
            return Self::Tls {
                address: address.to_string(),
                reason: inner.to_string(),
            };
        }
        match (error.kind(), address) {
            (io::ErrorKind::PermissionDenied, Address::Unix(path)) => Self::Permission {
                path: path.clone(),
                group: group(path),
            },
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, _) => Self::NotRunning {
                address: address.to_string(),
                is_local: matches!(address, Address::Unix(_)),
            },
            _ => Self::Unreachable {
                address: address.to_string(),
                reason: error.to_string(),
            },
        }
    }
}

fn group(path: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(metadata.gid())
}

/// How docker's client is called by hand on the machine that an address names.
fn ssh_command(address: &Address) -> String {
    let Address::Ssh(SshTarget {
        user,
        host,
        port,
        socket,
    }) = address
    else {
        return format!("docker -H {address}");
    };
    let port = port.map_or_else(String::new, |port| format!("-p {port} "));
    let user = user
        .as_ref()
        .map_or_else(String::new, |user| format!("{user}@"));
    let socket = socket
        .as_ref()
        .map_or_else(String::new, |socket| format!(" -H unix://{socket}"));
    format!("ssh {port}{user}{host} docker{socket}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_by_hand_is_of_the_same_port_and_socket() {
        let target = |user: Option<&str>, port, socket: Option<&str>| {
            Address::Ssh(SshTarget {
                user: user.map(str::to_owned),
                host: "gpu-box".to_owned(),
                port,
                socket: socket.map(str::to_owned),
            })
        };
        for (address, command) in [
            (target(None, None, None), "ssh gpu-box docker"),
            (target(Some("me"), None, None), "ssh me@gpu-box docker"),
            (
                target(Some("me"), Some(2222), Some("/run/user/1000/docker.sock")),
                "ssh -p 2222 me@gpu-box docker -H unix:///run/user/1000/docker.sock",
            ),
        ] {
            assert_eq!(ssh_command(&address), command);
        }
    }
}
