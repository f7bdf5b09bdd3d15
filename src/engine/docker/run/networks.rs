//! Networks of a container as the engine's API has them.

use std::collections::HashMap;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkingConfig,
};

use super::super::client::DockerEngine;
use crate::engine::run::RunError;
use crate::model::NetworkAttachment;

/// How the first network is attached when the container is made; nothing if only its name is said, which the
/// engine's `NetworkMode` has.
pub(super) fn first(networks: &[NetworkAttachment]) -> Option<NetworkingConfig> {
    let network = networks.first().filter(|network| !network.is_plain())?;
    Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([(network.name.clone(), endpoint(network))])),
    })
}

fn endpoint(network: &NetworkAttachment) -> EndpointSettings {
    let texts = |addresses: &[std::net::IpAddr]| {
        let texts = addresses.iter().map(ToString::to_string);
        Some(texts.collect::<Vec<_>>()).filter(|texts| !texts.is_empty())
    };
    let addresses = EndpointIpamConfig {
        ipv4_address: network.ip.map(|ip| ip.to_string()),
        ipv6_address: network.ip6.map(|ip| ip.to_string()),
        link_local_ips: texts(&network.link_local),
    };
    let options: HashMap<_, _> = network.driver_options.clone().into_iter().collect();
    EndpointSettings {
        ipam_config: (addresses != EndpointIpamConfig::default()).then_some(addresses),
        aliases: Some(network.aliases.clone()).filter(|aliases| !aliases.is_empty()),
        driver_opts: Some(options).filter(|options| !options.is_empty()),
        ..EndpointSettings::default()
    }
}

impl DockerEngine {
    /// Attaches a container that did not start to the networks behind the first: engines before 25.0 take only
    /// one when they make it.
    pub(super) async fn attach_networks(
        &self,
        container: &str,
        networks: &[NetworkAttachment],
    ) -> Result<(), RunError> {
        for network in networks.iter().skip(1) {
            let request = NetworkConnectRequest {
                container: container.to_owned(),
                endpoint_config: Some(endpoint(network)),
            };
            self.call(self.docker.connect_network(&network.name, request))
                .await?;
        }
        Ok(())
    }
}
