//! Networks as compose writes them.

use serde_json::{Map, Value, json};

use super::values::{plain, texts};
use crate::model::NetworkAttachment;

/// One network by its name, or several, and those with names or addresses, which exist already: the key of a
/// service and its value.
pub(super) fn attached(
    networks: &[NetworkAttachment],
    declared: &mut Map<String, Value>,
) -> (&'static str, Value) {
    let key = "network_mode";
    match networks {
        [] => return (key, Value::Null),
        [network] if network.is_plain() => return (key, json!(network.name)),
        _ => {}
    }
    let mut of_service = Map::new();
    for network in networks {
        let mut fields = Map::new();
        let lists = [
            ("aliases", json!(network.aliases)),
            ("link_local_ips", json!(texts(&network.link_local))),
            ("driver_opts", json!(network.driver_options)),
        ];
        for (key, list) in lists {
            if list != json!([]) && list != json!({}) {
                fields.insert(key.to_owned(), list);
            }
        }
        for (key, ip) in [("ipv4_address", network.ip), ("ipv6_address", network.ip6)] {
            fields.extend(ip.map(|ip| (key.to_owned(), json!(ip.to_string()))));
        }
        let name = plain(&network.name);
        of_service.insert(name.clone(), Value::Object(fields));
        declared.insert(name, json!({ "external": true }));
    }
    ("networks", Value::Object(of_service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_as_compose_has_them() {
        for (given, key, value, declared) in [
            (&[][..], "network_mode", json!(null), json!({})),
            (&["host"], "network_mode", json!("host"), json!({})),
            (
                &["a", "name=b,alias=web,ip=10.0.0.2"],
                "networks",
                json!({ "a": {}, "b": { "aliases": ["web"], "ipv4_address": "10.0.0.2" } }),
                json!({ "a": { "external": true }, "b": { "external": true } }),
            ),
        ] {
            let networks: Vec<_> = given.iter().map(|text| text.parse().unwrap()).collect();
            let mut found = Map::new();
            assert_eq!(attached(&networks, &mut found), (key, value), "{given:?}");
            assert_eq!(Value::Object(found), declared, "{given:?}");
        }
    }
}
