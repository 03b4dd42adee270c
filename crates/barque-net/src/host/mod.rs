//! The machine's side: devices of networks, kernel settings, the outer ends of containers' links.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use barque_model::{Error, Id, Result};
use barque_sys::netlink::nft::NftSocket;
use barque_sys::netlink::route::{LinkInfo, RouteSocket};
use ipnet::IpNet;

use crate::apply::links::{Existing, Place, refused, run, write_sysctl};
use crate::fabric::FabricConfig;
use crate::filter::Filter;
use crate::network::{Driver, NetworkDef, Parent};
use crate::plan::links::LinkOp;
use crate::plan::network;
use crate::plan::rules::NetworkRules;

mod claim;
mod grave;
mod plug;

pub(crate) use plug::within;

/// MTU of Ethernet, where no default route tells better.
const ETHERNET_MTU: u32 = 1500;

pub(crate) struct Host {
    pub(crate) config: FabricConfig,
    pub(crate) names: Names,
    pub(crate) ipv6: bool,
    route: Mutex<RouteSocket>,
    filter: Mutex<Filter>,
    networks: Mutex<BTreeMap<Id, Present>>,
    forwarding: Mutex<Forwarding>,
    graves: grave::Graveyard,
    /// The default bridge that is ours, and what says so to other engines.
    claim: Mutex<Option<claim::Claim>>,
}

/// Names that tell this engine's things from others'.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The packet-filter table, and the alias of devices we made.
    pub(crate) table: String,
    /// Interfaces on the machine begin with this.
    pub(crate) prefix: String,
}

/// A network that is real.
#[derive(Clone, Debug)]
struct Present {
    def: NetworkDef,
    /// Index of its bridge or parent.
    index: u32,
    mtu: u32,
}

#[derive(Default)]
struct Forwarding {
    v4: bool,
    v6: bool,
}

/// Name of the network that containers join without asking.
const DEFAULT_NETWORK: &str = "bridge";

/// How the names of engines' own tables begin.
pub(crate) const OWN_TABLES: &str = "barque-";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    fn new(engine_id: &str) -> Result<Names> {
        let fits = (1..=16).contains(&engine_id.len())
            && engine_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !fits {
            return Err(Error::invalid(format!("invalid engine id '{engine_id}'"))
                .with_hint("use 1 to 16 lower-case letters and digits"));
        }
        // FNV-1a, folded: an interface name has no room for the whole id.
        let hash = engine_id.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        let tag = (hash >> 16) ^ (hash & 0xffff);
        Ok(Names { table: format!("{OWN_TABLES}{engine_id}"), prefix: format!("bq{tag:04x}") })
    }

    /// A fresh name for the outer end of a container's link.
    pub(crate) fn draw(&self) -> String {
        let mut bytes = [0u8; 4];
        barque_model::id::fill_random(&mut bytes);
        format!("{}{:08x}", self.prefix, u32::from_ne_bytes(bytes))
    }
}

impl Host {
    pub(crate) fn open(config: FabricConfig) -> Result<Host> {
        let names = Names::new(&config.engine_id)?;
        let route = RouteSocket::open().map_err(|e| refused("open a netlink socket", e))?;
        let nft = if config.firewall {
            let hint = "this kernel has no nf_tables; --iptables=false works without";
            Some(NftSocket::open().map_err(|e| refused("open a packet-filter socket", e).with_hint(hint))?)
        } else {
            None
        };
        Ok(Host {
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            route: Mutex::new(route),
            filter: Mutex::new(Filter::new(names.table.clone(), nft)),
            networks: Mutex::default(),
            forwarding: Mutex::default(),
            graves: grave::Graveyard::default(),
            claim: Mutex::default(),
            names,
            config,
        })
    }

    pub(crate) fn filter(&self) -> MutexGuard<'_, Filter> {
        lock(&self.filter)
    }

    pub(crate) fn route(&self) -> MutexGuard<'_, RouteSocket> {
        lock(&self.route)
    }

    /// The networks that are real.
    pub(crate) fn networks(&self) -> Vec<NetworkDef> {
        lock(&self.networks).values().map(|n| n.def.clone()).collect()
    }

    /// The MTU of the device the default route takes, else Ethernet's.
    pub(crate) fn uplink_mtu(&self) -> Result<u32> {
        if let Some(mtu) = self.config.mtu {
            return Ok(mtu);
        }
        let mut socket = self.route();
        let routes = socket.routes().map_err(|e| refused("list routes", e))?;
        let uplink = routes.iter().filter(|r| r.to.prefix_len() == 0).min_by_key(|r| r.priority).and_then(|r| r.link);
        let Some(uplink) = uplink else { return Ok(ETHERNET_MTU) };
        let links = socket.links().map_err(|e| refused("list links", e))?;
        Ok(links.iter().find(|l| l.index == uplink).map_or(ETHERNET_MTU, |l| l.mtu))
    }

    /// Subnets of the machine's addresses and routes, but for those of our own devices.
    pub(crate) fn subnets(&self) -> Result<Vec<IpNet>> {
        let mut socket = self.route();
        let links = socket.links().map_err(|e| refused("list links", e))?;
        let own: Vec<u32> = links.iter().filter(|l| l.alias == self.names.table).map(|l| l.index).collect();
        let addresses = socket.addresses().map_err(|e| refused("list addresses", e))?;
        let routes = socket.routes().map_err(|e| refused("list routes", e))?;
        let held = addresses.into_iter().filter(|a| !own.contains(&a.link)).map(|a| a.address.trunc());
        let routed = routes
            .into_iter()
            .filter(|r| r.to.prefix_len() > 0 && r.link.is_none_or(|l| !own.contains(&l)))
            .map(|r| r.to.trunc());
        let mut all: Vec<IpNet> = held.chain(routed).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// The addresses of a device, `None` if there is no such device.
    pub(crate) fn device_addresses(&self, name: &str) -> Result<Option<Vec<IpNet>>> {
        let mut socket = self.route();
        let Some(link) = find(&mut socket, name)? else { return Ok(None) };
        let addresses = socket.addresses().map_err(|e| refused("list addresses", e))?;
        Ok(Some(addresses.into_iter().filter(|a| a.link == link.index).map(|a| a.address).collect()))
    }

    /// Makes a network's device and rules.
    pub(crate) fn ensure(&self, def: &NetworkDef) -> Result<()> {
        if matches!(def.driver, Driver::Host | Driver::None) || self.is_real(def)? {
            return Ok(());
        }
        let plan = self.ensure_device(def)?;
        if def.bridge().is_some() {
            self.ensure_forwarding(def);
            self.filter().add_network(def.id, plan.rules)?;
        }
        Ok(())
    }

    /// Whether the network is as this process made it, as far as a glance tells: device and table are there.
    fn is_real(&self, def: &NetworkDef) -> Result<bool> {
        let known = lock(&self.networks).get(&def.id).filter(|p| p.def == *def).map(|p| p.index);
        let Some(index) = known else { return Ok(false) };
        let (name, _) = device(def);
        let there = find(&mut self.route(), name)?.is_some_and(|link| link.index == index);
        Ok(there && (def.bridge().is_none() || self.filter().has_network(&def.id)?))
    }

    /// Makes a network's device after a restart; returns the rules it needs.
    pub(crate) fn restore_device(&self, def: &NetworkDef) -> Result<NetworkRules> {
        if matches!(def.driver, Driver::Host | Driver::None) {
            return Ok(NetworkRules::default());
        }
        let plan = self.ensure_device(def)?;
        self.ensure_forwarding(def);
        Ok(plan.rules)
    }

    /// Makes a network's device and remembers it; the rules of the returned plan are not written.
    pub(crate) fn ensure_device(&self, def: &NetworkDef) -> Result<network::NetworkPlan> {
        def.validate()?;
        let mtu = self.uplink_mtu()?;
        let guarded = self.config.firewall;
        let around = network::Surroundings { alias: &self.names.table, mtu, ipv6: self.ipv6, guarded };
        let plan = network::plan(def, &around);
        let mut socket = self.route();
        let link = self.create_device(&mut socket, def, &plan)?;
        self.configure(&mut socket, def, &plan, &link)?;
        drop(socket);
        let mtu = def.bridge().and_then(|b| b.mtu).unwrap_or(mtu);
        lock(&self.networks).insert(def.id, Present { def: def.clone(), index: link.index, mtu });
        Ok(plan)
    }

    fn create_device(
        &self,
        socket: &mut RouteSocket,
        def: &NetworkDef,
        plan: &network::NetworkPlan,
    ) -> Result<LinkInfo> {
        let (name, kind) = device(def);
        self.graves.wait(Some(name));
        if def.name == DEFAULT_NETWORK && kind == "bridge" {
            self.claim(name)?;
        }
        if let Some(link) = find(socket, name)? {
            if !kind.is_empty() && link.kind != kind && link.alias == self.names.table {
                return Err(Error::conflict(format!("interface {name} exists and is no {kind}")));
            }
            if kind == "bridge" && link.kind != "bridge" {
                return Err(Error::conflict(format!("cannot make bridge {name}: an interface of that name exists"))
                    .with_hint(format!("choose another name, or remove it: ip link del {name}")));
            }
            return Ok(link);
        }
        if plan.create.is_empty() {
            return Err(Error::not_found(format!("parent interface {name} of network {} does not exist", def.name))
                .with_hint("`ip link` lists the machine's interfaces"));
        }
        let underneath = match plan.create.first() {
            Some(LinkOp::AddVlan { parent, .. }) => find(socket, parent)?.map(|l| l.index),
            _ => None,
        };
        let index_of = |_: &str| underneath;
        let mut place = Place { socket, index_of: &index_of, container: None, sysctls: None };
        run(&plan.create, &mut place, Existing::Refuse)?;
        find(socket, name)?.ok_or_else(|| Error::not_found(format!("interface {name} vanished while it was set up")))
    }

    /// Sets a device up. Settings the kernel refuses (a read-only /proc/sys) degrade what they are for.
    fn configure(
        &self,
        socket: &mut RouteSocket,
        def: &NetworkDef,
        plan: &network::NetworkPlan,
        link: &LinkInfo,
    ) -> Result<()> {
        let (sysctls, ops): (Vec<LinkOp>, Vec<LinkOp>) =
            plan.configure.iter().cloned().partition(|op| matches!(op, LinkOp::Sysctl { .. }));
        for op in &sysctls {
            let LinkOp::Sysctl { path, value } = op else { continue };
            if let Err(error) = write_sysctl(path, value) {
                tracing::warn!(error = error.chain(), "network {} degrades", def.name);
                if path.ends_with("route_localnet") {
                    self.filter().disable_loopback();
                }
            }
        }
        let mut all = self.stale_settings(socket, def, plan, link)?;
        all.extend(ops);
        let index_of = |_: &str| Some(link.index);
        let mut place = Place { socket, index_of: &index_of, container: None, sysctls: None };
        run(&all, &mut place, Existing::Accept)
    }

    /// Addresses and MTU that a device of ours has from an earlier definition.
    fn stale_settings(
        &self,
        socket: &mut RouteSocket,
        def: &NetworkDef,
        plan: &network::NetworkPlan,
        link: &LinkInfo,
    ) -> Result<Vec<LinkOp>> {
        let Some(options) = def.bridge().filter(|_| link.alias == self.names.table) else { return Ok(Vec::new()) };
        let wanted = network::addresses(def, options, self.ipv6);
        let present = socket.addresses().map_err(|e| refused("list addresses", e))?;
        let stale = present.into_iter().filter(|a| a.link == link.index).map(|a| a.address).filter(|address| {
            let link_local = matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
            !link_local && !wanted.contains(address)
        });
        let mut ops: Vec<LinkOp> =
            stale.map(|address| LinkOp::DeleteAddress { link: link.name.clone(), address }).collect();
        if let Some(LinkOp::AddBridge { mtu, .. }) = plan.create.first()
            && *mtu != link.mtu
        {
            ops.push(LinkOp::SetMtu { link: link.name.clone(), mtu: *mtu });
        }
        Ok(ops)
    }

    /// Lets the machine route, once.
    fn ensure_forwarding(&self, def: &NetworkDef) {
        if !self.config.ip_forward || def.internal {
            return;
        }
        let mut done = lock(&self.forwarding);
        if def.has_ipv4() && !done.v4 {
            done.v4 = note(write_sysctl("net/ipv4/ip_forward", "1"));
        }
        if def.has_ipv6() && self.ipv6 && !done.v6 {
            keep_router_advertisements();
            done.v6 = note(write_sysctl("net/ipv6/conf/default/forwarding", "1"))
                && note(write_sysctl("net/ipv6/conf/all/forwarding", "1"));
        }
    }

    /// Removes a network's rules, and its device if we made it.
    pub(crate) fn remove(&self, def: &NetworkDef) -> Result<()> {
        self.filter().remove_network(&def.id)?;
        lock(&self.networks).remove(&def.id);
        let (name, _) = device(def);
        if name.is_empty() {
            return Ok(());
        }
        let mut socket = self.route();
        match find(&mut socket, name)?.filter(|link| link.alias == self.names.table) {
            Some(link) => self.graves.bury(&mut socket, &link),
            None => Ok(()),
        }
    }

    /// Removes devices we made for networks that are not among `known`.
    pub(crate) fn remove_strays(&self, known: &[NetworkDef]) -> Result<()> {
        let mut socket = self.route();
        let links = socket.links().map_err(|e| refused("list links", e))?;
        let stray = |l: &&LinkInfo| l.alias == self.names.table && !known.iter().any(|def| device(def).0 == l.name);
        links.iter().filter(stray).try_for_each(|link| self.graves.bury(&mut socket, link))
    }

    /// Waits until removed devices are gone.
    pub(crate) fn wait_for_removals(&self) {
        self.graves.wait(None);
    }
}

fn find(socket: &mut RouteSocket, name: &str) -> Result<Option<LinkInfo>> {
    socket.link(name).map_err(|e| refused(&format!("look up interface {name}"), e))
}

/// Name and kind of a network's device on the machine; any kind will do where it is empty.
fn device(def: &NetworkDef) -> (&str, &'static str) {
    fn of(parent: &Parent) -> &'static str {
        match parent {
            Parent::Device(_) => "",
            Parent::Vlan { .. } => "vlan",
            Parent::Dummy(_) => "dummy",
        }
    }
    match &def.driver {
        Driver::Bridge(options) => (&options.bridge, "bridge"),
        Driver::Macvlan(options) => (options.parent.ifname(), of(&options.parent)),
        Driver::Ipvlan(options) => (options.parent.ifname(), of(&options.parent)),
        Driver::Host | Driver::None => ("", ""),
    }
}

fn note(result: Result<()>) -> bool {
    if let Err(error) = &result {
        tracing::warn!(error = error.chain(), "containers may not reach other machines");
    }
    result.is_ok()
}

/// A machine that forwards IPv6 ignores router advertisements, and loses its own default
/// route, unless told otherwise (`accept_ra` 2).
fn keep_router_advertisements() {
    let Ok(entries) = std::fs::read_dir("/proc/sys/net/ipv6/conf") else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let value = |key: &str| std::fs::read_to_string(path.join(key)).unwrap_or_default();
        if value("accept_ra").trim() == "1" && value("forwarding").trim() == "0" {
            // Interfaces come and go; one that is gone needs nothing.
            let _ = std::fs::write(path.join("accept_ra"), "2");
        }
    }
}
