//! The words of rules: matches, verdicts, elements. They print as `nft` writes them and
//! compile to the kernel's instructions.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barque_sys::netlink::nft::{CmpOp, CtKey, Expr, MetaKey, NatFamily, PayloadBase, Reg};
use ipnet::IpNet;

use super::rules::{OPEN4, OPEN6, PORTS4, PORTS4_ANY, PORTS6, PORTS6_ANY};
use crate::ports::Proto;

pub use barque_sys::netlink::nft::Verdict;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A rule: all terms in order; the last one acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(pub Vec<Term>);

/// One match or action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    In(String),
    InNot(String),
    InSet(&'static str),
    Out(String),
    OutNot(String),
    OutSet(&'static str),
    Source(IpNet),
    Destination(IpNet),
    Family(Family),
    /// ICMP of the family.
    Icmp(Family),
    /// Belongs to a known connection.
    Established,
    /// The connection's destination was translated: it came through a published port.
    Translated,
    /// The destination is an address of this machine.
    LocalDestination,
    /// The destination's address, protocol and port are in the set.
    Open {
        set: &'static str,
        family: Family,
    },
    /// Follows the map's verdict for the interface, if there is one.
    InMap(&'static str),
    OutMap(&'static str),
    /// Rewrites the destination by the map, whose key begins with the address if `address`.
    Translate {
        map: &'static str,
        family: Family,
        address: bool,
    },
    Masquerade,
    Verdict(Verdict),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    Interface { set: &'static str, name: String },
    Dispatch { set: &'static str, name: String, chain: String },
    Port4 { host: Option<Ipv4Addr>, proto: Proto, port: u16, to: (Ipv4Addr, u16) },
    Port6 { host: Option<Ipv6Addr>, proto: Proto, port: u16, to: (Ipv6Addr, u16) },
    Open { address: IpAddr, proto: Proto, port: u16 },
}

impl Element {
    pub(super) fn port4(host: Option<Ipv4Addr>, proto: Proto, port: u16, to: (Ipv4Addr, u16)) -> Element {
        Element::Port4 { host, proto, port, to }
    }

    pub(super) fn port6(host: Option<Ipv6Addr>, proto: Proto, port: u16, to: (Ipv6Addr, u16)) -> Element {
        Element::Port6 { host, proto, port, to }
    }

    /// The set or map it belongs to.
    pub fn set(&self) -> &'static str {
        match self {
            Element::Interface { set, .. } | Element::Dispatch { set, .. } => set,
            Element::Port4 { host: Some(_), .. } => PORTS4,
            Element::Port4 { host: None, .. } => PORTS4_ANY,
            Element::Port6 { host: Some(_), .. } => PORTS6,
            Element::Port6 { host: None, .. } => PORTS6_ANY,
            Element::Open { address: IpAddr::V4(_), .. } => OPEN4,
            Element::Open { address: IpAddr::V6(_), .. } => OPEN6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Family::V4 { "ip" } else { "ip6" })
    }
}

fn family_of(net: &IpNet) -> Family {
    if net.addr().is_ipv4() { Family::V4 } else { Family::V6 }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::In(name) => write!(f, "iifname \"{name}\""),
            Term::InNot(name) => write!(f, "iifname != \"{name}\""),
            Term::InSet(set) => write!(f, "iifname @{set}"),
            Term::Out(name) => write!(f, "oifname \"{name}\""),
            Term::OutNot(name) => write!(f, "oifname != \"{name}\""),
            Term::OutSet(set) => write!(f, "oifname @{set}"),
            Term::Source(net) => write!(f, "{} saddr {net}", family_of(net)),
            Term::Destination(net) => write!(f, "{} daddr {net}", family_of(net)),
            Term::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Term::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Term::Icmp(Family::V4) => f.write_str("meta l4proto icmp"),
            Term::Icmp(Family::V6) => f.write_str("meta l4proto ipv6-icmp"),
            Term::Established => f.write_str("ct state established,related"),
            Term::Translated => f.write_str("ct status dnat"),
            Term::LocalDestination => f.write_str("fib daddr type local"),
            Term::Open { set, family } => write!(f, "{family} daddr . meta l4proto . th dport @{set}"),
            Term::InMap(map) => write!(f, "iifname vmap @{map}"),
            Term::OutMap(map) => write!(f, "oifname vmap @{map}"),
            Term::Translate { map, family, address } => {
                let head = if *address { format!("{family} daddr . ") } else { String::new() };
                write!(f, "dnat {family} to {head}meta l4proto . th dport map @{map}")
            }
            Term::Masquerade => f.write_str("masquerade"),
            Term::Verdict(verdict) => fmt_verdict(verdict, f),
        }
    }
}

fn fmt_verdict(verdict: &Verdict, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match verdict {
        Verdict::Accept => f.write_str("accept"),
        Verdict::Drop => f.write_str("drop"),
        Verdict::Return => f.write_str("return"),
        Verdict::Jump(chain) => write!(f, "jump {chain}"),
        Verdict::Goto(chain) => write!(f, "goto {chain}"),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.0.iter().enumerate() {
            write!(f, "{}{term}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {} {{ ", self.set())?;
        match self {
            Element::Interface { name, .. } => write!(f, "\"{name}\"")?,
            Element::Dispatch { name, chain, .. } => write!(f, "\"{name}\" : jump {chain}")?,
            Element::Port4 { host, proto, port, to: (ip, to) } => {
                host.map_or(Ok(()), |h| write!(f, "{h} . "))?;
                write!(f, "{proto} . {port} : {ip} . {to}")?;
            }
            Element::Port6 { host, proto, port, to: (ip, to) } => {
                host.map_or(Ok(()), |h| write!(f, "{h} . "))?;
                write!(f, "{proto} . {port} : {ip} . {to}")?;
            }
            Element::Open { address, proto, port } => write!(f, "{address} . {proto} . {port}")?,
        }
        f.write_str(" }")
    }
}

const A: Reg = Reg(0);

/// An interface name as the kernel compares it.
pub(crate) fn ifname(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn interface(key: MetaKey, op: CmpOp, name: &str, out: &mut Vec<Expr>) {
    out.push(Expr::Meta { key, to: A });
    out.push(Expr::Cmp { reg: A, op, value: ifname(name) });
}

fn is_family(family: Family, out: &mut Vec<Expr>) {
    let number = if family == Family::V4 { libc_family::IPV4 } else { libc_family::IPV6 };
    out.push(Expr::Meta { key: MetaKey::Family, to: A });
    out.push(Expr::Cmp { reg: A, op: CmpOp::Equal, value: vec![number] });
}

/// NFPROTO numbers of uapi/linux/netfilter.h.
mod libc_family {
    pub(super) const IPV4: u8 = 2;
    pub(super) const IPV6: u8 = 10;
}

/// Offsets of source and destination in the IP headers (RFC 791, RFC 8200).
fn address_offset(family: Family, destination: bool) -> (u32, u32) {
    match (family, destination) {
        (Family::V4, false) => (12, 4),
        (Family::V4, true) => (16, 4),
        (Family::V6, false) => (8, 16),
        (Family::V6, true) => (24, 16),
    }
}

fn load_address(family: Family, destination: bool, to: Reg) -> Expr {
    let (offset, len) = address_offset(family, destination);
    Expr::Payload { base: PayloadBase::Network, offset, len, to }
}

fn in_network(net: &IpNet, destination: bool, out: &mut Vec<Expr>) {
    let family = family_of(net);
    is_family(family, out);
    out.push(load_address(family, destination, A));
    let (mask, network) = (octets(net.netmask()), octets(net.network()));
    if net.prefix_len() < net.max_prefix_len() {
        out.push(Expr::And { reg: A, mask });
    }
    out.push(Expr::Cmp { reg: A, op: CmpOp::Equal, value: network });
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Loads protocol and destination port, each into a register of its own.
fn load_port(at: u8, out: &mut Vec<Expr>) {
    out.push(Expr::Meta { key: MetaKey::Protocol, to: Reg(at) });
    out.push(Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, to: Reg(at + 1) });
}

fn words(family: Family) -> u8 {
    if family == Family::V4 { 1 } else { 4 }
}

fn has_bits(key: CtKey, bits: u32, out: &mut Vec<Expr>) {
    out.push(Expr::Ct { key, to: A });
    out.push(Expr::And { reg: A, mask: bits.to_ne_bytes().to_vec() });
    out.push(Expr::Cmp { reg: A, op: CmpOp::NotEqual, value: vec![0; 4] });
}

impl Rule {
    /// The kernel's instructions for this rule.
    pub(crate) fn compile(&self) -> Vec<Expr> {
        let mut out = Vec::with_capacity(self.0.len() * 3);
        self.0.iter().for_each(|term| term.compile(&mut out));
        out
    }
}

impl Term {
    fn compile(&self, out: &mut Vec<Expr>) {
        const ESTABLISHED_RELATED: u32 = 2 | 4;
        const DST_NAT: u32 = 1 << 5;
        const LOCAL: u32 = 2;
        match self {
            Term::In(name) => interface(MetaKey::InputName, CmpOp::Equal, name, out),
            Term::InNot(name) => interface(MetaKey::InputName, CmpOp::NotEqual, name, out),
            Term::Out(name) => interface(MetaKey::OutputName, CmpOp::Equal, name, out),
            Term::OutNot(name) => interface(MetaKey::OutputName, CmpOp::NotEqual, name, out),
            Term::InSet(set) => {
                out.push(Expr::Meta { key: MetaKey::InputName, to: A });
                out.push(Expr::InSet { set: (*set).into(), key: A });
            }
            Term::OutSet(set) => {
                out.push(Expr::Meta { key: MetaKey::OutputName, to: A });
                out.push(Expr::InSet { set: (*set).into(), key: A });
            }
            Term::InMap(set) => {
                out.push(Expr::Meta { key: MetaKey::InputName, to: A });
                out.push(Expr::VerdictMap { set: (*set).into(), key: A });
            }
            Term::OutMap(set) => {
                out.push(Expr::Meta { key: MetaKey::OutputName, to: A });
                out.push(Expr::VerdictMap { set: (*set).into(), key: A });
            }
            Term::Source(net) => in_network(net, false, out),
            Term::Destination(net) => in_network(net, true, out),
            Term::Family(family) => is_family(*family, out),
            Term::Icmp(family) => {
                is_family(*family, out);
                let number = if *family == Family::V4 { 1 } else { 58 };
                out.push(Expr::Meta { key: MetaKey::Protocol, to: A });
                out.push(Expr::Cmp { reg: A, op: CmpOp::Equal, value: vec![number] });
            }
            Term::Established => has_bits(CtKey::State, ESTABLISHED_RELATED, out),
            Term::Translated => has_bits(CtKey::Status, DST_NAT, out),
            Term::LocalDestination => {
                out.push(Expr::FibDestinationType { to: A });
                out.push(Expr::Cmp { reg: A, op: CmpOp::Equal, value: LOCAL.to_ne_bytes().to_vec() });
            }
            Term::Open { set, family } => {
                out.push(load_address(*family, true, A));
                load_port(words(*family), out);
                out.push(Expr::InSet { set: (*set).into(), key: A });
            }
            Term::Translate { map, family, address } => translate(map, *family, *address, out),
            Term::Masquerade => out.push(Expr::Masquerade),
            Term::Verdict(verdict) => out.push(Expr::Verdict(verdict.clone())),
        }
    }
}

fn translate(map: &str, family: Family, address: bool, out: &mut Vec<Expr>) {
    if address {
        out.push(load_address(family, true, A));
        load_port(words(family), out);
    } else {
        load_port(0, out);
    }
    out.push(Expr::Map { set: map.to_owned(), key: A, to: A });
    let family_number = if family == Family::V4 { NatFamily::V4 } else { NatFamily::V6 };
    out.push(Expr::DestinationNat { family: family_number, address: A, port: Reg(words(family)) });
}
