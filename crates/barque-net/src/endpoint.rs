//! A container's place on a network, before ([`EndpointDef`]) and after ([`Attached`]) it is plugged in.

use std::net::{Ipv4Addr, Ipv6Addr};

use barque_model::Id;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// What is to be plugged into a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointDef {
    pub id: Id,
    /// Address in one of the network's IPv4 pools.
    pub v4: Option<Ipv4Addr>,
    /// Address in one of the network's IPv6 pools.
    pub v6: Option<Ipv6Addr>,
    /// `None` follows from the IPv4 address (bridge) or is the kernel's choice.
    pub mac: Option<Mac>,
    /// Name in the container; `None` takes the lowest free `eth<n>`.
    pub ifname: Option<String>,
    /// Whether the default routes go through this endpoint.
    pub default_gateway: bool,
    /// `net.ipv4.conf.IFNAME.KEY=VALUE` settings (`com.docker.network.endpoint.sysctls`), with `IFNAME` as a placeholder.
    pub sysctls: Vec<(String, String)>,
    /// Further addresses of the interface, outside of the network's pools.
    pub on_link: Vec<IpNet>,
}

impl EndpointDef {
    /// An endpoint with an IPv4 address and nothing unusual, carrying the default route.
    pub fn new(id: Id, v4: Option<Ipv4Addr>) -> Self {
        EndpointDef {
            id,
            v4,
            v6: None,
            mac: None,
            ifname: None,
            default_gateway: true,
            sysctls: Vec::new(),
            on_link: Vec::new(),
        }
    }
}

/// What was plugged in. Enough to unplug it, also after a restart of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub endpoint: Id,
    pub network: Id,
    /// Name in the container.
    pub ifname: String,
    /// Index in the container's namespace.
    pub ifindex: u32,
    pub mac: Mac,
    pub v4: Option<Ipv4Net>,
    pub v6: Option<Ipv6Net>,
    /// Where default routes would go through this endpoint, whether they do or not.
    pub gateway_v4: Option<Ipv4Addr>,
    pub gateway_v6: Option<Ipv6Addr>,
    /// The other end on this machine; `None` for macvlan and ipvlan.
    pub host_ifname: Option<String>,
}

/// Counters of one interface since it came up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    pub ifname: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
