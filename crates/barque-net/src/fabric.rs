//! The networks of one engine on this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use barque_model::{Error, Id, Result};
use ipnet::IpNet;

use crate::dns::Dns;
use crate::endpoint::{Attached, EndpointDef, InterfaceStats};
use crate::host::Host;
use crate::io::Io;
use crate::netns::NetNs;
use crate::network::NetworkDef;
use crate::plan::links::LinkOp;
use crate::plan::rules;
use crate::pool::Pool;
use crate::ports::relay::Relay;
use crate::ports::reserve::{Lease, Ledger};
use crate::ports::{PortBinding, PortRequest, Proto, Reservation, Target};

/// Settings of one engine's networks.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    /// Names this engine among others on the machine: 1 to 16 of `a-z 0-9`, the same after a restart.
    /// The packet-filter table is `barque-ID`, interfaces begin with `bq` and four characters that follow from it.
    pub engine_id: String,
    /// Bytes; `None` takes the uplink's.
    pub mtu: Option<u32>,
    /// `false` leaves the packet filter alone (`--iptables=false`): no NAT, no isolation; ports are relayed.
    pub firewall: bool,
    /// `false` leaves `net.ipv4.ip_forward` and its IPv6 counterpart alone (`--ip-forward=false`).
    pub ip_forward: bool,
    /// `false` only holds published ports, and relays nothing (`--userland-proxy=false`): `[::1]`, and IPv6
    /// to containers without, are refused.
    pub relay: bool,
    /// Host address of published ports where neither the port nor its network names one (`--ip`).
    pub host_ip: Option<IpAddr>,
    /// Namespaces kept ready.
    pub pool: PoolConfig,
}

/// How many namespaces are kept ready; 0 makes each one when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// With nothing but loopback.
    pub bare: usize,
    /// With an interface already on the pool's network (see [`Fabric::set_pool_network`]).
    pub bridged: usize,
}

impl FabricConfig {
    pub fn new(engine_id: impl Into<String>) -> Self {
        FabricConfig {
            engine_id: engine_id.into(),
            mtu: None,
            firewall: true,
            ip_forward: true,
            relay: true,
            host_ip: None,
            pool: PoolConfig { bare: 2, bridged: 8 },
        }
    }
}

/// A published endpoint as the engine recorded it, for [`Fabric::restore`].
#[derive(Clone, Debug)]
pub struct Publication {
    pub endpoint: Id,
    pub network: Id,
    /// Container name, for "who holds this port".
    pub owner: String,
    pub bindings: Vec<PortBinding>,
    pub target: Target,
}

/// Something in the way of container traffic that is not ours to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub problem: String,
    pub cure: String,
}

/// The default routes of a container, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// `None` leaves no IPv4 default route.
    pub v4: Option<Hop>,
    pub v6: Option<Hop>,
}

impl Gateway {
    /// The default routes through an endpoint, as [`Fabric::attach`] sets them.
    pub fn through(def: &NetworkDef, attached: &Attached) -> Gateway {
        let mut gateway = Gateway::default();
        for op in crate::plan::endpoint::default_routes(def, attached) {
            let LinkOp::SetRoute { to, via, link: ifname } = op else { continue };
            let family = if to.addr().is_ipv4() { &mut gateway.v4 } else { &mut gateway.v6 };
            *family = Some(Hop { ifname, via });
        }
        gateway
    }
}

/// Where a default route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface in the container.
    pub ifname: String,
    /// The router; `None` in ipvlan's layer 3 modes.
    pub via: Option<IpAddr>,
}

/// Everything about networks of one engine. Cheap to clone; all methods block and may run in parallel,
/// on threads of the namespace in which it was opened.
#[derive(Clone)]
pub struct Fabric(Arc<Inner>);

// Fields are dropped in this order: the pool's thread and the published ports before the event loop.
struct Inner {
    pool: Pool,
    published: Mutex<BTreeMap<Id, Published>>,
    dns: Dns,
    ledger: Arc<Ledger>,
    host: Arc<Host>,
    io: Io,
}

/// An endpoint's open ports.
struct Published {
    /// Sockets go before the entry in the ledger.
    _relay: Relay,
    _lease: Lease,
}

impl Fabric {
    /// Opens netlink sockets in the calling thread's network namespace ("the host") and starts the
    /// threads for relays, DNS and the pool. Changes nothing on the machine.
    pub fn open(config: FabricConfig) -> Result<Fabric> {
        let limits = config.pool;
        let host = Arc::new(Host::open(config)?);
        let io = Io::start()?;
        crate::watch::start(&io.handle(), &host);
        let maker = Arc::clone(&host);
        let pool = Pool::start(
            limits,
            Box::new(move |network| match network {
                Some(id) => maker.prepare(id),
                None => NetNs::create(maker.ipv6),
            }),
        );
        let dns = Dns::new(io.handle());
        Ok(Fabric(Arc::new(Inner { pool, published: Mutex::default(), dns, ledger: Arc::default(), host, io })))
    }

    /// Takes up the work of a previous engine process, before anything else is done: networks,
    /// published ports. Makes missing devices, removes those of networks that are no more, and
    /// replaces the own table in one transaction.
    ///
    /// Networks that cannot be made now, such as one whose parent interface is missing, come back by their id with
    /// the error; the others work, and the next attachment tries again. So do endpoints whose ports someone took
    /// meanwhile; their translation stays in place.
    pub fn restore(&self, networks: &[NetworkDef], published: &[Publication]) -> Result<Vec<(Id, Error)>> {
        let host = &self.0.host;
        host.remove_strays(networks)?;
        let mut chains = BTreeMap::new();
        let mut failed = Vec::new();
        for def in networks {
            match host.restore_device(def) {
                Ok(rules) => drop(chains.insert(def.id, rules)),
                Err(error) => failed.push((def.id, error)),
            }
        }
        let find = |id: &Id| networks.iter().find(|n| n.id == *id && chains.contains_key(id));
        let mut elements = BTreeMap::new();
        for p in published {
            let Some(def) = find(&p.network) else {
                failed.push((p.endpoint, Error::not_found(format!("network {} is not there", p.network.short()))));
                continue;
            };
            elements.insert(p.endpoint, rules::ports(def, &p.bindings, &p.target));
            match self.reserve_exactly(&p.owner, &p.bindings) {
                Ok(ports) => self.open_ports(p.endpoint, ports, p.target),
                Err(error) => failed.push((p.endpoint, error)),
            }
        }
        let mut filter = host.filter();
        filter.assume(chains, elements);
        filter.sync()?;
        Ok(failed)
    }

    fn reserve_exactly(&self, owner: &str, bindings: &[PortBinding]) -> Result<Reservation> {
        let wish = |b: &PortBinding| PortRequest {
            container_port: b.container_port,
            proto: b.proto,
            host_ip: Some(b.host_ip),
            host_ports: Some((b.host_port, b.host_port)),
        };
        let wishes: Vec<PortRequest> = bindings.iter().map(wish).collect();
        crate::ports::reserve::reserve(&self.0.ledger, owner, &wishes, None, self.0.host.ipv6)
    }

    /// Writes all devices and the own table again from what this fabric knows; after someone
    /// flushed rules or deleted a bridge. Atomic, idempotent; other tables are never touched.
    pub fn sync(&self) -> Result<()> {
        // One network that cannot be made leaves the others in order.
        let mut result = Ok(());
        for def in self.0.host.networks() {
            result = result.and(self.0.host.ensure_device(&def).map(drop));
        }
        self.0.host.filter().sync().and(result)
    }

    /// Makes the network real: bridge or parent device, sysctls, rules. Idempotent, and cheap where it
    /// is real already ([`Fabric::attach`] does as much by itself).
    pub fn ensure_network(&self, def: &NetworkDef) -> Result<()> {
        self.0.host.ensure(def)
    }

    /// Removes what [`Fabric::ensure_network`] made. A network that is not there is no error.
    pub fn remove_network(&self, def: &NetworkDef) -> Result<()> {
        self.0.pool.drop_network(&def.id);
        self.0.host.remove(def)
    }

    /// Removes everything of this engine from the machine: devices it made, its table.
    pub fn remove_all(&self) -> Result<()> {
        self.0.pool.set_network(None);
        self.published().clear();
        for def in self.0.host.networks() {
            self.0.host.remove(&def)?;
        }
        self.0.host.remove_strays(&[])?;
        self.0.host.wait_for_removals();
        self.0.host.filter().remove_table()
    }

    /// The network whose interfaces the pool prepares ahead; `None` for none. Ensure it first.
    pub fn set_pool_network(&self, def: Option<&NetworkDef>) {
        self.0.pool.set_network(def.filter(|d| d.bridge().is_some()).map(|d| d.id));
    }

    /// How many namespaces are ready: bare, with an interface.
    pub fn pool_ready(&self) -> (usize, usize) {
        self.0.pool.ready()
    }

    /// A fresh namespace (loopback up, Docker's sysctls), from the pool if there is one ready.
    /// `first` is the network that will carry the default route, which may be prepared already.
    pub fn netns(&self, first: Option<&NetworkDef>) -> Result<NetNs> {
        match self.0.pool.take(first.map(|d| &d.id)) {
            Some(ns) => Ok(ns),
            None => NetNs::create(self.0.host.ipv6),
        }
    }

    /// Plugs an endpoint in. On error nothing stays behind.
    pub fn attach(&self, def: &NetworkDef, endpoint: &EndpointDef, ns: &NetNs) -> Result<Attached> {
        let attached = self.0.host.attach(def, endpoint, ns);
        attached.map_err(|e| e.context(format!("cannot connect to network {}", def.name)))
    }

    /// Unplugs an endpoint from a running container: its interface, routes and ports are gone on return.
    pub fn disconnect(&self, attached: &Attached, ns: &NetNs) -> Result<()> {
        self.unpublish(&attached.endpoint)?;
        self.0.host.detach(attached, ns)
    }

    /// A container ended: closes its ports and takes its interface off the bridge. The interface
    /// itself goes with the namespace, later, in the kernel. Never fails for things already gone.
    pub fn release(&self, attached: &Attached) -> Result<()> {
        self.0.host.silence(attached);
        self.unpublish(&attached.endpoint)
    }

    /// Sets the default routes of a running container, replacing the present ones.
    pub fn set_gateway(&self, ns: &NetNs, gateway: &Gateway) -> Result<()> {
        crate::inside::set_gateway(ns, gateway)
    }

    /// Counters of the interfaces of a namespace, without loopback, in order of index.
    pub fn stats(&self, ns: &NetNs) -> Result<Vec<InterfaceStats>> {
        crate::inside::stats(ns)
    }

    /// Binds host ports for `owner` (a container name) until the reservation is dropped or published.
    /// All or nothing. `def` decides the default host address.
    ///
    /// Errors: [`barque_model::ErrorKind::Conflict`] `Bind for 0.0.0.0:8080 failed: port is already
    /// allocated (by …)` naming the container or process that holds the port; Unsupported for SCTP where only the
    /// relay could carry it.
    pub fn reserve(&self, owner: &str, def: &NetworkDef, wishes: &[PortRequest]) -> Result<Reservation> {
        let default_ip = def.bridge().and_then(|b| b.host_ip).or(self.0.host.config.host_ip);
        let relayed = |w: &PortRequest| {
            !self.0.host.config.firewall || w.host_ip.or(default_ip) == Some(Ipv6Addr::LOCALHOST.into())
        };
        if let Some(wish) = wishes.iter().find(|w| w.proto == Proto::Sctp && relayed(w)) {
            return Err(Error::not_implemented(format!(
                "publishing {}/sctp without the packet filter: the relay carries tcp and udp",
                wish.container_port
            ))
            .with_hint("publish it on another address than ::1, with an engine without --iptables=false"));
        }
        crate::ports::reserve::reserve(&self.0.ledger, owner, wishes, default_ip, self.0.host.ipv6)
    }

    /// Opens the reserved ports to `target`, until [`Fabric::unpublish`], [`Fabric::release`] or
    /// [`Fabric::disconnect`] of the endpoint. On an internal network, and on macvlan and ipvlan
    /// networks, which this machine cannot reach, the ports stay reserved and closed, as Docker's.
    pub fn publish(&self, def: &NetworkDef, endpoint: &Id, target: Target, ports: Reservation) -> Result<()> {
        let elements = rules::ports(def, ports.bindings(), &target);
        self.0.host.filter().set_ports(*endpoint, elements)?;
        crate::flows::forget_unpublished(ports.bindings(), &target);
        let reachable = def.bridge().is_some() && !def.internal;
        let target = if reachable { target } else { Target::default() };
        self.open_ports(*endpoint, ports, target);
        Ok(())
    }

    fn open_ports(&self, endpoint: Id, ports: Reservation, target: Target) {
        let Reservation { sockets, lease } = ports;
        // Sockets without a target are only held.
        let target = if self.0.host.config.relay { target } else { Target::default() };
        let published = Published { _relay: Relay::start(self.0.io.handle(), sockets, target), _lease: lease };
        let before = self.published().insert(endpoint, published);
        drop(before);
    }

    /// Closes an endpoint's ports and frees them. No error if it has none.
    pub fn unpublish(&self, endpoint: &Id) -> Result<()> {
        let done = self.0.host.filter().set_ports(*endpoint, Vec::new());
        let before = self.published().remove(endpoint);
        if let Some(published) = before {
            crate::flows::forget_published(&published._lease.bindings);
        }
        done
    }

    fn published(&self) -> MutexGuard<'_, BTreeMap<Id, Published>> {
        self.0.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The embedded resolver.
    pub fn dns(&self) -> &Dns {
        &self.0.dns
    }

    /// The MTU of networks that name none: the configured one, else that of the default route's device, else 1500.
    pub fn default_mtu(&self) -> Result<u32> {
        self.0.host.uplink_mtu()
    }

    /// Whether the kernel has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.0.host.ipv6
    }

    /// Subnets this machine uses or routes to, which new networks must not take; without those of our own devices.
    pub fn host_subnets(&self) -> Result<Vec<IpNet>> {
        self.0.host.subnets()
    }

    /// Chooses a bridge for the default network, and keeps it from other engines as long as this process lives: `kept`,
    /// which this one had before, or else the first of `base0`, `base1` … that none has. Gives the number too.
    ///
    /// Errors: [`barque_model::ErrorKind::Unavailable`] where all are taken.
    pub fn choose_bridge(&self, base: &str, kept: Option<&str>) -> Result<(usize, String)> {
        self.0.host.choose_bridge(base, kept)
    }

    /// The addresses of an interface of the machine (`--bridge`); `None` if there is none of that name.
    pub fn device_addresses(&self, name: &str) -> Result<Option<Vec<IpNet>>> {
        self.0.host.device_addresses(name)
    }

    /// Looks for what stands in the way of container traffic: drop policies of other tables, forwarding off.
    pub fn diagnose(&self) -> Result<Vec<Finding>> {
        crate::diagnose::diagnose(&self.0.host)
    }
}
