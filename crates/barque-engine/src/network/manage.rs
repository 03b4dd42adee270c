//! Creating, showing, connecting and removing networks.

use barque_model::{Error, ErrorKind, Id, Result, Timestamp};
use barque_net::{Driver, NetworkDef, Pool, ipam};

use super::plug::idle_endpoint;
use super::record::NetworkRecord;
use super::types::{CreateNetwork, NetworkView, PoolWish};
use crate::Engine;
use crate::container::spec::{EndpointWish, NetworkMode};
use crate::container::state::State;

impl Engine {
    /// `POST /networks/create`. The second value is a warning.
    pub async fn network_create(&self, request: CreateNetwork) -> Result<(Id, Option<String>)> {
        let engine = self.clone();
        self.blocking(move || engine.network_create_blocking(request)).await
    }

    fn network_create_blocking(&self, mut request: CreateNetwork) -> Result<(Id, Option<String>)> {
        let name = checked_name(&request.name)?.to_owned();
        let _one_at_a_time = self.networks_state().creating();
        self.take_over_configuration(&mut request)?;
        if self.networks_state().all().iter().any(|r| r.def.name == name) {
            return Err(Error::conflict(format!("network with name {name} already exists")));
        }
        if request.config_only {
            return self.create_configuration(name, request);
        }
        if request.ingress {
            return Err(Error::new(ErrorKind::Forbidden, "Ingress network can only be global scope network")
                .with_hint("there is no swarm mode: leave --ingress away"));
        }
        if !matches!(request.ipam_driver.as_str(), "" | "default") {
            let name = &request.ipam_driver;
            return Err(Error::not_found(format!("could not find ipam driver {name}: plugin \"{name}\" not found"))
                .with_hint("leave --ipam-driver away: the default one gives out addresses"));
        }
        let driver_name = if request.driver.is_empty() { "bridge" } else { &request.driver };
        match driver_name {
            "bridge" | "macvlan" | "ipvlan" => {}
            "host" | "null" | "none" => {
                let shown = if driver_name == "none" { "null" } else { driver_name };
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    format!("only one instance of \"{shown}\" network is allowed"),
                ));
            }
            "overlay" => {
                return Err(Error::not_implemented("network driver 'overlay'")
                    .with_hint("on one machine a bridge network does: leave --driver away"));
            }
            other => {
                return Err(Error::not_found(format!(
                    "could not find plugin {other} in v1 plugin registry: plugin not found"
                ))
                .with_hint("drivers are bridge, macvlan and ipvlan"));
            }
        }
        let id = Id::random();
        let driver = Driver::parse(driver_name, &id, &request.options, request.internal)?;
        let ipv4 = request.enable_ipv4.unwrap_or(true);
        let ipv6 = request.enable_ipv6.unwrap_or(false);
        let pools = self.pools(&request.pools, ipv4, ipv6, &driver, request.internal, &id)?;
        let def = NetworkDef { id, name, driver, pools, internal: request.internal };
        def.validate()?;
        let record = NetworkRecord {
            def,
            wishes: Vec::new(),
            config_only: false,
            config_from: request.config_from,
            attachable: request.attachable,
            enable_ipv4: ipv4,
            enable_ipv6: ipv6,
            ipam_options: request.ipam_options,
            options: request.options,
            labels: request.labels,
            created_at: Timestamp::now(),
        };
        self.put_network(record.clone())?;
        if let Err(e) = self.fabric().ensure_network(&record.def) {
            self.store().write_durable(|tx| tx.network_delete(&id))?;
            self.networks_state().take(&id);
            let _undone = self.fabric().remove_network(&record.def);
            return Err(e);
        }
        self.network_event(&record, "create", []);
        Ok((id, None))
    }

    fn pools(
        &self,
        wishes: &[PoolWish],
        ipv4: bool,
        ipv6: bool,
        driver: &Driver,
        internal: bool,
        id: &Id,
    ) -> Result<Vec<Pool>> {
        let mut pools = Vec::new();
        let (networks, taken) = (self.network_subnets(), self.taken_subnets()?);
        for wish in wishes {
            let subnet = match wish.subnet {
                Some(subnet) => subnet.trunc(),
                None if wish.ip_range.is_some() || wish.gateway.is_some() => {
                    return Err(Error::invalid("every ip-range or gateway must have a corresponding subnet"));
                }
                None => self.free_subnet()?,
            };
            ipam::check_subnet(subnet, &networks)?;
            for address in wish.gateway.iter().chain(wish.auxiliary.values()) {
                if !subnet.contains(address) {
                    return Err(Error::invalid(format!("no matching subnet for gateway {address}")));
                }
            }
            pools.push(Pool {
                subnet,
                ip_range: wish.ip_range,
                gateway: wish.gateway,
                auxiliary: wish.auxiliary.clone(),
            });
        }
        let has = |v4: bool| pools.iter().any(|p: &Pool| p.subnet.addr().is_ipv4() == v4);
        let (has4, has6) = (has(true), has(false));
        if ipv4 && !has4 {
            pools.insert(0, bare(self.free_subnet()?));
        }
        if ipv6 && !has6 {
            pools.push(bare(ipam::choose_subnet_v6(id.to_string().as_bytes(), &taken)?));
        }
        // ipvlan L3 and internal macvlan have no router, but Docker shows a gateway all the same.
        let _ = (driver, internal);
        for pool in &mut pools {
            if pool.gateway.is_none() {
                pool.gateway = Some(ipam::choose_gateway(pool)?);
            }
        }
        Ok(pools)
    }

    pub async fn network(&self, name: &str) -> Result<NetworkView> {
        Ok(self.network_view(self.network_record(name)?))
    }

    /// All networks, the newest first.
    pub async fn networks(&self) -> Result<Vec<NetworkView>> {
        let mut all: Vec<NetworkView> = self.networks_state().all().into_iter().map(|r| self.network_view(r)).collect();
        all.sort_by_key(|network| std::cmp::Reverse(network.created_at));
        Ok(all)
    }

    fn network_view(&self, record: NetworkRecord) -> NetworkView {
        let id = record.def.id.to_string();
        let mut containers = Vec::new();
        for view in self.containers() {
            let running = view.state.is_running();
            for endpoint in view.endpoints.iter().filter(|e| running && e.network_id == id) {
                containers.push((view.id, view.name.clone(), endpoint.clone()));
            }
        }
        let pools = record.def.pools.iter().map(|p| PoolWish {
            subnet: Some(p.subnet),
            ip_range: p.ip_range,
            gateway: p.gateway,
            auxiliary: p.auxiliary.clone(),
        });
        NetworkView {
            id: record.def.id,
            name: record.def.name.clone(),
            created_at: record.created_at,
            driver: record.def.driver.name().to_owned(),
            internal: record.def.internal,
            config_only: record.config_only,
            config_from: record.config_from.clone(),
            attachable: record.attachable,
            enable_ipv4: record.enable_ipv4,
            enable_ipv6: record.enable_ipv6,
            pools: pools.collect(),
            predefined: record.predefined(),
            ipam_options: record.ipam_options,
            options: record.options,
            labels: record.labels,
            containers,
        }
    }

    pub async fn network_remove(&self, name: &str) -> Result<()> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || engine.network_remove_blocking(&name)).await
    }

    fn network_remove_blocking(&self, name: &str) -> Result<()> {
        let record = self.network_record(name)?;
        if record.predefined() {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("{} is a pre-defined network and cannot be removed", record.def.name),
            ));
        }
        let id = record.def.id.to_string();
        let users: Vec<String> = self
            .containers()
            .iter()
            .filter(|v| v.state.is_running())
            .flat_map(|v| {
                v.endpoints
                    .iter()
                    .filter(|e| e.network_id == id)
                    .map(|e| format!("name:\"{}\" id:\"{}\"", v.name, e.endpoint_id.get(..12).unwrap_or_default()))
            })
            .collect();
        if !users.is_empty() {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "error while removing network: network {} has active endpoints ({})",
                    record.def.name,
                    users.join(", ")
                ),
            )
            .with_hint("stop these containers, or disconnect them: barque network disconnect NETWORK CONTAINER"));
        }
        let derived = |r: &NetworkRecord| r.config_from.as_deref() == Some(record.def.name.as_str());
        if record.config_only
            && let Some(other) = self.networks_state().all().iter().find(|r| derived(r))
        {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("configuration network {:?} is in use by network {}", record.def.name, other.def.name),
            ));
        }
        self.store().write_durable(|tx| {
            if !self.networks_state().held(&record.def.id).is_empty() {
                let text = format!("error while removing network: network {} is in use by a build", record.def.name);
                return Err(Error::conflict(text).with_hint("wait for its end, or stop it"));
            }
            tx.network_delete(&record.def.id)
        })?;
        self.networks_state().take(&record.def.id);
        self.fabric().dns().remove_names(&record.def.id);
        self.fabric().remove_network(&record.def)?;
        self.network_event(&record, "destroy", []);
        Ok(())
    }

    /// Removes networks no container uses, running or not, that `wanted` accepts.
    pub async fn networks_prune(
        &self,
        wanted: impl Fn(&NetworkView) -> bool + Send + Sync + 'static,
        dry_run: bool,
    ) -> Result<Vec<String>> {
        let named: std::collections::BTreeSet<String> = self
            .containers()
            .iter()
            .flat_map(|v| v.endpoints.iter().map(|e| e.network_id.clone()).collect::<Vec<_>>())
            .collect();
        let mut removed = Vec::new();
        for view in self.networks().await? {
            if view.predefined || view.config_only || named.contains(&view.id.to_string()) || !wanted(&view) {
                continue;
            }
            if dry_run || self.network_remove(&view.id.to_string()).await.is_ok() {
                removed.push(view.name);
            }
        }
        Ok(removed)
    }

    /// Adds a network to a container, running or not.
    pub async fn network_connect(&self, network: &str, container: &str, mut wish: EndpointWish) -> Result<()> {
        let record = Engine::joinable(self.network_record(network)?)?;
        let handle = self.find(container)?;
        wish.network = record.def.name.clone();
        let mut core = handle.lock().await;
        self.check_connect(&core, &record)?;
        let present = core.endpoints.iter().any(|e| e.network_id == record.def.id.to_string());
        if present {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("endpoint with name {} already exists in network {}", core.name, record.def.name),
            ));
        }
        super::endpoint::check(&record, &wish)?;
        let mut spec = (*core.spec).clone();
        spec.network.endpoints.push(wish.clone());
        if spec.network.mode == NetworkMode::None {
            spec.network.mode = NetworkMode::Named(record.def.name.clone());
        }
        if matches!(core.state, State::Running(_)) {
            self.connect_running(&mut core, &spec, &record, &wish).await?;
        } else {
            core.endpoints.push(idle_endpoint(&record, &wish));
        }
        core.spec = spec.into();
        self.save_spec(&core)?;
        handle.publish(&core);
        self.network_event(&record, "connect", [("container", handle.id.to_string())]);
        Ok(())
    }

    fn check_connect(&self, core: &crate::container::driver::Core, record: &NetworkRecord) -> Result<()> {
        let refuse = |text: &str| Err(Error::new(ErrorKind::Forbidden, text.to_owned()));
        match core.spec.network.mode {
            NetworkMode::Host => refuse(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ),
            NetworkMode::Container(_) => refuse(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ),
            _ if matches!(record.def.driver, Driver::Host) => {
                refuse("container cannot be connected to host network. It is not using the host network mode")
            }
            _ if matches!(record.def.driver, Driver::None) => refuse(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
            _ => Ok(()),
        }
    }

    /// Takes a container off a network.
    pub async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let record = self.network_record(network)?;
        let handle = match self.find(container) {
            // A forced disconnection of a container that is gone has nothing left to do.
            Err(e) if force && e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let mut core = handle.lock().await;
        if core.spec.network.mode == NetworkMode::Host {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        let network_id = record.def.id.to_string();
        if !core.endpoints.iter().any(|e| e.network_id == network_id) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("container {} is not connected to network {}", handle.id, record.def.name),
            ));
        }
        let mut spec = (*core.spec).clone();
        let (id, name) = (network_id.as_str(), record.def.name.as_str());
        spec.network.endpoints.retain(|w| w.network != name && !id.starts_with(&w.network));
        let main = match &spec.network.mode {
            NetworkMode::Default => Some("bridge"),
            NetworkMode::Named(n) => Some(n.as_str()),
            _ => None,
        };
        if main.is_some_and(|m| m == name || id.starts_with(m)) {
            spec.network.mode = match spec.network.endpoints.first() {
                Some(wish) => NetworkMode::Named(wish.network.clone()),
                None => NetworkMode::None,
            };
        }
        match &core.state {
            State::Running(_) => self.disconnect_running(&mut core, &spec, &record).await?,
            _ => core.endpoints.retain(|e| e.network_id != network_id),
        }
        core.spec = spec.into();
        self.save_spec(&core)?;
        handle.publish(&core);
        self.network_event(&record, "disconnect", [("container", handle.id.to_string())]);
        Ok(())
    }

    pub(crate) fn network_event<const N: usize>(
        &self,
        record: &NetworkRecord,
        action: &str,
        more: [(&str, String); N],
    ) {
        let base = [("name", record.def.name.clone()), ("type", record.def.driver.name().to_owned())];
        self.events().emit("network", action, record.def.id.to_string(), base.into_iter().chain(more));
    }
}

fn bare(subnet: ipnet::IpNet) -> Pool {
    Pool { subnet, ip_range: None, gateway: None, auxiliary: Default::default() }
}

fn checked_name(name: &str) -> Result<&str> {
    let trimmed = name.trim();
    if trimmed.is_empty() || trimmed.contains('/') {
        return Err(Error::invalid(format!("invalid network name: '{name}'")));
    }
    if super::record::PREDEFINED.contains(&trimmed) || trimmed == "default" {
        return Err(Error::new(
            ErrorKind::Forbidden,
            format!("operation is not permitted on predefined {trimmed} network "),
        ));
    }
    Ok(trimmed)
}
