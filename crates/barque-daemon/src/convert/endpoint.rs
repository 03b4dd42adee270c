//! Endpoints: wishes in, addresses out.

use std::collections::BTreeMap;

use barque_api::ApiVersion;
use barque_api::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use barque_engine::container::spec::{EndpointWish, NetworkMode};
use barque_engine::container::view::{ContainerView, EndpointView};
use barque_model::{Error, Result};

use super::{address, listed, shown};

/// `NetworkMode` of a host configuration.
pub(crate) fn mode(text: &str) -> Result<NetworkMode> {
    Ok(match text {
        "" | "default" | "bridge" => NetworkMode::Default,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        _ => match text.strip_prefix("container:") {
            Some("") => {
                return Err(Error::invalid("Invalid network mode: invalid container format container:<name|id>"));
            }
            Some(name) => NetworkMode::Container(name.to_owned()),
            None => NetworkMode::Named(text.to_owned()),
        },
    })
}

/// What a client wishes for one endpoint.
///
/// # Errors
/// Malformed addresses.
pub(crate) fn wish(network: &str, settings: Option<&EndpointSettings>) -> Result<EndpointWish> {
    let settings = settings.cloned().unwrap_or_default();
    let ipam = settings.ipam_config.unwrap_or_default();
    let present = |text: String| Some(text).filter(|text| !text.is_empty());
    let aliases = settings.aliases.unwrap_or_default();
    if let Some(bad) = aliases.iter().find(|alias| !is_name(alias)) {
        return Err(Error::invalid(format!("invalid network alias {bad:?}"))
            .with_hint("a name has letters, digits, '-', '_' and '.', and no blanks"));
    }
    Ok(EndpointWish {
        network: if network == "default" { "bridge".into() } else { network.to_owned() },
        aliases,
        links: settings.links.unwrap_or_default(),
        ipv4: address(&ipam.ipv4_address, "IPv4 address")?,
        ipv6: address(&ipam.ipv6_address, "IPv6 address")?,
        link_local: ipam.link_local_ips.iter().flatten().map(|ip| link_local(ip)).collect::<Result<_>>()?,
        mac_address: present(settings.mac_address),
        gw_priority: settings.gw_priority,
        driver_opts: settings.driver_opts.unwrap_or_default(),
    })
}

/// What a resolver can be asked for: anything but blanks and control characters, of at most 255 bytes.
fn is_name(alias: &str) -> bool {
    !alias.is_empty() && alias.len() <= 255 && !alias.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn link_local(text: &str) -> Result<std::net::IpAddr> {
    let parsed = text.parse::<std::net::IpAddr>().ok().filter(|ip| !ip.is_unspecified());
    parsed.ok_or_else(|| Error::invalid(format!("invalid link-local IP address: {text}")))
}

/// The wishes of a new container. The first is that of `mode`, if it has one.
///
/// # Errors
/// Several networks for clients older than 1.44; malformed addresses.
pub(crate) fn wishes(
    mode: &NetworkMode,
    networking: Option<&NetworkingConfig>,
    version: ApiVersion,
) -> Result<Vec<EndpointWish>> {
    let Some(endpoints) = networking.and_then(|config| config.endpoints_config.as_ref()) else { return Ok(Vec::new()) };
    if version.before(44) && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    let mut wishes = Vec::new();
    for (name, settings) in endpoints {
        wishes.push(wish(name, settings.as_ref())?);
    }
    // On these nobody chooses addresses.
    let fixed = |wish: &&EndpointWish| matches!(wish.network.as_str(), "bridge" | "host" | "none");
    if wishes.iter().filter(fixed).any(|wish| wish.ipv4.is_some() || wish.ipv6.is_some()) {
        return Err(Error::invalid("user specified IP address is supported on user defined networks only"));
    }
    // Nothing is plugged in there: what is wished for has no effect, but an address that others have.
    let own = match mode {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
        _ => "",
    };
    if own == "host" && wishes.iter().any(|wish| wish.network == own && wish.mac_address.is_some()) {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    wishes.retain(|wish| wish.network != own);
    let main = match mode {
        NetworkMode::Default => "bridge",
        NetworkMode::Named(name) => name,
        _ => "",
    };
    wishes.sort_by_key(|wish| wish.network != main);
    Ok(wishes)
}

/// `NetworkSettings.Networks` of an inspected container.
pub(crate) fn networks(view: &ContainerView, version: ApiVersion) -> BTreeMap<String, Option<EndpointSettings>> {
    let running = view.state.is_running();
    let one = |endpoint: &EndpointView| {
        let mut settings = settings(endpoint, running);
        let predefined = matches!(endpoint.network_name.as_str(), "bridge" | "host" | "none");
        // Since 1.45 the short id is among the DNS names only.
        if version.before(45) && !predefined {
            settings.aliases.get_or_insert_default().push(view.id.short());
        }
        (endpoint.network_name.clone(), Some(settings))
    };
    view.endpoints.iter().map(one).collect()
}

/// As [`networks`], for lists, where Docker shows no aliases.
pub(crate) fn listed_networks(view: &ContainerView) -> BTreeMap<String, Option<EndpointSettings>> {
    let running = view.state.is_running();
    let one = |endpoint: &EndpointView| {
        let settings = EndpointSettings { aliases: None, ..settings(endpoint, running) };
        (endpoint.network_name.clone(), Some(settings))
    };
    view.endpoints.iter().map(one).collect()
}

fn settings(endpoint: &EndpointView, running: bool) -> EndpointSettings {
    let asked =
        endpoint.wanted_ipv4.is_some() || endpoint.wanted_ipv6.is_some() || !endpoint.wanted_link_local.is_empty();
    let mut settings = EndpointSettings {
        ipam_config: asked.then(|| EndpointIpamConfig {
            ipv4_address: shown(endpoint.wanted_ipv4),
            ipv6_address: shown(endpoint.wanted_ipv6),
            link_local_ips: listed(endpoint.wanted_link_local.iter().map(ToString::to_string).collect()),
        }),
        links: listed(endpoint.links.clone()),
        aliases: listed(endpoint.aliases.clone()),
        driver_opts: Some(endpoint.driver_opts.clone()).filter(|options| !options.is_empty()),
        gw_priority: endpoint.gw_priority,
        network_id: endpoint.network_id.clone(),
        dns_names: listed(endpoint.dns_names.clone()),
        ..EndpointSettings::default()
    };
    // A stopped container keeps its reservation, but Docker shows no address for it.
    if running {
        settings.endpoint_id.clone_from(&endpoint.endpoint_id);
        settings.gateway = shown(endpoint.gateway);
        settings.ip_address = shown(endpoint.ipv4);
        settings.ip_prefix_len = i64::from(endpoint.prefix4);
        settings.ipv6_gateway = shown(endpoint.gateway6);
        settings.global_ipv6_address = shown(endpoint.ipv6);
        settings.global_ipv6_prefix_len = i64::from(endpoint.prefix6);
        settings.mac_address.clone_from(&endpoint.mac);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode("default").unwrap(), NetworkMode::Default);
        assert_eq!(mode("container:a").unwrap(), NetworkMode::Container("a".into()));
        assert_eq!(mode("mine").unwrap(), NetworkMode::Named("mine".into()));
        assert!(mode("container:").is_err());
    }

    #[test]
    fn the_modes_own_endpoint_comes_first() {
        let config: NetworkingConfig = barque_api::json::from_str(
            r#"{"EndpointsConfig":{"a":null,"b":{"Aliases":["x"],"IPAMConfig":{"IPv4Address":"10.0.0.9"}}}}"#,
        )
        .unwrap();
        let list = wishes(&NetworkMode::Named("b".into()), Some(&config), ApiVersion::MAX).unwrap();
        assert_eq!((list[0].network.as_str(), list[1].network.as_str()), ("b", "a"));
        assert_eq!(list[0].ipv4, Some([10, 0, 0, 9].into()));
        assert!(wishes(&NetworkMode::Default, Some(&config), ApiVersion::new(1, 43)).is_err());
        let bad: NetworkingConfig =
            barque_api::json::from_str(r#"{"EndpointsConfig":{"b":{"IPAMConfig":{"IPv4Address":"x"}}}}"#).unwrap();
        assert!(wishes(&NetworkMode::Default, Some(&bad), ApiVersion::MAX).is_err());
    }

    #[test]
    fn what_an_endpoint_cannot_have_is_refused() {
        let of = |network: &str, json: &str| {
            let text = format!(r#"{{"EndpointsConfig":{{"{network}":{json}}}}}"#);
            wishes(&NetworkMode::Host, Some(&barque_api::json::from_str(&text).unwrap()), ApiVersion::MAX)
        };
        let fixed = r#"{"IPAMConfig":{"IPv4Address":"1.2.3.4"}}"#;
        let refused = of("host", fixed).unwrap_err().to_string();
        assert_eq!(refused, "user specified IP address is supported on user defined networks only");
        assert!(of("mine", fixed).is_ok());
        assert!(of("mine", r#"{"Aliases":["bad alias"]}"#).unwrap_err().to_string().contains("\"bad alias\""));
        let local = of("mine", r#"{"IPAMConfig":{"LinkLocalIPs":["169.254.1.2","fe80::5"]}}"#).unwrap();
        assert_eq!(local[0].link_local.len(), 2);
        let wrong = of("mine", r#"{"IPAMConfig":{"LinkLocalIPs":["x"]}}"#).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid link-local IP address: x");
    }
}
