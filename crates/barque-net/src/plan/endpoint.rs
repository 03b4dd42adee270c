//! From an endpoint's definition to its interface.

use std::fmt;
use std::net::IpAddr;

use barque_model::{Error, Result};
use ipnet::IpNet;

use super::links::{LinkOp, Peer, PortMode, default_of};
use crate::endpoint::{Attached, EndpointDef};
use crate::mac::Mac;
use crate::network::{Driver, IpvlanMode, NetworkDef};

/// How an endpoint is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// On the machine. Empty where the interface is there already (taken from the pool).
    pub outside: Vec<LinkOp>,
    /// In the container's namespace: brings the interface up. Then comes a pause until the bridge
    /// forwards its frames. Empty where the interface was made ahead.
    pub raise: Vec<LinkOp>,
    /// In the container's namespace, afterwards: addresses, their announcement to the neighbours, routes.
    pub inside: Vec<LinkOp>,
    /// Name under which the interface appears in the container's namespace.
    pub made_as: String,
    /// The outcome; its index is known once the interface is there.
    pub attached: Attached,
}

/// What a plan takes from the namespace and the machine.
#[derive(Clone, Debug)]
pub struct Slot<'a> {
    /// Name the interface is to have.
    pub ifname: String,
    /// Name of a veth's outer end.
    pub host_ifname: String,
    /// The interface is already there, up, without addresses, under this name.
    pub prepared: Option<&'a str>,
    /// Bytes, where the network names none.
    pub mtu: u32,
    /// The kernel has IPv6.
    pub ipv6: bool,
    /// Bridged frames pass the packet filter (net.bridge.bridge-nf-call-iptables).
    pub bridge_netfilter: bool,
}

/// Plans an endpoint.
///
/// Errors: an address outside the network's pools, an address the driver cannot have.
pub fn plan(def: &NetworkDef, endpoint: &EndpointDef, slot: &Slot<'_>) -> Result<EndpointPlan> {
    let v4 = endpoint.v4.map(|ip| in_pool(def, ip.into())).transpose()?;
    let v6 = endpoint.v6.map(|ip| in_pool(def, ip.into())).transpose()?;
    if v6.is_some() && !slot.ipv6 {
        return Err(Error::unavailable(format!("network {} needs IPv6, which this kernel has not", def.name))
            .with_hint("boot without ipv6.disable=1, or create the network without --ipv6"));
    }
    let attached = Attached {
        endpoint: endpoint.id,
        network: def.id,
        ifname: slot.ifname.clone(),
        ifindex: 0,
        mac: endpoint.mac.unwrap_or_else(|| endpoint.v4.map_or_else(Mac::random, Mac::from_ipv4)),
        v4: v4.and_then(|net| if let IpNet::V4(net) = net { Some(net) } else { None }),
        v6: v6.and_then(|net| if let IpNet::V6(net) = net { Some(net) } else { None }),
        gateway_v4: gateway(def, v4).and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
        gateway_v6: gateway(def, v6).and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
        host_ifname: def.bridge().map(|_| slot.host_ifname.clone()),
    };
    let (outside, raise) = match slot.prepared {
        Some(_) => (Vec::new(), Vec::new()),
        None => (outside(def, endpoint, slot, &attached)?, raise(made_as(def, slot), &slot.ifname)),
    };
    let inside = inside(def, endpoint, slot, &attached);
    Ok(EndpointPlan { outside, raise, inside, made_as: made_as(def, slot).to_owned(), attached })
}

/// On a parent: a name that nobody has. Older kernels refuse the name of a link of the namespace they are asked in, such
/// as the machine's own eth0, also where the new link is for another.
fn made_as<'a>(def: &NetworkDef, slot: &'a Slot<'_>) -> &'a str {
    if def.bridge().is_some() { &slot.ifname } else { &slot.host_ifname }
}

fn raise(made_as: &str, ifname: &str) -> Vec<LinkOp> {
    let named = (made_as != ifname).then(|| LinkOp::Rename { link: made_as.to_owned(), to: ifname.to_owned() });
    named.into_iter().chain([LinkOp::SetUp { link: ifname.to_owned() }]).collect()
}

fn in_pool(def: &NetworkDef, ip: IpAddr) -> Result<IpNet> {
    let outside = || {
        Error::invalid(format!("address {ip} belongs to no subnet of network {}", def.name))
            .with_hint("choose an address in one of the network's subnets")
    };
    let pool = def.pool_of(ip).ok_or_else(outside)?;
    IpNet::new(ip, pool.subnet.prefix_len()).map_err(|_| outside())
}

/// The router of the subnet `address` is in; internal networks have none.
fn gateway(def: &NetworkDef, address: Option<IpNet>) -> Option<IpAddr> {
    let pool = def.pool_of(address?.addr()).filter(|_| !def.internal)?;
    pool.gateway
}

fn outside(def: &NetworkDef, endpoint: &EndpointDef, slot: &Slot<'_>, attached: &Attached) -> Result<Vec<LinkOp>> {
    let peer = Peer { name: made_as(def, slot).to_owned(), mac: Some(attached.mac) };
    let op = match &def.driver {
        Driver::Bridge(options) => LinkOp::AddVeth {
            name: slot.host_ifname.clone(),
            bridge: options.bridge.clone(),
            mtu: options.mtu.unwrap_or(slot.mtu),
            port: PortMode::of(options.icc, slot.bridge_netfilter),
            // Set, and thereby announced, when the bridge forwards.
            peer: Peer { mac: None, ..peer },
        },
        Driver::Macvlan(options) => LinkOp::AddMacvlan {
            parent: options.parent.ifname().to_owned(),
            mode: options.mode,
            mtu: options.mtu,
            peer,
        },
        Driver::Ipvlan(options) => {
            if endpoint.mac.is_some() {
                return Err(Error::invalid("ipvlan interfaces share the parent's MAC address")
                    .with_hint("leave out --mac-address, or use a macvlan network"));
            }
            LinkOp::AddIpvlan {
                parent: options.parent.ifname().to_owned(),
                mode: options.mode,
                flag: options.flag,
                mtu: options.mtu,
                peer: Peer { mac: None, ..peer },
            }
        }
        Driver::Host | Driver::None => {
            return Err(Error::invalid(format!("network {} has no endpoints", def.name)));
        }
    };
    Ok(vec![op])
}

fn inside(def: &NetworkDef, endpoint: &EndpointDef, slot: &Slot<'_>, attached: &Attached) -> Vec<LinkOp> {
    let name = slot.ifname.as_str();
    let mut ops = Vec::with_capacity(6);
    if let Some(present) = slot.prepared.filter(|p| *p != name) {
        ops.push(LinkOp::SetDown { link: present.to_owned() });
        ops.push(LinkOp::Rename { link: present.to_owned(), to: name.to_owned() });
        ops.push(LinkOp::SetUp { link: name.to_owned() });
    }
    let sysctl = |path: String, value: &str| LinkOp::Sysctl { path, value: value.to_owned() };
    if attached.v6.is_some() {
        ops.push(sysctl(format!("net/ipv6/conf/{name}/accept_ra"), "0"));
        ops.push(sysctl(format!("net/ipv6/conf/{name}/disable_ipv6"), "0"));
    }
    for (key, value) in &endpoint.sysctls {
        ops.push(sysctl(key.replace('.', "/").replace("IFNAME", name), value));
    }
    let addresses = attached.v4.map(IpNet::V4).into_iter().chain(attached.v6.map(IpNet::V6));
    let addresses = addresses.chain(endpoint.on_link.iter().copied());
    ops.extend(addresses.map(|address| LinkOp::AddAddress { link: name.to_owned(), address }));
    if def.bridge().is_some() {
        // After the IP addresses: the change is announced to the neighbours (arp_notify, ndisc_notify),
        // who may remember another container with the same address.
        ops.push(LinkOp::SetMac { link: name.to_owned(), mac: attached.mac });
    }
    if endpoint.default_gateway {
        ops.extend(default_routes(def, attached));
    }
    ops
}

/// The default routes through an endpoint.
pub fn default_routes(def: &NetworkDef, attached: &Attached) -> Vec<LinkOp> {
    let link = &attached.ifname;
    if let Driver::Ipvlan(options) = &def.driver
        && options.mode != IpvlanMode::L2
    {
        // Layer 3 modes have no neighbours and no router: the parent's routing table takes over.
        let families = [attached.v4.map(|_| false), attached.v6.map(|_| true)];
        let route = |v6| LinkOp::SetRoute { to: default_of(v6), via: None, link: link.clone() };
        return families.into_iter().flatten().map(route).collect();
    }
    let v4 = attached.gateway_v4.map(IpAddr::V4);
    let v6 = attached.gateway_v6.map(IpAddr::V6);
    v4.into_iter().chain(v6).map(|via| LinkOp::default_route(via, link)).collect()
}

impl fmt::Display for EndpointPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outside.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        self.raise.iter().chain(&self.inside).try_for_each(|op| writeln!(f, "ip netns exec CONTAINER {op}"))
    }
}
