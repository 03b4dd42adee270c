//! Plugging containers in and out.

use std::os::fd::BorrowedFd;

use barque_model::{Error, ErrorKind, Id, Result};
use barque_sys::netlink::Batch;
use barque_sys::netlink::route::{self, LinkRef, PortChange, RouteSocket};

use super::{Host, Present, lock};
use crate::apply::links::{Existing, Place, is_gone, run};
use crate::endpoint::{Attached, EndpointDef};
use crate::netns::{Inside, Links, NetNs, Prepared};
use crate::network::{NetworkDef, check_ifname};
use crate::plan::endpoint::{self, EndpointPlan, Slot};
use crate::plan::links::{LinkOp, Peer, PortMode};

/// A name that turns out to be taken is drawn anew so often.
const NAME_ATTEMPTS: usize = 4;

impl Host {
    /// Plugs an endpoint in.
    pub(crate) fn attach(&self, def: &NetworkDef, endpoint: &EndpointDef, ns: &NetNs) -> Result<Attached> {
        if let Some(name) = &endpoint.ifname {
            check_ifname(name)?;
        }
        let net = self.present(def)?;
        match ns.enter(|inside| self.plug(&net, endpoint, inside)) {
            // The bridge was deleted behind our back: make it again, once.
            Err(error) if is_gone(&error) => {
                self.ensure(def)?;
                let net = self.present(def)?;
                ns.enter(|inside| self.plug(&net, endpoint, inside))
            }
            other => other,
        }
    }

    fn present(&self, def: &NetworkDef) -> Result<Present> {
        if let Some(present) = lock(&self.networks).get(&def.id).filter(|p| p.def == *def) {
            return Ok(present.clone());
        }
        self.ensure(def)?;
        let present = lock(&self.networks).get(&def.id).cloned();
        present.ok_or_else(|| Error::invalid(format!("network {} has no interfaces", def.name)))
    }

    fn plug(&self, net: &Present, wish: &EndpointDef, inside: Inside<'_>) -> Result<Attached> {
        let Inside { ns, socket, links, prepared } = inside;
        let ready = match prepared.take() {
            Some(p) if p.network == net.def.id => Some(p),
            Some(other) => {
                // Made for a network that this container does not join first after all.
                unplug(other.ifindex, socket);
                links.remove(&other.ifname);
                None
            }
            None => None,
        };
        let slot = self.slot(net, wish, links, ready.as_ref())?;
        let plan = self.make_link(net, wish, slot, ns)?;
        let index = plan.attached.ifindex;
        if let Err(error) = run(&plan.inside, &mut within(socket, &|_| Some(index), ns), Existing::Refuse) {
            unplug(index, socket);
            return Err(error);
        }
        match &ready {
            Some(p) => links.rename(&p.ifname, &plan.attached.ifname),
            None => links.add(&plan.attached.ifname, index),
        }
        Ok(plan.attached)
    }

    /// Does the outer part of the plan; draws another name for the outer end if the first is taken.
    fn make_link(
        &self,
        net: &Present,
        wish: &EndpointDef,
        mut slot: Slot<'_>,
        ns: BorrowedFd<'_>,
    ) -> Result<EndpointPlan> {
        let mut attempts = NAME_ATTEMPTS;
        loop {
            let plan = endpoint::plan(&net.def, wish, &slot)?;
            match self.outside(&plan.outside, net.index, ns) {
                Ok(()) => return Ok(plan),
                Err(e) if e.kind() == ErrorKind::Conflict && attempts > 0 => {
                    attempts -= 1;
                    slot.host_ifname = self.names.draw();
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn outside(&self, ops: &[LinkOp], device: u32, ns: BorrowedFd<'_>) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let mut socket = self.route();
        let index_of = |_: &str| Some(device);
        let mut place = Place { socket: &mut socket, index_of: &index_of, container: Some(ns), sysctls: None };
        run(ops, &mut place, Existing::Refuse)
    }

    fn slot<'a>(
        &self,
        net: &Present,
        wish: &EndpointDef,
        links: &Links,
        ready: Option<&'a Prepared>,
    ) -> Result<Slot<'a>> {
        let prefix = net.def.bridge().map_or("eth", |b| b.ifname_prefix.as_str());
        let ifname = match (&wish.ifname, ready) {
            (Some(name), Some(ready)) if *name == ready.ifname => name.clone(),
            (Some(name), _) if links.is_taken(name) => {
                return Err(Error::conflict(format!("interface name {name} is taken in the container"))
                    .with_hint("choose another interface name for this network"));
            }
            (Some(name), _) => name.clone(),
            (None, Some(ready)) => ready.ifname.clone(),
            (None, None) => links.free_name(prefix),
        };
        Ok(Slot {
            ifname,
            ifindex: ready.map_or_else(|| links.next_index(), |r| r.ifindex),
            host_ifname: ready.map_or_else(|| self.names.draw(), |r| r.host_ifname.clone()),
            prepared: ready.map(|r| r.ifname.as_str()),
            mtu: net.mtu,
            ipv6: self.ipv6,
            bridge_netfilter: bridge_netfilter(),
        })
    }

    /// A namespace with an interface on the network that only lacks its addresses.
    pub(crate) fn prepare(&self, id: &Id) -> Result<NetNs> {
        let net = lock(&self.networks).get(id).cloned();
        let net = net.ok_or_else(|| Error::not_found(format!("network {} is not set up", id.short())))?;
        let Some(options) = net.def.bridge() else { return Err(Error::invalid("only bridges are prepared ahead")) };
        let ns = NetNs::create(self.ipv6)?;
        ns.enter(|inside| {
            let ifname = inside.links.free_name(&options.ifname_prefix);
            let ifindex = inside.links.next_index();
            let host_ifname = self.names.draw();
            let pair = LinkOp::AddVeth {
                name: host_ifname.clone(),
                bridge: options.bridge.clone(),
                mtu: net.mtu,
                port: PortMode::of(options.icc, bridge_netfilter()),
                peer: Peer { name: ifname.clone(), index: ifindex, mac: None },
            };
            self.outside(&[pair], net.index, inside.ns)?;
            let up = [LinkOp::SetUp { link: ifname.clone() }];
            run(&up, &mut within(inside.socket, &|_| Some(ifindex), inside.ns), Existing::Refuse)?;
            inside.links.add(&ifname, ifindex);
            *inside.prepared = Some(Prepared { network: *id, ifname, ifindex, host_ifname });
            Ok(())
        })?;
        Ok(ns)
    }

    /// Removes an interface from a running container. One that is gone is no error.
    pub(crate) fn detach(&self, attached: &Attached, ns: &NetNs) -> Result<()> {
        ns.enter(|inside| {
            let ops = [LinkOp::DeleteLink { link: attached.ifname.clone() }];
            let index_of = |_: &str| Some(attached.ifindex);
            match run(&ops, &mut within(inside.socket, &index_of, inside.ns), Existing::Refuse) {
                Err(e) if !is_gone(&e) => return Err(e),
                _ => inside.links.remove(&attached.ifname),
            }
            Ok(())
        })
    }

    /// Takes a link off its bridge. One that is gone is no error.
    pub(crate) fn silence(&self, attached: &Attached) {
        let Some(name) = &attached.host_ifname else { return };
        let mut batch = Batch::new();
        route::set_port(&mut batch, LinkRef::Name(name), PortChange::Disable);
        // The namespace may be gone already, and the link with it.
        let _ = self.route().apply(&mut batch);
    }
}

/// Whether bridged frames pass the packet filter; the kernel has no such setting without br_netfilter.
fn bridge_netfilter() -> bool {
    let on = |family: &str| {
        std::fs::read(format!("/proc/sys/net/bridge/bridge-nf-call-{family}")).is_ok_and(|text| text.starts_with(b"1"))
    };
    on("iptables") || on("ip6tables")
}

/// Takes a half-made link away again; it may not even exist.
fn unplug(index: u32, inside: &mut RouteSocket) {
    let mut batch = Batch::new();
    route::delete_link(&mut batch, LinkRef::Index(index));
    let _ = inside.apply(&mut batch);
}

/// Where operations inside a container's namespace happen.
pub(crate) fn within<'a>(
    socket: &'a mut RouteSocket,
    index_of: &'a dyn Fn(&str) -> Option<u32>,
    ns: BorrowedFd<'a>,
) -> Place<'a> {
    Place { socket, index_of, container: None, sysctls: Some(ns) }
}
