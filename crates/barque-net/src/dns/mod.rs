//! The embedded resolver: 127.0.0.11 port 53 in the namespaces of containers on user-defined networks.
//!
//! [`names`] holds what is known, [`answer`] decides a query without doing anything, [`serve`] owns the
//! sockets, which are opened in each container's namespace and read by the engine's one network
//! thread, [`forward`] asks other servers from the machine's own namespace.

mod answer;
mod forward;
mod names;
mod redirect;
mod serve;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use barque_model::{Id, Result};
use tokio::runtime::Handle;

use crate::io::Tasks;
use crate::netns::NetNs;
use names::Tables;
use serve::Sandbox;

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

/// The resolver of all containers of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    handle: Handle,
    tables: Arc<RwLock<Tables>>,
    serving: Mutex<HashMap<Id, Serving>>,
}

struct Serving {
    sandbox: Arc<Sandbox>,
    _tasks: Tasks,
}

impl Dns {
    pub(crate) fn new(handle: Handle) -> Dns {
        Dns(Arc::new(Inner { handle, tables: Arc::default(), serving: Mutex::default() }))
    }

    /// Sets the names of a network; seen by the next query.
    pub fn set_names(&self, network: &Id, table: NameTable) {
        let table = Arc::new(names::Table::new(&table));
        self.0.tables.write().unwrap_or_else(PoisonError::into_inner).insert(*network, table);
    }

    /// Forgets a network.
    pub fn remove_names(&self, network: &Id) {
        self.0.tables.write().unwrap_or_else(PoisonError::into_inner).remove(network);
    }

    /// Answers queries of `container` in `ns`. Again for the same container replaces the sockets.
    /// Keeps the namespace alive until [`Dns::stop`].
    ///
    /// Where a server in the container has port 53 already, queries are redirected as if
    /// [`SandboxDns::redirect`] had been asked for.
    pub fn start(&self, container: &Id, ns: &NetNs, settings: SandboxDns) -> Result<()> {
        self.stop(container);
        let sockets = serve::open(ns, settings.redirect)?;
        let sandbox = Arc::new(Sandbox::new(settings, Arc::clone(&self.0.tables)));
        let mut tasks = Tasks::new(self.0.handle.clone());
        let (udp, tcp) = (Arc::clone(&sandbox), Arc::clone(&sandbox));
        tasks.spawn(move |guard| serve::udp(sockets.udp, udp, guard));
        tasks.spawn(move |guard| serve::tcp(sockets.tcp, tcp, guard));
        self.serving().insert(*container, Serving { sandbox, _tasks: tasks });
        Ok(())
    }

    /// Changes the settings of a container that is served (connected, disconnected). No error if it is not.
    pub fn update(&self, container: &Id, settings: SandboxDns) {
        if let Some(serving) = self.serving().get(container) {
            serving.sandbox.set(settings);
        }
    }

    /// Whether the container is served.
    pub fn is_serving(&self, container: &Id) -> bool {
        self.serving().contains_key(container)
    }

    /// Stops answering and lets go of the namespace.
    pub fn stop(&self, container: &Id) {
        let serving = self.serving().remove(container);
        // Waits for the sockets to close, without the lock.
        drop(serving);
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<Id, Serving>> {
        self.0.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
