//! What the kernel has: links, addresses, routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use libc::{
    IFA_ADDRESS, IFA_LOCAL, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, IFLA_OPERSTATE, IFLA_STATS64, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY, RTA_TABLE,
    RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
};

use super::route::RouteSocket;
use super::wire::{self, DUMP};
use super::{Batch, Reply, Result};

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge`, …; empty for hardware.
    pub kind: String,
    pub up: bool,
    pub loopback: bool,
    /// The link carries packets (operational state up or unknown); a bridge forwards for such ports only.
    pub running: bool,
    /// Bytes.
    pub mtu: u32,
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge it belongs to.
    pub master: Option<u32>,
    /// Index of the peer or of the device underneath, perhaps in another namespace.
    pub link: Option<u32>,
    /// The remark set with the link.
    pub alias: String,
    pub stats: LinkStats,
}

/// Counters of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressInfo {
    pub link: u32,
    pub address: IpNet,
}

/// A unicast route of any table but `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Prefix length 0 is the default route.
    pub to: IpNet,
    pub via: Option<IpAddr>,
    pub link: Option<u32>,
    /// Lower is preferred.
    pub priority: u32,
    pub table: u32,
}

impl RouteSocket {
    /// All links, in order of index.
    pub fn links(&mut self) -> Result<Vec<LinkInfo>> {
        self.collect(RTM_GETLINK, RTM_NEWLINK, &[0; 16], link)
    }

    /// The link `name`, if there is one. Brings its operational state up to date first (kernel 6.8 and later).
    pub fn link(&mut self, name: &str) -> Result<Option<LinkInfo>> {
        let mut batch = Batch::new();
        batch.message(RTM_GETLINK, 0, |m| {
            m.raw(&[0; 16]).str(IFLA_IFNAME, name);
        });
        // Only the absent name is answered by an error message; a link answers with itself.
        let mut found = None;
        self.ask(&mut batch, |kind, body| {
            if kind == RTM_NEWLINK {
                found = link(body);
            }
        })?;
        Ok(found)
    }

    /// All addresses of both families.
    pub fn addresses(&mut self) -> Result<Vec<AddressInfo>> {
        self.collect(RTM_GETADDR, RTM_NEWADDR, &[0; 8], address)
    }

    /// All unicast routes of both families.
    pub fn routes(&mut self) -> Result<Vec<RouteInfo>> {
        self.collect(RTM_GETROUTE, RTM_NEWROUTE, &[0; 12], route)
    }

    fn collect<T>(&mut self, get: u16, new: u16, header: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let mut batch = Batch::new();
        batch.message(get, DUMP, |m| {
            m.raw(header);
        });
        let mut out = Vec::new();
        self.0.dump(&mut batch, |reply| match reply {
            Reply::Start => out.clear(),
            Reply::Message(kind, body) if kind == new => out.extend(parse(body)),
            Reply::Message(..) => {}
        })?;
        Ok(out)
    }

    /// One request, one answer; `ENODEV` is no answer.
    fn ask(&mut self, batch: &mut Batch, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        match self.0.exchange(batch, &mut each) {
            Err(e) if e.errno == rustix::io::Errno::NODEV => Ok(()),
            other => other,
        }
    }
}

fn link(body: &[u8]) -> Option<LinkInfo> {
    const OPER_UNKNOWN: u8 = 0;
    const OPER_UP: u8 = 6;
    const IFF_LOOPBACK: u32 = 8;
    let header = body.get(..16)?;
    let flags = wire::get_u32(&header[8..])?;
    let mut out = LinkInfo {
        index: wire::get_u32(&header[4..])?,
        up: flags & 1 != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        ..LinkInfo::default()
    };
    for (kind, value) in wire::attributes(&body[16..]) {
        match kind {
            IFLA_IFNAME => out.name = wire::get_str(value),
            IFLA_MTU => out.mtu = wire::get_u32(value).unwrap_or(0),
            IFLA_ADDRESS => out.mac = value.try_into().ok(),
            IFLA_MASTER => out.master = wire::get_u32(value),
            IFLA_OPERSTATE => out.running = matches!(value.first(), Some(&OPER_UNKNOWN | &OPER_UP)),
            IFLA_IFALIAS => out.alias = wire::get_str(value),
            IFLA_LINK => out.link = wire::get_u32(value),
            IFLA_LINKINFO => out.kind = wire::find(value, IFLA_INFO_KIND).map(wire::get_str).unwrap_or_default(),
            IFLA_STATS64 => out.stats = stats(value),
            _ => {}
        }
    }
    Some(out)
}

/// `struct rtnl_link_stats64`: packets, bytes, errors and drops, received and sent alternating.
fn stats(value: &[u8]) -> LinkStats {
    let at = |i: usize| {
        value.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes).unwrap_or_default()
    };
    LinkStats {
        rx_packets: at(0),
        tx_packets: at(1),
        rx_bytes: at(2),
        tx_bytes: at(3),
        rx_errors: at(4),
        tx_errors: at(5),
        rx_dropped: at(6),
        tx_dropped: at(7),
    }
}

fn address(body: &[u8]) -> Option<AddressInfo> {
    let header = body.get(..8)?;
    let local = wire::find(&body[8..], IFA_LOCAL).or_else(|| wire::find(&body[8..], IFA_ADDRESS))?;
    let address = IpNet::new(ip(local)?, header[1]).ok()?;
    Some(AddressInfo { link: wire::get_u32(&header[4..])?, address })
}

fn route(body: &[u8]) -> Option<RouteInfo> {
    const UNICAST: u8 = 1;
    const LOCAL_TABLE: u32 = 255;
    let header = body.get(..12)?;
    let attrs = &body[12..];
    let table = wire::find(attrs, RTA_TABLE).and_then(wire::get_u32).unwrap_or(u32::from(header[4]));
    if header[7] != UNICAST || table == LOCAL_TABLE {
        return None;
    }
    let to = match wire::find(attrs, RTA_DST) {
        Some(value) => ip(value)?,
        None if i32::from(header[0]) == libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        None if i32::from(header[0]) == libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        None => return None,
    };
    Some(RouteInfo {
        to: IpNet::new(to, header[1]).ok()?,
        via: wire::find(attrs, RTA_GATEWAY).and_then(ip),
        link: wire::find(attrs, RTA_OIF).and_then(wire::get_u32),
        priority: wire::find(attrs, RTA_PRIORITY).and_then(wire::get_u32).unwrap_or(0),
        table,
    })
}

pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_for_everyone() {
        let mut socket = RouteSocket::open().unwrap();
        let links = socket.links().unwrap();
        let lo = links.iter().find(|l| l.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.mtu), ("lo", 65536));
        assert_eq!(socket.link("lo").unwrap().map(|l| l.index), Some(lo.index));
        assert_eq!(socket.link("no-such-link").unwrap(), None);
        socket.addresses().unwrap();
        socket.routes().unwrap();
    }

    #[test]
    fn hostile_bodies_are_skipped() {
        for length in 0..40 {
            let body = vec![0xff; length];
            let _ = (link(&body), address(&body), route(&body));
        }
    }
}
