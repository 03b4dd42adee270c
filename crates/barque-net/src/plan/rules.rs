//! The packet filter of one engine: a fixed frame, a few chains per network, one element per port.
//!
//! ```text
//! prerouting  ─ raw: nothing from outside reaches 127.0.0.0/8
//!             └ nat: to a local address? → ports: look (address, protocol, port) up, rewrite
//! output      ─ nat: the same for connections of this machine
//! forward     ─ established? else by interface: from-NET (internal), into-NET (who may enter)
//! postrouting ─ nat: loopback sources; by interface: nat-NET (leaving the subnet), hairpin-NET
//! ```
//!
//! A container on no network with ports costs nothing here; publishing a port adds one map
//! element. Base chains have policy accept: what is not ours passes untouched.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::network::{BridgeOptions, GatewayMode, NetworkDef, Pool};
use crate::ports::{PortBinding, Target};

pub use super::terms::{Element, Family, Rule, Term, Verdict};

/// Set of bridge names.
pub const BRIDGES: &str = "bridges";
/// Verdicts by incoming and outgoing interface of forwarded packets.
pub const FROM: &str = "from-bridge";
pub const INTO: &str = "into-bridge";
/// Verdicts by incoming and outgoing interface after routing.
pub const NAT: &str = "nat-bridge";
pub const HAIRPIN: &str = "hairpin-bridge";
/// Set of bridges whose containers reach published ports through the relay.
pub const RELAYED: &str = "relayed";
/// Published ports of one address, and of every address.
pub const PORTS4: &str = "ports4";
pub const PORTS4_ANY: &str = "ports4-any";
pub const PORTS6: &str = "ports6";
pub const PORTS6_ANY: &str = "ports6-any";
/// Ports open on the container's own address (gateway mode `routed`).
pub const OPEN4: &str = "open4";
pub const OPEN6: &str = "open6";

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    Interfaces,
    /// Interface → chain.
    Dispatch,
    /// (address, protocol, port) → (address, port)
    Ports(Family),
    /// (protocol, port) → (address, port)
    PortsAny(Family),
    /// (address, protocol, port)
    Open(Family),
}

/// The sets and maps of the frame.
pub const SETS: [(&str, SetKind); 12] = [
    (BRIDGES, SetKind::Interfaces),
    (RELAYED, SetKind::Interfaces),
    (FROM, SetKind::Dispatch),
    (INTO, SetKind::Dispatch),
    (NAT, SetKind::Dispatch),
    (HAIRPIN, SetKind::Dispatch),
    (PORTS4, SetKind::Ports(Family::V4)),
    (PORTS4_ANY, SetKind::PortsAny(Family::V4)),
    (PORTS6, SetKind::Ports(Family::V6)),
    (PORTS6_ANY, SetKind::PortsAny(Family::V6)),
    (OPEN4, SetKind::Open(Family::V4)),
    (OPEN6, SetKind::Open(Family::V6)),
];

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    pub point: HookPoint,
    pub priority: i32,
}

/// The netfilter hooks in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    Prerouting,
    Forward,
    Output,
    Postrouting,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// `None` for chains that are only jumped to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// What one network adds to the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRules {
    pub chains: Vec<Chain>,
    pub elements: Vec<Element>,
}

fn rule(terms: impl IntoIterator<Item = Term>) -> Rule {
    Rule(terms.into_iter().collect())
}

fn jump(chain: &str) -> Term {
    Term::Verdict(Verdict::Jump(chain.to_owned()))
}

/// The chains every engine has, in an order in which each exists before it is jumped to.
///
/// `loopback`: connections of this machine to 127.0.0.1 are translated as well, which
/// needs `route_localnet` on the bridges; without it the relay serves them.
pub fn frame(loopback: bool) -> Vec<Chain> {
    let localhost = || Term::Destination("127.0.0.0/8".parse().unwrap_or_default());
    let mut ports = vec![rule([Term::Destination(loopback_v6()), Term::Verdict(Verdict::Return)])];
    if !loopback {
        ports.push(rule([localhost(), Term::Verdict(Verdict::Return)]));
    }
    ports.extend([
        rule([Term::Family(Family::V4), Term::Translate { map: PORTS4, family: Family::V4, address: true }]),
        rule([Term::Family(Family::V4), Term::Translate { map: PORTS4_ANY, family: Family::V4, address: false }]),
        rule([Term::Family(Family::V6), Term::Translate { map: PORTS6, family: Family::V6, address: true }]),
        rule([Term::Family(Family::V6), Term::Translate { map: PORTS6_ANY, family: Family::V6, address: false }]),
    ]);
    let base = |name: &str, kind, point, priority, rules| Chain {
        name: name.to_owned(),
        hook: Some(Hook { kind, point, priority }),
        rules,
    };
    let drop = || Term::Verdict(Verdict::Drop);
    vec![
        Chain { name: "ports".into(), hook: None, rules: ports },
        base(
            "raw-prerouting",
            "filter",
            HookPoint::Prerouting,
            -300,
            vec![
                rule([Term::InNot("lo".into()), localhost(), drop()]),
                rule([Term::InSet(BRIDGES), Term::Source("127.0.0.0/8".parse().unwrap_or_default()), drop()]),
            ],
        ),
        base(
            "prerouting",
            "nat",
            HookPoint::Prerouting,
            -100,
            vec![
                rule([Term::InSet(RELAYED), Term::Verdict(Verdict::Return)]),
                rule([Term::LocalDestination, jump("ports")]),
            ],
        ),
        base("output", "nat", HookPoint::Output, -100, vec![rule([Term::LocalDestination, jump("ports")])]),
        base(
            "forward",
            "filter",
            HookPoint::Forward,
            0,
            vec![
                rule([Term::Established, Term::Verdict(Verdict::Accept)]),
                rule([Term::InMap(FROM)]),
                rule([Term::OutMap(INTO)]),
            ],
        ),
        base(
            "postrouting",
            "nat",
            HookPoint::Postrouting,
            100,
            vec![
                rule([
                    Term::Source("127.0.0.0/8".parse().unwrap_or_default()),
                    Term::OutSet(BRIDGES),
                    Term::Masquerade,
                ]),
                rule([Term::InMap(NAT)]),
                rule([Term::Translated, Term::OutMap(HAIRPIN)]),
            ],
        ),
    ]
}

fn loopback_v6() -> IpNet {
    IpNet::from(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST))
}

/// The chains and elements of one network. Only bridges have any.
pub fn network(def: &NetworkDef) -> NetworkRules {
    let Some(options) = def.bridge() else { return NetworkRules::default() };
    let bridge = &options.bridge;
    let mut out = NetworkRules::default();
    out.elements.push(Element::Interface { set: BRIDGES, name: bridge.clone() });
    let mut add = |set, prefix: &str, rules: Vec<Rule>| {
        let chain = format!("{prefix}-{bridge}");
        out.chains.push(Chain { name: chain.clone(), hook: None, rules });
        out.elements.push(Element::Dispatch { set, name: bridge.clone(), chain });
    };
    add(INTO, "into", entering(def, options));
    if def.internal {
        let leaving = [Term::OutNot(bridge.clone()), Term::Verdict(Verdict::Drop)];
        add(FROM, "from", vec![rule(leaving)]);
    } else {
        add(NAT, "nat", leaving(def, options));
        add(HAIRPIN, "hairpin", hairpin(def));
    }
    if !options.icc {
        // Isolated bridge ports keep frames between containers apart, also those that br_netfilter
        // has redirected to a published port. Through the relay they arrive.
        out.elements.push(Element::Interface { set: RELAYED, name: bridge.clone() });
    }
    out
}

/// Who may send first packets into the network.
fn entering(def: &NetworkDef, options: &BridgeOptions) -> Vec<Rule> {
    let accept = || Term::Verdict(Verdict::Accept);
    let mut rules = Vec::new();
    if options.icc {
        rules.push(rule([Term::In(options.bridge.clone()), accept()]));
    }
    if !def.internal {
        rules.push(rule([Term::Translated, accept()]));
        for (mode, family, set) in
            [(options.gateway_mode_v4, Family::V4, OPEN4), (options.gateway_mode_v6, Family::V6, OPEN6)]
        {
            match mode {
                GatewayMode::Nat | GatewayMode::Isolated => {}
                GatewayMode::NatUnprotected => rules.push(rule([Term::Family(family), accept()])),
                GatewayMode::Routed => {
                    rules.push(rule([Term::Icmp(family), accept()]));
                    rules.push(rule([Term::Family(family), Term::Open { set, family }, accept()]));
                }
            }
        }
    }
    rules.push(rule([Term::Verdict(Verdict::Drop)]));
    rules
}

/// What becomes of source addresses of packets that leave the network.
fn leaving(def: &NetworkDef, options: &BridgeOptions) -> Vec<Rule> {
    let mode = |p: &Pool| if p.subnet.addr().is_ipv4() { options.gateway_mode_v4 } else { options.gateway_mode_v6 };
    let masquerade = |p: &Pool| {
        let source = Term::Source(p.subnet.trunc());
        rule([source, Term::OutNot(options.bridge.clone()), Term::Masquerade])
    };
    def.pools.iter().filter(|p| options.masquerade && mode(p) != GatewayMode::Routed).map(masquerade).collect()
}

/// A container that reached its neighbour, or itself, through a published port must get the answer
/// through this machine too, or it would come from an address it never spoke to.
fn hairpin(def: &NetworkDef) -> Vec<Rule> {
    def.pools.iter().map(|p| rule([Term::Source(p.subnet.trunc()), Term::Masquerade])).collect()
}

/// The elements that open `bindings` to `target` on the network `def`.
pub fn ports(def: &NetworkDef, bindings: &[PortBinding], target: &Target) -> Vec<Element> {
    let Some(options) = def.bridge().filter(|_| !def.internal) else { return Vec::new() };
    let one = |b: &PortBinding| match (b.host_ip, target.v4, target.v6) {
        (std::net::IpAddr::V4(host), Some(to), _) => Some(match options.gateway_mode_v4 {
            GatewayMode::Routed => Element::Open { address: to.into(), proto: b.proto, port: b.container_port },
            _ => Element::port4(
                Some(host).filter(|h| *h != Ipv4Addr::UNSPECIFIED),
                b.proto,
                b.host_port,
                (to, b.container_port),
            ),
        }),
        (std::net::IpAddr::V6(host), _, Some(to)) => Some(match options.gateway_mode_v6 {
            GatewayMode::Routed => Element::Open { address: to.into(), proto: b.proto, port: b.container_port },
            _ => Element::port6(
                Some(host).filter(|h| *h != Ipv6Addr::UNSPECIFIED),
                b.proto,
                b.host_port,
                (to, b.container_port),
            ),
        }),
        _ => None,
    };
    let mut out: Vec<Element> = Vec::with_capacity(bindings.len());
    for element in bindings.iter().filter(|b| b.host_ip != Ipv6Addr::LOCALHOST).filter_map(one) {
        // In routed mode several host addresses lead to the same open port.
        if !out.contains(&element) || !matches!(element, Element::Open { .. }) {
            out.push(element);
        }
    }
    out
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "chain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            let point = format!("{:?}", hook.point).to_ascii_lowercase();
            writeln!(f, "  type {} hook {point} priority {}; policy accept;", hook.kind, hook.priority)?;
        }
        self.rules.iter().try_for_each(|r| writeln!(f, "  {r}"))?;
        writeln!(f, "}}")
    }
}

impl fmt::Display for NetworkRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chains.iter().try_for_each(|c| write!(f, "{c}"))?;
        self.elements.iter().try_for_each(|e| writeln!(f, "{e}"))
    }
}
