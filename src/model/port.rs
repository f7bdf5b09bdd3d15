//! Published ports.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// What docker's `--publish` takes: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, where both may be ranges, or
/// `published=HOST,target=CONTAINER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    ip: Option<IpAddr>,
    host: Option<RangeInclusive<u16>>,
    container: RangeInclusive<u16>,
    protocol: Protocol,
}

/// A port's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As docker writes it: `tcp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Port {
    /// The address of this machine it is published on; all of them if none is given.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The ports of this machine; the engine picks them if none are given.
    #[must_use]
    pub fn host(&self) -> Option<&RangeInclusive<u16>> {
        self.host.as_ref()
    }

    /// The ports of the container.
    #[must_use]
    pub fn container(&self) -> &RangeInclusive<u16> {
        &self.container
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether both would take the same port of this machine for sure.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let is_any = |port: &Self| port.ip.is_none_or(|ip| ip.is_unspecified());
        let same_address = is_any(self) || is_any(other) || self.ip == other.ip;
        // A range on this machine for one port of the container means: any free one of these.
        let fixed = |port: &Self| {
            port.host
                .clone()
                .filter(|host| width(host) == width(&port.container))
        };
        let (Some(ours), Some(theirs)) = (fixed(self), fixed(other)) else {
            return false;
        };
        let overlap = ours.start() <= theirs.end() && theirs.start() <= ours.end();
        same_address && overlap && self.protocol == other.protocol
    }
}

fn width(range: &RangeInclusive<u16>) -> u16 {
    range.end() - range.start()
}

impl FromStr for Port {
    type Err = ValueError;

    /// Both of docker's forms: `[[IP:]HOST:]CONTAINER[/PROTOCOL]` (docker/go-connections, `ParsePortSpec`) and
    /// `target=CONTAINER[,published=HOST][,protocol=PROTOCOL]` (docker/cli, `convertToStandardNotation`).
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.contains('=') {
            return long(text)?.parse();
        }
        let (rest, container) = match text.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), container),
            None => (None, text),
        };
        let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => {
                return Err(
                    ValueError::new(format!("`{protocol}` is not a port's protocol"))
                        .help("write `tcp`, `udp` or `sctp`, or leave it out"),
                );
            }
        };
        let container = range(container)?;
        let (ip, host) = host_side(rest.unwrap_or_default())?;
        if let Some(host) = &host
            && width(host) != width(&container)
            && width(&container) != 0
        {
            return Err(
                ValueError::new("the ranges of ports have different lengths")
                    .help("give both the same length: `8000-8003:9000-9003`"),
            );
        }
        Ok(Self {
            ip,
            host,
            container,
            protocol,
        })
    }
}

/// The short form of a long one. `mode` is for services of a swarm; docker ignores it for containers.
fn long(text: &str) -> Result<String, ValueError> {
    let example = "write `published=8000,target=80`, or `8000:80`";
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host" | "ingress")) => {}
            Some((key, _)) => {
                return Err(ValueError::new(format!(
                    "`{key}` is not a field of a port that jobctl knows"
                ))
                .help(
                    "the fields are `target`, `published`, `protocol`; an address goes in front: \
                       `127.0.0.1:8000:80`",
                ));
            }
            None => {
                return Err(
                    ValueError::new(format!("the field `{field}` has no `=`")).help(example)
                );
            }
        }
    }
    if target.is_empty() {
        return Err(ValueError::new("the port of the container is missing").help(example));
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// The address and ports of this machine: `127.0.0.1:8000`, `8000`, `[::1]:`, or nothing.
fn host_side(text: &str) -> Result<(Option<IpAddr>, Option<RangeInclusive<u16>>), ValueError> {
    let (ip, ports) = match text.rsplit_once(':') {
        Some(("", ports)) => (None, ports),
        Some((ip, ports)) => (Some(address(ip)?), ports),
        None if address(text).is_ok() => {
            return Err(
                ValueError::new("an address needs a port of this machine behind it")
                    .help(format!("write `{text}:8000:8000`")),
            );
        }
        None => (None, text),
    };
    let ports = if ports.is_empty() {
        None
    } else {
        Some(range(ports)?)
    };
    Ok((ip, ports))
}

fn address(text: &str) -> Result<IpAddr, ValueError> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().map_err(|_| {
        ValueError::new(format!("`{text}` is not an address of this machine"))
            .help("write `127.0.0.1`, `0.0.0.0`, or `[::1]`")
    })
}

fn range(text: &str) -> Result<RangeInclusive<u16>, ValueError> {
    let port = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u16>().ok().filter(|_| is_number);
        number.ok_or_else(|| {
            ValueError::new(format!("`{text}` is not a port"))
                .help("a port is a number up to 65535")
        })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(ValueError::new("the range of ports ends before it begins")
            .help(format!("write `{last}-{first}`")));
    }
    Ok(first..=last)
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |range: &RangeInclusive<u16>| match width(range) {
            0 => range.start().to_string(),
            _ => format!("{}-{}", range.start(), range.end()),
        };
        match self.ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        match &self.host {
            Some(host) => write!(f, "{}:", range(host))?,
            None if self.ip.is_some() => f.write_str(":")?,
            None => {}
        }
        f.write_str(&range(&self.container))?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            other => write!(f, "/{}", other.name()),
        }
    }
}

impl Scalar for Port {
    const NAME: &'static str = "Port";
    const EXPECTED: &'static str = "a port such as `127.0.0.1:8000:8000`";
    const PATTERN: &'static str = r"^(((\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:.]*):)?([0-9]+(-[0-9]+)?)?:)?[0-9]+(-[0-9]+)?(/([a-zA-Z]*))?$|^[a-z]+=[^,]*(,[a-z]+=[^,]*)*$";
    const EXAMPLES: &'static [&'static str] = &["127.0.0.1:8000:8000", "8000:8000", "8000"];
    const ACCEPTS_NUMBERS: bool = true;
}

#[cfg(test)]
mod tests;
