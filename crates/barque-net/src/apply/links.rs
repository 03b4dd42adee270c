//! Link operations of one namespace: batched into one system call, with refusals named by operation.

use std::os::fd::BorrowedFd;
use std::path::Path;

use barque_model::{Error, ErrorKind, Result};
use barque_sys::netlink::route::{
    self, LinkChange, LinkKind, LinkRef, NewLink, PortChange, Route, RouteSocket, VethPeer,
};
use barque_sys::netlink::{Batch, NetlinkError, netns};
use ipnet::IpNet;
use rustix::io::Errno;

use crate::network::{IpvlanFlag, IpvlanMode, MacvlanMode};
use crate::plan::links::{LinkOp, Peer, PortMode};

/// Where a list of operations happens.
pub(crate) struct Place<'a> {
    pub(crate) socket: &'a mut RouteSocket,
    /// Indexes of links that operations refer to.
    pub(crate) index_of: &'a dyn Fn(&str) -> Option<u32>,
    /// The namespace new interfaces go to.
    pub(crate) container: Option<BorrowedFd<'a>>,
    /// The namespace to set sysctls in; `None` is the calling thread's.
    pub(crate) sysctls: Option<BorrowedFd<'a>>,
}

/// What to make of "there already".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    Accept,
}

/// Carries `ops` out in order; sends as few batches as sysctls between them allow.
pub(crate) fn run(ops: &[LinkOp], place: &mut Place<'_>, existing: Existing) -> Result<()> {
    let mut pending = Pending { batch: Batch::new(), owners: Vec::new() };
    for (i, op) in ops.iter().enumerate() {
        if let LinkOp::Sysctl { path, value } = op {
            pending.flush(ops, place, existing)?;
            set_sysctl(place.sysctls, path, value)?;
            continue;
        }
        encode(op, place, &mut pending.batch)?;
        pending.owners.resize(pending.batch.len(), i);
    }
    pending.flush(ops, place, existing)
}

struct Pending {
    batch: Batch,
    /// The operation each message belongs to.
    owners: Vec<usize>,
}

impl Pending {
    fn flush(&mut self, ops: &[LinkOp], place: &mut Place<'_>, existing: Existing) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let owners = std::mem::take(&mut self.owners);
        let refusals = place.socket.apply_all(&mut batch).map_err(|e| refused("exchange netlink messages", e))?;
        for error in refusals {
            if existing == Existing::Accept && error.errno == Errno::EXIST {
                continue;
            }
            let op = error.index.and_then(|i| owners.get(i)).and_then(|i| ops.get(*i));
            let what = op.map_or_else(|| "exchange netlink messages".to_owned(), ToString::to_string);
            return Err(refused(&what, error));
        }
        Ok(())
    }
}

/// The error for a refused operation: what was tried, what the kernel said, what helps.
pub(crate) fn refused(what: &str, error: NetlinkError) -> Error {
    let kind = match error.errno {
        Errno::EXIST | Errno::BUSY => ErrorKind::Conflict,
        Errno::NODEV | Errno::NOENT => ErrorKind::NotFound,
        Errno::PERM | Errno::ACCESS => ErrorKind::Forbidden,
        Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => ErrorKind::Unsupported,
        Errno::NOBUFS | Errno::NOMEM => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let hint = match error.errno {
        Errno::PERM | Errno::ACCESS => Some("the engine needs CAP_NET_ADMIN in this network namespace"),
        Errno::OPNOTSUPP => Some("this kernel lacks a module for it; load it (modprobe) or use another driver"),
        _ => None,
    };
    let out = Error::new(kind, format!("cannot {what}: {error}")).with_source(error);
    match hint {
        Some(hint) => out.with_hint(hint),
        None => out,
    }
}

/// Whether the refusal was about something that is not there (any more).
pub(crate) fn is_gone(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Sets a kernel setting; one that is off already because the kernel lacks the feature is no error.
fn set_sysctl(ns: Option<BorrowedFd<'_>>, path: &str, value: &str) -> Result<()> {
    let write = || write_sysctl(path, value);
    match ns {
        None => write(),
        Some(ns) => netns::inside(ns, write)
            .map_err(|e| Error::internal("cannot enter the container's network namespace").with_source(e))?,
    }
}

/// Writes `/proc/sys/PATH` of the calling thread's namespace unless it has the value already.
pub(crate) fn write_sysctl(path: &str, value: &str) -> Result<()> {
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::invalid(format!("invalid sysctl '{path}'")));
    }
    let file = Path::new("/proc/sys").join(path);
    match std::fs::write(&file, value) {
        Ok(()) => Ok(()),
        // Read-only /proc/sys (an engine inside a container) is fine if the outside has set it.
        Err(e) => match std::fs::read_to_string(&file) {
            Ok(present) if present.trim() == value => Ok(()),
            _ => Err(Error::from(e).context(format!("cannot set {path}={value}"))),
        },
    }
}

fn index(place: &Place<'_>, name: &str) -> Result<u32> {
    (place.index_of)(name).ok_or_else(|| {
        Error::not_found(format!("no such network interface: {name}")).with_hint("`ip link` lists the interfaces")
    })
}

fn encode(op: &LinkOp, place: &Place<'_>, batch: &mut Batch) -> Result<()> {
    match op {
        LinkOp::AddBridge { name, mac, mtu, alias } => {
            let link = NewLink { mac: Some(mac.0), mtu: Some(*mtu), ..NewLink::new(name, LinkKind::Bridge) };
            route::add_link(batch, &link);
            set_alias(batch, name, alias);
        }
        LinkOp::AddDummy { name, alias } => {
            route::add_link(batch, &NewLink { up: true, ..NewLink::new(name, LinkKind::Dummy) });
            set_alias(batch, name, alias);
        }
        LinkOp::AddVlan { name, parent, vlan, alias } => {
            let parent = Some(index(place, parent)?);
            route::add_link(batch, &NewLink { parent, up: true, ..NewLink::new(name, LinkKind::Vlan { id: *vlan }) });
            set_alias(batch, name, alias);
        }
        LinkOp::AddVeth { name, bridge, mtu, port, peer } => {
            let inner = VethPeer {
                name: &peer.name,
                netns: place.container,
                index: None,
                mac: peer.mac.map(|m| m.0),
                mtu: Some(*mtu),
            };
            let master = Some(index(place, bridge)?);
            let link = NewLink::new(name, LinkKind::Veth { peer: inner });
            route::add_link(batch, &NewLink { mtu: Some(*mtu), master, up: true, ..link });
            match port {
                PortMode::Plain => {}
                PortMode::Isolated => route::set_port(batch, LinkRef::Name(name), PortChange::Isolate(true)),
                PortMode::Hairpin => route::set_port(batch, LinkRef::Name(name), PortChange::Hairpin(true)),
            }
        }
        LinkOp::AddMacvlan { parent, mode, mtu, peer } => {
            add_on_parent(place, batch, parent, *mtu, peer, LinkKind::Macvlan { mode: macvlan_mode(*mode) })?;
        }
        LinkOp::AddIpvlan { parent, mode, flag, mtu, peer } => {
            let (mode, flags) = ipvlan_mode(*mode, *flag);
            add_on_parent(place, batch, parent, *mtu, peer, LinkKind::Ipvlan { mode, flags })?;
        }
        other => encode_change(other, place, batch)?,
    }
    Ok(())
}

fn encode_change(op: &LinkOp, place: &Place<'_>, batch: &mut Batch) -> Result<()> {
    let mut change = |link: &str, change: LinkChange<'_>| route::set_link(batch, LinkRef::Name(link), &change);
    match op {
        LinkOp::SetUp { link } => change(link, LinkChange { up: Some(true), ..LinkChange::default() }),
        LinkOp::SetDown { link } => change(link, LinkChange { up: Some(false), ..LinkChange::default() }),
        LinkOp::SetMac { link, mac } => change(link, LinkChange { mac: Some(mac.0), ..LinkChange::default() }),
        LinkOp::SetMtu { link, mtu } => change(link, LinkChange { mtu: Some(*mtu), ..LinkChange::default() }),
        LinkOp::Rename { link, to } => {
            let link = LinkRef::Index(index(place, link)?);
            route::set_link(batch, link, &LinkChange { name: Some(to), ..LinkChange::default() });
        }
        LinkOp::AddAddress { link, address } => route::add_address(batch, index(place, link)?, *address),
        LinkOp::DeleteAddress { link, address } => route::delete_address(batch, index(place, link)?, *address),
        LinkOp::SetRoute { to, via, link } => {
            route::set_route(batch, &route_to(*to, *via, index(place, link)?));
        }
        LinkOp::DeleteRoute { to, via, link } => {
            route::delete_route(batch, &route_to(*to, *via, index(place, link)?));
        }
        LinkOp::DeleteLink { link } => route::delete_link(batch, LinkRef::Name(link)),
        // Sysctls are files; `run` writes them. The makers of links are in `encode`.
        _ => {}
    }
    Ok(())
}

fn route_to(to: IpNet, via: Option<std::net::IpAddr>, link: u32) -> Route {
    Route { to, via, link }
}

fn set_alias(batch: &mut Batch, name: &str, alias: &str) {
    route::set_link(batch, LinkRef::Name(name), &LinkChange { alias: Some(alias), ..LinkChange::default() });
}

fn add_on_parent(
    place: &Place<'_>,
    batch: &mut Batch,
    parent: &str,
    mtu: Option<u32>,
    peer: &Peer,
    kind: LinkKind<'_>,
) -> Result<()> {
    let parent = Some(index(place, parent)?);
    let link =
        NewLink { mac: peer.mac.map(|m| m.0), mtu, parent, netns: place.container, ..NewLink::new(&peer.name, kind) };
    route::add_link(batch, &link);
    Ok(())
}

fn macvlan_mode(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    }
}

fn ipvlan_mode(mode: IpvlanMode, flag: IpvlanFlag) -> (u16, u16) {
    let mode = match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    };
    let flags = match flag {
        IpvlanFlag::Bridge => 0,
        IpvlanFlag::Private => 1,
        IpvlanFlag::Vepa => 2,
    };
    (mode, flags)
}
