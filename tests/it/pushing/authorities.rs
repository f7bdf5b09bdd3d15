//! Registries with the certificates of a company's own authority.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use super::Pusher;
use crate::support::certificates::make_certificates;
use crate::support::image::docker;
use crate::support::registry::Registry;
use crate::support::{Bench, is_root};

/// The folder in which the engine is told of a registry's authority; it goes with its value.
struct Told(PathBuf);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// This machine's address on the engine's own network: the engine trusts whatever is at 127.0.0.0/8.
pub(super) fn address_on_the_bridge() -> Ipv4Addr {
    // An engine that has made the bridge just now doesn't say the gateway.
    let format = "{{(index .IPAM.Config 0).Subnet}}";
    let subnet = docker(&["network", "inspect", "bridge", "--format", format]);
    let (network, _) = subnet.split_once('/').unwrap();
    let container = Ipv4Addr::from_bits(network.parse::<Ipv4Addr>().unwrap().to_bits() + 2);
    // Nothing is sent: the address is what the system would send from.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((container, 9)).unwrap();
    match socket.local_addr().unwrap().ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is no address of the bridge"),
    }
}

#[test]
fn a_registry_is_trusted_by_the_authority_that_the_engine_knows() {
    if !is_root("a_registry_is_trusted_by_the_authority_that_the_engine_knows") {
        return;
    }
    let host = address_on_the_bridge();
    let certificates = Bench::new();
    make_certificates(&certificates, "right", &host.to_string());
    let folder = certificates.path().join("right");
    let registry = Registry::with_certificate(host, &folder);
    let pusher = Pusher::new(registry.address());
    pusher.build("1.0.0");

    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let place = format!("/etc/docker/certs.d/{}", registry.address());
    let help = format!("`{place}/ca.crt`");
    assert!(ended.stderr.contains("x509: "), "{}", ended.stderr);
    assert!(ended.stderr.contains(&help), "{}", ended.stderr);
    assert!(registry.tags(pusher.image.as_str()).is_empty());

    let told = Told(PathBuf::from(place));
    fs::create_dir_all(&told.0).unwrap();
    make_certificates(&certificates, "other", &host.to_string());
    for (from, to) in [
        ("other/ca.pem", "another.crt"),
        ("right/ca.pem", "ca.crt"),
        ("right/cert.pem", "client.cert"),
        ("right/key.pem", "client.key"),
    ] {
        fs::copy(certificates.path().join(from), told.0.join(to)).unwrap();
    }
    let ended = pusher.push("1.0.0", &["-vv"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(registry.tags(pusher.image.as_str()), ["1.0.0"]);
    // It was asked directly, too.
    assert!(!ended.stderr.contains("is not asked"), "{}", ended.stderr);
    let again = pusher.push("1.0.0", &[]);
    assert!(again.stdout.contains(" was there\n"), "{again:?}");
}
