//! What a registry, or a server of tokens, is trusted with.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::http::split;

/// Where docker's engine has the authorities of registries.
pub const AUTHORITIES: &str = "/etc/docker/certs.d";

/// What is to be known of a host before it is asked.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Whether it may be without TLS, or with a certificate of anybody's.
    pub is_insecure: bool,
    /// Files of authorities that its certificate may come from, besides the system's.
    pub authorities: Vec<PathBuf>,
    /// The certificate that it wants to see, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What an engine trusts registries with.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    /// Those that it names as insecure, by host or by network.
    pub insecure: Vec<String>,
    /// The directory with a directory for each registry, such as `/etc/docker/certs.d`: with authorities
    /// (`*.crt`), and a certificate to be shown (`*.cert`, with `*.key`).
    pub directory: PathBuf,
}

impl Trusted {
    /// What docker's engine on this machine trusts registries with, given those that it names as insecure.
    #[must_use]
    pub fn of_engine(insecure: Vec<String>) -> Self {
        Self {
            insecure,
            directory: AUTHORITIES.into(),
        }
    }

    /// What a host, with its port if it is not the usual one, is trusted with.
    #[must_use]
    pub fn of(&self, domain: &str) -> Trust {
        // A name comes from another server as well: it must not lead elsewhere.
        let is_name = !domain.is_empty() && !domain.starts_with('.') && !domain.contains('/');
        let directory = is_name.then(|| self.directory.join(domain));
        let entries = directory.and_then(|directory| std::fs::read_dir(directory).ok());
        let mut files: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        let ends = |path: &&PathBuf, wanted| path.extension().is_some_and(|end| end == wanted);
        let authorities = files.iter().filter(|path| ends(path, "crt"));
        let certificate = files.iter().find(|path| ends(path, "cert"));
        let key = certificate.map(|path| path.with_extension("key"));
        Trust {
            is_insecure: self.insecure.iter().any(|entry| is_meant(entry, domain)),
            authorities: authorities.cloned().collect(),
            identity: certificate.cloned().zip(key),
        }
    }
}

/// Whether an entry of an engine's list, a host or a network, means a registry.
fn is_meant(entry: &str, domain: &str) -> bool {
    let (host, _) = split(domain);
    let Some((network, bits)) = entry.split_once('/') else {
        return entry == domain;
    };
    let address = match host.as_str() {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    let (Some(address), Ok(network), Ok(bits)) = (address, network.parse(), bits.parse::<u32>())
    else {
        return false;
    };
    // The first bits of both, as far as the network goes.
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = u32::from(address) ^ u32::from(network);
            differing.leading_zeros() >= bits
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = u128::from(address) ^ u128::from(network);
            differing.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_list_of_insecure_registries_has_hosts_and_networks() {
        for (entry, domain, expected) in [
            ("127.0.0.0/8", "127.0.0.1:5000", true),
            ("127.0.0.0/8", "localhost:5000", true),
            ("127.0.0.0/8", "128.0.0.1:5000", false),
            ("::1/128", "[::1]:5000", true),
            ("10.0.0.0/8", "registry.example:5000", false),
            ("registry.example:5000", "registry.example:5000", true),
            ("registry.example:5000", "registry.example", false),
            ("0.0.0.0/0", "8.8.8.8", true),
        ] {
            assert_eq!(is_meant(entry, domain), expected, "{entry} {domain}");
        }
    }

    #[test]
    fn a_host_is_trusted_with_what_is_its_own() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.example:5000", "b.example"] {
            let own = directory.path().join(name);
            std::fs::create_dir(&own).unwrap();
            for file in ["ca.crt", "client.cert", "client.key"] {
                std::fs::write(own.join(file), "").unwrap();
            }
        }
        std::fs::write(directory.path().join("client.cert"), "").unwrap();
        let trusted = Trusted {
            insecure: vec!["a.example:5000".to_owned()],
            directory: directory.path().to_owned(),
        };
        for (domain, expected) in [
            ("a.example:5000", (true, true)),
            ("b.example", (false, true)),
            ("a.example", (false, false)),
            ("a.example:5001", (false, false)),
            (".", (false, false)),
            ("", (false, false)),
        ] {
            let trust = trusted.of(domain);
            let found = (trust.is_insecure, trust.identity.is_some());
            assert_eq!(found, expected, "{domain}");
            assert_eq!(trust.authorities.len(), usize::from(expected.1), "{domain}");
        }
    }
}
