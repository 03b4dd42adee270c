//! What a network is: driver, address pools, options. Pure values; nothing here touches the kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barque_model::{Error, Id, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod options;

/// A network as the engine defines it. Complete: no field is filled in later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDef {
    pub id: Id,
    pub name: String,
    pub driver: Driver,
    /// Address pools, IPv4 and IPv6. Empty for `host` and `none`.
    pub pools: Vec<Pool>,
    /// No way out, and no way in but from the network itself and this machine.
    pub internal: bool,
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub subnet: IpNet,
    /// Where container addresses are taken from; the whole subnet if `None`.
    pub ip_range: Option<IpNet>,
    /// The host's (bridge) or the physical router's (macvlan, ipvlan) address.
    pub gateway: Option<IpAddr>,
    /// Addresses never given out, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// How a network is made, with what only that driver knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    Bridge(BridgeOptions),
    Macvlan(MacvlanOptions),
    Ipvlan(IpvlanOptions),
    /// The machine's own interfaces.
    Host,
    /// Loopback only.
    None,
}

/// Options `com.docker.network.bridge.*` and `com.docker.network.driver.mtu`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// Name of the bridge device, at most 15 bytes.
    pub bridge: String,
    /// Containers of this network reach one another directly.
    pub icc: bool,
    /// Traffic leaving the subnet takes the machine's address.
    pub masquerade: bool,
    /// Bytes; `None` takes the uplink's.
    pub mtu: Option<u32>,
    /// Host address of published ports that name none (`host_binding_ipv4`).
    pub host_ip: Option<IpAddr>,
    pub gateway_mode_v4: GatewayMode,
    pub gateway_mode_v6: GatewayMode,
    /// Leaves the bridge device without the gateway's IPv4 address.
    pub inhibit_ipv4: bool,
    /// Name prefix of interfaces in containers, `eth` unless given.
    pub ifname_prefix: String,
}

impl BridgeOptions {
    /// Docker's defaults on the device `bridge`.
    pub fn new(bridge: impl Into<String>) -> Self {
        BridgeOptions {
            bridge: bridge.into(),
            icc: true,
            masquerade: true,
            mtu: None,
            host_ip: None,
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            inhibit_ipv4: false,
            ifname_prefix: "eth".into(),
        }
    }
}

/// How a bridge network meets the outside (`gateway_mode_ipv4`, `gateway_mode_ipv6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayMode {
    /// Addresses are translated; only published ports are reachable.
    #[default]
    Nat,
    /// Translated, but every port is open to whoever routes to the container's address.
    NatUnprotected,
    /// Not translated; published ports are open on the container's own address.
    Routed,
    /// The machine itself has no address on the network. Internal networks only.
    Isolated,
}

/// Options of a `macvlan` network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacvlanOptions {
    pub parent: Parent,
    pub mode: MacvlanMode,
    pub mtu: Option<u32>,
}

/// Options of an `ipvlan` network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpvlanOptions {
    pub parent: Parent,
    pub mode: IpvlanMode,
    pub flag: IpvlanFlag,
    pub mtu: Option<u32>,
}

/// The device a macvlan or ipvlan network sits on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parent {
    /// An interface of the machine, left alone.
    Device(String),
    /// A VLAN interface `device.vlan`, made and removed with the network unless it was there before.
    Vlan { device: String, vlan: u16, name: String },
    /// A dummy interface of our own: containers reach one another and nothing else.
    Dummy(String),
}

impl Parent {
    /// The interface that carries the containers' links.
    pub fn ifname(&self) -> &str {
        match self {
            Parent::Device(name) | Parent::Dummy(name) | Parent::Vlan { name, .. } => name,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    #[default]
    Bridge,
    Vepa,
    Private,
    Passthru,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    #[default]
    L2,
    L3,
    L3s,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanFlag {
    #[default]
    Bridge,
    Private,
    Vepa,
}

impl Driver {
    /// Docker's name of the driver.
    pub fn name(&self) -> &'static str {
        match self {
            Driver::Bridge(_) => "bridge",
            Driver::Macvlan(_) => "macvlan",
            Driver::Ipvlan(_) => "ipvlan",
            Driver::Host => "host",
            Driver::None => "null",
        }
    }

    /// Reads the driver `name` and its `options` (`docker network create -d NAME -o KEY=VALUE`).
    ///
    /// Options that are not this driver's are ignored, as Docker does: they are stored
    /// with the network and may belong to other tools.
    pub fn parse(name: &str, id: &Id, options: &BTreeMap<String, String>, internal: bool) -> Result<Driver> {
        options::driver(name, id, options, internal)
    }
}

impl NetworkDef {
    pub fn bridge(&self) -> Option<&BridgeOptions> {
        match &self.driver {
            Driver::Bridge(options) => Some(options),
            _ => None,
        }
    }

    /// The first pool of each family.
    pub fn has_ipv4(&self) -> bool {
        self.pools.iter().any(|p| p.subnet.addr().is_ipv4())
    }

    pub fn has_ipv6(&self) -> bool {
        self.pools.iter().any(|p| p.subnet.addr().is_ipv6())
    }

    /// The pool `address` belongs to.
    pub fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|p| p.subnet.contains(&address))
    }

    /// The first IPv4 gateway.
    pub fn gateway_v4(&self) -> Option<Ipv4Addr> {
        self.pools.iter().find_map(|p| match p.gateway {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        })
    }

    /// The first IPv6 gateway.
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        self.pools.iter().find_map(|p| match p.gateway {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        })
    }

    /// The address containers reach this machine at (`host-gateway`, `host.docker.internal`).
    pub fn host_address(&self) -> Option<IpAddr> {
        self.bridge()?;
        self.gateway_v4().map(IpAddr::V4).or_else(|| self.gateway_v6().map(IpAddr::V6))
    }

    /// Checks what would otherwise fail half-way: names, pools, gateways, driver rules.
    pub fn validate(&self) -> Result<()> {
        options::validate(self)
    }
}

/// Docker's name of the bridge device of the network `id`: `br-` and the short id.
pub fn bridge_name(id: &Id) -> String {
    format!("br-{}", id.short())
}

/// Refuses what the kernel would refuse as an interface name (1 to 15 bytes, no `/`, no blank, not `.` or `..`).
pub fn check_ifname(name: &str) -> Result<()> {
    let bad = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0;
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(bad) {
        return Err(Error::invalid(format!("invalid interface name '{name}'"))
            .with_hint("use 1 to 15 characters without '/', ':' and blanks"));
    }
    Ok(())
}
