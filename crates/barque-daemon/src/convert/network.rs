//! Networks.

use std::collections::BTreeMap;

use barque_api::ApiVersion;
use barque_api::network::{
    ConfigReference, EndpointResource, Ipam, IpamConfig, IpamStatus, Network, NetworkCreateRequest, NetworkStatus,
    SubnetStatus,
};
use barque_engine::container::view::EndpointView;
use barque_engine::network::types::{CreateNetwork, NetworkView, PoolWish};
use barque_model::{Error, Result};
use ipnet::IpNet;

use super::{address, shown};

/// # Errors
/// Malformed subnets and addresses.
pub(crate) fn create(wire: NetworkCreateRequest) -> Result<CreateNetwork> {
    if !matches!(wire.scope.as_str(), "" | "local") {
        return Err(Error::invalid(format!("invalid network scope: {:?}", wire.scope))
            .with_hint("there is no swarm mode: networks are local"));
    }
    let ipam = wire.ipam.unwrap_or_default();
    let pools = ipam.config.unwrap_or_default().iter().map(pool).collect::<Result<_>>()?;
    Ok(CreateNetwork {
        name: wire.name,
        driver: wire.driver,
        internal: wire.internal,
        attachable: wire.attachable,
        ingress: wire.ingress,
        config_only: wire.config_only,
        config_from: wire.config_from.map(|from| from.network).filter(|name| !name.is_empty()),
        enable_ipv4: wire.enable_ipv4,
        enable_ipv6: wire.enable_ipv6,
        pools,
        ipam_driver: ipam.driver,
        ipam_options: ipam.options.unwrap_or_default(),
        options: wire.options.unwrap_or_default(),
        labels: wire.labels.unwrap_or_default(),
    })
}

fn pool(wire: &IpamConfig) -> Result<PoolWish> {
    let subnet = |text: &str, what: &str| -> Result<Option<IpNet>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            Error::invalid(format!("invalid network config:\ninvalid {what} {text}: invalid CIDR block notation"))
        })
    };
    let mut auxiliary = BTreeMap::new();
    for (name, text) in wire.auxiliary_addresses.iter().flatten() {
        if let Some(address) = address(text, "auxiliary address")? {
            auxiliary.insert(name.clone(), address);
        }
    }
    Ok(PoolWish {
        subnet: subnet(&wire.subnet, "subnet")?,
        ip_range: subnet(&wire.ip_range, "ip-range")?,
        gateway: address(&wire.gateway, "gateway")?,
        auxiliary,
    })
}

/// A network; `inspected` shows its endpoints.
pub(crate) fn network(view: &NetworkView, inspected: bool, version: ApiVersion) -> Network {
    let name =
        |(id, name, endpoint): &(barque_model::Id, String, EndpointView)| (id.to_string(), resource(name, endpoint));
    Network {
        name: view.name.clone(),
        id: view.id.to_string(),
        created: view.created_at.to_string(),
        scope: "local".into(),
        driver: if view.driver == "none" { "null".into() } else { view.driver.clone() },
        enable_ipv4: version.at_least(48).then_some(view.enable_ipv4),
        enable_ipv6: view.enable_ipv6,
        ipam: Ipam {
            driver: "default".into(),
            // Networks of the user have an object, predefined ones null.
            options: Some(view.ipam_options.clone()).filter(|options| !view.predefined || !options.is_empty()),
            config: Some(view.pools.iter().map(config).collect()),
        },
        internal: view.internal,
        attachable: view.attachable,
        ingress: false,
        config_from: ConfigReference { network: view.config_from.clone().unwrap_or_default() },
        config_only: view.config_only,
        containers: match inspected {
            true => Some(view.containers.iter().map(name).collect()),
            // Lists had the key, always empty, until 1.51.
            false => version.before(52).then(BTreeMap::new),
        },
        options: Some(view.options.clone()),
        labels: Some(view.labels.clone()),
        status: (inspected && version.at_least(52)).then(|| status(view)),
    }
}

fn config(pool: &PoolWish) -> IpamConfig {
    IpamConfig {
        subnet: pool.subnet.map(|subnet| subnet.to_string()).unwrap_or_default(),
        ip_range: pool.ip_range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: shown(pool.gateway),
        auxiliary_addresses: Some(
            pool.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string())).collect(),
        ),
    }
}

fn resource(name: &str, endpoint: &EndpointView) -> EndpointResource {
    let with_prefix = |address: Option<std::net::IpAddr>, prefix: u8| {
        address.map(|address| format!("{address}/{prefix}")).unwrap_or_default()
    };
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac.clone(),
        ipv4_address: with_prefix(endpoint.ipv4, endpoint.prefix4),
        ipv6_address: with_prefix(endpoint.ipv6, endpoint.prefix6),
    }
}

/// How many addresses of each subnet are in use: endpoints, gateway, network and broadcast address.
fn status(view: &NetworkView) -> NetworkStatus {
    let mut subnets = BTreeMap::new();
    for pool in &view.pools {
        let Some(subnet) = pool.subnet else { continue };
        let inside = |endpoint: &EndpointView| {
            let addresses = [endpoint.ipv4, endpoint.ipv6];
            addresses.into_iter().flatten().filter(|address| subnet.contains(address)).count() as u64
        };
        let endpoints: u64 = view.containers.iter().map(|(_, _, endpoint)| inside(endpoint)).sum();
        let fixed = if subnet.addr().is_ipv4() { 2 } else { 1 };
        let used = endpoints + fixed + u64::from(pool.gateway.is_some()) + pool.auxiliary.len() as u64;
        let range = pool.ip_range.unwrap_or(subnet);
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
        let total = 1u64.checked_shl(host_bits).unwrap_or(u64::MAX);
        let available = total.saturating_sub(used);
        subnets.insert(subnet.to_string(), SubnetStatus { ips_in_use: used, dynamic_ips_available: available });
    }
    NetworkStatus { ipam: IpamStatus { subnets: Some(subnets) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools() {
        let json = r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1",
            "AuxiliaryAddresses":{"a":"10.0.0.2"}}]},"EnableIPv6":true}"#;
        let request = create(barque_api::json::from_str(json).unwrap()).unwrap();
        assert_eq!(request.pools[0].subnet.unwrap().to_string(), "10.0.0.0/24");
        assert_eq!((request.pools[0].auxiliary.len(), request.enable_ipv6), (1, Some(true)));
        for bad in [
            r#"{"IPAM":{"Config":[{"Subnet":"10.0.0.0"}]}}"#,
            r#"{"IPAM":{"Config":[{"Gateway":"x"}]}}"#,
            r#"{"Scope":"swarm"}"#,
        ] {
            assert!(create(barque_api::json::from_str(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
