//! The networks of one engine on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use barque_model::{Error, Id, Result};
use ipnet::IpNet;

use crate::dns::Dns;
use crate::endpoint::{Attached, EndpointDef, InterfaceStats};
use crate::netns::NetNs;
use crate::network::NetworkDef;
use crate::ports::{PortBinding, PortRequest, Reservation, Target};

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

/// A default route to set or to take away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Interface in the container and the router behind it; `None` leaves no IPv4 default route.
    pub v4: Option<(String, Ipv4Addr)>,
    pub v6: Option<(String, Ipv6Addr)>,
}

/// Everything about networks of one engine. Cheap to clone; all methods block and may run in parallel.
#[derive(Clone)]
pub struct Fabric(Arc<Inner>);

struct Inner {
    config: FabricConfig,
    dns: Dns,
}

impl Fabric {
    /// Opens netlink sockets in the calling thread's network namespace ("the host") and starts the
    /// thread for relays and DNS. Changes nothing on the machine.
    pub fn open(config: FabricConfig) -> Result<Fabric> {
        Ok(Fabric(Arc::new(Inner { config, dns: Dns {} })))
    }

    /// Takes up the work of a previous engine process: networks, published ports. Replaces the own
    /// table in one transaction, makes missing bridges, removes interfaces of dead containers.
    /// Ports which someone took meanwhile come back with the error; their translation stays in place.
    pub fn restore(&self, networks: &[NetworkDef], published: &[Publication]) -> Result<Vec<(Id, Error)>> {
        let _ = (networks, published);
        Err(Error::not_implemented(&self.0.config.engine_id))
    }

    /// Writes all bridges and the own table again from what this fabric knows; after someone
    /// flushed rules or deleted a bridge. Atomic, idempotent; other tables are never touched.
    pub fn sync(&self) -> Result<()> {
        Err(Error::not_implemented(""))
    }

    /// Makes the network real: bridge or parent device, sysctls, rules. Idempotent.
    pub fn ensure_network(&self, def: &NetworkDef) -> Result<()> {
        let _ = def;
        Err(Error::not_implemented(""))
    }

    /// Removes what [`Fabric::ensure_network`] made. A network that is not there is no error.
    pub fn remove_network(&self, def: &NetworkDef) -> Result<()> {
        let _ = def;
        Err(Error::not_implemented(""))
    }

    /// The network whose interfaces the pool prepares ahead; `None` for none. Ensure it first.
    pub fn set_pool_network(&self, def: Option<&NetworkDef>) -> Result<()> {
        let _ = def;
        Err(Error::not_implemented(""))
    }

    /// A fresh namespace (loopback up, Docker's sysctls), from the pool if there is one ready.
    /// `first` is the network that will carry the default route, which may be prepared already.
    pub fn netns(&self, first: Option<&NetworkDef>) -> Result<NetNs> {
        let _ = first;
        Err(Error::not_implemented(""))
    }

    /// Plugs an endpoint in. On error nothing stays behind.
    pub fn attach(&self, def: &NetworkDef, endpoint: &EndpointDef, ns: &NetNs) -> Result<Attached> {
        let _ = (def, endpoint, ns);
        Err(Error::not_implemented(""))
    }

    /// Unplugs an endpoint from a running container: its interface, routes and ports are gone on return.
    pub fn disconnect(&self, attached: &Attached, ns: &NetNs) -> Result<()> {
        let _ = (attached, ns);
        Err(Error::not_implemented(""))
    }

    /// A container ended: closes its ports and takes its interface off the bridge. The interface
    /// itself goes with the namespace, later, in the kernel. Never fails for things already gone.
    pub fn release(&self, attached: &Attached) -> Result<()> {
        let _ = attached;
        Err(Error::not_implemented(""))
    }

    /// Sets the default routes of a running container, replacing the present ones.
    pub fn set_gateway(&self, ns: &NetNs, gateway: &Gateway) -> Result<()> {
        let _ = (ns, gateway);
        Err(Error::not_implemented(""))
    }

    /// Counters of the interfaces of a namespace, without loopback, in order of index.
    pub fn stats(&self, ns: &NetNs) -> Result<Vec<InterfaceStats>> {
        let _ = ns;
        Err(Error::not_implemented(""))
    }

    /// Binds host ports for `owner` (a container name) until the reservation is dropped or published.
    /// All or nothing. `def` decides the default host address and the families.
    ///
    /// Errors: [`barque_model::ErrorKind::Conflict`] `Bind for 0.0.0.0:8080 failed: port is already
    /// allocated (…)` naming the container or process that holds the port.
    pub fn reserve(&self, owner: &str, def: &NetworkDef, wishes: &[PortRequest]) -> Result<Reservation> {
        let _ = (owner, def, wishes);
        Err(Error::not_implemented(""))
    }

    /// Opens the reserved ports to `target`, until [`Fabric::unpublish`] or [`Fabric::release`] of the endpoint.
    /// On an internal network the ports stay reserved and closed, as Docker's.
    pub fn publish(&self, def: &NetworkDef, endpoint: &Id, target: Target, ports: Reservation) -> Result<()> {
        let _ = (def, endpoint, target, ports);
        Err(Error::not_implemented(""))
    }

    /// Closes an endpoint's ports and frees them. No error if it has none.
    pub fn unpublish(&self, endpoint: &Id) -> Result<()> {
        let _ = endpoint;
        Err(Error::not_implemented(""))
    }

    /// The embedded resolver.
    pub fn dns(&self) -> &Dns {
        &self.0.dns
    }

    /// The MTU of networks that name none: the configured one, else that of the default route's device, else 1500.
    pub fn default_mtu(&self) -> Result<u32> {
        Err(Error::not_implemented(""))
    }

    /// Subnets this machine uses or routes to, which new networks must not take.
    pub fn host_subnets(&self) -> Result<Vec<IpNet>> {
        Err(Error::not_implemented(""))
    }

    /// Looks for what stands in the way of container traffic: drop policies of other tables, forwarding off.
    pub fn diagnose(&self) -> Result<Vec<Finding>> {
        Err(Error::not_implemented(""))
    }
}
