//! `--network` in its forms, with `--network-alias`, `--ip`, `--link` and their kin.

use std::collections::BTreeMap;

use barque_api::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use crate::cmdline::Flags;
use crate::opts::names;
use crate::opts::network::{Attachment, is_user_defined, parse};

/// All `--network` values, in order.
fn attachments(flags: &Flags) -> Result<Vec<Attachment>, String> {
    flags.all_of(&["network", "net"]).into_iter().map(parse).collect()
}

/// The network mode: the first network named.
pub(super) fn mode(flags: &Flags) -> Result<String, String> {
    Ok(attachments(flags)?.into_iter().next().map_or_else(|| "default".into(), |a| a.target))
}

/// The endpoints to make when the container is created.
pub(super) fn endpoints(flags: &Flags) -> Result<NetworkingConfig, String> {
    let mut endpoints = BTreeMap::new();
    let mut list = attachments(flags)?;
    if list.is_empty() {
        let mut one = Attachment { target: "default".into(), ..Attachment::default() };
        let links = add_flags(&mut one, flags)?;
        endpoints.insert("default".into(), Some(endpoint(&one, links)?));
        return Ok(NetworkingConfig { endpoints_config: Some(endpoints) });
    }
    let user_defined = list.iter().filter(|a| is_user_defined(&a.target)).count();
    let only = list.len() == 1;
    for (index, attachment) in list.iter_mut().enumerate() {
        // The flags without a network's name mean the first.
        let links = if index == 0 { add_flags(attachment, flags)? } else { Vec::new() };
        let made = endpoint(attachment, links)?;
        if endpoints.contains_key(&attachment.target) {
            return Err(format!("network {:?} is specified multiple times", attachment.target));
        }
        // Older engines take no endpoint that says nothing.
        if !(only && made == EndpointSettings::default()) {
            endpoints.insert(attachment.target.clone(), Some(made));
        }
    }
    if user_defined > 0 && user_defined < list.len() {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".into());
    }
    Ok(NetworkingConfig { endpoints_config: Some(endpoints) })
}

/// Puts the flags that name no network into the first one; gives its links.
fn add_flags(attachment: &mut Attachment, flags: &Flags) -> Result<Vec<String>, String> {
    let aliases = flags.all_of(&["network-alias", "net-alias"]);
    let conflict = |what: &str| Err(format!("conflicting options: cannot specify both {what}"));
    let both = |flag: &str, own: &str| flags.given(flag) && !own.is_empty();
    if !attachment.aliases.is_empty() && !aliases.is_empty() {
        return conflict("--network-alias and per-network alias");
    }
    if both("ip", &attachment.ip) {
        return conflict("--ip and per-network IPv4 address");
    }
    if both("ip6", &attachment.ip6) {
        return conflict("--ip6 and per-network IPv6 address");
    }
    if both("mac-address", &attachment.mac_address) {
        return conflict("--mac-address and per-network MAC address");
    }
    if !attachment.link_local_ips.is_empty() && flags.given("link-local-ip") {
        return conflict("--link-local-ip and per-network link-local IP addresses");
    }
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    if !aliases.is_empty() {
        attachment.aliases = owned(aliases);
    }
    for (flag, slot) in
        [("ip", &mut attachment.ip), ("ip6", &mut attachment.ip6), ("mac-address", &mut attachment.mac_address)]
    {
        if let Some(value) = flags.get(flag) {
            *slot = value.to_owned();
        }
    }
    if flags.given("link-local-ip") {
        attachment.link_local_ips = owned(flags.all("link-local-ip"));
    }
    // On the default bridge, links are the host configuration's.
    Ok(if is_user_defined(&attachment.target) { owned(flags.all("link")) } else { Vec::new() })
}

fn endpoint(attachment: &Attachment, links: Vec<String>) -> Result<EndpointSettings, String> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".into());
    }
    if !is_user_defined(&attachment.target) && !attachment.aliases.is_empty() {
        return Err("network-scoped aliases are only supported for user-defined networks".into());
    }
    let some = |list: &Vec<String>| if list.is_empty() { None } else { Some(list.clone()) };
    let fixed = !attachment.ip.is_empty() || !attachment.ip6.is_empty() || !attachment.link_local_ips.is_empty();
    if !attachment.mac_address.is_empty() {
        names::mac_address(&attachment.mac_address)?;
    }
    Ok(EndpointSettings {
        ipam_config: fixed.then(|| EndpointIpamConfig {
            ipv4_address: attachment.ip.clone(),
            ipv6_address: attachment.ip6.clone(),
            link_local_ips: some(&attachment.link_local_ips),
        }),
        links: some(&links),
        aliases: some(&attachment.aliases),
        driver_opts: if attachment.driver_opts.is_empty() { None } else { Some(attachment.driver_opts.clone()) },
        gw_priority: attachment.gw_priority,
        mac_address: attachment.mac_address.clone(),
        ..EndpointSettings::default()
    })
}
