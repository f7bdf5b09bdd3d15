//! Networks of a container.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Scalar, ValueError, csv};

/// What docker's `--network` takes: a network, or `name=NETWORK[,alias=NAME][,ip=ADDRESS]…` (docker/cli,
/// `opts/network.go`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkAttachment {
    /// `bridge`, `none`, `host`, `container:…`, or the name of one that exists.
    pub name: String,
    /// Further names of the container in it.
    pub aliases: Vec<String>,
    /// Its IPv4 address in it.
    pub ip: Option<IpAddr>,
    /// Its IPv6 address in it.
    pub ip6: Option<IpAddr>,
    /// Its link-local addresses in it.
    pub link_local: Vec<IpAddr>,
    /// Options of the network's driver.
    pub driver_options: BTreeMap<String, String>,
}

impl NetworkAttachment {
    /// A network without further wishes.
    #[must_use]
    pub fn of(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Whether nothing but the network is said.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::of(self.name.as_str())
    }

    /// Whether it is one that somebody made, and not a way to do with or without a network.
    #[must_use]
    pub fn is_users(&self) -> bool {
        !matches!(self.name.as_str(), "default" | "bridge" | "host" | "none")
            && !self.name.starts_with(CONTAINER)
    }
}

/// What the network of another container begins with.
const CONTAINER: &str = "container:";

/// What can't be: a network that is attached twice, or one beside `host` (docker/cli, `parseNetworkOpts`).
///
/// # Errors
///
/// They don't go together.
pub fn check_networks(networks: &[NetworkAttachment]) -> Result<(), ValueError> {
    for (at, network) in networks.iter().enumerate() {
        let name = &network.name;
        if networks[..at].iter().any(|earlier| earlier.name == *name) {
            return Err(
                ValueError::new(format!("the network `{name}` is given twice"))
                    .help("leave one of them out"),
            );
        }
        if networks.len() > 1 && !network.is_users() {
            return Err(ValueError::new(format!(
                "`{name}` can't be combined with another network"
            ))
            .help("give it alone, or only networks that `docker network create` made"));
        }
        if !network.is_users() && !network.is_plain() {
            return Err(ValueError::new(format!(
                "names and addresses are for networks that somebody made, and `{name}` is none"
            ))
            .help(format!("write `--network {name}`")));
        }
    }
    Ok(())
}

impl FromStr for NetworkAttachment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let network = if text.contains('=') {
            long(text)?
        } else {
            Self::of(text)
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let word = network.name.strip_prefix(CONTAINER);
        let word = word.unwrap_or(&network.name);
        if word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(is_word) {
            return Ok(network);
        }
        Err(ValueError::new("this is not the name of a network").help(
            "write `bridge`, `none`, `host`, `container:NAME`, or a name that `docker network ls` shows",
        ))
    }
}

fn long(text: &str) -> Result<NetworkAttachment, ValueError> {
    let mut network = NetworkAttachment::default();
    for field in csv::fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(ValueError::new(format!("the field `{field}` has no value"))
                .help("write `name=NETWORK,alias=NAME`"));
        };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut network.name),
            "alias" => network.aliases.push(value.to_owned()),
            "ip" => network.ip = Some(address(value, IpAddr::is_ipv4)?),
            "ip6" => network.ip6 = Some(address(value, IpAddr::is_ipv6)?),
            "link-local-ip" => network.link_local.push(address(value, |_| true)?),
            "driver-opt" => {
                let option = value.split_once('=').filter(|(name, _)| !name.is_empty());
                let (name, value) = option.ok_or_else(|| {
                    ValueError::new("an option of a driver has a name and a value")
                        .help("write `driver-opt=NAME=VALUE`")
                })?;
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                network.driver_options.insert(name, value);
            }
            key => {
                return Err(
                    ValueError::new(format!("jobctl can't pass `{key}` on to the engine")).help(
                        "it takes `name`, `alias`, `ip`, `ip6`, `link-local-ip` and `driver-opt`",
                    ),
                );
            }
        }
    }
    if network.name.is_empty() {
        return Err(ValueError::new("the network's name is missing").help("add `name=NETWORK`"));
    }
    Ok(network)
}

fn address(text: &str, is_kind: impl Fn(&IpAddr) -> bool) -> Result<IpAddr, ValueError> {
    let address = text.parse().ok().filter(is_kind);
    address.ok_or_else(|| {
        ValueError::new(format!("`{text}` is not such an address"))
            .help("write `ip=172.20.0.10` or `ip6=2001:db8::10`")
    })
}

impl fmt::Display for NetworkAttachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() {
            return f.write_str(&self.name);
        }
        let mut fields = vec![format!("name={}", self.name)];
        fields.extend(self.aliases.iter().map(|alias| format!("alias={alias}")));
        fields.extend(self.ip.map(|ip| format!("ip={ip}")));
        fields.extend(self.ip6.map(|ip| format!("ip6={ip}")));
        fields.extend(
            self.link_local
                .iter()
                .map(|ip| format!("link-local-ip={ip}")),
        );
        let options = self.driver_options.iter();
        fields.extend(options.map(|(name, value)| format!("driver-opt={name}={value}")));
        f.write_str(&csv::record(fields))
    }
}

impl Scalar for NetworkAttachment {
    const NAME: &'static str = "NetworkAttachment";
    const EXPECTED: &'static str = "a network such as `bridge` or `name=backend,alias=db`";
    const PATTERN: &'static str = "^[A-Za-z0-9].*$";
    const EXAMPLES: &'static [&'static str] = &["bridge", "none", "name=backend,alias=db"];
}

#[cfg(test)]
mod tests {
    use super::{NetworkAttachment, check_networks};

    /// The rows of docker/cli's `TestNetworkOpt…`; what is refused of them is in docs/reference.
    #[test]
    fn networks_are_read_as_docker_reads_them() {
        let same = |text| (text, Some(text));
        for (text, expected) in [
            same("docknet1"),
            same("name=docknet1,alias=web,driver-opt=field1=value1"),
            same(
                "name=docknet1,alias=web1,alias=web2,driver-opt=field1=value1,\
                 driver-opt=field2=value2",
            ),
            same("name=docknet1,ip=172.20.88.22,ip6=2001:db8::8822"),
            ("name=docknet1", Some("docknet1")),
            same("name=docknet1,link-local-ip=169.254.169.254,link-local-ip=169.254.10.10"),
            // docker writes it in small letters.
            same(
                "name=docknet1,\"driver-opt=com.docker.network.endpoint.sysctls=\
                 net.ipv6.conf.IFNAME.accept_ra=2,net.ipv6.conf.IFNAME.forwarding=1\"",
            ),
            (
                "NAME=docknet1, alias = web ",
                Some("name=docknet1,alias=web"),
            ),
            ("container:other", Some("container:other")),
            // docker passes these two on.
            ("name=docknet1,mac-address=52:0f:f3:dc:50:10", None),
            ("name=docknet1,gw-priority=10", None),
            ("invalidField=docknet1", None),
            ("network=docknet1,invalid=web", None),
            ("driver-opt=field1=value1,driver-opt=field2=value2", None),
            ("gw-priority=invalid-integer", None),
            ("name=docknet1,ip=2001:db8::8822", None),
            ("name=docknet1,driver-opt=field1", None),
            ("name=docknet1,web", None),
            ("name=", None),
            ("", None),
            ("a b", None),
        ] {
            let network = text.parse::<NetworkAttachment>();
            let shown = network.as_ref().map(ToString::to_string);
            assert_eq!(shown.as_deref().ok(), expected, "{text:?}");
            if let Ok(network) = network {
                assert_eq!(network.to_string().parse(), Ok(network), "{text:?}");
            }
        }
    }

    /// docker/cli's `TestParseNetworkConfig`, as far as there is a flag for it.
    #[test]
    fn networks_go_together_as_docker_has_it() {
        for (given, is_taken) in [
            (&["net1"][..], true),
            (&["name=net1"], true),
            (&["net1", "name=net2"], true),
            (
                &[
                    "name=net1,driver-opt=field1=value1",
                    "net2",
                    "name=net3,alias=web3",
                ],
                true,
            ),
            (&["duplicate", "name=duplicate"], false),
            (&["name=host", "net1"], false),
            (&["net1", "bridge"], false),
            (&["none", "host"], false),
            (&["name=bridge,alias=web"], false),
            (&["host"], true),
            (&["container:other"], true),
            (&["container:other", "net1"], false),
            (&[], true),
        ] {
            let networks: Vec<_> = given.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(check_networks(&networks).is_ok(), is_taken, "{given:?}");
        }
    }
}
