//! Writes chains, rules and elements into the engine's table.

use barque_model::{Error, ErrorKind, Result};
use barque_sys::netlink::NetlinkError;
use barque_sys::netlink::nft::{self, ElementData, NftSocket, SetData, SetSpec, Transaction, Verdict};
use rustix::io::Errno;

use crate::plan::rules::{self, Chain, Element, Family, HookPoint, NetworkRules, SetKind};
use crate::plan::terms::{ifname, octets};

/// nft's numbers of data types, for those who list the table.
mod types {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const PROTO: u32 = 12;
    pub(super) const SERVICE: u32 = 13;
    pub(super) const IFNAME: u32 = 41;

    /// A concatenation: six bits for each part.
    pub(super) fn concat(parts: &[u32]) -> u32 {
        parts.iter().fold(0, |all, part| all << 6 | part)
    }
}

/// A transaction that replaces the whole table by the frame and these networks and elements.
pub(crate) fn replace_all<'a>(
    table: &str,
    loopback: bool,
    networks: impl Iterator<Item = &'a NetworkRules>,
    elements: &[Element],
) -> Transaction {
    let mut t = Transaction::new(table);
    // Deleting needs something to delete.
    t.add_table();
    t.delete_table();
    t.add_table();
    rules::SETS.iter().for_each(|(name, kind)| t.add_set(&set_spec(name, *kind)));
    let frame = rules::frame(loopback);
    // All chains before all rules: maps and rules jump to chains.
    frame.iter().for_each(|c| add_chain(&mut t, c));
    let networks: Vec<&NetworkRules> = networks.collect();
    networks.iter().for_each(|n| n.chains.iter().for_each(|c| add_chain(&mut t, c)));
    frame.iter().chain(networks.iter().flat_map(|n| &n.chains)).for_each(|c| add_rules(&mut t, c));
    networks.iter().for_each(|n| add_elements(&mut t, &n.elements));
    add_elements(&mut t, elements);
    t
}

/// A transaction that adds a network, or writes its rules again.
pub(crate) fn add_network(table: &str, network: &NetworkRules) -> Transaction {
    let mut t = Transaction::new(table);
    for chain in &network.chains {
        add_chain(&mut t, chain);
        t.flush_chain(&chain.name);
        add_rules(&mut t, chain);
    }
    add_elements(&mut t, &network.elements);
    t
}

/// A transaction that removes a network.
pub(crate) fn remove_network(table: &str, network: &NetworkRules) -> Transaction {
    let mut t = Transaction::new(table);
    delete_elements(&mut t, &network.elements);
    for chain in &network.chains {
        t.flush_chain(&chain.name);
        t.delete_chain(&chain.name);
    }
    t
}

/// A transaction that adds elements.
pub(crate) fn add(table: &str, elements: &[Element]) -> Transaction {
    let mut t = Transaction::new(table);
    add_elements(&mut t, elements);
    t
}

/// A transaction that deletes elements.
pub(crate) fn delete(table: &str, elements: &[Element]) -> Transaction {
    let mut t = Transaction::new(table);
    delete_elements(&mut t, elements);
    t
}

/// Commits, and tells what was refused.
pub(crate) fn commit(socket: &mut NftSocket, transaction: Transaction, what: &str) -> Result<()> {
    socket.commit(transaction).map_err(|e| refused(what, e))
}

fn refused(what: &str, error: NetlinkError) -> Error {
    let (kind, hint) = match error.errno {
        // A table, chain or element is missing: somebody changed what is ours.
        Errno::NOENT => (ErrorKind::NotFound, None),
        Errno::EXIST => (ErrorKind::Conflict, None),
        Errno::PERM | Errno::ACCESS => {
            (ErrorKind::Forbidden, Some("the engine needs CAP_NET_ADMIN in this network namespace"))
        }
        Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::INVAL => (
            ErrorKind::Unsupported,
            Some(
                "this kernel's nf_tables lacks a part (inet tables, fib, nat, masquerade); --iptables=false works without",
            ),
        ),
        _ => (ErrorKind::Internal, None),
    };
    let out = Error::new(kind, format!("cannot {what} in the packet filter: {error}")).with_source(error);
    match hint {
        Some(hint) => out.with_hint(hint),
        None => out,
    }
}

fn add_chain(t: &mut Transaction, chain: &Chain) {
    let hook = chain.hook.map(|h| nft::Hook {
        kind: h.kind,
        number: match h.point {
            HookPoint::Prerouting => 0,
            HookPoint::Forward => 2,
            HookPoint::Output => 3,
            HookPoint::Postrouting => 4,
        },
        priority: h.priority,
    });
    t.add_chain(&chain.name, hook);
}

fn add_rules(t: &mut Transaction, chain: &Chain) {
    chain.rules.iter().for_each(|rule| t.add_rule(&chain.name, &rule.compile()));
}

fn add_elements(t: &mut Transaction, elements: &[Element]) {
    by_set(elements, |set, list| t.add_elements(set, list));
}

fn delete_elements(t: &mut Transaction, elements: &[Element]) {
    by_set(elements, |set, list| {
        list.iter_mut().for_each(|e| e.data = None);
        t.delete_elements(set, list);
    });
}

/// Groups elements by set: one message carries many.
fn by_set(elements: &[Element], mut each: impl FnMut(&str, &mut [nft::Element])) {
    for (name, _) in &rules::SETS {
        let mut list: Vec<nft::Element> = elements.iter().filter(|e| e.set() == *name).map(encode).collect();
        if !list.is_empty() {
            each(name, &mut list);
        }
    }
}

fn set_spec(name: &str, kind: SetKind) -> SetSpec {
    let address = |family| if family == Family::V4 { (types::IPV4, 4) } else { (types::IPV6, 16) };
    let (key_type, key_len, data) = match kind {
        SetKind::Interfaces => (types::IFNAME, 16, None),
        SetKind::Dispatch => (types::IFNAME, 16, Some(SetData::Verdict)),
        SetKind::Ports(family) => {
            let (ip, length) = address(family);
            let data = SetData::Value(types::concat(&[ip, types::SERVICE]), length + 4);
            (types::concat(&[ip, types::PROTO, types::SERVICE]), length + 8, Some(data))
        }
        SetKind::PortsAny(family) => {
            let (ip, length) = address(family);
            let data = SetData::Value(types::concat(&[ip, types::SERVICE]), length + 4);
            (types::concat(&[types::PROTO, types::SERVICE]), 8, Some(data))
        }
        SetKind::Open(family) => {
            let (ip, length) = address(family);
            (types::concat(&[ip, types::PROTO, types::SERVICE]), length + 8, None)
        }
    };
    SetSpec { name: name.to_owned(), key_type, key_len, host_order: key_type == types::IFNAME, data }
}

/// Parts of a concatenation are padded to four bytes each.
fn key(host: Option<Vec<u8>>, proto: u8, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let mut bytes = host.unwrap_or_default();
    bytes.extend_from_slice(&[proto, 0, 0, 0, high, low, 0, 0]);
    bytes
}

fn value(mut ip: Vec<u8>, port: u16) -> ElementData {
    let [high, low] = port.to_be_bytes();
    ip.extend_from_slice(&[high, low, 0, 0]);
    ElementData::Value(ip)
}

fn encode(element: &Element) -> nft::Element {
    match element {
        Element::Interface { name, .. } => nft::Element { key: ifname(name), data: None },
        Element::Dispatch { name, chain, .. } => {
            nft::Element { key: ifname(name), data: Some(ElementData::Verdict(Verdict::Jump(chain.clone()))) }
        }
        Element::Port4 { host, proto, port, to } => nft::Element {
            key: key(host.map(|h| h.octets().to_vec()), proto.number(), *port),
            data: Some(value(to.0.octets().to_vec(), to.1)),
        },
        Element::Port6 { host, proto, port, to } => nft::Element {
            key: key(host.map(|h| h.octets().to_vec()), proto.number(), *port),
            data: Some(value(to.0.octets().to_vec(), to.1)),
        },
        Element::Open { address, proto, port } => {
            nft::Element { key: key(Some(octets(*address)), proto.number(), *port), data: None }
        }
    }
}
