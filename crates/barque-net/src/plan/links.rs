//! Operations on links, addresses, routes and kernel settings of one namespace.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::mac::Mac;
use crate::network::{IpvlanFlag, IpvlanMode, MacvlanMode};

/// One operation. Links are named as they are in the namespace the list is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOp {
    /// Makes a bridge, down; its alias says who made it.
    AddBridge {
        name: String,
        mac: Mac,
        mtu: u32,
        alias: String,
    },
    /// Makes a dummy interface, up.
    AddDummy {
        name: String,
        alias: String,
    },
    /// Makes a VLAN interface, up.
    AddVlan {
        name: String,
        parent: String,
        vlan: u16,
        alias: String,
    },
    /// Makes a pair: one end here, up and on a bridge; the other in the container's namespace, down.
    AddVeth {
        name: String,
        bridge: String,
        mtu: u32,
        port: PortMode,
        peer: Peer,
    },
    /// Makes an interface in the container's namespace on a device of this one.
    AddMacvlan {
        parent: String,
        mode: MacvlanMode,
        mtu: Option<u32>,
        peer: Peer,
    },
    AddIpvlan {
        parent: String,
        mode: IpvlanMode,
        flag: IpvlanFlag,
        mtu: Option<u32>,
        peer: Peer,
    },
    SetUp {
        link: String,
    },
    SetDown {
        link: String,
    },
    SetMac {
        link: String,
        mac: Mac,
    },
    SetMtu {
        link: String,
        mtu: u32,
    },
    Rename {
        link: String,
        to: String,
    },
    AddAddress {
        link: String,
        address: IpNet,
    },
    DeleteAddress {
        link: String,
        address: IpNet,
    },
    SetRoute {
        to: IpNet,
        via: Option<IpAddr>,
        link: String,
    },
    DeleteRoute {
        to: IpNet,
        via: Option<IpAddr>,
        link: String,
    },
    DeleteLink {
        link: String,
    },
    /// `path` is relative to `/proc/sys`.
    Sysctl {
        path: String,
        value: String,
    },
}

/// How a bridge treats a container's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMode {
    Plain,
    /// No frames to other containers (`enable_icc=false`).
    Isolated,
    /// Frames may go back where they came from. With br_netfilter a bridge redirects frames
    /// to published ports by itself, perhaps to the container that sent them.
    Hairpin,
}

impl PortMode {
    pub fn of(icc: bool, bridge_netfilter: bool) -> PortMode {
        match (icc, bridge_netfilter) {
            (false, _) => PortMode::Isolated,
            (true, true) => PortMode::Hairpin,
            (true, false) => PortMode::Plain,
        }
    }
}

/// An interface to appear in the container's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub mac: Option<Mac>,
}

impl LinkOp {
    /// A default route of the family of `via`.
    pub fn default_route(via: IpAddr, link: &str) -> LinkOp {
        LinkOp::SetRoute { to: default_of(via.is_ipv6()), via: Some(via), link: link.to_owned() }
    }
}

/// 0.0.0.0/0 or ::/0.
pub fn default_of(v6: bool) -> IpNet {
    if v6 { IpNet::V6(ipnet::Ipv6Net::default()) } else { IpNet::V4(ipnet::Ipv4Net::default()) }
}

impl fmt::Display for LinkOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkOp::AddBridge { name, mac, mtu, alias } => {
                write!(f, "ip link add {name} address {mac} mtu {mtu} type bridge # {alias}")
            }
            LinkOp::AddDummy { name, alias } => write!(f, "ip link add {name} up type dummy # {alias}"),
            LinkOp::AddVlan { name, parent, vlan, alias } => {
                write!(f, "ip link add {name} up link {parent} type vlan id {vlan} # {alias}")
            }
            LinkOp::AddVeth { name, bridge, mtu, port, peer } => {
                write!(f, "ip link add {name} up master {bridge} mtu {mtu} type veth peer {peer}")?;
                match port {
                    PortMode::Plain => Ok(()),
                    PortMode::Isolated => write!(f, "; bridge link set {name} isolated on"),
                    PortMode::Hairpin => write!(f, "; bridge link set {name} hairpin on"),
                }
            }
            LinkOp::AddMacvlan { parent, mode, mtu, peer } => {
                write!(f, "ip link add {peer} link {parent}{} type macvlan mode {}", Mtu(*mtu), lower(mode))
            }
            LinkOp::AddIpvlan { parent, mode, flag, mtu, peer } => {
                write!(
                    f,
                    "ip link add {peer} link {parent}{} type ipvlan mode {} {}",
                    Mtu(*mtu),
                    lower(mode),
                    lower(flag)
                )
            }
            LinkOp::SetUp { link } => write!(f, "ip link set {link} up"),
            LinkOp::SetDown { link } => write!(f, "ip link set {link} down"),
            LinkOp::SetMac { link, mac } => write!(f, "ip link set {link} address {mac}"),
            LinkOp::SetMtu { link, mtu } => write!(f, "ip link set {link} mtu {mtu}"),
            LinkOp::Rename { link, to } => write!(f, "ip link set {link} name {to}"),
            LinkOp::AddAddress { link, address } => write!(f, "ip address add {address} dev {link}"),
            LinkOp::DeleteAddress { link, address } => write!(f, "ip address del {address} dev {link}"),
            LinkOp::SetRoute { to, via, link } => write!(f, "ip route replace {to}{} dev {link}", Via(*via)),
            LinkOp::DeleteRoute { to, via, link } => write!(f, "ip route del {to}{} dev {link}", Via(*via)),
            LinkOp::DeleteLink { link } => write!(f, "ip link del {link}"),
            LinkOp::Sysctl { path, value } => write!(f, "sysctl {path}={value}"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} netns CONTAINER", self.name)?;
        match self.mac {
            Some(mac) => write!(f, " address {mac}"),
            None => Ok(()),
        }
    }
}

struct Via(Option<IpAddr>);

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |ip| write!(f, " via {ip}"))
    }
}

struct Mtu(Option<u32>);

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

fn lower(value: &impl fmt::Debug) -> String {
    format!("{value:?}").to_ascii_lowercase()
}
