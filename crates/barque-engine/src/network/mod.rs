//! Networks: definitions, endpoints, published ports, names.

mod configuration;
pub(crate) mod endpoint;
pub mod links;
mod live;
pub mod manage;
pub mod plug;
pub mod record;
pub mod restore;
pub mod types;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, RwLock};

use barque_model::{Error, Id, Result, Timestamp};
use barque_net::dns::{NameEntry, NameTable};
use barque_net::ipam::{self, AddressPool, Taken};
use barque_net::{BridgeOptions, Driver, NetworkDef, Pool};
use ipnet::IpNet;

use crate::Engine;
use record::NetworkRecord;

/// How the default bridge's device is called where nothing else is said; a number follows.
const DEFAULT_BRIDGES: &str = "barque";
/// The default bridge's device of the machine's first engine, where nothing else is said.
pub const DEFAULT_BRIDGE: &str = "barque0";

/// All networks and names in memory; the rows are the truth.
#[derive(Debug, Default)]
pub struct Networks {
    records: RwLock<BTreeMap<Id, NetworkRecord>>,
    names: Mutex<plug::Names>,
    /// Addresses of build steps, which have no rows: step, network, address.
    held: Mutex<Vec<(Id, Id, IpAddr)>>,
    /// Held from the choice of a subnet to its row: two networks made at once must not choose the same.
    creating: Mutex<()>,
}

impl Networks {
    pub fn all(&self) -> Vec<NetworkRecord> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.values().cloned().collect()
    }

    pub fn put(&self, record: NetworkRecord) {
        self.records.write().unwrap_or_else(PoisonError::into_inner).insert(record.def.id, record);
    }

    /// One creation at a time.
    pub fn creating(&self) -> std::sync::MutexGuard<'_, ()> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps addresses for a build step.
    pub fn hold(&self, step: &Id, network: &Id, v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from));
        held.extend(addresses.map(|a| (*step, *network, a)));
    }

    /// Addresses of `network` that build steps have.
    pub fn held(&self, network: &Id) -> Vec<(IpAddr, String)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|(_, n, _)| n == network).map(|(_, _, a)| (*a, "a build".to_owned())).collect()
    }

    /// Gives up a step's addresses; tells whether it had any.
    pub fn let_go(&self, step: &Id) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.len();
        held.retain(|(s, _, _)| s != step);
        held.len() < before
    }

    pub fn take(&self, id: &Id) {
        self.records.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// By full id, name, or unique prefix of an id.
    pub fn find(&self, text: &str) -> Result<NetworkRecord> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = if text == "default" { "bridge" } else { text };
        if let Ok(id) = wanted.parse::<Id>()
            && let Some(record) = records.get(&id)
        {
            return Ok(record.clone());
        }
        if let Some(record) = records.values().find(|r| r.def.name == wanted) {
            return Ok(record.clone());
        }
        let mut with_prefix =
            records.values().filter(|r| !wanted.is_empty() && r.def.id.to_string().starts_with(wanted));
        match (with_prefix.next(), with_prefix.next()) {
            (Some(record), None) => Ok(record.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("network {text} is ambiguous (2 matches found on ID prefix)")))
            }
            _ => Err(Error::not_found(format!("network {text} not found"))),
        }
    }
}

impl Engine {
    pub(crate) fn network_record(&self, name: &str) -> Result<NetworkRecord> {
        self.networks_state().find(name)
    }

    /// Reads all networks; makes the predefined ones at the first start. Blocking.
    pub(crate) fn load_networks(&self) -> Result<()> {
        for row in self.store().read(|r| r.networks())? {
            self.networks_state().put(NetworkRecord::from_row(&row)?);
        }
        for (name, driver) in [("host", Driver::Host), ("none", Driver::None)] {
            if self.network_record(name).is_err() {
                self.put_network(plain_network(name, driver))?;
            }
        }
        self.settle_default_bridge()
    }

    /// The default bridge follows the configuration of this start.
    fn settle_default_bridge(&self) -> Result<()> {
        let settings = self.config().network.clone();
        let present = self.network_record("bridge").ok();
        if settings.bridge.as_deref() == Some("none") {
            if let Some(record) = present {
                self.store().write_durable(|tx| tx.network_delete(&record.def.id))?;
                self.networks_state().take(&record.def.id);
            }
            return Ok(());
        }
        let (bridge, subnet, gateway) = self.choose_default_bridge(present.as_ref())?;
        let mut options = BridgeOptions::new(bridge);
        options.icc = settings.icc.unwrap_or(true);
        options.masquerade = settings.ip_masq.unwrap_or(true);
        options.mtu = settings.mtu;
        options.host_ip = settings.default_ip;
        let mut pool = Pool { subnet, ip_range: settings.fixed_cidr, gateway, auxiliary: BTreeMap::new() };
        if pool.gateway.is_none() {
            pool.gateway = Some(ipam::choose_gateway(&pool)?);
        }
        let mut pools = vec![pool];
        if settings.ipv6 {
            let subnet = match settings.fixed_cidr_v6 {
                Some(cidr) => cidr,
                None => ipam::choose_subnet_v6(self.engine_id().as_bytes(), &[])?,
            };
            let mut six = Pool { subnet, ip_range: None, gateway: None, auxiliary: BTreeMap::new() };
            six.gateway = Some(ipam::choose_gateway(&six)?);
            pools.push(six);
        }
        let (id, created_at) = match &present {
            Some(r) => (r.def.id, r.created_at),
            None => (Id::random(), Timestamp::now()),
        };
        let shown = [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", options.icc.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", options.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            ("com.docker.network.bridge.name", options.bridge.clone()),
            ("com.docker.network.driver.mtu", self.fabric().default_mtu().unwrap_or(1500).to_string()),
        ];
        let record = NetworkRecord {
            wishes: Vec::new(),
            config_only: false,
            config_from: None,
            def: NetworkDef { id, name: "bridge".into(), driver: Driver::Bridge(options), pools, internal: false },
            attachable: false,
            enable_ipv4: true,
            enable_ipv6: settings.ipv6,
            ipam_options: BTreeMap::new(),
            options: shown.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            labels: BTreeMap::new(),
            created_at,
        };
        match present {
            None => self.put_network(record),
            Some(_) => {
                let row = record.to_row()?;
                self.store().write_durable(|tx| tx.network_set_definition(&row.id, &row.definition))?;
                self.networks_state().put(record);
                Ok(())
            }
        }
    }

    /// The default bridge's device, subnet and gateway: as configured, else as they were, else free ones.
    fn choose_default_bridge(&self, present: Option<&NetworkRecord>) -> Result<(String, IpNet, Option<IpAddr>)> {
        let settings = &self.config().network;
        let had = present.and_then(|r| r.def.bridge()).map(|options| options.bridge.as_str());
        let (number, bridge) = match &settings.bridge {
            Some(name) => (0, name.clone()),
            None => self.fabric().choose_bridge(DEFAULT_BRIDGES, had)?,
        };
        // Who took the bridge that this engine had may have taken its addresses too.
        let lost = settings.bridge.is_none() && had.is_some_and(|had| is_chosen(had) && had != bridge);
        let kept = present.filter(|_| !lost).and_then(|r| r.def.pools.iter().find(|p| p.subnet.addr().is_ipv4()));
        let (subnet, gateway) = match (settings.bip, kept) {
            (Some(bip), _) => (bip.trunc(), Some(bip.addr())),
            (None, Some(pool)) => (pool.subnet, pool.gateway),
            (None, None) => (self.subnet_beside(number)?, None),
        };
        Ok((bridge, subnet, gateway))
    }

    pub(crate) fn put_network(&self, record: NetworkRecord) -> Result<()> {
        let row = record.to_row()?;
        self.store().write_durable(|tx| tx.network_insert(&row))?;
        self.networks_state().put(record);
        Ok(())
    }

    /// A subnet nobody uses: neither a network of this engine nor the machine itself.
    pub(crate) fn free_subnet(&self) -> Result<IpNet> {
        ipam::choose_subnet(&self.address_pools(), &self.taken_subnets()?)
    }

    fn address_pools(&self) -> Vec<AddressPool> {
        let pools = &self.config().network.address_pools;
        if pools.is_empty() {
            return ipam::default_pools();
        }
        pools.iter().map(|(base, size)| AddressPool { base: *base, size: *size }).collect()
    }

    /// A free subnet for the machine's default bridge of this number. Engines that start at the same moment do not see
    /// one another's bridges yet, so each leaves out the subnets that those before it choose.
    fn subnet_beside(&self, number: usize) -> Result<IpNet> {
        let (pools, mut taken) = (self.address_pools(), Vec::new());
        for n in 0..number {
            let Ok(subnet) = ipam::choose_subnet(&pools, &taken) else { break };
            taken.push(Taken { subnet, by: format!("the engine on {DEFAULT_BRIDGES}{n}") });
        }
        taken.extend(self.taken_subnets()?);
        ipam::choose_subnet(&pools, &taken).or_else(|_| self.free_subnet())
    }

    pub(crate) fn taken_subnets(&self) -> Result<Vec<Taken>> {
        let mut taken = self.network_subnets();
        for subnet in self.fabric().host_subnets()? {
            taken.push(Taken { subnet, by: "a route of this machine".into() });
        }
        Ok(taken)
    }

    pub(crate) fn network_subnets(&self) -> Vec<Taken> {
        let of = |r: NetworkRecord| {
            let by = format!("network {}", r.def.name);
            r.def.pools.into_iter().map(move |p| Taken { subnet: p.subnet, by: by.clone() })
        };
        self.networks_state().all().into_iter().flat_map(of).collect()
    }

    /// Puts a container's names on a network, or takes them off.
    pub(crate) fn set_name(&self, def: &NetworkDef, container: &Id, entry: Option<NameEntry>) {
        let mut names = self.networks_state().names.lock().unwrap_or_else(PoisonError::into_inner);
        let table = names.entry(def.id).or_default();
        match entry {
            Some(entry) => table.insert(*container, entry),
            None => table.remove(container),
        };
        let entries = table.values().cloned().collect();
        self.fabric().dns().set_names(&def.id, NameTable { network: def.name.clone(), entries });
    }

    pub(crate) fn forget_name(&self, network: &Id, container: &Id) {
        if let Ok(record) = self.network_record(&network.to_string())
            && record.serves_names()
        {
            self.set_name(&record.def, container, None);
        }
    }
}

/// Whether a bridge of this name was chosen by an engine, not by its user.
fn is_chosen(bridge: &str) -> bool {
    bridge.strip_prefix(DEFAULT_BRIDGES).is_some_and(|number| number.parse::<usize>().is_ok())
}

fn plain_network(name: &str, driver: Driver) -> NetworkRecord {
    NetworkRecord {
        wishes: Vec::new(),
        config_only: false,
        config_from: None,
        def: NetworkDef { id: Id::random(), name: name.into(), driver, pools: Vec::new(), internal: false },
        attachable: false,
        enable_ipv4: true,
        enable_ipv6: false,
        ipam_options: BTreeMap::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        created_at: Timestamp::now(),
    }
}
