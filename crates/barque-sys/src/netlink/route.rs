//! Links, addresses, routes and bridge ports (rtnetlink, include/uapi/linux/{rtnetlink,if_link}.h).
//!
//! Requests are appended to a [`Batch`] and carried out by [`RouteSocket::apply`]; what the
//! kernel has is read by the dumps of [`RouteSocket`], in [`super::dump`].

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use libc::{
    IFA_ADDRESS, IFA_LOCAL, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD,
    IFLA_PROTINFO, RTA_DST, RTA_GATEWAY, RTA_OIF, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK,
    RTM_NEWROUTE, RTM_SETLINK,
};

use super::wire::{ACK, Body, CREATE, EXCL, REPLACE};
use super::{Batch, NetlinkError, Result, Socket};

pub use super::dump::{AddressInfo, LinkInfo, LinkStats, RouteInfo};

const IFF_UP: u32 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_HAIRPIN: u16 = 4;
const IFLA_BRPORT_FLUSH: u16 = 24;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const BR_STATE_DISABLED: u8 = 0;
const IFA_F_NODAD: u8 = 0x02;

/// A socket of the route family.
#[derive(Debug)]
pub struct RouteSocket(pub(super) Socket);

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<RouteSocket> {
        Socket::open(None, 0).map(RouteSocket)
    }

    /// Carries out the batch's messages in order; see [`Socket::transact`].
    pub fn apply(&mut self, batch: &mut Batch) -> Result<()> {
        self.0.transact(batch)
    }

    /// As [`RouteSocket::apply`], but returns every refusal; the other messages have taken effect.
    pub fn apply_all(&mut self, batch: &mut Batch) -> Result<Vec<NetlinkError>> {
        self.0.transact_all(batch)
    }
}

/// A link to make.
#[derive(Clone, Debug)]
pub struct NewLink<'a> {
    pub name: &'a str,
    pub kind: LinkKind<'a>,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    /// Index of the bridge to join.
    pub master: Option<u32>,
    /// Index of the device underneath (macvlan, ipvlan, vlan), in the socket's namespace.
    pub parent: Option<u32>,
    /// The namespace to make it in; the socket's own if `None`.
    pub netns: Option<BorrowedFd<'a>>,
    /// The index it is to have there; the kernel's choice if `None`.
    pub index: Option<u32>,
    pub up: bool,
}

impl<'a> NewLink<'a> {
    /// A link that is down, of the kernel's MTU, address and index, in the socket's namespace.
    pub fn new(name: &'a str, kind: LinkKind<'a>) -> Self {
        NewLink { name, kind, mac: None, mtu: None, master: None, parent: None, netns: None, index: None, up: false }
    }
}

/// Kinds of links and what is special to each.
#[derive(Clone, Debug)]
pub enum LinkKind<'a> {
    Bridge,
    Dummy,
    /// A pair; the peer is always made down (IFF_UP there is refused with ENOTCONN).
    Veth {
        peer: VethPeer<'a>,
    },
    /// Mode bits of `IFLA_MACVLAN_MODE`: 1 private, 2 vepa, 4 bridge, 8 passthru.
    Macvlan {
        mode: u32,
    },
    /// Mode 0 L2, 1 L3, 2 L3S; flags 1 private, 2 vepa.
    Ipvlan {
        mode: u16,
        flags: u16,
    },
    Vlan {
        id: u16,
    },
}

/// The other end of a veth pair.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    pub name: &'a str,
    pub netns: Option<BorrowedFd<'a>>,
    pub index: Option<u32>,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
}

impl LinkKind<'_> {
    /// The kernel's name of the kind.
    pub fn name(&self) -> &'static str {
        match self {
            LinkKind::Bridge => "bridge",
            LinkKind::Dummy => "dummy",
            LinkKind::Veth { .. } => "veth",
            LinkKind::Macvlan { .. } => "macvlan",
            LinkKind::Ipvlan { .. } => "ipvlan",
            LinkKind::Vlan { .. } => "vlan",
        }
    }
}

fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0u8; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Makes a link. Fails with `EEXIST` if the name is taken.
pub fn add_link(batch: &mut Batch, link: &NewLink<'_>) {
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, |m| {
        let flags = if link.up { IFF_UP } else { 0 };
        m.raw(&ifinfomsg(link.index.unwrap_or(0), flags, flags)).str(IFLA_IFNAME, link.name);
        common(m, link.mac, link.mtu, link.netns);
        if let Some(master) = link.master {
            m.u32(IFLA_MASTER, master);
        }
        if let Some(parent) = link.parent {
            m.u32(IFLA_LINK, parent);
        }
        m.nest(IFLA_LINKINFO, |info| {
            info.str(IFLA_INFO_KIND, link.kind.name());
            info.nest(IFLA_INFO_DATA, |data| kind_data(data, &link.kind));
        });
    });
}

fn common(m: &mut Body<'_>, mac: Option<[u8; 6]>, mtu: Option<u32>, netns: Option<BorrowedFd<'_>>) {
    if let Some(mac) = mac {
        m.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = mtu {
        m.u32(IFLA_MTU, mtu);
    }
    if let Some(fd) = netns {
        m.u32(IFLA_NET_NS_FD, fd.as_raw_fd() as u32);
    }
}

fn kind_data(data: &mut Body<'_>, kind: &LinkKind<'_>) {
    match kind {
        LinkKind::Bridge => {
            // No spanning tree runs, so a new port may forward at once.
            data.u32(IFLA_BR_FORWARD_DELAY, 0);
        }
        LinkKind::Dummy => {}
        LinkKind::Veth { peer } => {
            data.nest(VETH_INFO_PEER, |p| {
                p.raw(&ifinfomsg(peer.index.unwrap_or(0), 0, 0)).str(IFLA_IFNAME, peer.name);
                common(p, peer.mac, peer.mtu, peer.netns);
            });
        }
        LinkKind::Macvlan { mode } => {
            data.u32(IFLA_MACVLAN_MODE, *mode);
        }
        LinkKind::Ipvlan { mode, flags } => {
            data.u16(IFLA_IPVLAN_MODE, *mode).u16(IFLA_IPVLAN_FLAGS, *flags);
        }
        LinkKind::Vlan { id } => {
            data.u16(IFLA_VLAN_ID, *id);
        }
    }
}

/// Changes to a link that exists; `None` leaves things as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChange<'a> {
    pub up: Option<bool>,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    /// Joins a bridge, or leaves it (0).
    pub master: Option<u32>,
    /// A new name; refused with `EBUSY` by older kernels while the link is up.
    pub name: Option<&'a str>,
    /// A remark that `ip link` shows, at most 255 bytes.
    pub alias: Option<&'a str>,
}

/// A link that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRef<'a> {
    Index(u32),
    Name(&'a str),
}

impl LinkRef<'_> {
    fn encode(self, m: &mut Body<'_>, flags: u32, mask: u32) {
        match self {
            LinkRef::Index(index) => m.raw(&ifinfomsg(index, flags, mask)),
            LinkRef::Name(name) => m.raw(&ifinfomsg(0, flags, mask)).str(IFLA_IFNAME, name),
        };
    }
}

/// Changes a link.
pub fn set_link(batch: &mut Batch, link: LinkRef<'_>, change: &LinkChange<'_>) {
    batch.message(RTM_SETLINK, ACK, |m| {
        let (flags, mask) = match change.up {
            Some(up) => (u32::from(up) * IFF_UP, IFF_UP),
            None => (0, 0),
        };
        link.encode(m, flags, mask);
        if let Some(name) = change.name {
            m.str(IFLA_IFNAME, name);
        }
        if let Some(alias) = change.alias {
            m.attr(IFLA_IFALIAS, alias.as_bytes());
        }
        common(m, change.mac, change.mtu, None);
        if let Some(master) = change.master {
            m.u32(IFLA_MASTER, master);
        }
    });
}

/// Deletes a link. Waits for grace periods in the kernel: tens of milliseconds.
pub fn delete_link(batch: &mut Batch, link: LinkRef<'_>) {
    batch.message(RTM_DELLINK, ACK, |m| link.encode(m, 0, 0));
}

/// What a bridge does with one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChange {
    /// Frames pass between this port and the bridge itself, but not to other isolated ports.
    Isolate(bool),
    /// Frames may leave through the port they came in by.
    Hairpin(bool),
}

/// Changes how its bridge treats a link.
pub fn set_port(batch: &mut Batch, link: LinkRef<'_>, change: PortChange) {
    batch.message(RTM_NEWLINK, ACK, |m| {
        link.encode(m, 0, 0);
        m.nest(IFLA_LINKINFO, |info| {
            info.str(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |p| {
                match change {
                    PortChange::Isolate(on) => p.u8(IFLA_BRPORT_ISOLATED, u8::from(on)),
                    PortChange::Hairpin(on) => p.u8(IFLA_BRPORT_HAIRPIN, u8::from(on)),
                };
            });
        });
    });
}

/// Makes its bridge drop all frames from and to the link `index`, and forget what it learned from
/// it. Cheap, unlike setting the link down, which waits for a grace period.
///
/// A request of the bridge family: the general one announces a change of the link, upon which the
/// bridge enables the port again.
pub fn disable_port(batch: &mut Batch, index: u32) {
    batch.message(RTM_SETLINK, ACK, |m| {
        let mut header = ifinfomsg(index, 0, 0);
        header[0] = libc::AF_BRIDGE as u8;
        m.raw(&header).nest(IFLA_PROTINFO, |p| {
            p.u8(IFLA_BRPORT_STATE, BR_STATE_DISABLED).attr(IFLA_BRPORT_FLUSH, &[]);
        });
    });
}

fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// The octets of an address, as netlink attributes carry them.
pub(super) fn octets(ip: IpAddr) -> ([u8; 16], usize) {
    let mut bytes = [0u8; 16];
    match ip {
        IpAddr::V4(v4) => {
            bytes[..4].copy_from_slice(&v4.octets());
            (bytes, 4)
        }
        IpAddr::V6(v6) => (v6.octets(), 16),
    }
}

/// Gives the link `index` an address. IPv6 addresses are usable at once (no duplicate detection).
pub fn add_address(batch: &mut Batch, index: u32, address: IpNet) {
    batch.message(RTM_NEWADDR, ACK | CREATE | EXCL, |m| address_body(m, index, address));
}

/// Takes an address from the link `index`.
pub fn delete_address(batch: &mut Batch, index: u32, address: IpNet) {
    batch.message(RTM_DELADDR, ACK, |m| address_body(m, index, address));
}

fn address_body(m: &mut Body<'_>, index: u32, address: IpNet) {
    let v6 = address.addr().is_ipv6();
    let mut header = [0u8; 8];
    header[0] = family(address.addr());
    header[1] = address.prefix_len();
    header[2] = if v6 { IFA_F_NODAD } else { 0 };
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let (bytes, length) = octets(address.addr());
    m.raw(&header).attr(IFA_LOCAL, &bytes[..length]).attr(IFA_ADDRESS, &bytes[..length]);
    if let IpNet::V4(net) = address
        && net.prefix_len() < 31
    {
        m.attr(libc::IFA_BROADCAST, &net.broadcast().octets());
    }
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix length 0 is the default route.
    pub to: IpNet,
    /// The router; `None` reaches the destination on the link itself.
    pub via: Option<IpAddr>,
    /// Index of the link.
    pub link: u32,
}

/// Sets a route, in place of one to the same destination.
pub fn set_route(batch: &mut Batch, route: &Route) {
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, |m| route_body(m, route));
}

/// Removes a route.
pub fn delete_route(batch: &mut Batch, route: &Route) {
    batch.message(RTM_DELROUTE, ACK, |m| route_body(m, route));
}

fn route_body(m: &mut Body<'_>, route: &Route) {
    const MAIN: u8 = 254;
    const PROTO_BOOT: u8 = 3;
    const SCOPE_LINK: u8 = 253;
    const UNICAST: u8 = 1;
    let on_link = route.via.is_none() && route.to.addr().is_ipv4();
    let scope = if on_link { SCOPE_LINK } else { 0 };
    m.raw(&[family(route.to.addr()), route.to.prefix_len(), 0, 0, MAIN, PROTO_BOOT, scope, UNICAST, 0, 0, 0, 0]);
    if route.to.prefix_len() > 0 {
        let (bytes, length) = octets(route.to.network());
        m.attr(RTA_DST, &bytes[..length]);
    }
    if let Some(via) = route.via {
        let (bytes, length) = octets(via);
        m.attr(RTA_GATEWAY, &bytes[..length]);
    }
    m.u32(RTA_OIF, route.link);
}
