//! Plugging containers in and out.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use barque_model::{Error, ErrorKind, Id, Result};
use barque_sys::netlink::Batch;
use barque_sys::netlink::route::{self, LinkRef, RouteSocket};

use super::{Host, Present, device, find, lock};
use crate::apply::links::{Existing, Place, is_gone, run};
use crate::endpoint::{Attached, EndpointDef};
use crate::netns::{Inside, Links, NetNs, Prepared};
use crate::network::{NetworkDef, check_ifname};
use crate::plan::endpoint::{self, EndpointPlan, Slot};
use crate::plan::links::{LinkOp, Peer, PortMode};

/// A name that turns out to be taken is drawn anew so often.
const NAME_ATTEMPTS: usize = 4;
const SETTLE_ATTEMPTS: usize = 100;
const SETTLE_PAUSE: Duration = Duration::from_micros(200);

impl Host {
    /// Plugs an endpoint in.
    pub(crate) fn attach(&self, def: &NetworkDef, endpoint: &EndpointDef, ns: &NetNs) -> Result<Attached> {
        if let Some(name) = &endpoint.ifname {
            check_ifname(name)?;
        }
        let net = self.present(def)?;
        match ns.enter(|inside| self.plug(&net, endpoint, inside)) {
            // The device was deleted behind our back: make it again, once.
            Err(_) if self.is_stale(&net) => {
                self.ensure(def)?;
                let net = self.present(def)?;
                ns.enter(|inside| self.plug(&net, endpoint, inside))
            }
            other => other,
        }
    }

    /// Whether the network's device is another one than we know, or none.
    fn is_stale(&self, net: &Present) -> bool {
        let (name, _) = device(&net.def);
        find(&mut self.route(), name).is_ok_and(|link| link.is_none_or(|l| l.index != net.index))
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
        let mut plan = self.make_link(net, wish, slot, ns)?;
        let index = match &ready {
            Some(ready) => ready.ifindex,
            None => index_of(socket, &plan.made_as)?,
        };
        let mut apply = |ops: &[LinkOp]| run(ops, &mut within(socket, &|_| Some(index), ns), Existing::Refuse);
        let raised = apply(&plan.raise);
        if raised.is_ok() && !plan.raise.is_empty() {
            self.settle(plan.attached.host_ifname.as_deref(), &net.def);
        }
        if let Err(error) = raised.and_then(|()| apply(&plan.inside)) {
            unplug(index, socket);
            return Err(error);
        }
        match &ready {
            Some(p) => links.rename(&p.ifname, &plan.attached.ifname),
            None => links.add(&plan.attached.ifname),
        }
        plan.attached.ifindex = index;
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

    /// Waits until the bridge forwards what the container sends, and sends itself. The kernel notes
    /// a moment later, on a worker, that a link has come up; a first ARP request lost meanwhile
    /// costs a second.
    fn settle(&self, host_ifname: Option<&str>, def: &NetworkDef) {
        let (Some(port), Some(options)) = (host_ifname, def.bridge()) else { return };
        for name in [port, &options.bridge] {
            for _ in 0..SETTLE_ATTEMPTS {
                // From kernel 6.8 on, asking is enough.
                match find(&mut self.route(), name) {
                    Ok(Some(link)) if !link.running => std::thread::sleep(SETTLE_PAUSE),
                    _ => break,
                }
            }
        }
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
            let host_ifname = self.names.draw();
            let pair = LinkOp::AddVeth {
                name: host_ifname.clone(),
                bridge: options.bridge.clone(),
                mtu: net.mtu,
                port: PortMode::of(options.icc, bridge_netfilter()),
                peer: Peer { name: ifname.clone(), mac: None },
            };
            self.outside(&[pair], net.index, inside.ns)?;
            let ifindex = index_of(inside.socket, &ifname)?;
            let up = [LinkOp::SetUp { link: ifname.clone() }];
            run(&up, &mut within(inside.socket, &|_| Some(ifindex), inside.ns), Existing::Refuse)?;
            self.settle(Some(&host_ifname), &net.def);
            inside.links.add(&ifname);
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

    /// Keeps a link's frames off its bridge: the namespace of a container that ended may answer ARP
    /// requests a while longer, for an address that is another's by then. One that is gone is no error.
    pub(crate) fn silence(&self, attached: &Attached) {
        let Some(name) = &attached.host_ifname else { return };
        let mut socket = self.route();
        let Ok(Some(link)) = find(&mut socket, name) else { return };
        let mut batch = Batch::new();
        route::disable_port(&mut batch, link.index);
        // The namespace may be gone already, and the link with it.
        let _ = socket.apply(&mut batch);
    }
}

/// Whether bridged frames pass the packet filter; the kernel has no such setting without br_netfilter.
fn bridge_netfilter() -> bool {
    let on = |family: &str| {
        std::fs::read(format!("/proc/sys/net/bridge/bridge-nf-call-{family}")).is_ok_and(|text| text.starts_with(b"1"))
    };
    on("iptables") || on("ip6tables")
}

/// The index of an interface just made in a container. The kernel chooses it: veth honours a wish
/// for the peer's index only together with one for the outer end's.
fn index_of(inside: &mut RouteSocket, name: &str) -> Result<u32> {
    let link = find(inside, name)?;
    link.map(|l| l.index).ok_or_else(|| Error::not_found(format!("interface {name} vanished while it was set up")))
}

/// Takes a half-made link away again.
fn unplug(index: u32, inside: &mut RouteSocket) {
    let mut batch = Batch::new();
    route::delete_link(&mut batch, LinkRef::Index(index));
    if let Err(error) = inside.apply(&mut batch) {
        tracing::warn!(%error, "a half-made interface stays in a container");
    }
}

/// Where operations inside a container's namespace happen.
pub(crate) fn within<'a>(
    socket: &'a mut RouteSocket,
    index_of: &'a dyn Fn(&str) -> Option<u32>,
    ns: BorrowedFd<'a>,
) -> Place<'a> {
    Place { socket, index_of, container: None, sysctls: Some(ns) }
}
