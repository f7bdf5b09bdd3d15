//! Published ports as the engine's API has them.

use std::collections::HashMap;

use bollard::models::{PortBinding, PortMap};

use crate::model::Port;

/// The ports of the container, and what each is bound to (docker/go-connections,
/// `ParsePortSpec`): ranges of one length go pairwise; one port with a range of the machine's takes
/// a free one of them.
pub(super) fn ports(ports: &[Port]) -> (Vec<String>, PortMap) {
    let mut bindings: PortMap = HashMap::new();
    let mut exposed = Vec::new();
    for port in ports {
        let is_single = port.container().start() == port.container().end();
        for (at, container) in port.container().clone().enumerate() {
            let host = port.host().map(|host| {
                if is_single && host.start() != host.end() {
                    format!("{}-{}", host.start(), host.end())
                } else {
                    (usize::from(*host.start()) + at).to_string()
                }
            });
            let name = format!("{container}/{}", port.protocol().name());
            if !exposed.contains(&name) {
                exposed.push(name.clone());
            }
            let binding = PortBinding {
                host_ip: port.ip().map(|ip| ip.to_string()),
                host_port: Some(host.unwrap_or_default()),
            };
            bindings
                .entry(name)
                .or_default()
                .get_or_insert_default()
                .push(binding);
        }
    }
    (exposed, bindings)
}
