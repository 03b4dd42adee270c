//! From a network's definition to its devices and rules on the machine.

use std::fmt;

use ipnet::IpNet;

use super::links::LinkOp;
use super::rules::{self, NetworkRules};
use crate::mac::Mac;
use crate::network::{BridgeOptions, Driver, GatewayMode, NetworkDef, Parent};

/// Everything a network needs on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// If the device is not there.
    pub create: Vec<LinkOp>,
    /// In any case; repeating them changes nothing.
    pub configure: Vec<LinkOp>,
    pub rules: NetworkRules,
}

/// What a plan takes from the machine and the engine's settings.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Written on the devices we make, so that we remove none but these.
    pub alias: &'a str,
    /// Bytes, where the network names none.
    pub mtu: u32,
    /// The kernel has IPv6.
    pub ipv6: bool,
    /// The packet filter is ours to use, and guards loopback.
    pub guarded: bool,
}

/// Plans a network. `host` and `none` need nothing.
pub fn plan(def: &NetworkDef, around: &Surroundings<'_>) -> NetworkPlan {
    let mut plan = NetworkPlan { rules: rules::network(def), ..NetworkPlan::default() };
    match &def.driver {
        Driver::Bridge(options) => bridge(def, options, around, &mut plan),
        Driver::Macvlan(options) => parent(&options.parent, around, &mut plan),
        Driver::Ipvlan(options) => parent(&options.parent, around, &mut plan),
        Driver::Host | Driver::None => {}
    }
    plan
}

fn bridge(def: &NetworkDef, options: &BridgeOptions, around: &Surroundings<'_>, plan: &mut NetworkPlan) {
    let name = &options.bridge;
    // An address that follows from the gateway survives a restart, and with it the neighbours' caches.
    let mac = def.gateway_v4().map_or_else(|| mac_of_id(def), Mac::from_ipv4);
    let mtu = options.mtu.unwrap_or(around.mtu);
    plan.create.push(LinkOp::AddBridge { name: name.clone(), mac, mtu, alias: around.alias.to_owned() });
    let sysctl = |path: String, value: &str| LinkOp::Sysctl { path, value: value.to_owned() };
    if def.has_ipv4() && around.guarded {
        // Lets answers to connections from 127.0.0.1 back in; the rules keep everything else out.
        plan.configure.push(sysctl(format!("net/ipv4/conf/{name}/route_localnet"), "1"));
    }
    if around.ipv6 {
        let off = if def.has_ipv6() { "0" } else { "1" };
        plan.configure.push(sysctl(format!("net/ipv6/conf/{name}/accept_ra"), "0"));
        plan.configure.push(sysctl(format!("net/ipv6/conf/{name}/disable_ipv6"), off));
    }
    plan.configure.extend(
        addresses(def, options, around.ipv6)
            .into_iter()
            .map(|address| LinkOp::AddAddress { link: name.clone(), address }),
    );
    plan.configure.push(LinkOp::SetUp { link: name.clone() });
}

/// The machine's own addresses on a bridge network.
pub fn addresses(def: &NetworkDef, options: &BridgeOptions, ipv6: bool) -> Vec<IpNet> {
    let wanted = |v6: bool| match v6 {
        true => ipv6 && options.gateway_mode_v6 != GatewayMode::Isolated,
        false => !options.inhibit_ipv4 && options.gateway_mode_v4 != GatewayMode::Isolated,
    };
    let address = |p: &crate::network::Pool| {
        p.gateway.filter(|g| wanted(g.is_ipv6())).and_then(|g| IpNet::new(g, p.subnet.prefix_len()).ok())
    };
    def.pools.iter().filter_map(address).collect()
}

fn mac_of_id(def: &NetworkDef) -> Mac {
    let digits = def.id.short();
    let byte = |i: usize| u8::from_str_radix(digits.get(i * 2..i * 2 + 2).unwrap_or("0"), 16).unwrap_or(0);
    Mac([0x02, 0x42, byte(0), byte(1), byte(2), byte(3)])
}

fn parent(parent: &Parent, around: &Surroundings<'_>, plan: &mut NetworkPlan) {
    let alias = around.alias.to_owned();
    match parent {
        Parent::Device(_) => {}
        Parent::Vlan { device, vlan, name } => {
            plan.create.push(LinkOp::AddVlan { name: name.clone(), parent: device.clone(), vlan: *vlan, alias });
        }
        Parent::Dummy(name) => plan.create.push(LinkOp::AddDummy { name: name.clone(), alias }),
    }
}

impl fmt::Display for NetworkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.create.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        self.configure.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        write!(f, "{}", self.rules)
    }
}
