//! Driver options as Docker spells them, and the checks of a definition.

use std::collections::BTreeMap;
use std::net::IpAddr;

use barque_model::strconv::parse_bool;
use barque_model::{Error, Id, Result};

use super::{
    BridgeOptions, Driver, GatewayMode, IpvlanFlag, IpvlanMode, IpvlanOptions, MacvlanMode, MacvlanOptions, NetworkDef,
    Parent, bridge_name, check_ifname,
};

type Options = BTreeMap<String, String>;

const MTU: &str = "com.docker.network.driver.mtu";
const BRIDGE: &str = "com.docker.network.bridge.";

pub(super) fn driver(name: &str, id: &Id, options: &Options, internal: bool) -> Result<Driver> {
    match name {
        "" | "bridge" => bridge(id, options, internal).map(Driver::Bridge),
        "macvlan" => macvlan(id, options, internal).map(Driver::Macvlan),
        "ipvlan" => ipvlan(id, options, internal).map(Driver::Ipvlan),
        "host" => Ok(Driver::Host),
        "none" | "null" => Ok(Driver::None),
        "overlay" => Err(Error::not_implemented("network driver overlay")),
        other => Err(Error::not_found(format!("plugin \"{other}\" not found"))
            .with_hint("drivers are bridge, macvlan, ipvlan, host and none")),
    }
}

fn bridge(id: &Id, options: &Options, internal: bool) -> Result<BridgeOptions> {
    let get = |key: &str| options.get(&format!("{BRIDGE}{key}")).map(String::as_str);
    let mut out =
        BridgeOptions::new(get("name").filter(|n| !n.is_empty()).map_or_else(|| bridge_name(id), str::to_owned));
    out.icc = flag(options, &format!("{BRIDGE}enable_icc"), true)?;
    out.masquerade = flag(options, &format!("{BRIDGE}enable_ip_masquerade"), true)?;
    out.inhibit_ipv4 = flag(options, &format!("{BRIDGE}inhibit_ipv4"), false)?;
    out.mtu = mtu(options)?;
    out.host_ip = host_ip(get("host_binding_ipv4"))?;
    out.gateway_mode_v4 = gateway_mode(get("gateway_mode_ipv4"), internal)?;
    out.gateway_mode_v6 = gateway_mode(get("gateway_mode_ipv6"), internal)?;
    if let Some(prefix) = options.get("com.docker.network.container_iface_prefix").filter(|p| !p.is_empty()) {
        check_ifname(&format!("{prefix}0"))?;
        out.ifname_prefix = prefix.clone();
    }
    check_ifname(&out.bridge)?;
    Ok(out)
}

fn host_ip(value: Option<&str>) -> Result<Option<IpAddr>> {
    let Some(text) = value.filter(|v| !v.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Error::invalid(format!("invalid value for com.docker.network.bridge.host_binding_ipv4: {text}"))
            .with_hint("give one address of this machine, such as 127.0.0.1")
    })
}

fn gateway_mode(value: Option<&str>, internal: bool) -> Result<GatewayMode> {
    let mode = match value.unwrap_or("") {
        "" | "nat" => GatewayMode::Nat,
        "nat-unprotected" => GatewayMode::NatUnprotected,
        "routed" => GatewayMode::Routed,
        "isolated" => GatewayMode::Isolated,
        other => {
            return Err(Error::invalid(format!("unknown gateway mode {other}"))
                .with_hint("modes are nat, nat-unprotected, routed and isolated"));
        }
    };
    if mode == GatewayMode::Isolated && !internal {
        return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network")
            .with_hint("create the network with --internal"));
    }
    Ok(mode)
}

fn flag(options: &Options, key: &str, default: bool) -> Result<bool> {
    match options.get(key).map(String::as_str) {
        None | Some("") => Ok(default),
        Some(text) => parse_bool(text)
            .map_err(|_| Error::invalid(format!("invalid value for {key}: {text}")).with_hint("write true or false")),
    }
}

fn mtu(options: &Options) -> Result<Option<u32>> {
    let Some(text) = options.get(MTU).filter(|v| !v.is_empty()) else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(value @ 68..=65535) => Ok(Some(value)),
        _ => Err(Error::invalid(format!("invalid value for {MTU}: {text}")).with_hint("give 68 to 65535 bytes")),
    }
}

fn macvlan(id: &Id, options: &Options, internal: bool) -> Result<MacvlanOptions> {
    let mode = match options.get("macvlan_mode").map(String::as_str).unwrap_or("") {
        "" | "bridge" => MacvlanMode::Bridge,
        "vepa" => MacvlanMode::Vepa,
        "private" => MacvlanMode::Private,
        "passthru" => MacvlanMode::Passthru,
        other => {
            return Err(Error::invalid(format!("requested macvlan mode '{other}' is not valid"))
                .with_hint("modes are bridge, vepa, private and passthru"));
        }
    };
    Ok(MacvlanOptions { parent: parent(id, options, internal)?, mode, mtu: mtu(options)? })
}

fn ipvlan(id: &Id, options: &Options, internal: bool) -> Result<IpvlanOptions> {
    let mode = match options.get("ipvlan_mode").map(String::as_str).unwrap_or("") {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            return Err(Error::invalid(format!("requested ipvlan mode '{other}' is not valid"))
                .with_hint("modes are l2, l3 and l3s"));
        }
    };
    let flag = match options.get("ipvlan_flag").map(String::as_str).unwrap_or("") {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => {
            return Err(Error::invalid(format!("requested ipvlan flag '{other}' is not valid"))
                .with_hint("flags are bridge, private and vepa"));
        }
    };
    Ok(IpvlanOptions { parent: parent(id, options, internal)?, mode, flag, mtu: mtu(options)? })
}

/// `parent=eth0`, `parent=eth0.50` (VLAN 50 on eth0), or none (a dummy of our own).
fn parent(id: &Id, options: &Options, internal: bool) -> Result<Parent> {
    let Some(name) = options.get("parent").filter(|p| !p.is_empty()) else {
        return Ok(Parent::Dummy(format!("dm-{}", id.short())));
    };
    check_ifname(name)?;
    if internal {
        return Err(Error::invalid(format!("an internal network cannot have the parent interface {name}"))
            .with_hint("leave out -o parent=…, or --internal"));
    }
    let Some((device, vlan)) = name.rsplit_once('.') else { return Ok(Parent::Device(name.clone())) };
    match vlan.parse::<u16>() {
        Ok(vlan @ 1..=4094) if !device.is_empty() => {
            Ok(Parent::Vlan { device: device.to_owned(), vlan, name: name.clone() })
        }
        _ => Err(Error::invalid(format!("vlan id must be between 1 and 4094, received: {vlan}"))
            .with_hint("write the parent as DEVICE.VLAN, such as eth0.50")),
    }
}

pub(super) fn validate(def: &NetworkDef) -> Result<()> {
    for pool in &def.pools {
        check_pool(def, pool)?;
    }
    match &def.driver {
        Driver::Bridge(options) => check_ifname(&options.bridge)?,
        Driver::Macvlan(options) => check_ifname(options.parent.ifname())?,
        Driver::Ipvlan(options) => check_ifname(options.parent.ifname())?,
        Driver::Host | Driver::None => return Ok(()),
    }
    if def.pools.is_empty() {
        return Err(Error::invalid(format!("network {} has neither IPv4 nor IPv6 addresses", def.name))
            .with_hint("leave IPv4 enabled, or add --ipv6"));
    }
    Ok(())
}

fn check_pool(def: &NetworkDef, pool: &super::Pool) -> Result<()> {
    let subnet = pool.subnet;
    let inside = |what: &str, ip: IpAddr| {
        if subnet.contains(&ip) {
            return Ok(());
        }
        Err(Error::invalid(format!("no matching subnet for {what} {ip}"))
            .with_hint(format!("network {} spans {subnet}; choose an address in it", def.name)))
    };
    if let Some(gateway) = pool.gateway {
        inside("gateway", gateway)?;
    }
    if let Some(range) = pool.ip_range {
        inside("range", range.network())?;
        inside("range", range.broadcast())?;
    }
    pool.auxiliary.values().try_for_each(|ip| inside("aux-address", *ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn id() -> Id {
        Id::from_bytes([0xab; 32])
    }

    #[test]
    fn a_bridge_has_dockers_defaults() {
        let Driver::Bridge(b) = Driver::parse("bridge", &id(), &Options::new(), false).unwrap() else { panic!() };
        assert_eq!(b, BridgeOptions::new("br-abababababab"));
    }

    #[test]
    fn bridge_options_are_read() {
        let set = options(&[
            ("com.docker.network.bridge.name", "lan0"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ("com.docker.network.driver.mtu", "9000"),
            ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
            ("vendor.thing", "kept elsewhere"),
        ]);
        let Driver::Bridge(b) = Driver::parse("", &id(), &set, false).unwrap() else { panic!() };
        assert_eq!((b.bridge.as_str(), b.icc, b.mtu), ("lan0", false, Some(9000)));
        assert_eq!(b.host_ip, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(b.gateway_mode_v6, GatewayMode::Routed);
    }

    #[test]
    fn bad_options_are_named() {
        for (driver, key, value, says) in [
            ("bridge", "com.docker.network.bridge.name", "a-name-too-long-for-linux", "a-name-too-long"),
            ("bridge", "com.docker.network.driver.mtu", "12", "mtu: 12"),
            ("bridge", "com.docker.network.bridge.enable_icc", "maybe", "enable_icc: maybe"),
            ("bridge", "com.docker.network.bridge.gateway_mode_ipv4", "isolated", "internal"),
            ("macvlan", "macvlan_mode", "tap", "tap"),
            ("ipvlan", "parent", "eth0.5000", "5000"),
            ("nosuch", "x", "y", "nosuch"),
        ] {
            let error = Driver::parse(driver, &id(), &options(&[(key, value)]), false).unwrap_err();
            assert!(error.message().contains(says), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn parents_are_devices_vlans_or_dummies() {
        let of = |pairs: &[(&str, &str)]| match Driver::parse("macvlan", &id(), &options(pairs), false).unwrap() {
            Driver::Macvlan(m) => m.parent,
            _ => panic!(),
        };
        assert_eq!(of(&[("parent", "eth0")]), Parent::Device("eth0".into()));
        assert_eq!(
            of(&[("parent", "eth0.50")]),
            Parent::Vlan { device: "eth0".into(), vlan: 50, name: "eth0.50".into() }
        );
        assert_eq!(of(&[]), Parent::Dummy("dm-abababababab".into()));
    }
}
