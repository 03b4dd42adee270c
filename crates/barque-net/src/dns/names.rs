//! Names and addresses of a network, ready to be looked up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use barque_model::Id;

use super::NameTable;

/// The tables of all networks.
pub(super) type Tables = HashMap<Id, Arc<Table>>;

/// Addresses behind one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

/// One network's names, in lower case.
#[derive(Debug, Default)]
pub(super) struct Table {
    network: String,
    forward: HashMap<Box<str>, Addresses>,
    reverse: HashMap<IpAddr, Box<str>>,
}

impl Table {
    pub(super) fn new(table: &NameTable) -> Table {
        let mut out = Table { network: table.network.to_ascii_lowercase(), ..Table::default() };
        for entry in &table.entries {
            for name in &entry.names {
                let addresses = out.forward.entry(name.to_ascii_lowercase().into()).or_default();
                addresses.v4.extend(entry.v4.filter(|ip| !addresses.v4.contains(ip)));
                addresses.v6.extend(entry.v6.filter(|ip| !addresses.v6.contains(ip)));
            }
            let Some(first) = entry.names.first() else { continue };
            let full: Box<str> = format!("{first}.{}", table.network).into();
            let ips = entry.v4.map(IpAddr::V4).into_iter().chain(entry.v6.map(IpAddr::V6));
            ips.for_each(|ip| drop(out.reverse.insert(ip, full.clone())));
        }
        out
    }

    /// The addresses of `name`, or of `name.NETWORK`. In lower case.
    pub(super) fn find(&self, name: &str) -> Option<&Addresses> {
        let short = || name.strip_suffix(self.network.as_str())?.strip_suffix('.');
        self.forward.get(name).or_else(|| self.forward.get(short()?))
    }

    /// The name of an address, with the network's.
    pub(super) fn name_of(&self, ip: &IpAddr) -> Option<&str> {
        self.reverse.get(ip).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::NameEntry;

    #[test]
    fn names_are_found_with_and_without_the_network() {
        let entry = |names: &[&str], ip: &str| NameEntry {
            names: names.iter().map(|n| n.to_string()).collect(),
            v4: Some(ip.parse().unwrap()),
            v6: None,
        };
        let table = Table::new(&NameTable {
            network: "My_Net".into(),
            entries: vec![entry(&["Web", "www"], "10.0.0.2"), entry(&["web2", "www"], "10.0.0.3")],
        });
        assert_eq!(table.find("web").unwrap().v4.len(), 1);
        assert_eq!(table.find("www").unwrap().v4.len(), 2);
        assert!(table.find("web.my_net").is_some());
        assert!(table.find("webmy_net").is_none() && table.find("my_net").is_none() && table.find("").is_none());
        assert_eq!(table.name_of(&"10.0.0.2".parse().unwrap()), Some("Web.My_Net"));
    }
}
