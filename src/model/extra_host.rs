//! Lines for a container's /etc/hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// What docker's `--add-host` takes: `NAME:ADDRESS` or `NAME=ADDRESS`, the address in brackets or not
/// (docker/cli, `ValidateExtraHost`). It is written as engines take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost(String);

/// The address of the engine's machine, whatever it is.
const GATEWAY: &str = "host-gateway";

impl FromStr for ExtraHost {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        if let Some((name, address)) = parts
            && !name.is_empty()
            && !name.contains(':')
        {
            let bare = address.strip_prefix('[');
            let bare = bare.and_then(|bare| bare.strip_suffix(']'));
            let address = bare.unwrap_or(address).trim();
            if address == GATEWAY || address.parse::<IpAddr>().is_ok() {
                return Ok(Self(format!("{name}:{address}")));
            }
        }
        Err(ValueError::new("this is not a name and an address")
            .help("write `NAME:10.0.0.1`, `NAME=::1`, or `NAME:host-gateway`"))
    }
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for ExtraHost {
    const NAME: &'static str = "ExtraHost";
    const EXPECTED: &'static str = "a host such as `db:10.0.0.1`";
    const PATTERN: &'static str = "^[^:=]+[:=].+$";
    const EXAMPLES: &'static [&'static str] = &["db:10.0.0.1", "host.internal:host-gateway"];
}

#[cfg(test)]
mod tests {
    use super::ExtraHost;

    /// The rows of docker/cli's `TestValidateExtraHosts` and `TestValidateIPAddress`.
    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        let same = |text| (text, Some(text));
        for (text, expected) in [
            same("myhost:192.168.0.1"),
            ("myhost=192.168.0.1", Some("myhost:192.168.0.1")),
            ("myhost=[192.168.0.1]", Some("myhost:192.168.0.1")),
            same("host.and.domain.invalid:10.0.2.1"),
            same("anipv6host:2003:ab34:e::1"),
            (
                "anipv6host:[2003:ab34:e::1]",
                Some("anipv6host:2003:ab34:e::1"),
            ),
            (
                "anipv6host=[2003:ab34:e::1]",
                Some("anipv6host:2003:ab34:e::1"),
            ),
            same("ipv6local:::1"),
            ("ipv6local=::1", Some("ipv6local:::1")),
            ("ipv6local=[::1]", Some("ipv6local:::1")),
            same("ipv6local:0:0:0:0:0:0:0:1"),
            (
                "ipv6local=0:0:0:0:0:0:0:1",
                Some("ipv6local:0:0:0:0:0:0:0:1"),
            ),
            (
                "ipv6local=[0:0:0:0:0:0:0:1]",
                Some("ipv6local:0:0:0:0:0:0:0:1"),
            ),
            same("host.docker.internal:host-gateway"),
            (
                "host.docker.internal=host-gateway",
                Some("host.docker.internal:host-gateway"),
            ),
            ("myhost:192.notanipaddress.1", None),
            ("myhost=192.notanipaddress.1", None),
            ("thathost-nosemicolon10.0.0.1", None),
            ("anipv6host:::::1", None),
            ("ipv6local:::0::", None),
            ("ipv6addr=[::1", None),
            ("ipv6addr=::1]", None),
            ("myhost.invalid:", None),
            ("myhost.invalid=", None),
            (":=::1", None),
            ("", None),
            ("a: 127.0.0.1 ", Some("a:127.0.0.1")),
            same("a:2001:db8::68"),
            same("a:2001:DB8::68"),
            ("a:127", None),
            ("a:random invalid string", None),
            ("a=[[::1]]", None),
        ] {
            let host = text.parse::<ExtraHost>().map(|host| host.to_string());
            assert_eq!(host.as_deref().ok(), expected, "{text:?}");
        }
    }
}
