//! The embedded resolver: 127.0.0.11 port 53 in the namespaces of containers on user-defined networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use barque_model::{Error, Id, Result};

use crate::netns::NetNs;

/// Where the resolver answers in every container it serves.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The names of one network. Replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameTable {
    /// The network's own name: `web` is also `web.NETWORK`.
    pub network: String,
    pub entries: Vec<NameEntry>,
}

/// One endpoint's names. Several endpoints may share a name; answers then carry all addresses, turning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameEntry {
    /// Container name, short id, aliases; the first is what a reverse look-up gives.
    pub names: Vec<String>,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

/// How one container resolves names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxDns {
    /// Its networks, in the order they are asked.
    pub networks: Vec<Id>,
    /// Private aliases (`--link target:alias`): alias, name on one of the networks.
    pub links: Vec<(String, String)>,
    /// Names with fixed addresses, such as `host.docker.internal`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Servers for all other names, in order; asked from the machine's own namespace.
    pub upstreams: Vec<SocketAddr>,
    /// `false` on internal networks only: other names do not resolve and no query leaves.
    pub forward: bool,
    /// Leaves port 53 free for a server in the container: queries are redirected in its
    /// namespace, at the price of connection tracking there.
    pub redirect: bool,
}

/// The resolver of all containers of one engine.
#[derive(Clone)]
pub struct Dns {}

impl Dns {
    pub(crate) fn new(_handle: tokio::runtime::Handle) -> Dns {
        Dns {}
    }

    /// Sets the names of a network; seen by the next query.
    pub fn set_names(&self, network: &Id, table: NameTable) {
        let _ = (network, table);
    }

    /// Forgets a network.
    pub fn remove_names(&self, network: &Id) {
        let _ = network;
    }

    /// Answers queries of `container` in `ns`. Again for the same container replaces the sockets.
    /// Keeps the namespace alive until [`Dns::stop`].
    pub fn start(&self, container: &Id, ns: &NetNs, settings: SandboxDns) -> Result<()> {
        let _ = (container, ns, settings);
        Err(Error::not_implemented(""))
    }

    /// Changes the settings of a container that is served (connected, disconnected). No error if it is not.
    pub fn update(&self, container: &Id, settings: SandboxDns) {
        let _ = (container, settings);
    }

    /// Stops answering and lets go of the namespace.
    pub fn stop(&self, container: &Id) {
        let _ = container;
    }
}
