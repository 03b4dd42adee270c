//! Ports, networks and links of a container request.

use std::collections::BTreeMap;

use barque_api::container::{PortBinding, PortMap};
use barque_api::json::Set;
use barque_api::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use barque_model::Error;

use super::body::{Making, shared};
use crate::file::model::{ServiceNetwork, ServiceSpec};

/// Ports that are exposed and ports that are published.
pub(super) fn ports(spec: &ServiceSpec) -> Result<(Set, PortMap), Error> {
    let mut exposed = Set::default();
    let mut bindings = PortMap::new();
    for port in &spec.ports {
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        let key = format!("{}/{protocol}", port.target);
        exposed.insert(key.clone(), Default::default());
        let binding = PortBinding { host_ip: port.host_ip.clone(), host_port: port.published.clone() };
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    for text in &spec.expose {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Err(Error::invalid(format!("invalid expose: {text:?}"))
                .with_hint("write PORT, FIRST-LAST or PORT/PROTOCOL"));
        };
        for port in first..=last {
            exposed.insert(format!("{port}/{protocol}"), Default::default());
        }
    }
    Ok((exposed, bindings))
}

/// What the request says about networks.
pub(super) struct Networking {
    pub(super) mode: String,
    pub(super) config: Option<NetworkingConfig>,
    pub(super) links: Vec<String>,
    pub(super) later: Vec<(String, EndpointSettings)>,
}

/// Keys of a service's networks, those of higher priority first.
fn by_priority(spec: &ServiceSpec) -> Vec<&String> {
    let mut keys: Vec<(&String, i64)> =
        spec.networks.iter().map(|(key, n)| (key, n.as_ref().map_or(0, |n| n.priority))).collect();
    keys.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    keys.into_iter().map(|(key, _)| key).collect()
}

pub(super) fn networking(making: &Making<'_>) -> Result<Networking, Error> {
    let spec = &making.service.spec;
    let links = links(making)?;
    if !spec.network_mode.is_empty() {
        let mode = shared(&spec.network_mode, making);
        return Ok(Networking { mode, config: None, links, later: Vec::new() });
    }
    let keys = by_priority(spec);
    let Some((first, rest)) = keys.split_first() else {
        return Ok(Networking { mode: "none".to_owned(), config: None, links, later: Vec::new() });
    };
    let name = |key: &String| making.project.networks.get(key).map(|n| n.spec.name.clone()).unwrap_or_default();
    let mut main = endpoint(making, first, &links);
    if main.mac_address.is_empty() && making.api.at_least(44) {
        main.mac_address.clone_from(&spec.mac_address);
    }
    let mut endpoints = BTreeMap::from([(name(first), Some(main))]);
    let mut later = Vec::new();
    for key in rest {
        let settings = endpoint(making, key, &links);
        // before 1.44 the engine takes one network at first
        if making.api.at_least(44) {
            endpoints.insert(name(key), Some(settings));
        } else {
            later.push((name(key), settings));
        }
    }
    let config = NetworkingConfig { endpoints_config: Some(endpoints) };
    // links inside user-defined networks belong to the endpoint
    Ok(Networking { mode: name(first), config: Some(config), links: Vec::new(), later })
}

/// How the container stands in one of its networks.
fn endpoint(making: &Making<'_>, key: &str, links: &[String]) -> EndpointSettings {
    let own = ServiceNetwork::default();
    let spec = making.service.spec.networks.get(key).and_then(Option::as_ref).unwrap_or(&own);
    let mut aliases = vec![making.name.to_owned()];
    if making.aliases {
        aliases.push(making.service.name.clone());
        aliases.extend(spec.aliases.iter().cloned());
    }
    aliases.dedup();
    let mut options = spec.driver_opts.clone();
    if !spec.interface_name.is_empty() {
        options.entry("com.docker.network.endpoint.ifname".to_owned()).or_insert_with(|| spec.interface_name.clone());
    }
    let fixed = !spec.ipv4_address.is_empty() || !spec.ipv6_address.is_empty() || !spec.link_local_ips.is_empty();
    EndpointSettings {
        aliases: Some(aliases),
        links: (!links.is_empty()).then(|| links.to_vec()),
        ipam_config: fixed.then(|| EndpointIpamConfig {
            ipv4_address: spec.ipv4_address.clone(),
            ipv6_address: spec.ipv6_address.clone(),
            link_local_ips: (!spec.link_local_ips.is_empty()).then(|| spec.link_local_ips.clone()),
        }),
        mac_address: spec.mac_address.clone(),
        driver_opts: (!options.is_empty()).then_some(options),
        gw_priority: spec.gw_priority,
        ..EndpointSettings::default()
    }
}

/// `container:alias` for `links` and `external_links`.
fn links(making: &Making<'_>) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for text in &making.service.spec.links {
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        for container in making.observed.of_service(name) {
            out.push(format!("{}:{alias}", container.name));
            out.push(format!("{}:{}", container.name, container.log_name()));
            out.push(format!("{0}:{0}", container.name));
        }
    }
    for text in &making.service.spec.external_links {
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        if name.is_empty() {
            return Err(Error::invalid(format!("invalid external link: {text:?}")));
        }
        out.push(format!("{name}:{alias}"));
    }
    out.sort();
    out.dedup();
    Ok(out)
}
