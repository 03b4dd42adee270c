//! Subnets, ranges, gateways and reserved addresses of a new network, matched to each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use barque_api::network::{Ipam, IpamConfig};

use crate::cmdline::Flags;
use crate::opts;

/// The address management that the flags ask for.
pub(super) fn lower(flags: &Flags) -> Result<Ipam, String> {
    let subnets = flags.strings("subnet");
    let (ranges, gateways) = (flags.strings("ip-range"), flags.strings("gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".into());
    }
    let mut configs: Vec<(Subnet, IpamConfig)> = Vec::new();
    let related = subnets.len() > 1 || !ranges.is_empty() || !gateways.is_empty() || flags.given("aux-address");
    for text in &subnets {
        // A subnet that nothing is to be matched with is the engine's to judge.
        if !related {
            let config = IpamConfig { subnet: text.clone(), ..IpamConfig::default() };
            configs.push((Subnet { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), prefix: 0 }, config));
            break;
        }
        let subnet = Subnet::parse(text).ok_or_else(|| format!("invalid subnet: invalid CIDR address: {text}"))?;
        if configs.iter().any(|(other, _)| other.holds(subnet.address) || subnet.holds(other.address)) {
            return Err("multiple overlapping subnet configuration is not supported".into());
        }
        configs.push((subnet, IpamConfig { subnet: text.clone(), ..IpamConfig::default() }));
    }
    for range in &ranges {
        let parsed = Subnet::parse(range).ok_or_else(|| format!("invalid CIDR address: {range}"))?;
        let config =
            find(&mut configs, parsed.address).ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !config.ip_range.is_empty() {
            let (old, subnet) = (&config.ip_range, &config.subnet);
            return Err(format!("cannot configure multiple ranges ({range}, {old}) on the same subnet ({subnet})"));
        }
        config.ip_range = range.clone();
    }
    for gateway in &gateways {
        let none = || format!("no matching subnet for gateway {gateway}");
        let address = gateway.parse().map_err(|_| none())?;
        let config = find(&mut configs, address).ok_or_else(none)?;
        if !config.gateway.is_empty() {
            let (old, subnet) = (&config.gateway, &config.subnet);
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {old}) for the same subnet ({subnet})"
            ));
        }
        config.gateway = gateway.clone();
    }
    for (name, address) in opts::map(flags.all("aux-address")) {
        let none = || format!("no matching subnet for aux-address {address}");
        let parsed = address.parse().map_err(|_| none())?;
        let config = find(&mut configs, parsed).ok_or_else(none)?;
        config.auxiliary_addresses.get_or_insert_with(BTreeMap::new).insert(name, address.clone());
    }
    Ok(Ipam {
        driver: flags.get("ipam-driver").unwrap_or("default").to_owned(),
        options: Some(opts::map(flags.all("ipam-opt"))),
        config: Some(configs.into_iter().map(|(_, config)| config).collect()),
    })
}

fn find(configs: &mut [(Subnet, IpamConfig)], address: IpAddr) -> Option<&mut IpamConfig> {
    configs.iter_mut().find(|(subnet, _)| subnet.holds(address)).map(|(_, config)| config)
}

#[derive(Clone, Copy)]
struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Subnet> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u32 = prefix.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Subnet { address, prefix })
    }

    fn holds(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - self.prefix;
                u64::from(own.to_bits()) >> shift == u64::from(other.to_bits()) >> shift
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => match 128 - self.prefix {
                128 => true,
                shift => own.to_bits() >> shift == other.to_bits() >> shift,
            },
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(pairs: &[(&'static str, &str)]) -> Result<Ipam, String> {
        lower(&Flags::from_pairs(pairs))
    }

    #[test]
    fn parts_find_their_subnet() {
        let ipam = lowered(&[
            ("subnet", "10.1.0.0/16"),
            ("subnet", "fd00::/64"),
            ("gateway", "fd00::1"),
            ("gateway", "10.1.0.1"),
            ("ip-range", "10.1.5.0/24"),
            ("aux-address", "host=10.1.9.9"),
        ])
        .expect("lowers");
        let config = ipam.config.expect("configs");
        assert_eq!((config[0].gateway.as_str(), config[0].ip_range.as_str()), ("10.1.0.1", "10.1.5.0/24"));
        assert_eq!(config[0].auxiliary_addresses.as_ref().expect("aux")["host"], "10.1.9.9");
        assert_eq!(config[1].gateway, "fd00::1");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |pairs: &[(&'static str, &str)]| lowered(pairs).expect_err("fails");
        assert!(fault(&[("gateway", "10.0.0.1")]).starts_with("every ip-range or gateway"));
        assert!(fault(&[("subnet", "x"), ("gateway", "10.0.0.1")]).contains("invalid CIDR address: x"));
        assert!(fault(&[("subnet", "10.0.0.0/8"), ("subnet", "10.1.0.0/16")]).contains("overlapping"));
        let pairs = [("subnet", "10.0.0.0/24"), ("gateway", "10.0.1.1")];
        assert_eq!(fault(&pairs), "no matching subnet for gateway 10.0.1.1");
    }
}
