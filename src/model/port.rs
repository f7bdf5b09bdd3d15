//! Published ports.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// What docker's `--publish` takes: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`; both may be ranges.
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

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (rest, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some((rest, "sctp")) => (rest, Protocol::Sctp),
            Some((_, other)) => {
                return Err(
                    ValueError::new(format!("`{other}` is not a port's protocol"))
                        .help("write `tcp`, `udp` or `sctp`, or leave it out"),
                );
            }
        };
        let (rest, container) = match rest.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), container),
            None => (None, rest),
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

/// The address and ports of this machine: `127.0.0.1:8000`, `8000`, `[::1]:`, or nothing.
fn host_side(text: &str) -> Result<(Option<IpAddr>, Option<RangeInclusive<u16>>), ValueError> {
    let (ip, ports) = match text.rsplit_once(':') {
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
    let parsed = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    };
    parsed.ok_or_else(|| {
        ValueError::new(format!("`{text}` is not an address of this machine"))
            .help("write `127.0.0.1`, `0.0.0.0`, or `[::1]`")
    })
}

fn range(text: &str) -> Result<RangeInclusive<u16>, ValueError> {
    let port = |text: &str| {
        text.parse::<u16>().map_err(|_| {
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
    const PATTERN: &'static str = r"^(((\d{1,3}\.){3}\d{1,3}|\[[0-9a-fA-F:.]+\]):)?([0-9]*(-[0-9]+)?:)?[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$";
    const EXAMPLES: &'static [&'static str] = &["127.0.0.1:8000:8000", "8000:8000", "8000"];
    const ACCEPTS_NUMBERS: bool = true;
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        for text in [
            "80",
            "8000:80",
            "127.0.0.1:8000:80",
            "127.0.0.1::80",
            "[::1]:8000:80",
            "[2001:4860::8888]::80",
            "8000-8002:80-82",
            "8000-8010:80",
            "0.0.0.0:8000:80/udp",
            "80/sctp",
        ] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("80/tcp".parse::<Port>().unwrap().to_string(), "80");
    }

    #[test]
    fn what_is_no_port_is_refused_with_the_fix() {
        for (text, help) in [
            ("", "a port is a number up to 65535"),
            ("http", "a port is a number up to 65535"),
            ("80000:8000", "a port is a number up to 65535"),
            ("8000:", "a port is a number up to 65535"),
            ("127.0.0.1:80", "write `127.0.0.1:8000:8000`"),
            (
                "localhost:8000:80",
                "write `127.0.0.1`, `0.0.0.0`, or `[::1]`",
            ),
            ("::1:8000:80", "write `127.0.0.1`, `0.0.0.0`, or `[::1]`"),
            ("9-8:80", "write `8-9`"),
            (
                "8000-8003:80-81",
                "give both the same length: `8000-8003:9000-9003`",
            ),
            ("80/icmp", "write `tcp`, `udp` or `sctp`, or leave it out"),
        ] {
            let error = text.parse::<Port>().expect_err(text);
            assert_eq!(error.help.as_deref(), Some(help), "{text}");
        }
    }

    #[test]
    fn ports_conflict_on_the_same_address() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        for (one, other, expected) in [
            ("8000:80", "8000:81", true),
            ("8000:80", "127.0.0.1:8000:81", true),
            ("127.0.0.1:8000:80", "127.0.0.2:8000:81", false),
            ("8000:80", "8000:81/udp", false),
            ("8000-8002:80-82", "8002:83", true),
            ("8000-8010:80", "8000-8010:81", false),
            ("80", "80", false),
        ] {
            assert_eq!(
                port(one).conflicts_with(&port(other)),
                expected,
                "{one} {other}"
            );
        }
    }
}
