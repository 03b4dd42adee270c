//! What is asked of one endpoint: addresses a network can have, options of its interface.

use std::collections::BTreeMap;
use std::net::IpAddr;

use barque_model::{Error, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::record::NetworkRecord;
use crate::container::spec::EndpointWish;

const IFNAME: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What `--driver-opt` of an endpoint says of its interface.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InterfaceOptions {
    pub(super) ifname: Option<String>,
    /// Keys have `IFNAME` where the interface's name goes.
    pub(super) sysctls: Vec<(String, String)>,
}

impl InterfaceOptions {
    /// # Errors
    /// Names no interface can have; settings of anything but this interface.
    pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<InterfaceOptions> {
        let given = |key: &str| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let ifname = given(IFNAME).map(str::to_owned);
        if let Some(name) = &ifname {
            barque_net::network::check_ifname(name)?;
        }
        let sysctls = given(SYSCTLS).into_iter().flat_map(|text| text.split(',')).map(sysctl).collect::<Result<_>>()?;
        Ok(InterfaceOptions { ifname, sysctls })
    }
}

/// `net.ipv4.conf.IFNAME.log_martians=1`.
fn sysctl(text: &str) -> Result<(String, String)> {
    let invalid = || {
        Error::invalid(format!("invalid endpoint sysctl '{text}'"))
            .with_hint("write net.FAMILY.PART.IFNAME.KEY=VALUE with the word IFNAME, several with commas in between")
    };
    let (key, value) = text.split_once('=').ok_or_else(invalid)?;
    let parts: Vec<&str> = key.split('.').collect();
    let word =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let good = matches!(parts[..], ["net", _, _, "IFNAME", _]) && parts.iter().all(word) && !value.is_empty();
    if good { Ok((key.to_owned(), value.to_owned())) } else { Err(invalid()) }
}

/// What can be known of a wish without its network.
///
/// # Errors
/// Malformed options.
pub(crate) fn check_options(wish: &EndpointWish) -> Result<()> {
    InterfaceOptions::parse(&wish.driver_opts).map(drop)
}

/// What can be known of a wish before anything is plugged in.
///
/// # Errors
/// Addresses outside of the network; malformed options.
pub(crate) fn check(record: &NetworkRecord, wish: &EndpointWish) -> Result<()> {
    check_options(wish)?;
    for address in wish.ipv4.into_iter().chain(wish.ipv6) {
        if !record.def.pools.iter().any(|pool| pool.subnet.contains(&address)) {
            return Err(outside(&record.def.name, address));
        }
    }
    Ok(())
}

pub(super) fn outside(network: &str, address: IpAddr) -> Error {
    Error::invalid(format!("invalid address {address}: no configured subnet of network {network} contains it"))
}

/// An address that is good on its own link only, with the prefix such addresses have.
pub(super) fn on_link(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, if ip.is_link_local() { 16 } else { 32 }).unwrap_or(ip.into())),
        IpAddr::V6(ip) => {
            IpNet::V6(Ipv6Net::new(ip, if ip.is_unicast_link_local() { 64 } else { 128 }).unwrap_or(ip.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(key: &str, value: &str) -> Result<InterfaceOptions> {
        InterfaceOptions::parse(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn options_of_interfaces() {
        let two = options(SYSCTLS, "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0").unwrap();
        assert_eq!(two.sysctls[0], ("net.ipv4.conf.IFNAME.log_martians".into(), "1".into()));
        assert_eq!(two.sysctls.len(), 2);
        assert_eq!(options(IFNAME, "lan0").unwrap().ifname.as_deref(), Some("lan0"));
        assert_eq!(options("other", "x").unwrap(), InterfaceOptions::default());
        for bad in [
            "x",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.IFNAME.=1",
            "net.ipv4.conf.IFNAME.a=",
            "kernel.a.b.IFNAME.c=1",
            "net.ipv4.conf.IFNAME.../../x=1",
        ] {
            assert!(options(SYSCTLS, bad).is_err(), "{bad}");
        }
        assert!(options(IFNAME, "much-too-long-a-name").is_err() && options(IFNAME, "a/b").is_err());
    }

    #[test]
    fn addresses_of_the_link() {
        assert_eq!(on_link("169.254.1.2".parse().unwrap()).to_string(), "169.254.1.2/16");
        assert_eq!(on_link("fe80::5".parse().unwrap()).to_string(), "fe80::5/64");
        assert_eq!(on_link("10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1/32");
    }
}
